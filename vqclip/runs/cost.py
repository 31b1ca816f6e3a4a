"""Estimates what a run costs: its sizes before it begins, seconds and memory once a few steps are measured."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from vqclip.checkpoints.check import factor_of
from vqclip.prompts import listed, parse

__all__ = ["TRIAL", "Cost", "duration", "quicker", "sizes"]

#: Steps that are measured; the first one of a process is slower and not counted.
TRIAL = 4
_SHOWN = 3  #: prompts


@dataclass(frozen=True)
class Cost:
    """What a few steps of a run took on this machine."""

    step: float  #: seconds a step, median
    start: float  #: seconds to load the models and begin; 0 where that is over
    memory: float  #: peak GB: of the GPU where there is one, else resident; 0 where the system does not tell

    @classmethod
    def of(cls, clock: Sequence[float], start: float = 0) -> Cost:
        """From the seconds at which :data:`TRIAL` steps or more were done, one by one."""
        return cls(median(after - before for before, after in pairwise(clock)), start, _peak())

    def line(self, steps: int) -> str:
        """What so many steps will cost: ``about 2 min: 5 s to start, 1.2 s a step; 0.8 GB at its peak``."""
        begin = f"{self.start:.0f} s to start, " if self.start else ""
        total = duration(self.start + self.step * steps)
        peak = f"; {self.memory:.1f} GB at its peak" if self.memory else ""
        return f"about {total}: {begin}{self.step:.2g} s a step{peak}"


def sizes(config: Mapping[str, Any]) -> str:
    """Pictures, steps, crops and snapshots of a resolved config, in a line."""
    prompts = [parse(entry).label for entry in listed(config["prompts"]["include"])]
    pictures = len(prompts) * config["batch_size"]
    shown = ", ".join(f'"{label}"' for label in prompts[:_SHOWN]) + ", …" * (len(prompts) > _SHOWN)
    crops = (config["augmentations"].get("crops") or {}).get("count")  # a class of one's own may have none
    factor = factor_of(config["checkpoints"]["generator"]) or 1
    height, width = (side // factor * factor for side in config["size"])  # as they will be made
    steps = config["steps"]
    return (
        f"{pictures} picture{'s' * (pictures > 1)} of {height}×{width}, {steps} step{'s' * (steps > 1)}"
        f"{f' of {crops * pictures} crops' if crops else ''}, "
        f"{1 + -(-steps // config['snapshot_every'])} snapshots each: {shown}"
    )


def quicker(device: str, precision: str) -> str:
    """What makes steps in this precision quicker on this machine, as a line; empty where nothing is known to."""
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
