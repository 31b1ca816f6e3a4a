"""Noise added to the crops before the perceptor sees them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vqclip.rng import StepRandom
from vqclip.schedules import schedule

__all__ = ["Noise"]


class Noise:
    """``crop + factor(t) · r · randn`` (algorithm.md, row "crop noise").

    Args:
        factor: standard deviation at r = 1; a number or a schedule.
        num_rands: each crop's r is a uniform(0,1) number times this many further ones.  More of them pull r towards 0,
            which gives soft, smoky edges (the *sfumato* effect).
    """

    def __init__(self, factor: float | Mapping, num_rands: int):
        self.factor, self.num_rands = schedule(factor), num_rands

    def draw(self, rng: StepRandom, count: int, input_size: int, progress: float) -> Tensor | None:
        """The noise for B pictures × ``count`` crops at ``progress`` in [0,1], [B,N,3,S,S]; None if the factor is 0."""
        factor = self.factor(progress)
        if factor == 0:
            return None
        r = rng.uniform("noise.strength", 1 + self.num_rands, count).prod(dim=1)  # [B,N]
        field = rng.normal(f"noise.field.{input_size}", count, 3, input_size, input_size)
        return field * (factor * r)[..., None, None, None]
