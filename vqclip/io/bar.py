"""Progress bars."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

__all__ = ["bar"]


def bar(items: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """A tqdm bar as wide as the terminal; in a log file, where each update is a line, updated every ten seconds."""
    if sys.stderr is None or sys.stderr.closed:  # no console
        return tqdm(items, disable=True, **options)
    return tqdm(items, dynamic_ncols=True, mininterval=0.1 if sys.stderr.isatty() else 10, **options)
