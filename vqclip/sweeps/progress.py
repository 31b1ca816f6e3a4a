"""Reports the progress of a sweep."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vqclip.runs.cost import duration

__all__ = ["time_left", "watched"]

#: Seconds between lines of progress.
_LOG = 10.0


@contextmanager
def watched(state: Callable[[], str], every: float = _LOG) -> Iterator[None]:
    """While the block runs, print ``state()`` to stderr every ``every`` seconds if it has changed."""
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
    """``, 3 min left``, estimated from the jobs so far (``began``: Unix time); empty before the first is done."""
    if not done:
        return ""
    return f", {duration(max(0.0, time.time() - began) / done * (of - done))} left"
