"""The point a run goes on from."""

from __future__ import annotations

import os
from pathlib import Path

import pytorch_lightning as pl

__all__ = ["Checkpointer"]


class Checkpointer:
    """``last.ckpt``: the latent, the optimiser, the counters; whole or not at all.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def save(self, trainer: pl.Trainer) -> None:
        temporary = self.folder / ".last.ckpt"
        trainer.save_checkpoint(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(self.folder / "last.ckpt")
