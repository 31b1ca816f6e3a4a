"""The point a run goes on from."""

from __future__ import annotations

import os

import pytorch_lightning as pl

from vqclip.runs.folder import RunFolder

__all__ = ["Checkpointer"]


class Checkpointer:
    """``last.ckpt``: the latent, the optimiser, the counters; whole or not at all.

    Args:
        run: the run folder.
    """

    def __init__(self, run: RunFolder):
        self.run = run

    def save(self, trainer: pl.Trainer) -> None:
        temporary = self.run.path / ".last.ckpt"
        trainer.save_checkpoint(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(self.run.checkpoint_file)
