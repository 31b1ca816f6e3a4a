"""The objective: named, weighted terms with one interface (``vqclip.protocols.Term``).

The three terms of every run are here, the optional ones in :mod:`vqclip.terms`.  Every picture has its own loss, and
the losses are summed, so that a picture's gradient does not depend on the rest of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.classes import parameters_of
from vqclip.errors import UserError
from vqclip.precision import full_precision
from vqclip.protocols import CropView, Term, View
from vqclip.schedules import ever_nonzero, negated, schedule
from vqclip.targets import dot_with_stops
from vqclip.terms import TotalVariation  # older records refer to it as vqclip.loss.TotalVariation

__all__ = ["Anchor", "Exclude", "Include", "Objective", "TotalVariation"]


class Include:
    """Similarity of the crops to the target; 1 if they agree.

    Args:
        weight: negative, since the loss falls as the similarity grows.
        distance: ``cosine``: cos(target, crop).  ``spherical``: ``1 − 2 · arcsin(‖target − crop‖ / 2)²``, whose
            gradient does not vanish far from the target (Crowson et al. 2022, https://arxiv.org/abs/2204.08583).
    """

    on_crops = True

    def __init__(self, weight: Any, distance: str = "cosine"):
        self.weight, self.distance = weight, distance

    def __call__(self, view: CropView) -> Tensor:
        targets = view.targets
        if targets.parts is not None and targets.stops is not None:
            return _of_dot(dot_with_stops(view.vectors, targets.parts, targets.stops), view.weights, self.distance)
        return _likeness(view, targets.include, self.distance)


class Exclude(Include):
    """Similarity of the crops to the exclude target."""

    def __call__(self, view: CropView) -> Tensor:
        targets = view.targets
        if targets.exclude_parts is not None and targets.exclude_stops is not None:
            dot = dot_with_stops(view.vectors, targets.exclude_parts, targets.exclude_stops, -1.0)
            return _of_dot(dot, view.weights, self.distance)
        if targets.exclude is None:
            raise ValueError("nothing is excluded: a view without exclude targets has no such term")
        return _likeness(view, F.normalize(targets.exclude, dim=-1), self.distance)


class Anchor:
    """``mean((z − z0)²)``: keeps the latent near its initial value."""

    def __init__(self, weight: Any):
        self.weight = weight

    def __call__(self, view: View) -> Tensor:
        return (view.latent - view.start).square().flatten(1).mean(1)


def _likeness(view: CropView, target: Tensor, distance: str) -> Tensor:
    """Similarity of the crops' unit vectors [B,n,D] to the targets [B,D], summed over the crops, [B]."""
    vectors = view.vectors
    if view.weights is not None:
        return _of_dot(torch.einsum("bnd,bd->bn", vectors, target), view.weights, distance)
    if distance == "cosine":
        return torch.einsum("bnd,bd->b", vectors, target)
    half = (vectors - target[:, None]).norm(dim=-1) / 2
    return _spherical(half.clamp(max=1 - 1e-6)).sum(1)


def _of_dot(dot: Tensor, weights: Tensor | None, distance: str) -> Tensor:
    """The same from dot products [B,n] of unit vectors, with the crops' weights, [B]."""
    if distance == "spherical":
        dot = _spherical(((1 - dot) / 2).clamp(min=1e-12, max=1 - 1e-6).sqrt())
    return (dot if weights is None else dot * weights).sum(1)


def _spherical(half: Tensor) -> Tensor:
    """Similarity of unit vectors from half their distance, which must be below 1, where the gradient is infinite."""
    return 1 - 2 * half.arcsin().square()


class Objective:
    """``−alpha · mean(cos(target, crop)) + beta · mean(cos(exclude, crop)) + anchor · mean((z − z0)²) + …``.

    Terms are reported unweighted, so similarities stay similarities; the signs are in the weights.

    Args:
        alpha, beta, anchor: weights, each a number or a schedule.
        terms: further terms by name, each a ``vqclip.protocols.Term`` or a callable of the older form
            ``term(image, latent) -> [B]``.
        distance: ``cosine`` or ``spherical``, of include and exclude.
    """

    def __init__(self, alpha: Any, beta: Any, anchor: Any, terms: Mapping | None = None, distance: str = "cosine"):
        built_in: dict[str, Any] = {
            "include": Include(negated(schedule(alpha)), distance),
            "exclude": Exclude(beta, distance),
            "anchor": Anchor(anchor),
        }
        self.terms: dict[str, Term] = built_in | {n: _uniform(t) for n, t in (terms or {}).items() if t is not None}
        self.weights = {name: schedule(term.weight) for name, term in self.terms.items()}
        # A term whose schedule only passes through 0 stays, so that all rows of a run have the same columns.
        self._counting = {"include", "exclude"} | {name for name, own in self.weights.items() if ever_nonzero(own)}

    @full_precision()  # bfloat16 resolves two digits of a similarity: too few to compare runs
    def on_crops(self, view: CropView) -> dict[str, Tensor]:
        """Crop terms by name, summed over the view's crops, [B], unweighted."""
        targets = view.targets
        found = {
            name: _of_each_picture(name, term(view), len(view.image))
            for name, term in self.terms.items()
            if getattr(term, "on_crops", False)
            and (name != "exclude" or targets.exclude is not None)
            and name in self._counting
        }
        if targets.share is None:
            return found
        return {
            name: value * (targets.exclude_share if name == "exclude" else targets.share)
            for name, value in found.items()
        }

    def on_picture(self, view: View) -> dict[str, Tensor]:
        """Terms of the picture and the latent by name, [B], unweighted."""
        return {
            name: _of_each_picture(name, term(view), len(view.image))
            for name, term in self.terms.items()
            if not getattr(term, "on_crops", False) and name in self._counting
        }

    def total(self, terms: Mapping[str, Tensor], progress: float) -> Tensor:
        """The weighted sum of ``terms``, [B]."""
        weighted = (self.weights[name](progress) * value for name, value in terms.items())
        return sum(weighted, start=torch.zeros(()))


class _OfImageAndLatent:
    """Adapts a term of the older form ``term(image, latent)`` to the interface ``term(view)``."""

    def __init__(self, term: Any):
        self.term, self.weight = term, term.weight

    def __call__(self, view: View) -> Tensor:
        return self.term(view.image, view.latent)


def _uniform(term: Any) -> Term:
    needed = [
        p
        for p in parameters_of(term).values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    return _OfImageAndLatent(term) if len(needed) == 2 else term


def _of_each_picture(name: str, value: Tensor, pictures: int) -> Tensor:
    """Return a term's value if it has the right shape; a custom term may return anything."""
    if getattr(value, "shape", None) != (pictures,):
        what = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UserError(
            f"loss.terms.{name}: it gave {what}. Allowed: one value a picture, [{pictures}]. "
            "Try: value.flatten(1).mean(1)"
        )
    return value
