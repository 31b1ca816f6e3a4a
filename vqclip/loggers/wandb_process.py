"""Lets a run go on when W&B's own process, which writes its records, has ended.

It was out of memory, say, or a cluster sent its signal to every process of a job.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

__all__ = ["forget", "gone", "while_it_lives"]


class _Run(Protocol):
    is_gone: bool  #: whether W&B's process ended before the run


R = TypeVar("R", bound=_Run)
P = ParamSpec("P")


def while_it_lives(tell: Callable[Concatenate[R, P], None]) -> Callable[Concatenate[R, P], None]:
    """Tell W&B nothing more once its process is gone: a run's files are there without it."""

    @wraps(tell)
    def told(self: R, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.is_gone:
            return
        try:
            tell(self, *args, **kwargs)
        except gone():
            self.is_gone = True
            forget()
            print("W&B: its process has ended; the run goes on without it, metrics.csv has all rows", file=sys.stderr)

    return told


def gone() -> tuple[type[Exception], ...]:
    """What W&B raises where its process is gone."""
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return ConnectionError, HandleAbandonedError, MailboxClosedError


def forget() -> None:
    """Let W&B's next run have a new process, and the exit of this one not wait for the old."""
    import wandb

    with suppress(*gone()):
        wandb.teardown()
