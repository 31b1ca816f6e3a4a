"""Moves a picture in its plane: zoom, pan, turn, and what fills the border."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["move"]


def move(
    image: Tensor, zoom: float = 1.0, pan: tuple[float, float] = (0.0, 0.0), turn: float = 0.0, border: str = "reflect"
) -> Tensor:
    """Move pictures [B,3,H,W] in [0,1].

    Args:
        zoom: magnification about the centre.
        pan: pixels to the right and down.
        turn: degrees clockwise.
        border: what is beyond the picture: black (``zeros``), its mirror image (``reflect``), or its copy (``wrap``).
    """
    if zoom == 1 and pan == (0, 0) and turn % 360 == 0:
        return image  # unchanged bits
    height, width = image.shape[-2:]
    y = (torch.arange(height, dtype=torch.float32, device=image.device) + 0.5 - height / 2)[:, None] - pan[1]
    x = (torch.arange(width, dtype=torch.float32, device=image.device) + 0.5 - width / 2) - pan[0]
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    # The position that each pixel of the result reads, in half sides from the centre.
    from_x = (cos * x + sin * y) / zoom / (width / 2)
    from_y = (cos * y - sin * x) / zoom / (height / 2)
    grid = torch.stack([from_x.expand(height, width), from_y.expand(height, width)], -1)
    if border == "wrap":
        image, grid = _wrapped(image, grid)
    padding = {"reflect": "reflection", "zeros": "zeros", "wrap": "zeros"}[border]
    grid = grid.expand(len(image), -1, -1, -1).to(image)
    return F.grid_sample(image, grid, mode="bicubic", padding_mode=padding, align_corners=False).clamp(0, 1)


def _wrapped(image: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Pad a picture with its copy, and wrap the grid into it."""
    rim = 2  # pixels that bicubic sampling needs beyond the border
    sides = torch.tensor(image.shape[:-3:-1], dtype=torch.float32, device=image.device)  # width, height
    grid = ((grid + 1) % 2 - 1) * (sides / (sides + 2 * rim))
    return F.pad(image, (rim,) * 4, mode="circular"), grid
