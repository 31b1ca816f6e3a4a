"""What a run writes while it goes on: rows, snapshots, the best picture, the resume point."""

from __future__ import annotations

import csv
import hashlib
import os
import time
from pathlib import Path

import pytorch_lightning as pl
from safetensors.torch import load_file, save
from torch import Tensor

from vqclip.io.files import atomic_write
from vqclip.io.images import png_bytes
from vqclip.loggers import log_step
from vqclip.module import LatentOptimisation
from vqclip.runs.folder import picture_folder, rollback
from vqclip.runs.signals import Signals, Stopped

__all__ = ["Recorder"]


class Recorder(pl.Callback):
    """Writes the run folder: metrics, snapshots, the best and the last picture, the resume point.

    Every logger sees a step's numbers and pictures in one call, after the disk has them.  What the clock says goes to
    ``timing.csv``, apart from ``metrics.csv``, which is the same bytes whenever the run is the same.

    Args:
        folder: the run folder.
        records: what the PNGs of each picture carry, one a picture.
        snapshot_every: steps between snapshots; the start and the end are snapshots too.
        log_every: steps between rows of ``metrics.csv``.
        signals: asks after each step whether to stop there.
    """

    def __init__(self, folder: Path, records: list[dict], snapshot_every: int, log_every: int, signals: Signals):
        self.folder, self.records, self.signals = folder, records, signals
        self.snapshot_every, self.log_every = snapshot_every, log_every
        self.best: list[dict] = [{} for _ in records]  #: of each picture: step and scores of its best snapshot
        self.last: list[dict] = [{} for _ in records]  #: of each picture: scores at the newest snapshot
        self.digests: dict[str, str] = {}  #: sha256 of every picture written, by path in the folder
        self._latents: list[dict[str, Tensor]] = [{} for _ in records]
        self._clock = 0.0

    @classmethod
    def of(cls, trainer: pl.Trainer) -> Recorder:
        """The recorder of a run."""
        return next(callback for callback in trainer.callbacks if isinstance(callback, cls))

    def on_train_start(self, trainer: pl.Trainer, module: LatentOptimisation) -> None:
        self._clock = time.perf_counter()
        self.signals.listen()
        self.signals.stepping = True
        if trainer.global_step == 0:
            self._images(trainer, module, self._snapshot(module, 0), 0, {})

    def on_train_batch_end(self, trainer: pl.Trainer, module: LatentOptimisation, *_) -> None:
        step = trainer.global_step
        snapshot = step % self.snapshot_every == 0 or step == module.steps
        if snapshot or step % self.log_every == 0 or step == 1:
            numbers = self._numbers(module)
            self._row("metrics.csv", {"step": step, **numbers})
            self._row("timing.csv", {"step": step, "seconds": round(time.perf_counter() - self._clock, 4)})
            looked = self._snapshot(module, step) if snapshot else None
            self._images(trainer, module, looked, step, numbers)
        if snapshot or self.signals.received:
            self._checkpoint(trainer)
        if self.signals.received:
            raise Stopped(self.signals.received)

    def on_train_end(self, *_) -> None:
        self.signals.stepping = False

    def state_dict(self) -> dict:
        return {"best": self.best, "last": self.last, "digests": self.digests}

    def on_load_checkpoint(self, trainer: pl.Trainer, module: LatentOptimisation, checkpoint: dict) -> None:
        """Bring the folder back to the checkpoint's step."""
        state = checkpoint["callbacks"][self.state_key]
        self.best, self.last, self.digests = state["best"], state["last"], state["digests"]
        rollback(self.folder, checkpoint["global_step"], [own["step"] for own in self.best])
        for i in range(len(self.records)):
            self._latents[i] = load_file(picture_folder(self.folder, i) / "latents.safetensors")

    def best_latents(self) -> list[Tensor]:
        """The latent [C,h,w] of each picture's best snapshot."""
        return [own[f"{best['step']:06d}"] for own, best in zip(self._latents, self.best, strict=True)]

    def _numbers(self, module: LatentOptimisation) -> dict[str, float]:
        """Loss and terms as means over the pictures, and each picture's own where there are several."""
        numbers = {}
        for name, value in module.metrics.items():
            values = value.tolist() if isinstance(value, Tensor) else [value]
            numbers[name] = sum(values) / len(values)
            if len(values) > 1:
                numbers |= {f"{name}/{i:02d}": v for i, v in enumerate(values)}
        return numbers

    def _row(self, name: str, row: dict) -> None:
        path = self.folder / name
        new = not path.exists()
        with open(path, "a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)

    def _snapshot(self, module: LatentOptimisation, step: int) -> tuple[Tensor, Tensor, list[dict]]:
        """Write every picture, its latent and a crop as the perceptor sees it."""
        images, scores, crops = module.look()
        latents = module.latent.detach().cpu()
        by_picture = [{name: value[i].item() for name, value in scores.items()} for i in range(len(self.records))]
        for i, record in enumerate(self.records):
            folder, own = picture_folder(self.folder, i), by_picture[i]
            content = png_bytes(images[i], {**record, "step": step, "scores": own})
            self._picture(folder / "steps" / f"{step:06d}.png", content)
            self._picture(folder / "crops" / f"{step:06d}.png", png_bytes(crops[i], {**record, "step": step}))
            self._picture(folder / "final.png", content)
            if not self.best[i] or own["score"] > self.best[i]["score"]:
                self.best[i] = {"step": step, **own}
                self._picture(folder / "best.png", content)
            self.last[i] = {"step": step, **own}
            self._latents[i][f"{step:06d}"] = latents[i].clone()
            atomic_write(folder / "latents.safetensors", save(self._latents[i]))
        return images, crops, by_picture

    def _picture(self, path: Path, content: bytes) -> None:
        atomic_write(path, content)
        self.digests[str(path.relative_to(self.folder))] = hashlib.sha256(content).hexdigest()

    def _images(self, trainer: pl.Trainer, module: LatentOptimisation, looked, step: int, numbers: dict) -> None:
        images, crops, scores = looked or ([], [], [])
        for i, own in enumerate(scores):
            numbers |= {f"snapshot/{name}/{i:02d}": value for name, value in own.items()}
        for logger in trainer.loggers:
            log_step(logger, step, numbers, images, crops)

    def _checkpoint(self, trainer: pl.Trainer) -> None:
        temporary = self.folder / ".last.ckpt"
        trainer.save_checkpoint(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(self.folder / "last.ckpt")
