"""Runs taming's decoder on strips of rows: the same picture without seams, in a fraction of the memory.

Decoding tiles one by one and blending them changes the picture, since group norm and attention depend on all of it.
Here every layer processes the whole picture in strips, with the neighbouring rows that a convolution reads and with
the whole picture's statistics, so that only rounding differs.  Two feature maps are held instead of a block's six;
in-place operations overwrite their input.  Without gradients only.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from taming.modules.diffusionmodules.model import ResnetBlock, Upsample
from torch import Tensor, nn

__all__ = ["activated", "residual", "upsampled"]


def activated(norm: nn.GroupNorm, conv: nn.Conv2d, x: Tensor, rows: int, onto: Tensor | None = None) -> Tensor:
    """``conv(silu(norm(x)))``, added to ``onto`` if given."""
    return _convolved(conv, x, rows, _activation(norm, x), onto)


def residual(block: ResnetBlock, x: Tensor, rows: int) -> Tensor:
    """Run a residual block, which may overwrite ``x``."""
    h = activated(block.norm1, block.conv1, x, rows)
    if block.in_channels != block.out_channels:
        shortcut = block.nin_shortcut
        x = _convolved(shortcut, x, rows)
    return activated(block.norm2, block.conv2, h, rows, onto=x)


def _activation(norm: nn.GroupNorm, x: Tensor) -> Callable[[Tensor], Tensor]:
    """A function that computes ``silu(norm(part))`` for parts of ``x`` with the statistics of all of ``x``."""
    groups = x.unflatten(1, (norm.num_groups, -1))
    var, mean = torch.var_mean(groups, dim=(2, 3, 4), correction=0)  # [B,G]
    each = x.shape[1] // norm.num_groups
    scale = (var + norm.eps).rsqrt().repeat_interleave(each, 1) * norm.weight
    shift = norm.bias - mean.repeat_interleave(each, 1) * scale
    scale, shift = scale[..., None, None], shift[..., None, None]  # [B,C,1,1]
    return lambda part: F.silu(torch.addcmul(shift, part, scale), inplace=True)


def _convolved(
    conv: nn.Conv2d,
    x: Tensor,
    rows: int,
    before: Callable[[Tensor], Tensor] = lambda part: part,
    onto: Tensor | None = None,
) -> Tensor:
    """``conv(before(x))`` strip by strip, added to ``onto`` if given."""
    height, reach = x.shape[-2], conv.kernel_size[0] // 2
    out = onto if onto is not None else _like(x, conv.out_channels, *x.shape[-2:])
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        part = before(x[..., max(0, top - reach) : min(height, bottom + reach), :])
        # Zero padding comes after the activation, at the picture's edges only; inner strips have real neighbours.
        sides = (reach, reach, max(0, reach - top), max(0, bottom + reach - height))
        convolved = F.conv2d(F.pad(part, sides), conv.weight, conv.bias)
        out[..., top:bottom, :] = convolved if onto is None else out[..., top:bottom, :] + convolved
    return out


def upsampled(layer: Upsample, x: Tensor, rows: int) -> Tensor:
    """``conv(nearest(x))`` at twice the size; without ``conv`` if taming's ``Upsample`` has none."""
    if not layer.with_conv:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    height, width = x.shape[-2:]
    conv = layer.conv
    out = _like(x, conv.out_channels, 2 * height, 2 * width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        part = x[..., max(0, top - 1) : min(height, bottom + 1), :]
        part = F.interpolate(part, scale_factor=2.0, mode="nearest")
        # One row of each neighbour is enough, and upsampling has doubled it: drop one copy.
        part = part[..., (1 if top else 0) : part.shape[-2] - (1 if bottom < height else 0), :]
        convolved = F.conv2d(F.pad(part, (1, 1, 0 if top else 1, 0 if bottom < height else 1)), conv.weight, conv.bias)
        out[..., 2 * top : 2 * bottom, :] = convolved
    return out


def _like(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    """An empty tensor with the memory format of ``x``."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    order = torch.channels_last if last else torch.contiguous_format
    return torch.empty((len(x), channels, height, width), dtype=x.dtype, device=x.device, memory_format=order)
