"""Estimates the cost of a run: its sizes before it starts, time and memory after a few measured steps."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from vqclip.checkpoints.check import factor_of
from vqclip.prompts import as_list, parse

__all__ = ["TRIAL", "Cost", "duration", "faster_setting", "sizes"]

#: Number of measured steps; the first one of a process is slower and not counted.
TRIAL = 4
_SHOWN = 3  #: prompts


@dataclass(frozen=True)
class Cost:
    """Time and memory of a few steps on this machine."""

    step: float  #: seconds per step, median
    start: float  #: seconds until the first step; 0 if that is over
    memory: float  #: peak GB on the GPU, else resident; 0 if unknown

    @classmethod
    def of(cls, clock: Sequence[float], start: float = 0) -> Cost:
        """The cost from the times at which consecutive steps ended, at least :data:`TRIAL` of them."""
        return cls(median(after - before for before, after in pairwise(clock)), start, _peak())

    def line(self, steps: int) -> str:
        """The cost of ``steps`` steps: ``about 2 min: 5 s to start, 1.2 s a step; 0.8 GB at its peak``."""
        begin = f"{self.start:.0f} s to start, " if self.start else ""
        total = duration(self.start + self.step * steps)
        peak = f"; {self.memory:.1f} GB at its peak" if self.memory else ""
        return f"about {total}: {begin}{self.step:.2g} s a step{peak}"


def sizes(config: Mapping[str, Any]) -> str:
    """Pictures, steps, crops and snapshots of a resolved config, in one line."""
    prompts = [parse(entry).label for entry in as_list(config["prompts"]["include"])]
    pictures = len(prompts) * config["batch_size"]
    shown = ", ".join(f'"{label}"' for label in prompts[:_SHOWN]) + ", …" * (len(prompts) > _SHOWN)
    crops = (config["augmentations"].get("crops") or {}).get("count")  # a custom class may have none
    factor = factor_of(config["checkpoints"]["generator"]) or 1
    height, width = (side // factor * factor for side in config["size"])  # rounded down, as decoded
    steps = config["steps"]
    return (
        f"{pictures} picture{'s' * (pictures > 1)} of {height}×{width}, {steps} step{'s' * (steps > 1)}"
        f"{f' of {crops * pictures} crops' if crops else ''}, "
        f"{1 + -(-steps // config['snapshot_every'])} snapshots each: {shown}"
    )


def faster_setting(device: str, precision: str) -> str:
    """A line that says what would make steps faster on this machine; empty if nothing would."""
    from vqclip.models.vqgan_fast import BRIEF

    if not BRIEF or device != "cpu" or precision != "32-true":
        return ""
    return (
        "note: this processor computes in bfloat16: with trainer.precision=bf16-mixed a step takes some two thirds of "
        "that, and pictures differ a little"
    )


def _peak() -> float:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def duration(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
