"""Handles Ctrl-C, SIGTERM and SIGHUP while a run goes on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["Signals", "Stopped", "interrupts"]


class Stopped(SystemExit):
    """A signal ended the run; the exit status says which, as a shell expects."""

    def __init__(self, signum: int):
        super().__init__(128 + signum)


@contextmanager
def interrupts() -> Iterator[None]:
    """Within, Ctrl-C is Python's own: a notebook would take a ``SystemExit`` for the wish to leave it."""
    try:
        yield
    except Stopped as stop:
        if stop.code == 128 + signal.SIGINT:
            raise KeyboardInterrupt from None
        raise


class Signals:
    """While steps are made a signal lets the step at hand be finished; a second one ends at once."""

    def __init__(self) -> None:
        self.received = 0  #: the signal that waits for the step to end
        self.stepping = False  #: whether to wait
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, *_hang_up())}
            # None is one that Python has not installed, of a program around it: nobody could put it back.
            self._before = {s: handler for s, handler in handlers.items() if handler is not None}
            self.listen()
        return self

    def __exit__(self, *_) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def listen(self) -> None:
        """Install the handlers, again after Lightning has replaced them at its start."""
        for signum in self._before:
            signal.signal(signum, self._handle)

    def _handle(self, signum: int, _: Any) -> None:
        if self.received or not self.stepping:
            raise Stopped(signum)
        self.received = signum
        with suppress(OSError):  # the terminal may be what went away
            os.write(2, b"\nfinishing the step; once more ends at once\n")  # print is not safe in a handler


def _hang_up() -> list[signal.Signals]:
    """SIGHUP, where the system has it and it is not ignored (nohup); else none."""
    found = getattr(signal, "SIGHUP", None)
    return [found] if found and signal.getsignal(found) is not signal.SIG_IGN else []
