"""Lightning's trainer as a run uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, ModelSummary, ProgressBar
from pytorch_lightning.loggers import Logger

__all__ = ["callbacks_of", "make_trainer"]


def callbacks_of(trainer: pl.Trainer) -> list[pl.Callback]:
    """The trainer's callbacks, in the order it calls them; the list itself."""
    return trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]  # Lightning's connector sets it


def make_trainer(
    config: Mapping[str, Any], folder: Path, callbacks: Sequence[pl.Callback], loggers: Sequence[Logger]
) -> pl.Trainer:
    """A trainer of one epoch over all steps, whose validation is the snapshot.

    So whoever watches a validation (EarlyStopping, ModelCheckpoint, a search's pruning) sees every snapshot.

    Args:
        config: the whole resolved config; ``trainer`` goes to Lightning as it stands.
        folder: the run folder.
        callbacks: the recorder first, so that the others find what it has written.
    """
    arguments = dict(config["trainer"])
    limit = arguments.pop("limit_train_batches", None)  # Lightning would begin its range again and again
    most = config["steps"] if limit is None else int(limit * config["steps"]) if isinstance(limit, float) else limit
    return pl.Trainer(
        **arguments,
        default_root_dir=str(folder),
        max_steps=min(most, config["steps"]),
        max_epochs=-1,
        val_check_interval=config["snapshot_every"],
        check_val_every_n_epoch=None,  # else a snapshot a step is taken for a validation an epoch
        num_sanity_val_steps=0,
        logger=list(loggers) or False,
        callbacks=list(callbacks),
        # last.ckpt and the bar are our own; Lightning's stand beside them where somebody asks for them.
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=any(isinstance(callback, ModelSummary) for callback in callbacks),
    )
