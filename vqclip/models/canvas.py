"""Generators without a network: the latent is the picture itself, or a sum of pictures of several resolutions.

Neither has a prior of what pictures look like, so they show what a perceptor alone asks for (docs/your_own_parts.md).
Unbounded numbers become colours by ``(1 + tanh(z)) / 2``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["MultiResolutionCanvas", "PixelCanvas"]

_BRIGHTEST = 0.99  #: largest magnitude in [-1,1]: near 1 the gradient of tanh vanishes


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
    """The picture is a sum of layers, each half as fine as the one before, so that steps also move large shapes.

    Direct Ascent Synthesis (Fort and Whitaker 2025, https://arxiv.org/abs/2502.07753) optimises such a sum.  Here every
    layer has full size and is averaged over 2^k × 2^k pixels when decoded, so that masks, shifts and sizes work as for
    any latent.  Adam moves all numbers of an average alike, so the steps equal those of small layers.

    Args:
        levels: L, the number of layers; the coarsest is averaged over 2^(L-1) pixels a side.
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
        """A picture [B,3,H,W] in [0,1] → its latent, with coarse detail in coarse layers."""
        rest, layers = _numbers(image), []
        for k in reversed(range(self.levels)):
            layers.insert(0, rest)
            rest = rest - self._smooth(rest, k)
        return torch.cat(layers, 1)

    @staticmethod
    def _smooth(layer: Tensor, k: int) -> Tensor:
        """Average over 2^k × 2^k pixels and interpolate linearly."""
        if k == 0:
            return layer
        height, width = layer.shape[-2:]
        small = F.adaptive_avg_pool2d(layer, (max(1, height >> k), max(1, width >> k)))
        return F.interpolate(small, (height, width), mode="bilinear", align_corners=False)
