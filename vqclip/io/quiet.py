"""How much a library says."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["logging_from"]


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
