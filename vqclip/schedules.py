"""Schedules: a number that changes over the run.

Wherever the config takes a weight, a noise factor or a learning rate, it takes one of

    0.5                                              a constant
    {start: 1, end: 0, shape: cosine}                from start to end
    {start: 1, end: 0, shape: linear, warmup: .1}    the same, rising from 0 to it over the first tenth of the run
    {points: [[0, 1], [.3, 1], [1, 0]]}              through points [t, value]; shape: steps holds each
    {_target_: mine.Wave, height: 2}                 a class of your own, called with t in [0,1]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vqclip.classes import instantiate
from vqclip.errors import UserError

__all__ = [
    "SHAPES",
    "AnySchedule",
    "Points",
    "Schedule",
    "ever_nonzero",
    "is_number",
    "negated",
    "sample",
    "schedule",
]

#: t in [0,1] → fraction of the way from one value to the next.  Exponential: of the way between logarithms.
SHAPES = {
    "constant": lambda t: 0.0,
    "linear": lambda t: t,
    "cosine": lambda t: (1 - math.cos(math.pi * t)) / 2,
    "exponential": lambda t: t,
    "steps": lambda t: float(t >= 1),
}


def is_number(value: Any) -> bool:
    """Whether a value is a finite number in the range of a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _between(start: float, end: float, t: float, shape: str) -> float:
    if shape == "exponential":
        return math.copysign(abs(start) ** (1 - t) * abs(end) ** t, start)
    return start + (end - start) * SHAPES[shape](t)


def _check_shape(shape: str, values: Sequence[float]) -> None:
    if shape not in SHAPES:
        raise ValueError(f"shape {shape!r} is not one of {', '.join(SHAPES)}")
    if shape == "exponential" and not (all(v > 0 for v in values) or all(v < 0 for v in values)):
        raise ValueError("an exponential needs numbers of one sign, none of them 0")


@dataclass
class Schedule:
    """From ``start`` at t = 0 to ``end`` at t = 1 by ``shape``; multiplied by t / warmup before t = ``warmup``."""

    start: float
    end: float
    shape: str = "linear"
    warmup: float = 0.0

    def __post_init__(self):
        _check_shape(self.shape, (self.start, self.end))
        if not 0 <= self.warmup <= 1:
            raise ValueError("warmup is a part of the run, from 0 to 1")

    def __call__(self, t: float) -> float:
        """The value at progress ``t`` in [0,1] of the run."""
        value = _between(self.start, self.end, t, self.shape)
        return value * t / self.warmup if t < self.warmup else value


@dataclass
class Points:
    """Interpolates ``points`` [t, value], t rising in [0,1]; constant before the first and after the last."""

    points: Sequence[Sequence[float]]
    shape: str = "linear"

    def __post_init__(self):
        times, values = zip(*self.points, strict=True)
        _check_shape(self.shape, values)
        if list(times) != sorted(set(times)) or times[0] < 0 or times[-1] > 1:
            raise ValueError("points rise in t, from 0 to 1")

    def __call__(self, t: float) -> float:
        """The value at progress ``t`` in [0,1] of the run."""
        before = [point for point in self.points if point[0] <= t]
        after = self.points[len(before) : len(before) + 1]
        if not before or not after:
            return (before or self.points)[-1 if before else 0][1]
        (t0, v0), (t1, v1) = before[-1], after[0]
        return _between(v0, v1, (t - t0) / (t1 - t0), self.shape)


@dataclass
class _Own:
    """A callable of t in [0,1]."""

    function: Callable[[float], float]
    sign: float = 1.0
    shape: str = "own"

    def __call__(self, t: float) -> float:
        return self.sign * float(self.function(t))


AnySchedule = Schedule | Points | _Own


def schedule(value: float | Mapping | Callable[[float], float]) -> AnySchedule:
    """A schedule from a number, a callable of t in [0,1], or a mapping.

    Mappings are ``{start: 1, end: 0, shape: cosine, warmup: 0.1}``, ``{points: [[0, 1], [0.3, 1], [1, 0]]}`` and
    ``{_target_: mine.Wave, …}``.

    Raises:
        TypeError, ValueError: anything else (the config check reports it with its key before a run starts).
    """
    if isinstance(value, AnySchedule):
        return value
    if isinstance(value, Mapping):
        return _from_mapping(value)
    if callable(value):
        return _Own(value)
    if isinstance(value, bool):
        raise TypeError("a truth value is not a number")
    return Schedule(_number(value), _number(value), "constant")


def sample(value: Any) -> list[float]:
    """The values of a number or schedule at 101 points of a run, and at its corners between them.

    Raises:
        UserError: the class does not exist.
        ValueError: neither a number nor a schedule.  For a custom class, the message says what it raised; otherwise
            the message is empty, and ``__cause__`` says what is wrong.
    """
    try:
        made = schedule(value)
        corners = [t for t, _ in made.points] if isinstance(made, Points) else [getattr(made, "warmup", 0.0)]
        return [made(t) for t in (*(step / 100 for step in range(101)), *corners)]
    except UserError:
        raise
    except Exception as error:  # a custom class may raise anything
        own = value.get("_target_") if isinstance(value, Mapping) else None
        raise ValueError(f"{own} raised {type(error).__name__}: {error}" if own else "") from error


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a whole number that is too large") from None


def _from_mapping(value: Mapping) -> AnySchedule:
    if "_target_" in value:
        return schedule(instantiate(value))
    if "points" in value:
        points = tuple((_number(t), _number(v)) for t, v in value["points"])
        return Points(**{**value, "points": points})
    known: dict[str, Any] = {k: v if k == "shape" else _number(v) for k, v in value.items()}
    return Schedule(**known)


def negated(value: AnySchedule) -> AnySchedule:
    """The schedule times −1."""
    return _Own(value, sign=-1.0)


def ever_nonzero(value: float | Mapping | Callable[[float], float]) -> bool:
    """Whether a number or schedule is nonzero at some point of a run."""
    return any(sample(value))
