"""Handles Ctrl-C, SIGTERM and SIGHUP during a run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["Signals", "Stopped", "interrupts"]


class Stopped(SystemExit):
    """A signal ended the run; its exit status is 128 + signal, as a shell expects."""

    def __init__(self, signum: int):
        super().__init__(128 + signum)


@contextmanager
def interrupts() -> Iterator[None]:
    """Turn Stopped by Ctrl-C into KeyboardInterrupt, since a ``SystemExit`` would end a notebook."""
    try:
        yield
    except Stopped as stop:
        if stop.code == 128 + signal.SIGINT:
            raise KeyboardInterrupt from None
        raise


class Signals:
    """During steps, lets a signal wait until the current step is finished; a second signal ends the run at once."""

    def __init__(self) -> None:
        self.received = 0  #: the signal that waits for the step's end; 0 for none
        self.stepping = False  #: whether signals wait for the step's end
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, *_hang_up())}
            # None is a handler that Python did not install and could not restore.
            self._before = {s: handler for s, handler in handlers.items() if handler is not None}
            self.listen()
        return self

    def __exit__(self, *_) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def listen(self) -> None:
        """Install the handlers; called again after Lightning has installed its own."""
        for signum in self._before:
            signal.signal(signum, self._handle)

    def _handle(self, signum: int, _: Any) -> None:
        if self.received or not self.stepping:
            raise Stopped(signum)
        self.received = signum
        with suppress(OSError):  # the terminal may be gone
            os.write(2, b"\nfinishing the step; once more ends at once\n")  # print is not safe in a handler


def _hang_up() -> list[signal.Signals]:
    """SIGHUP, if the system has it and it is not ignored (nohup)."""
    found = getattr(signal, "SIGHUP", None)
    return [found] if found and signal.getsignal(found) is not signal.SIG_IGN else []
