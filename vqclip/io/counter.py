"""Counters on stderr for long loops."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["counted"]

T = TypeVar("T")

#: Seconds between updates in a terminal, where the line is overwritten, and in a log.
_LIVE, _LOG = 0.5, 10.0


def counted(items: Iterable[T], of: int, what: str) -> Iterator[T]:
    """Yield the items, with a counter on stderr."""
    live = sys.stderr.isatty()
    shown_at = time.monotonic() - (_LOG if not live else 0) + _LIVE  # short loops print nothing
    shown = ""
    for number, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - shown_at >= (_LIVE if live else _LOG) and number < of:
            shown_at = now
            shown = f"{what} {number} of {of}"
            print(f"\r{shown}" if live else shown, end="" if live else "\n", file=sys.stderr, flush=True)
    if live and shown:
        print("\r" + " " * (len(shown) + 8) + "\r", end="", file=sys.stderr, flush=True)
