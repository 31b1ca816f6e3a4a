"""Writes the resume point of a run."""

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
from vqclip.own_parts import named
from vqclip.runs.checkpoint import RECORDER
from vqclip.runs.folder import RunFolder
from vqclip.runs.signals import Signals, Stopped

__all__ = ["Checkpointer", "WholeFiles"]


#: What Lightning and the step put into a checkpoint.
_KNOWN = {"epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops", "callbacks", "optimizer_states"}


class Checkpointer(pl.Callback):
    """``last.ckpt``: the latent, the optimiser, the counters; whole or not at all.  The last of the callbacks.

    A checkpoint is read as tensors and plain data.  What others' callbacks put into it and is more than that, is left
    out: else the whole run could not be resumed.

    A step's is written when the others have seen the step, those that watch its validation too: a resumed run stops
    early where an unbroken one does.

    Args:
        run: the run folder.
        signals: asks after each step whether to stop there.
    """

    def __init__(self, run: RunFolder, signals: Signals):
        self.run, self.signals = run, signals
        self.due = False  #: whether the step at hand ends in a snapshot, and so in a checkpoint
        self.left_out: set[str] = set()
        self.tried = False  #: whether the optimiser's state can be read back, which is asked after its first step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.due and trainer.enable_validation and trainer.global_step < optimisation(pl_module).steps:
            return  # its validation follows
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
                who = f"{named(trainer.optimizers[0], 'optimizer')} keeps more than tensors and plain data in its state"
                print(f"note: this run cannot be resumed: {who} ({reason})", file=sys.stderr)

    def _say(self, key: str, reason: str) -> None:
        if key not in self.left_out:
            self.left_out.add(key)
            what = f"note: last.ckpt is without the state of {key}, which is more than tensors and plain data"
            print(f"{what} ({reason}). A resumed run starts without it", file=sys.stderr)

    def save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.run.checkpoint_file)


class WholeFiles(TorchCheckpointIO):
    """Checkpoints written beside their place, then renamed; Lightning's own way leads through the system's /tmp."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if "://" in str(path):  # where a ModelCheckpoint of the user's keeps its own
            return super().save_checkpoint(checkpoint, path, storage_options)
        file = io.BytesIO()
        torch.save(checkpoint, file)
        return atomic_write(Path(path), file.getvalue())


def _unreadable(state: Any) -> str | None:
    """Why a part of a checkpoint could not be read back; None where it can be."""
    file = io.BytesIO()
    try:
        torch.save(state, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception as error:  # whatever its own pickling raises
        # torch names what it does not read after advice to trust the file.
        reason = (str(error).partition("WeightsUnpickler error: ")[2] or str(error)).strip()
        return reason.splitlines()[0].partition(". ")[0].rstrip(".") if reason else type(error).__name__
    return None
