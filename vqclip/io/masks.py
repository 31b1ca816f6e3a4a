"""Masks: which part of a picture may change."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["MaskComposite", "feather", "subject_mask"]


class MaskComposite(torch.nn.Module):
    """Keeps a picture where its mask is black: ``mask · made + (1 − mask) · picture``.

    Args:
        picture: [1,3,H,W] in [0,1].
        mask: [1,1,H,W] in [0,1]; where it is 0, the picture is kept exactly.
    """

    picture: Tensor
    mask: Tensor

    def __init__(self, picture: Tensor, mask: Tensor):
        super().__init__()
        self.register_buffer("picture", picture, persistent=False)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, made: Tensor) -> Tensor:
        """[B,3,H,W] in [0,1] → the same."""
        return self.mask * made + (1 - self.mask) * self.picture


def subject_mask(picture: Tensor, near: float, grow: int) -> Tensor:
    """A mask [1,1,H,W] that is 1 where a picture [1,3,H,W] differs from its border's colour.

    The border's colour is the median of its pixels; a pixel differs if some channel is further away than ``near``,
    or if such a pixel is within ``grow`` pixels.
    """
    rows, columns = picture[..., [0, -1], :].flatten(2), picture[..., [0, -1]].flatten(2)
    colour = torch.cat([rows, columns], 2).median(2).values[..., None, None]
    off = ((picture - colour).abs().amax(1, keepdim=True) > near).to(picture)
    return F.max_pool2d(off, 2 * grow + 1, stride=1, padding=grow)


def feather(mask: Tensor, pixels: int) -> Tensor:
    """Soften a mask's [1,1,H,W] edges inwards over ``pixels``; the picture's border is not an edge."""
    layer, total = mask, mask.clone()
    for _ in range(pixels - 1):
        layer = -F.max_pool2d(-layer, 3, stride=1, padding=1)  # erode by one pixel
        total += layer
    return total / max(1, pixels)
