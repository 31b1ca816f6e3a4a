"""Schedules: a number that changes over the run.

Wherever the config takes a weight, a noise factor or a learning rate, it takes a number (constant) or
``{start: …, end: …, shape: linear|cosine}``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["SHAPES", "Schedule", "schedule"]

#: From t in [0,1] to how much of the way from start to end is done.
SHAPES = {
    "constant": lambda t: 0.0,
    "linear": lambda t: t,
    "cosine": lambda t: (1 - math.cos(math.pi * t)) / 2,
}


@dataclass(frozen=True)
class Schedule:
    """``start`` at t = 0, ``end`` at t = 1, the way between them by ``shape``."""

    start: float
    end: float
    shape: str = "linear"

    def __call__(self, t: float) -> float:
        """The value at progress ``t`` in [0,1] of the run."""
        return self.start + (self.end - self.start) * SHAPES[self.shape](t)


def schedule(value: float | Mapping) -> Schedule:
    """A number or ``{start, end, shape}`` → Schedule.

    Raises:
        TypeError, ValueError: anything else (the config check reports it with its key before a run starts).
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, Mapping):
        made = Schedule(**{k: v if k == "shape" else float(v) for k, v in value.items()})
        if made.shape not in SHAPES:
            raise ValueError(f"shape {made.shape!r} is not one of {', '.join(SHAPES)}")
        return made
    if isinstance(value, bool):
        raise TypeError("a truth value is not a number")
    return Schedule(float(value), float(value), "constant")
