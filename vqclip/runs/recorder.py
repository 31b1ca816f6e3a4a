"""The callback that writes the run folder: metrics, snapshots, checkpoints."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import PassThroughProfiler

from vqclip.errors import Diverged
from vqclip.module import LatentOptimisation, optimisation
from vqclip.runs.checkpoint import RECORDER, recorder_state
from vqclip.runs.checkpointer import Checkpointer
from vqclip.runs.endings import divergence, early_reason
from vqclip.runs.folder import RunFolder
from vqclip.runs.metrics import Metrics, step_numbers
from vqclip.runs.signals import Signals
from vqclip.runs.snapshots import Snapshots
from vqclip.runs.trainer import callbacks_of

__all__ = ["Recorder"]


class Recorder(pl.Callback):
    """Writes the run folder: metrics, snapshots, the best and the last picture, checkpoints.

    Loggers get a step's numbers and pictures in one call, after they are on disk.

    Args:
        run: the run folder.
        records: the record in the PNGs of each picture.
        snapshot_every: steps between snapshots; the first and last step have one too.
        log_every: steps between rows of ``metrics.csv``.
        signals: notified when stepping starts and ends.
    """

    def __init__(self, run: RunFolder, records: list[dict], snapshot_every: int, log_every: int, signals: Signals):
        self.run, self.records, self.signals = run, records, signals
        self.snapshot_every, self.log_every = snapshot_every, log_every
        self.metrics = Metrics(run, [record.get("prompt", "") for record in records])
        self.snapshots, self.checkpointer = Snapshots(run, records), Checkpointer(run, signals)
        self.began = False  #: whether training has started, so that the folder has been changed
        self.stopped_early: str | None = None  #: why the run ended before its last step
        self.pruned: Exception | None = None  #: Optuna's TrialPruned, to be raised for the study

    @property
    def state_key(self) -> str:
        return RECORDER

    @classmethod
    def of(cls, trainer: pl.Trainer) -> Recorder:
        """The recorder of a run."""
        return next(callback for callback in callbacks_of(trainer) if isinstance(callback, cls))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.snapshots.roll_back(trainer.global_step)  # only now has the whole checkpoint been loaded
        self.began = True
        self.metrics.start_clock()
        self.signals.listen()
        self.signals.stepping = True
        if trainer.global_step == 0:
            self._snapshot(trainer, optimisation(pl_module), {})

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module, step = optimisation(pl_module), trainer.global_step
        snapshot = step % self.snapshot_every == 0 or step == module.steps
        row = snapshot or step % self.log_every == 0 or step == 1
        numbers: dict[str, float] = {}
        # Reading a number synchronises a GPU, so there numbers are read only when a row is written.
        if row or module.device.type == "cpu":
            numbers = step_numbers(module)
            if reason := divergence(module, step, numbers):
                raise Diverged(reason)
        if row:
            self.metrics.write(step, numbers)
        if snapshot:
            self._snapshot(trainer, module, numbers)
        elif row:
            self.metrics.send(trainer, step, numbers, None)
        self.checkpointer.due = snapshot

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take a snapshot if Lightning validates between two of them, as it does when training is stopped."""
        if trainer.global_step > self.snapshots.step:
            with torch.inference_mode(False), torch.enable_grad():  # as for every snapshot
                self._snapshot(trainer, optimisation(pl_module), {})
            self.checkpointer.due = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a StopIteration in a step, which Lightning takes for the end of the epoch."""
        loop = trainer.fit_loop.epoch_loop
        steps = loop.batch_progress.current
        if not loop.done or trainer.validating or steps.completed < steps.ready:
            raise RuntimeError(
                f"a callback raised StopIteration at step {trainer.global_step} of {optimisation(pl_module).steps}, "
                "as next() does on an iterator that is exhausted"
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = optimisation(pl_module)
        self.signals.stepping = False
        self.stopped_early = early_reason(trainer, module.steps)
        if self.stopped_early and trainer.global_step > self.snapshots.step:
            # The last step always has a snapshot.
            self._snapshot(trainer, module, {})
            self.checkpointer.save(trainer)
        self.snapshots.join_latents()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        profiler = getattr(trainer, "profiler", None)
        if profiler is not None and not isinstance(profiler, PassThroughProfiler):
            print(profiler.summary())  # Lightning writes it to a logger that is silenced

    def state_dict(self) -> dict:
        return self.snapshots.state_dict()

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        """Restore the recorder's state at the checkpoint's step."""
        self.snapshots.load_state_dict(recorder_state(checkpoint), checkpoint["global_step"])

    def _snapshot(self, trainer: pl.Trainer, module: LatentOptimisation, numbers: dict[str, float]) -> None:
        """Write the current pictures, then send them to the loggers together with the step's numbers."""
        taken = self.snapshots.take(module, trainer.global_step)
        module.scores = {
            name: sum(scores[name] for scores in taken.scores) / len(taken.scores) for name in taken.scores[0]
        }
        self.metrics.send(trainer, trainer.global_step, numbers, taken)
