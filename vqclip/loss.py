"""The objective: named, weighted terms.

Terms on crops compare the perceptor's vectors with the texts; terms on the picture look at the image and the latent.
Each picture has its own loss, and the pictures' losses are added, so that a picture's gradient does not depend on
what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.schedules import schedule

__all__ = ["Objective", "Targets", "TotalVariation", "combine_texts"]


@dataclass(frozen=True)
class Targets:
    """What B pictures should and should not look like, in one perceptor's space."""

    include: Tensor  #: unit vectors [B,D]
    exclude: Tensor | None  #: [B,D]; None where nothing is excluded

    def to(self, device: torch.device | str) -> Targets:
        return Targets(self.include.to(device), None if self.exclude is None else self.exclude.to(device))

    def of(self, which: slice) -> Targets:
        """Those of pictures ``which``."""
        return Targets(self.include[which], None if self.exclude is None else self.exclude[which])


def combine_texts(include: Tensor, extras: Tensor | None, include_weight: float, extras_weight: float) -> Tensor:
    """``w1 · include + w2 · extras``, to unit length (algorithm.md, row "target"): [B,D] and [D] or None → [B,D]."""
    target = include_weight * include
    if extras is not None:
        target = target + extras_weight * extras
    return F.normalize(target, dim=-1)


class Objective:
    """``−alpha · mean(cos(target, crop)) + beta · mean(cos(exclude, crop)) + anchor · mean((z − z0)²) + …``.

    The terms are reported as they are, similarities as similarities; the signs are in the weights.

    Args:
        alpha, beta, anchor: weights, each a number or a schedule.
        terms: further picture terms by name, each with a ``weight``, called as ``term(image, latent) -> [B]``.
    """

    def __init__(self, alpha: float | Mapping, beta: float | Mapping, anchor: float | Mapping, terms: Mapping | None):
        self.terms = dict(terms or {})
        towards = schedule(alpha)
        self.weights = {
            "include": replace(towards, start=-towards.start, end=-towards.end),
            "exclude": schedule(beta),
            "anchor": schedule(anchor),
        } | {name: schedule(term.weight) for name, term in self.terms.items()}

    def on_crops(self, vectors: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Crop terms of B pictures from their vectors [B·n,D]: name → cosines summed over the n crops, [B]."""
        vectors = F.normalize(vectors, dim=-1).view(len(targets.include), -1, vectors.shape[-1])
        terms = {"include": torch.einsum("bnd,bd->b", vectors, targets.include)}
        if targets.exclude is not None:
            terms["exclude"] = torch.einsum("bnd,bd->b", vectors, F.normalize(targets.exclude, dim=-1))
        return terms

    def on_picture(self, image: Tensor, latent: Tensor, start: Tensor) -> dict[str, Tensor]:
        """Picture terms that weigh something at some time of the run: name → [B], unweighted."""
        terms = {}
        # A schedule that passes through 0 keeps its term: a run has the same columns in every row.
        if self.weights["anchor"].start or self.weights["anchor"].end:
            terms["anchor"] = (latent - start).square().flatten(1).mean(1)
        for name, term in self.terms.items():
            if self.weights[name].start or self.weights[name].end:
                terms[name] = term(image, latent)
        return terms

    def total(self, terms: Mapping[str, Tensor], progress: float) -> Tensor:
        """The weighted sum of ``terms``, [B]."""
        return sum(self.weights[name](progress) * value for name, value in terms.items())


class TotalVariation:
    """Mean absolute difference of neighbouring pixels: weighs against speckle."""

    def __init__(self, weight: float | Mapping):
        self.weight = weight

    def __call__(self, image: Tensor, latent: Tensor) -> Tensor:
        """Image [B,3,H,W] in [0,1] → [B]."""
        across = image.diff(dim=-1).abs().flatten(1).mean(1)
        return across + image.diff(dim=-2).abs().flatten(1).mean(1)
