"""The judge: does a picture show what its text says? Of another family than the perceptor, trained on other drawings.

It shares nothing with the guide: its icon sets are others, its picture tower is a small ConvNeXt (Liu et al. 2022) and
not a ResNet, its text tower a bag of hashed words and word pairs and not a transformer. It never guides a run.
"""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Judge"]


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


class Judge(nn.Module):
    """Texts and images to unit vectors of one space; their dot product is the similarity, in [-1,1].

    Args:
        dim: length of a vector.
        buckets: rows of the table that words and pairs of neighbouring words are hashed into.
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
        super().__init__()
        self.buckets, self.input_size = buckets, input_size
        self.words = nn.EmbeddingBag(buckets, text_width, mode="sum")
        self.text = nn.Sequential(
            nn.LayerNorm(text_width), nn.Linear(text_width, 3 * text_width), nn.GELU(), nn.Linear(3 * text_width, dim)
        )
        stages, before = [nn.Conv2d(3, widths[0], 4, 4)], widths[0]
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if i:
                stages += [nn.GroupNorm(1, before), nn.Conv2d(before, width, 2, 2)]
            stages += [_Block(width) for _ in range(depth)]
            before = width
        self.picture = nn.Sequential(*stages)
        self.project = nn.Sequential(nn.LayerNorm(2 * before), nn.Linear(2 * before, dim))
        self.scale = nn.Parameter(torch.tensor(2.5))

    def hashes(self, text: str) -> list[int]:
        """Rows of a text's words and pairs of neighbouring words."""
        words = re.findall(r"[^\W_]+(?:-[^\W_]+)*|[^\w\s]", text.lower()) or [""]
        grams = words + [f"{a} {b}" for a, b in zip(["^", *words], [*words, "$"], strict=True)]
        return [zlib.crc32(gram.encode()) % self.buckets for gram in grams]

    def encode_text(self, texts: list[str]) -> Tensor:
        """Texts → unit vectors [B,D]. Any text passes."""
        rows = [torch.tensor(self.hashes(text)) for text in texts]
        offsets = torch.tensor([0, *(len(r) for r in rows[:-1])]).cumsum(0)
        device = self.scale.device
        return F.normalize(self.text(self.words(torch.cat(rows).to(device), offsets.to(device))), dim=1)

    def encode_image(self, images: Tensor) -> Tensor:
        """Images [B,3,H,W] in [0,1] → unit vectors [B,D]."""
        if images.shape[-2:] != (self.input_size, self.input_size):
            images = F.interpolate(images, size=(self.input_size, self.input_size), mode="bilinear", antialias=True)
        x = self.picture(images * 2 - 1)
        return F.normalize(self.project(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)), dim=1)

    @classmethod
    def load(cls, path: str | Path) -> Judge:
        """A judge from its safetensors file, frozen, in float32."""
        with safe_open(path, "pt") as file:
            model = cls(**json.loads(file.metadata()["config"]))
            model.load_state_dict({key: value.float() for key, value in load_file(path).items()})
        return model.eval().requires_grad_(False)
