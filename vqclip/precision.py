"""Precision: what is float32 where ``trainer.precision`` has the rest in bfloat16, and what no batch may change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

__all__ = ["autocast_on", "full_precision", "one_by_one"]


def autocast_on(kind: str) -> bool:
    """Whether autocast is on for a kind of device (``cpu``, ``cuda``, ``mps``, …)."""
    try:
        return torch.is_autocast_enabled(kind)
    except RuntimeError:  # torch 2.4 has none for mps
        return False


@contextmanager
def full_precision() -> Iterator[None]:
    """Without autocast, also as a decorator.  What autocast has made before is bfloat16 still, until ``float()``."""
    with ExitStack() as stack:
        for kind in ("cpu", "cuda", "mps"):
            if autocast_on(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def one_by_one(make: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """``make`` of each [1,…] of a batch, together again: what a picture or a text comes to is what it is alone.

    On some processors a product of several rows ends in other last digits than one of each row.
    """
    return torch.cat([make(one) for one in batch.split(1)])
