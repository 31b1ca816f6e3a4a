"""Starts: where the latent begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.generators import VQGAN
from vqclip.rng import Draws

__all__ = ["Codebook", "Image", "Prior", "Sine", "Start"]


@dataclass(frozen=True)
class Start:
    """What a start may look at."""

    generator: VQGAN
    shape: tuple[int, int, int]  #: (C, h, w) of one latent
    texts: list[str]  #: one a picture, extras joined
    rng: Draws  #: step 0
    prior: str | None  #: the pair's prior, a path


class Sine:
    """``sin(std · randn)`` (algorithm.md, row "latent init")."""

    def __init__(self, std: float):
        self.std = std

    def __call__(self, start: Start) -> Tensor:
        return torch.sin(self.std * start.rng.normal("init", *start.shape))


class Codebook:
    """A random code at every place."""

    def __call__(self, start: Start) -> Tensor:
        codes = start.generator.codebook
        index = start.rng.integers("init", len(codes), *start.shape[1:])
        return codes[index].movedim(-1, 1).clone()


class Prior:
    """The latent that the pair's prior predicts from the text; other sizes by way of the picture it decodes to.

    A generator that the prior was not made for starts from noise, and the run says so.

    Args:
        jitter: standard deviation of normal noise on it, in units of the latent's own; what makes seeds differ.
    """

    def __init__(self, jitter: float):
        self.jitter = jitter

    @torch.no_grad()
    def __call__(self, start: Start) -> Tensor:
        from vqclip.checkpoints import load_prior

        prior = load_prior(start.prior) if start.prior else None
        if prior is None or prior.channels != start.shape[0]:
            print(
                "init=prior: this generator has no prior, so the picture starts from noise (init=sine). "
                "experiment=reference has the other settings that suit such a start."
            )
            return Sine(std=0.5)(start)
        z = prior(prior.tokenize(start.texts))
        if tuple(z.shape[1:]) != start.shape:
            f = start.generator.factor
            image = start.generator.decode(z.to(start.generator.codebook))
            z = start.generator.encode(fit(image, start.shape[1] * f, start.shape[2] * f, cut=False))
        z = z.to(start.generator.codebook)
        return z + self.jitter * z.std() * start.rng.normal("init", *start.shape).to(z)


class Image:
    """The latent of a picture of the user's own.

    Args:
        path: any format that Pillow opens.
    """

    def __init__(self, path: str):
        self.path = path

    @torch.no_grad()
    def __call__(self, start: Start) -> Tensor:
        f = start.generator.factor
        image = fit(read_image(self.path), start.shape[1] * f, start.shape[2] * f)
        z = start.generator.encode(image.to(start.generator.codebook))
        return z.expand(len(start.texts), -1, -1, -1).clone()


def read_image(path: str | Path) -> Tensor:
    """A picture file → [1,3,H,W] in [0,1], upright, on white where it is transparent."""
    from PIL import Image as Pillow
    from PIL import ImageOps
    from torchvision.transforms.functional import to_tensor

    with Pillow.open(path) as picture:
        picture = ImageOps.exif_transpose(picture).convert("RGBA")
    white = Pillow.new("RGBA", picture.size, "white")
    return to_tensor(Pillow.alpha_composite(white, picture).convert("RGB"))[None]


def fit(image: Tensor, height: int, width: int, cut: bool = True) -> Tensor:
    """Scale [B,3,H,W] in [0,1] to ``height`` × ``width``, keeping its proportions.

    With ``cut``, the picture fills the size and what hangs over is cut evenly; without, all of it stays and its edges
    are drawn out to the sides.
    """
    h, w = image.shape[-2:]
    scale = (max if cut else min)(height / h, width / w)
    size = (max(1, round(h * scale)), max(1, round(w * scale)))
    image = F.interpolate(image, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    # Negative where it hangs over, positive where something is missing: one pad does both.
    return F.pad(image, (left, width - size[1] - left, top, height - size[0] - top), mode="constant" if cut else "replicate")
