"""Reads pictures as tensors, resizes them, and parses colour names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image, ImageColor
from torch import Tensor

from vqclip.io.images import open_picture

__all__ = ["fit", "read_image", "rgb"]


def read_image(path: str | Path, ground: str = "white") -> Tensor:
    """Read a picture file as [1,3,H,W] in [0,1], upright, with transparency over the colour ``ground``."""
    picture = open_picture(path)
    below = Image.new("RGBA", picture.size, ground)
    frame = np.array(Image.alpha_composite(below, picture).convert("RGB"))
    return rearrange(torch.from_numpy(frame), "h w rgb -> 1 rgb h w").contiguous().float().div(255)


def fit(image: Tensor, height: int, width: int, how: str = "crop", nearest: bool = False) -> Tensor:
    """Scale [B,3,H,W] in [0,1] to ``height`` × ``width``.

    Args:
        how: ``crop`` (``cut`` in older records): fill the size and crop the excess evenly; ``pad``: fit all of it and
            repeat its edges; ``stretch``: change its proportions.
        nearest: nearest neighbour instead of bicubic.
    """
    h, w = image.shape[-2:]
    if (h, w) == (height, width):
        return image  # unchanged bits
    size = (height, width)
    if how != "stretch":
        scale = (max if how in ("crop", "cut") else min)(height / h, width / w)
        size = (max(1, round(h * scale)), max(1, round(w * scale)))
    if nearest:
        image = F.interpolate(image, size=size, mode="nearest-exact")
    else:
        image = F.interpolate(image, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    # Negative sides crop and positive ones pad, in one call.
    sides = (left, width - size[1] - left, top, height - size[0] - top)
    return F.pad(image, sides, mode="constant" if how in ("crop", "cut") else "replicate")


def rgb(name: str) -> Tensor:
    """A CSS name or ``"#rrggbb"`` → red, green and blue in [0,1], [3]."""
    return torch.tensor(ImageColor.getrgb(name)[:3]) / 255
