"""The point a run goes on from."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import pytorch_lightning as pl
import torch

from vqclip.runs.folder import RunFolder

__all__ = ["Checkpointer"]


#: What Lightning and the step put into a checkpoint.
_KNOWN = {"epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops", "callbacks", "optimizer_states"}


class Checkpointer(pl.Callback):
    """``last.ckpt``: the latent, the optimiser, the counters; whole or not at all.  The last of the callbacks.

    A checkpoint is read as tensors and plain data.  What others' callbacks put into it and is more than that, is left
    out: else the whole run could not be resumed.

    Args:
        run: the run folder.
    """

    def __init__(self, run: RunFolder):
        self.run = run
        self.left_out: set[str] = set()

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        states = checkpoint["callbacks"]
        for owner, keys in ((states, list(states)), (checkpoint, checkpoint.keys() - _KNOWN)):
            for key in keys:
                if reason := _unreadable(owner[key]):
                    del owner[key]
                    self._say(key, reason)

    def _say(self, key: str, reason: str) -> None:
        if key not in self.left_out:
            self.left_out.add(key)
            what = f"note: last.ckpt is without the state of {key}, which is more than tensors and plain data"
            print(f"{what} ({reason}). A resumed run begins that anew", file=sys.stderr)

    def save(self, trainer: pl.Trainer) -> None:
        temporary = self.run.path / ".last.ckpt"
        trainer.save_checkpoint(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(self.run.checkpoint_file)


def _unreadable(state: Any) -> str | None:
    """Why a part of a checkpoint could not be read back; None where it can be."""
    file = io.BytesIO()
    try:
        torch.save(state, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception as error:  # whatever its own pickling raises
        return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
    return None
