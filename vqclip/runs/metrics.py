"""Writes a run's metrics: rows on disk; numbers and pictures to loggers."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytorch_lightning as pl
from torch import Tensor

from vqclip.loggers.base import Media, log_step
from vqclip.module import LatentOptimisation
from vqclip.runs.folder import RunFolder
from vqclip.runs.snapshots import Snapshot

__all__ = ["Metrics", "step_numbers"]


class Metrics:
    """Writes ``metrics.csv``, ``timing.csv`` and to the loggers.

    Times have a file of their own, so that equal runs have byte-identical ``metrics.csv``.

    Args:
        run: the run folder.
        labels: the prompt of each picture, for captions.
    """

    def __init__(self, run: RunFolder, labels: list[str]):
        self.run, self.labels = run, labels
        self.start_clock()

    def start_clock(self) -> None:
        """Start the clock of ``timing.csv``."""
        self._began = time.perf_counter()

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append one row to each file."""
        self.run.append_row(self.run.metrics_file, {"step": step, **numbers})
        seconds = round(time.perf_counter() - self._began, 4)
        self.run.append_row(self.run.timing_file, {"step": step, "seconds": seconds})

    def send(self, trainer: pl.Trainer, step: int, numbers: Mapping[str, float], snapshot: Snapshot | None) -> None:
        """Call every logger once, with the step's numbers and the snapshot's pictures, scores and latents, if any."""
        numbers = dict(numbers)
        for i, scores in enumerate(snapshot.scores if snapshot else ()):
            numbers |= {f"snapshot/{name}/{i:02d}": value for name, value in scores.items()}
        media = None
        if snapshot:
            captions = [self._caption(i, step, scores) for i, scores in enumerate(snapshot.scores)]
            places = [self.run.picture(i) for i in range(len(captions))]
            files = [place.snapshot(step) for place in places], [place.crop(step) for place in places]
            media = Media(snapshot.images, snapshot.crops, snapshot.latents, captions, files)
        for logger in trainer.loggers:
            log_step(logger, step, numbers, media)

    def _caption(self, index: int, step: int, scores: Mapping[str, float]) -> str:
        shown = " ".join(f"{name} {value:.3f}" for name, value in scores.items())
        return f"{self.labels[index]} · step {step} · {shown}"


def step_numbers(module: LatentOptimisation) -> dict[str, float]:
    """Loss and terms of the last step as means over the pictures, and for each picture if there are several."""
    numbers = {}
    for name, value in module.metrics.items():
        values = value.flatten().tolist() if isinstance(value, Tensor) else [value]
        numbers[name] = sum(values) / len(values)
        if len(values) > 1:
            numbers |= {f"{name}/{i:02d}": v for i, v in enumerate(values)}
    return numbers
