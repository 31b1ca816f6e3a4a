"""Further optimizers, steps with a closure, and gradient clipping."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vqclip.classes import parameters_of

__all__ = ["OneScaleAdam", "PlainSteps", "clip_gradients", "needs_closure", "step_with"]


class OneScaleAdam(torch.optim.Optimizer):
    """Adam (Kingma & Ba 2015) with a single second moment per latent: the mean square of its gradient.

    Adam divides every element by its own second moment, so an empty background, whose gradient is almost zero, moves as
    fast as the object and becomes speckled.  Here the gradient keeps its proportions within a latent.  Each latent of a
    batch has its own moment, so that pictures do not affect each other.

    Args:
        params: latents [B,…].
        lr: length of a step, as the root mean square over the latent's elements.
        betas: of the running means of the gradient and of its mean square.
        eps: added to the denominator.
    """

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-8):
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; return the closure's value."""
        loss = _evaluated(closure)
        for latent, group in _moving(self):
            self._move(latent, latent.grad, self.state[latent], group)
        return loss

    def _move(self, latent: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        first, second = group["betas"]
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(grad), "square": torch.zeros_like(grad[:, :1, :1, :1])}
        state["step"] += 1
        state["mean"].lerp_(grad, 1 - first)
        state["square"].lerp_(grad.square().mean((1, 2, 3), keepdim=True), 1 - second)
        mean, square = state["mean"] / (1 - first ** state["step"]), state["square"] / (1 - second ** state["step"])
        latent.sub_(group["lr"] * mean / (square.sqrt() + group["eps"]))


class PlainSteps(torch.optim.SGD):
    """SGD whose steps do not shrink as pictures grow: gradients are multiplied by n/2, n the elements of a latent.

    The objective's terms are means, so the gradient of an element falls with their number.  With this factor a term
    ``weight · mean((z − t)²)`` moves every element by the fraction ``lr · weight`` of its distance to t, at any size.

    Args:
        lr: see above.
        momentum: as in ``torch.optim.SGD``.
    """

    def __init__(self, params: Any, lr: float, momentum: float = 0.0):
        super().__init__(params, lr, momentum)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; return the closure's value."""
        loss = _evaluated(closure)
        for latent, _ in _moving(self):
            latent.grad.mul_(latent[0].numel() / 2)
        super().step()
        return loss


def _evaluated(closure: Callable[[], Any] | None) -> Any:
    """Evaluate the closure of an optimizer's step with gradients enabled."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _moving(optimizer: torch.optim.Optimizer) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The latents that have a gradient, each with its parameter group."""
    for group in optimizer.param_groups:
        yield from ((latent, group) for latent in group["params"] if latent.grad is not None)


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer's step requires a closure, as LBFGS's does."""
    step = getattr(optimizer, "optimizer", optimizer).step  # Lightning's wrapper holds torch's own
    closure = parameters_of(step).get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def step_with(
    optimizer: torch.optim.Optimizer,
    gradients: Callable[[], dict[str, Tensor]],
    total: Callable[[dict[str, Tensor]], Tensor],
) -> dict[str, Tensor]:
    """Take one step of any optimizer, with a closure if it requires one; return the last evaluated terms, each [B].

    Args:
        gradients: computes the gradients and returns the terms.
        total: the loss of each picture, [B], from the terms.
    """
    terms: dict[str, Tensor] = {}

    def closure() -> Any:  # torch's optimizers accept a tensor, though annotated as float
        terms.update(gradients())
        return total(terms).sum()

    if needs_closure(optimizer):
        optimizer.step(closure)
    else:
        terms.update(gradients())
        optimizer.step()
    return terms


def clip_gradients(latent: Tensor, longest: float | None) -> Tensor:
    """Clip the gradient norm of each latent of [B,C,h,w] to ``longest``, if given; return the norms before, [B].

    Each latent is clipped by its own norm, so that pictures do not affect each other.
    """
    if latent.grad is None:
        raise ValueError("the latent has no gradient: no term of the objective depends on it")
    norm = latent.grad.flatten(1).norm(dim=1)
    if longest:
        latent.grad.mul_((longest / norm).clamp(max=1).view(-1, *[1] * (latent.dim() - 1)))
    return norm
