"""What a step asks of an optimiser, and does to a gradient, besides torch's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["clip_gradients", "needs_closure", "step_with"]


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step of it must evaluate the objective itself, as often as it likes: LBFGS does."""
    step = getattr(optimizer, "optimizer", optimizer).step  # Lightning's wrapper holds torch's own
    closure = inspect.signature(step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def step_with(
    optimizer: torch.optim.Optimizer,
    gradients: Callable[[], dict[str, Tensor]],
    total: Callable[[dict[str, Tensor]], Tensor],
) -> dict[str, Tensor]:
    """One step of any optimiser, with a closure where it wants one; the terms, each [B], it last looked at.

    Args:
        gradients: leaves the gradients and answers with the terms.
        total: the loss of each picture, [B], from the terms.
    """
    terms: dict[str, Tensor] = {}

    def closure() -> Tensor:
        terms.update(gradients())
        return total(terms).sum()

    if needs_closure(optimizer):
        optimizer.step(closure)
    else:
        terms.update(gradients())
        optimizer.step()
    return terms


def clip_gradients(latent: Tensor, longest: float | None) -> Tensor:
    """Shorten the gradient of each latent of [B,C,h,w] to ``longest``; None leaves them.  Their lengths before, [B].

    Each picture's alone: what else is in the batch has no say.
    """
    norm = latent.grad.flatten(1).norm(dim=1)
    if longest:
        latent.grad.mul_((longest / norm).clamp(max=1).view(-1, *[1] * (latent.dim() - 1)))
    return norm
