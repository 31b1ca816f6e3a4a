"""Memory: what a device has, what its allocator keeps, and whether an error means that it is used up."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import torch

__all__ = ["device_memory", "is_out_of_memory", "keep_freed_memory"]


def keep_freed_memory() -> None:
    """Let a step use again what the last one freed.

    By default, glibc gives large blocks back to the system, and asking for them again costs a step a tenth of its time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        for parameter in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            mallopt(parameter, 2**30)


def device_memory(device: torch.device) -> int:
    """Bytes of a GPU, or of this machine as far as its control group lets us have them."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    return machine if allowed == "max" else min(machine, int(allowed))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device or the CPU had no memory left; torch's allocator and oneDNN there raise a plain RuntimeError."""
    on_cpu = ("can't allocate memory", "could not create a primitive", "could not create a memory object")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in on_cpu)
