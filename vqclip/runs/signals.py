"""Ctrl-C and SIGTERM while a run goes on."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

__all__ = ["Signals", "Stopped"]


class Stopped(SystemExit):
    """A signal ended the run; the exit status says which, as a shell expects."""

    def __init__(self, signum: int):
        super().__init__(128 + signum)


class Signals:
    """Ctrl-C and SIGTERM: while steps are made, the step at hand is finished first; a second one ends at once."""

    def __init__(self) -> None:
        self.received = 0  #: the signal that waits for the step to end
        self.stepping = False  #: whether to wait
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
            self.listen()
        return self

    def __exit__(self, *_) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def listen(self) -> None:
        """Take the signals, also back from whoever took them meanwhile (Lightning does when it starts)."""
        for signum in self._before:
            signal.signal(signum, self._handle)

    def _handle(self, signum: int, _: Any) -> None:
        if self.received or not self.stepping:
            raise Stopped(signum)
        self.received = signum
        os.write(2, b"\nfinishing the step; once more ends at once\n")  # print is not safe in a handler
