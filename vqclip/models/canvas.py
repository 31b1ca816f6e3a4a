"""Generators without a network: the latent is the picture itself, or a sum of pictures of several resolutions.

Neither has a prior of what pictures look like; what they draw shows what a perceptor sees when nothing helps it
(docs/your_own_parts.md).  Numbers without bounds become colours by ``(1 + tanh(z)) / 2``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["MultiResolutionCanvas", "PixelCanvas"]

_BRIGHTEST = 0.99  #: of [-1,1]: tanh reaches 1 nowhere, and near it has no gradient


def _colours(z: Tensor) -> Tensor:
    return (1 + torch.tanh(z)) / 2


def _numbers(image: Tensor) -> Tensor:
    return torch.atanh((image * 2 - 1).clamp(-_BRIGHTEST, _BRIGHTEST))


class PixelCanvas:
    """The latent [B,3,H,W] is the picture."""

    factor = 1

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return 3, height, width

    def decode(self, z: Tensor) -> Tensor:
        """[B,3,H,W] → the picture [B,3,H,W] in [0,1]."""
        return _colours(z)

    def encode(self, image: Tensor) -> Tensor:
        """A picture [B,3,H,W] in [0,1] → its latent."""
        return _numbers(image)


class MultiResolutionCanvas:
    """The picture is a sum of layers, each half as fine as the one before, so that a step moves shapes, too.

    Direct Ascent Synthesis (Fort and Whitaker 2025, https://arxiv.org/abs/2502.07753) optimises such a sum.  Here every
    layer has a number a pixel, of which averages over 2^k pixels count: masks, shifts and sizes mean what they mean
    for any latent, and as Adam moves all numbers of an average alike, the steps are those of small layers.

    Args:
        levels: L, the number of layers; the coarsest has one number for 2^(L-1) pixels a side.
    """

    factor = 1

    def __init__(self, levels: int):
        if levels < 1:
            raise ValueError(f"levels={levels}: at least 1")
        self.levels = levels

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return 3 * self.levels, height, width

    def decode(self, z: Tensor) -> Tensor:
        """[B,3L,H,W], finest first → the picture [B,3,H,W] in [0,1]."""
        layers = z.unflatten(1, (self.levels, 3)).unbind(1)
        return _colours(sum((self._smooth(layer, k) for k, layer in enumerate(layers)), start=torch.zeros(())))

    def encode(self, image: Tensor) -> Tensor:
        """A picture [B,3,H,W] in [0,1] → the latent that it is made of: what is coarse stands in coarse layers."""
        rest, layers = _numbers(image), []
        for k in reversed(range(self.levels)):
            layers.insert(0, rest)
            rest = rest - self._smooth(rest, k)
        return torch.cat(layers, 1)

    @staticmethod
    def _smooth(layer: Tensor, k: int) -> Tensor:
        """Averages over 2^k × 2^k pixels, with straight lines between them."""
        if k == 0:
            return layer
        height, width = layer.shape[-2:]
        small = F.adaptive_avg_pool2d(layer, (max(1, height >> k), max(1, width >> k)))
        return F.interpolate(small, (height, width), mode="bilinear", align_corners=False)
