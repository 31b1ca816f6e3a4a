"""Limits what libraries log."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["logging_from", "quiet_lightning"]


@contextmanager
def logging_from(level: int, name: str) -> Iterator[None]:
    """Set the level of the logger ``name`` temporarily."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's messages and warnings that do not concern users of vqclip, temporarily."""
    from lightning_fabric.utilities.warnings import PossibleUserWarning  # slow to import

    with (
        logging_from(logging.WARNING, "pytorch_lightning"),
        logging_from(logging.INFO, "pytorch_lightning.callbacks"),  # callbacks that the user configured may log
        warnings.catch_warnings(),
    ):
        # About data loader workers, an unused GPU, a resumed epoch, srun.
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", category=FutureWarning, module="pytorch_lightning.utilities._pytree")
        # A plain UserWarning, recognised only by its text: our steps use manual optimization.
        warnings.filterwarnings("ignore", "Using ModelCheckpoint with manual optimization")
        warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`")  # not needed for resuming
        yield
