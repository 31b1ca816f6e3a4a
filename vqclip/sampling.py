"""Grid sampling and padding, with deterministic versions for CUDA.

On a GPU, torch accumulates the gradients of ``F.grid_sample`` and of reflection padding in no fixed order, so the last
digits differ from run to run.  With ``trainer.deterministic``, pictures are read by index instead, whose gradient is
deterministic (see torch.use_deterministic_algorithms).  The same is used for ``padding_mode="border"`` on Apple's
GPUs, which lack it up to torch 2.12 (pytorch#125098).  Everywhere else these are torch's own functions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

__all__ = ["grid_sample", "pad", "pad_by_index", "sample_by_index"]


def grid_sample(image: Tensor, grid: Tensor, mode: str, fill: str, align_corners: bool) -> Tensor:
    """``F.grid_sample``: image [B,C,H,W] and a grid [B,h,w,2] of x, y in [-1,1] → [B,C,h,w].

    Args:
        mode: ``nearest`` or ``bilinear``.
        fill: torch's ``padding_mode``: ``zeros``, ``border`` or ``reflection``.
    """
    if _in_one_order(image) or (image.device.type == "mps" and fill == "border"):
        return sample_by_index(image, grid, mode, fill, align_corners)
    return F.grid_sample(image, grid, mode, fill, align_corners)


def pad(image: Tensor, sides: Sequence[int], mode: str) -> Tensor:
    """``F.pad`` of pictures [B,C,H,W]: left, right, top, bottom."""
    if mode == "reflect" and _in_one_order(image):
        return pad_by_index(image, sides)
    return F.pad(image, sides, mode)


def _in_one_order(image: Tensor) -> bool:
    return image.is_cuda and torch.are_deterministic_algorithms_enabled()


def sample_by_index(image: Tensor, grid: Tensor, mode: str, fill: str, align_corners: bool) -> Tensor:
    """Like :func:`grid_sample`, differentiable with respect to the image only."""
    height, width = image.shape[-2:]
    x, y = (_place(grid[..., i], side, fill, align_corners) for i, side in enumerate((width, height)))
    if mode == "nearest":
        read = [(x.round(), y.round(), torch.ones_like(x))]
    else:
        left, top = x.floor(), y.floor()
        across, down = x - left, y - top
        read = [
            (left, top, (1 - across) * (1 - down)),
            (left + 1, top, across * (1 - down)),
            (left, top + 1, (1 - across) * down),
            (left + 1, top + 1, across * down),
        ]
    pixels = rearrange(image, "b c h w -> b (h w) c")
    picture = torch.arange(len(image), device=image.device)[:, None]
    found = []
    for column, row, weight in read:
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
        found.append(pixels[picture, index.flatten(1)] * (weight * inside).flatten(1)[..., None])
    return rearrange(sum(found[1:], found[0]), "b (h w) c -> b c h w", h=grid.shape[1])


def _place(at: Tensor, side: int, fill: str, align_corners: bool) -> Tensor:
    """Convert normalised coordinates to pixels of a side of length ``side``, those beyond the border by ``fill``."""
    at = (at + 1) / 2 * (side - 1) if align_corners else ((at + 1) * side - 1) / 2
    if fill == "reflection":
        first, period = (0.0, side - 1) if align_corners else (-0.5, side)
        beyond = (at - first).abs() % (2 * max(period, 1))
        at = torch.minimum(beyond, 2 * period - beyond) + first
    return at if fill == "zeros" else at.clamp(0, side - 1)


def pad_by_index(image: Tensor, sides: Sequence[int]) -> Tensor:
    """Like :func:`pad` with ``reflect``."""
    left, right, top, bottom = sides
    height, width = image.shape[-2:]
    rows = _mirrored(torch.arange(-top, height + bottom, device=image.device), height)
    columns = _mirrored(torch.arange(-left, width + right, device=image.device), width)
    return image[..., rows[:, None], columns]


def _mirrored(at: Tensor, side: int) -> Tensor:
    at = at.abs()
    return torch.minimum(at, 2 * (side - 1) - at)
