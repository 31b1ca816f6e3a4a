"""Reports progress on stderr: a bar, a counter, or a state that changes elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["bar", "counted", "watched"]

T = TypeVar("T")

#: Seconds between lines in a log.
_LOG = 10.0
#: Seconds between updates of a counter in a terminal, where they overwrite each other.
_LIVE = 0.5


def bar(items: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """A tqdm bar as wide as the terminal; in a log file, where each update is a line, updated every ten seconds."""
    from tqdm import tqdm  # imported here, since a sweep that is already done only counts

    if sys.stderr is None or sys.stderr.closed:  # no console
        return tqdm(items, disable=True, **options)
    return tqdm(items, dynamic_ncols=True, mininterval=0.1 if sys.stderr.isatty() else _LOG, **options)


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


@contextmanager
def watched(state: Callable[[], str]) -> Iterator[None]:
    """While the block runs, print ``state()`` to stderr every ten seconds if it has changed."""
    ended = threading.Event()

    def watch() -> None:
        shown = ""
        while not ended.wait(_LOG):
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
