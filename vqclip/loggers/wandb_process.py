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
    """Decorates a method that tells W&B something: it does nothing once W&B's process has ended."""

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
        except _refused() as error:
            self.is_gone = True
            forget()
            said = str(error).splitlines()[0]
            print(f"W&B: {said}; the run goes on without it, metrics.csv has all rows", file=sys.stderr)

    return told


def gone() -> tuple[type[Exception], ...]:
    """The exceptions that W&B raises once its process has ended."""
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return ConnectionError, HandleAbandonedError, MailboxClosedError


def _refused() -> tuple[type[Exception], ...]:
    """The exceptions by which W&B says that its server does not know the key, or refuses something."""
    from wandb.errors import AuthenticationError, CommError

    return AuthenticationError, CommError


def forget() -> None:
    """Forget W&B's ended process: the next run starts a new one, and exiting does not wait for the old one."""
    import wandb

    with suppress(*gone()):
        wandb.teardown()
