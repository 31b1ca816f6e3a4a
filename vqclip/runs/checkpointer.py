"""Writes the checkpoint that a run resumes from."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from vqclip.io.files import atomic_write
from vqclip.module import optimisation
from vqclip.own_parts import part_name
from vqclip.runs.checkpoint import RECORDER
from vqclip.runs.folder import RunFolder
from vqclip.runs.signals import Signals, Stopped

__all__ = ["Checkpointer", "WholeFiles"]


#: Keys that Lightning and the module put into a checkpoint.
_KNOWN = {"epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops", "callbacks", "optimizer_states"}


class Checkpointer(pl.Callback):
    """Writes ``last.ckpt`` atomically: latents, optimizer state, counters.  It is the last of the callbacks.

    Checkpoints are read as tensors and plain data only.  Anything else that other callbacks add is left out, since it
    would make the checkpoint unreadable.

    It is written after the other callbacks have seen the step and its validation, so that a resumed run stops early
    exactly where an uninterrupted one does.

    Args:
        run: the run folder.
        signals: asked after each step whether to stop.
    """

    def __init__(self, run: RunFolder, signals: Signals):
        self.run, self.signals = run, signals
        self.due = False  #: whether the current step ends with a snapshot, and therefore a checkpoint
        self.left_out: set[str] = set()
        self.tried = False  #: whether the optimizer's state was checked for being readable, after its first step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.due and trainer.enable_validation and trainer.global_step < optimisation(pl_module).steps:
            return  # the validation that follows writes it
        if self.due or self.signals.received:
            self.save(trainer)
        if self.signals.received:
            raise Stopped(self.signals.received)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.due:
            self.save(trainer)
        if self.signals.received:
            raise Stopped(self.signals.received)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        states = checkpoint["callbacks"]
        others = [key for key in states if key != RECORDER]
        for owner, keys in ((states, others), (checkpoint, checkpoint.keys() - _KNOWN)):
            for key in keys:
                if reason := _unreadable(owner[key]):
                    del owner[key]
                    self._say(key, reason)
        states = checkpoint.get("optimizer_states")
        if states and trainer.global_step and not self.tried:
            self.tried = True
            if reason := _unreadable(states):
                name = part_name(trainer.optimizers[0], "optimizer")
                who = f"{name} keeps more than tensors and plain data in its state"
                print(f"note: this run cannot be resumed: {who} ({reason})", file=sys.stderr)

    def _say(self, key: str, reason: str) -> None:
        if key not in self.left_out:
            self.left_out.add(key)
            what = f"note: last.ckpt is without the state of {key}, which is more than tensors and plain data"
            print(f"{what} ({reason}). A resumed run starts without it", file=sys.stderr)

    def save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.run.checkpoint_file)


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints to a temporary file beside their target, then renames it; Lightning uses the system's /tmp."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if "://" in str(path):  # a remote folder of the user's ModelCheckpoint
            return super().save_checkpoint(checkpoint, path, storage_options)
        file = io.BytesIO()
        torch.save(checkpoint, file)
        return atomic_write(Path(path), file.getvalue())


def _unreadable(state: Any) -> str | None:
    """Why a part of a checkpoint could not be read back, or None."""
    file = io.BytesIO()
    try:
        torch.save(state, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception as error:  # custom pickling may raise anything
        # torch's message gives the reason after advice to trust the file.
        reason = (str(error).partition("WeightsUnpickler error: ")[2] or str(error)).strip()
        return reason.splitlines()[0].partition(". ")[0].rstrip(".") if reason else type(error).__name__
    return None
