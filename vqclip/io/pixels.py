"""Pictures as tensors: read from a file, brought to a size, made a video's frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.io.images import open_picture

__all__ = ["fit", "pixels", "read_image"]


def read_image(path: str | Path, ground: str = "white") -> Tensor:
    """A picture file → [1,3,H,W] in [0,1], upright, on ``ground`` where it is transparent."""
    from PIL import Image as Pillow

    picture = open_picture(path)
    below = Pillow.new("RGBA", picture.size, ground)
    frame = np.array(Pillow.alpha_composite(below, picture).convert("RGB"))
    return torch.from_numpy(frame).movedim(-1, 0).contiguous().float().div(255)[None]


def fit(image: Tensor, height: int, width: int, how: str = "crop", nearest: bool = False) -> Tensor:
    """Scale [B,3,H,W] in [0,1] to ``height`` × ``width``.

    Args:
        how: ``crop`` (``cut`` in older records): it fills the size and what is over is cut off evenly; ``pad``: all of
            it stays and its edges are drawn out to the sides; ``stretch``: its proportions give way.
        nearest: take the nearest pixel, where otherwise neighbours are blended (bicubic).
    """
    h, w = image.shape[-2:]
    if (h, w) == (height, width):
        return image  # to the last bit
    size = (height, width)
    if how != "stretch":
        scale = (max if how in ("crop", "cut") else min)(height / h, width / w)
        size = (max(1, round(h * scale)), max(1, round(w * scale)))
    if nearest:
        image = F.interpolate(image, size=size, mode="nearest-exact")
    else:
        image = F.interpolate(image, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    # Negative where it hangs over, positive where something is missing: one pad does both.
    sides = (left, width - size[1] - left, top, height - size[0] - top)
    return F.pad(image, sides, mode="constant" if how in ("crop", "cut") else "replicate")


def pixels(image: Tensor) -> np.ndarray:
    """Image [3,H,W] in [0,1] → frame [H,W,3] uint8, the pixels of its PNG."""
    return (image.detach().float().clamp(0, 1) * 255).round().byte().movedim(0, -1).cpu().numpy()
