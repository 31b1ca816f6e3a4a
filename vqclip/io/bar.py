"""Progress bars."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

__all__ = ["bar"]


def bar(items: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """tqdm's, as wide as the terminal; in a log, where each of its states is a line, one in ten seconds."""
    if sys.stderr is None or sys.stderr.closed:  # a program without a console
        return tqdm(items, disable=True, **options)
    return tqdm(items, dynamic_ncols=True, mininterval=0.1 if sys.stderr.isatty() else 10, **options)
