"""Lets a run continue when W&B's service process, which writes its records, has ended.

It may have run out of memory, or a cluster may have signalled every process of a job.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

__all__ = ["forget", "process_errors", "unless_gone"]


class _Run(Protocol):
    is_gone: bool  #: whether W&B's process has ended before the run


R = TypeVar("R", bound=_Run)
P = ParamSpec("P")


def unless_gone(tell: Callable[Concatenate[R, P], None]) -> Callable[Concatenate[R, P], None]:
    """Decorate a method that calls W&B, so that it does nothing once W&B's process has ended."""

    @wraps(tell)
    def told(self: R, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.is_gone:
            return
        try:
            tell(self, *args, **kwargs)
        except (*process_errors(), _refused()) as error:
            self.is_gone = True
            forget()
            why = "its process has ended" if isinstance(error, process_errors()) else str(error).splitlines()[0]
            print(f"W&B: {why}; the run goes on without it, metrics.csv has all rows", file=sys.stderr)

    return told


def process_errors() -> tuple[type[Exception], ...]:
    """The exceptions that W&B raises once its process has ended."""
    try:
        from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError
    except ImportError:  # private names, which another version of W&B may not have
        return (ConnectionError,)
    return ConnectionError, HandleAbandonedError, MailboxClosedError


def _refused() -> type[Exception]:
    """The exception that W&B raises if its server rejects the key or a request."""
    from wandb.errors import CommError

    return CommError


def forget() -> None:
    """Forget W&B's ended process, so that the next run starts a new one and exiting does not wait for it."""
    import wandb

    with suppress(*process_errors()):
        wandb.teardown()
