"""Layers whose weights take no gradient, keeping for the backward only what the gradient of their input needs.

torch's convolution keeps its input, for the gradient of weights that are frozen here, and norm, SiLU and convolution in
a row keep three tensors of a picture's size.  Here a convolution keeps none, the three together their input alone; the
norm is computed again.  The same kernels on the same numbers: forward and gradient are the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["LARGE", "activated", "convolved"]

#: Places above which it pays: below, the norm costs more than the memory is worth.
LARGE = 256 * 256


def convolved(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv(x)``."""
    return _Convolution.apply(x, conv) if _pays(x, conv) else conv(x)


def activated(norm: nn.GroupNorm, conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv(silu(norm(x)))``."""
    return _Activated.apply(x, norm, conv) if _pays(x, conv) else conv(F.silu(norm(x)))


def _pays(x: Tensor, conv: nn.Conv2d) -> bool:
    wanted = torch.is_grad_enabled() and x.requires_grad and not conv.weight.requires_grad
    same = x.dtype == conv.weight.dtype and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    autocast = torch.is_autocast_enabled(x.device.type)  # it would choose other types inside
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
        normed, mean, deviation = _normed(norm, x)
        ctx.save_for_backward(x, mean, deviation)
        return conv(F.silu(normed, inplace=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, mean, deviation = ctx.saved_tensors
        gradient = _to_input(ctx.conv, gradient, x)
        # In place: asking the system for a picture's size of new memory costs more than the arithmetic.
        torch.ops.aten.silu_backward.grad_input(gradient, _normed(ctx.norm, x)[0], grad_input=gradient)
        sizes = (len(x), x.shape[1], x[0, 0].numel(), ctx.norm.num_groups)
        only_input = [True, False, False]
        found = torch.ops.aten.native_group_norm_backward(
            gradient, x, mean, deviation, ctx.norm.weight, *sizes, only_input
        )
        return found[0], None, None


def _normed(norm: nn.GroupNorm, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The norm, and the mean and 1/deviation of every group, as ``nn.GroupNorm`` computes them."""
    sizes = (len(x), x.shape[1], x[0, 0].numel(), norm.num_groups)
    return torch.native_group_norm(x, norm.weight, norm.bias, *sizes, norm.eps)


def _to_input(conv: nn.Conv2d, gradient: Tensor, like: Tensor) -> Tensor:
    """The gradient of a convolution's output → of its input, of which only shape and strides are looked at."""
    how = (None, conv.stride, conv.padding, conv.dilation, False, [0, 0], conv.groups)
    return torch.ops.aten.convolution_backward(gradient, like, conv.weight, *how, [True, False, False])[0]
