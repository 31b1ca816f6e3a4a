"""Masks: which part of a picture may change, and which stays."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["MaskComposite", "feather", "off_ground"]


class MaskComposite(torch.nn.Module):
    """Holds a picture where its mask is black: ``mask · made + (1 − mask) · picture``.

    Args:
        picture: [1,3,H,W] in [0,1].
        mask: [1,1,H,W] in [0,1], 0 where the picture stays to the last bit.
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


def off_ground(picture: Tensor, near: float, grow: int) -> Tensor:
    """1 where a picture [1,3,H,W] is not of its rim's colour, and ``grow`` pixels around, else 0: [1,1,H,W].

    The rim's colour is the median of its pixels; a pixel is near it where no channel is further off than ``near``.
    """
    rows, columns = picture[..., [0, -1], :].flatten(2), picture[..., [0, -1]].flatten(2)
    colour = torch.cat([rows, columns], 2).median(2).values[..., None, None]
    off = ((picture - colour).abs().amax(1, keepdim=True) > near).to(picture)
    return F.max_pool2d(off, 2 * grow + 1, stride=1, padding=grow)


def feather(mask: Tensor, pixels: int) -> Tensor:
    """A mask [1,1,H,W] that comes to its strength over ``pixels`` inwards from its edge; the rim is no edge."""
    layer, total = mask, mask.clone()
    for _ in range(pixels - 1):
        layer = -F.max_pool2d(-layer, 3, stride=1, padding=1)  # one pixel less on every side
        total += layer
    return total / max(1, pixels)
