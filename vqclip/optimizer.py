"""What a step asks of an optimiser, and does to a gradient, besides torch's own."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor

__all__ = ["clip_gradients", "needs_closure"]


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step of it must evaluate the objective itself, as often as it likes: LBFGS does."""
    step = getattr(optimizer, "optimizer", optimizer).step  # Lightning's wrapper holds torch's own
    closure = inspect.signature(step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def clip_gradients(latent: Tensor, longest: float | None) -> Tensor:
    """Shorten the gradient of each latent of [B,C,h,w] to ``longest``; None leaves them.  Their lengths before, [B].

    Each picture's alone: what else is in the batch has no say.
    """
    norm = latent.grad.flatten(1).norm(dim=1)
    if longest:
        latent.grad.mul_((longest / norm).clamp(max=1).view(-1, *[1] * (latent.dim() - 1)))
    return norm
