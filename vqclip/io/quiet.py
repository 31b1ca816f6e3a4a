"""Limits what libraries log."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["logging_from", "quiet_lightning"]


@contextmanager
def logging_from(level: int, name: str) -> Iterator[None]:
    """Within, the logger ``name`` says what is of this level or above; outside, what the caller had it say."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Within, no advice from Lightning that does not concern a user of ours; outside, all as the caller had it."""
    from lightning_fabric.utilities.warnings import PossibleUserWarning  # slow, and a config is checked without it

    with (
        logging_from(logging.WARNING, "pytorch_lightning"),
        logging_from(logging.INFO, "pytorch_lightning.callbacks"),  # those that somebody asked for may speak
        warnings.catch_warnings(),
    ):
        # A loader's workers, an idle GPU, a resumed epoch, an srun beside the command.
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", category=FutureWarning, module="pytorch_lightning.utilities._pytree")
        # A plain UserWarning, of which only the words are its own: our steps optimise by hand.
        warnings.filterwarnings("ignore", "Using ModelCheckpoint with manual optimization")
        warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`")  # a resumed run may do without
        yield
