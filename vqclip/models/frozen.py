"""Layers with frozen weights, which save for the backward pass only what the gradient of their input needs.

torch's convolution saves its input for the gradient of the weights, which are frozen here; norm, SiLU and convolution
together save three tensors of a picture's size.  Here a convolution saves nothing, and the three save only their input.
The forward pass has the same bits.  The backward pass of the three works on strips of rows that stay in a CPU's cache:
a third of the time of torch's separate kernels, and the same result up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vqclip.precision import autocast_on

__all__ = ["LARGE", "activated", "convolved"]

#: Minimum number of pixels: below, recomputing the norm costs more than the memory is worth.
LARGE = 256 * 256
#: Rows per strip of the backward pass on a CPU.
ROWS = 64


def convolved(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv(x)``."""
    return _Convolution.apply(x, conv) if _pays(x, conv) else conv(x)


def activated(norm: nn.GroupNorm, conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv(silu(norm(x)))``."""
    return _Activated.apply(x, norm, conv) if _pays(x, conv) else conv(F.silu(norm(x)))


def _pays(x: Tensor, conv: nn.Conv2d) -> bool:
    wanted = torch.is_grad_enabled() and x.requires_grad and not conv.weight.requires_grad
    same = x.dtype == conv.weight.dtype
    autocast = autocast_on(x.device.type)  # autocast would choose other dtypes inside
    return wanted and same and not autocast and x.shape[-2] * x.shape[-1] > LARGE


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, conv: nn.Conv2d) -> Tensor:
        ctx.conv, ctx.shape = conv, (x.shape, x.stride())
        return conv(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _to_input(ctx.conv, gradient, gradient.new_empty_strided(*ctx.shape)), None


class _Activated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: nn.GroupNorm, conv: nn.Conv2d) -> Tensor:
        ctx.norm, ctx.conv = norm, conv
        sizes = (len(x), x.shape[1], x[0, 0].numel(), norm.num_groups)
        # What nn.GroupNorm computes, with the mean and 1/deviation of every group.
        normed, mean, deviation = torch.native_group_norm(x, norm.weight, norm.bias, *sizes, norm.eps)
        ctx.save_for_backward(x, mean, deviation)
        return conv(F.silu(normed, inplace=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, mean, deviation = ctx.saved_tensors
        gradient = _to_input(ctx.conv, gradient, x)
        _through_activation(gradient, x, ctx.norm, mean, deviation)
        return gradient, None, None


def _through_activation(gradient: Tensor, x: Tensor, norm: nn.GroupNorm, mean: Tensor, deviation: Tensor) -> None:
    """Turn the gradient of ``silu(norm(x))``, [n,C,H,W], into that of ``x``, in place.

    Args:
        mean, deviation: of every group [n,G], the latter as 1/deviation.
    """
    each = x.shape[1] // norm.num_groups

    def wide(groups: Tensor) -> Tensor:
        return groups.repeat_interleave(each, 1)[..., None, None]  # [n,C,1,1]

    scale = wide(deviation) * norm.weight[:, None, None]
    shift = norm.bias[:, None, None] - wide(mean) * scale
    rows = ROWS if x.device.type == "cpu" else x.shape[2]
    strips = list(zip(gradient.split(rows, 2), x.split(rows, 2), strict=True))
    total = with_x = torch.zeros_like(scale)  # sums per channel of the gradient, and of gradient · x
    for part, of_x in strips:
        torch.ops.aten.silu_backward.grad_input(part, torch.addcmul(shift, of_x, scale), grad_input=part)
        total = total + part.sum((2, 3), keepdim=True)
        with_x = with_x + (part * of_x).sum((2, 3), keepdim=True)
    # x also changes its group's mean and deviation.
    total, with_x = ((s[..., 0, 0] * norm.weight).unflatten(1, (-1, each)).sum(2) for s in (total, with_x))
    slope = (total * mean - with_x) * deviation**3 / (each * x[0, 0].numel())
    level = -slope * mean - total * deviation / (each * x[0, 0].numel())
    for part, of_x in strips:
        part.mul_(scale).add_(torch.addcmul(wide(level), of_x, wide(slope)))


def _to_input(conv: nn.Conv2d, gradient: Tensor, like: Tensor) -> Tensor:
    """The gradient of a convolution's input from that of its output; ``like`` gives the input's shape and strides."""
    how = (None, conv.stride, conv.padding, conv.dilation, False, [0, 0], conv.groups)
    return torch.ops.aten.convolution_backward(gradient, like, conv.weight, *how, [True, False, False])[0]
