"""What this process may use of its machine: cores, threads and memory.  Nothing here imports torch."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from pathlib import Path

__all__ = ["cores", "job_threads", "memory", "set_up_openmp"]

#: Variables by which a user says how OpenMP's threads wait.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def set_up_openmp() -> None:
    """As many threads as there are cores for us, which sleep while they wait; what the user set stays as it is.

    By default they spin, which on cores that others use too takes from the thread they wait for: beside four busy
    processes on two cores a run took three times as long.  OpenMP reads its variables when torch is imported.
    """
    if not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if "OMP_NUM_THREADS" not in os.environ and cores() < len(_affinity()):
        os.environ["OMP_NUM_THREADS"] = str(cores())


def cores() -> int:
    """The cores that this process may use: by its affinity mask, its control group's quota and Slurm, at least 1."""
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")  # not every cluster has the mask say so
    return max(1, math.ceil(min(len(_affinity()), _quota(), int(granted) if granted.isdecimal() else math.inf)))


def job_threads(sweep: int, own: int) -> int:
    """Threads of a sweep's job: as many as where the sweep began, for the same bytes, but no more than it has cores.

    Args:
        sweep: threads of the process that began the sweep, on a cluster often another machine.
        own: threads that this process has begun with.
    """
    return min(sweep, max(own, cores()))


def memory() -> int:
    """Bytes of memory: the machine's, or fewer where the control group says so."""
    if sys.platform == "win32":
        kilobytes = ctypes.c_ulonglong()
        ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))
        return kilobytes.value * 1024
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(installed, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no control group; "max"
        return installed


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _quota() -> float:
    """Cores' worth of time that the control group allows (cgroup v2, then v1); infinite where nothing limits it."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = (Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{n}_us").read_text() for n in ("quota", "period"))
        except OSError:
            return math.inf
    return math.inf if quota.strip() in ("max", "-1") else float(quota) / float(period)
