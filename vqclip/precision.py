"""Precision: what computes in float32 where ``trainer.precision`` has the rest in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

__all__ = ["autocast_on", "full_precision"]


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
