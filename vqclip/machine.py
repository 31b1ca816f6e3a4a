"""The cores, threads and memory that this process may use.  Nothing here imports torch."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from pathlib import Path

__all__ = ["cores", "job_threads", "memory", "set_up_openmp"]

#: Environment variables that say how OpenMP's threads wait.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def set_up_openmp() -> None:
    """Use one OpenMP thread per available core, and let waiting threads sleep; the user's own settings stay.

    By default they spin, which on shared cores takes time from the very thread that they wait for: beside four busy
    processes on two cores a run took three times as long.  OpenMP reads these variables when torch is imported.
    """
    if not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if "OMP_NUM_THREADS" not in os.environ and cores() < len(_affinity()):
        os.environ["OMP_NUM_THREADS"] = str(cores())


def cores() -> int:
    """The number of cores that this process may use, by affinity mask, cgroup quota and Slurm; at least 1."""
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")  # not every cluster sets the affinity mask
    return max(1, math.ceil(min(len(_affinity()), _quota(), int(granted) if granted.isdecimal() else math.inf)))


def job_threads(sweep: int, own: int) -> int:
    """The threads of a job: as many as the sweep's process has, for the same bytes, if there are cores for them.

    Args:
        sweep: threads of the process that started the sweep, on a cluster often on another machine.
        own: threads that this process started with.
    """
    return min(sweep, max(own, cores()))


def memory() -> int:
    """Total memory in bytes: the machine's, or the cgroup's limit if that is lower."""
    if sys.platform == "win32":
        kilobytes = ctypes.c_ulonglong()
        ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))
        return kilobytes.value * 1024
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(installed, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no cgroup, or its limit is "max"
        return installed


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _quota() -> float:
    """The cgroup's CPU quota in cores (cgroup v2, then v1); infinite if there is none."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = (Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{n}_us").read_text() for n in ("quota", "period"))
        except OSError:
            return math.inf
    return math.inf if quota.strip() in ("max", "-1") else float(quota) / float(period)
