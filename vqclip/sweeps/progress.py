"""Reports the progress of a sweep while it goes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from vqclip.runs.cost import duration

__all__ = ["counted", "time_left", "watched"]

T = TypeVar("T")

#: Seconds between two lines of progress: in a terminal, where the line is overwritten, and in a log.
_LIVE, _LOG = 0.5, 10.0


def counted(items: Iterable[T], of: int, what: str) -> Iterator[T]:
    """Yield the items, with a counter on stderr."""
    live = sys.stderr.isatty()
    shown_at = time.monotonic() - (_LOG if not live else 0) + _LIVE  # a short one says nothing
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


@contextmanager
def watched(state: Callable[[], str], every: float = _LOG) -> Iterator[None]:
    """While the block runs, on stderr what ``state`` says, where it has changed after ``every`` seconds."""
    ended = threading.Event()

    def watch() -> None:
        shown = ""
        while not ended.wait(every):
            if (now := state()) != shown:
                shown = now
                print(shown, file=sys.stderr, flush=True)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def time_left(began: float, done: int, of: int) -> str:
    """``, 3 min left`` from the time that the jobs took so far (``began``: seconds since 1970); empty at the first."""
    if not done:
        return ""
    return f", {duration(max(0.0, time.time() - began) / done * (of - done))} left"
