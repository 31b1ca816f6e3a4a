"""Precision: float32 regions under autocast, and results that do not depend on the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

__all__ = ["autocast_on", "full_precision", "one_by_one"]


def autocast_on(kind: str) -> bool:
    """Whether autocast is on for a device type (``cpu``, ``cuda``, ``mps``, …)."""
    try:
        return torch.is_autocast_enabled(kind)
    except RuntimeError:  # torch 2.4 has no autocast for mps
        return False


@contextmanager
def full_precision() -> Iterator[None]:
    """Disable autocast; context manager or decorator.  Tensors that are already bfloat16 stay so until ``float()``."""
    with ExitStack() as stack:
        for kind in ("cpu", "cuda", "mps"):
            if autocast_on(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def one_by_one(make: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """Apply ``make`` to each item [1,…] of a batch and concatenate, so that results do not depend on the batch.

    On some processors a matrix product of several rows differs in the last digits from that of single rows.
    """
    return torch.cat([make(one) for one in batch.split(1)])
