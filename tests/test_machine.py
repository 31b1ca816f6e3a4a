"""The machine: how OpenMP's threads wait, how many cores and how much memory a run counts on."""

import os
import subprocess
import sys

import pytest

from vqclip import machine

WAITING, FALLBACK = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"), ("PYTORCH_ENABLE_MPS_FALLBACK",)


@pytest.mark.parametrize(
    ("names", "given", "shown"),
    [
        (WAITING, {}, "PASSIVE None"),
        (WAITING, {"GOMP_SPINCOUNT": "9"}, "None 9"),
        (WAITING, {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None"),
        (FALLBACK, {}, "1"),
        (FALLBACK, {"PYTORCH_ENABLE_MPS_FALLBACK": "0"}, "0"),
    ],
)
def test_threads_wait_asleep_and_an_apples_gpu_leaves_to_the_cpu_what_it_cannot_unless_told(names, given, shown):
    code = f"import vqclip, os; print(*map(os.environ.get, {names}))"
    clean = {key: value for key, value in os.environ.items() if key not in names}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | given, capture_output=True, text=True, check=True, timeout=600
    )
    assert done.stdout.strip() == shown


@pytest.mark.parametrize(("quota", "expected"), [(float("inf"), 2), (1.5, 2), (1.0, 1), (0.2, 1)])
def test_cores_are_those_of_the_mask_and_the_quota(quota, expected, monkeypatch):
    monkeypatch.setattr(machine, "_affinity", lambda: {0, 1})
    monkeypatch.setattr(machine, "_quota", lambda: quota)
    assert machine.cores() == expected
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    machine.set_up_openmp()
    assert os.environ.pop("OMP_NUM_THREADS", None) == (None if expected == 2 else "1")


def test_a_job_takes_no_more_threads_than_its_machine_has_cores(monkeypatch):
    monkeypatch.setattr(machine, "_affinity", lambda: set(range(16)))
    monkeypatch.setattr(machine, "_quota", lambda: float("inf"))
    assert [machine.job_threads(sweep, own=1) for sweep in (2, 64)] == [2, 16]
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    assert [machine.job_threads(sweep, own=1) for sweep in (2, 64)] == [2, 4]
    assert machine.job_threads(8, own=8) == 8  # the user's OMP_NUM_THREADS, which a plain run obeys


@pytest.mark.parametrize(("limit", "expected"), [("1000000\n", 10**6), ("max\n", None), (None, None)])
def test_memory_is_the_machines_or_what_the_control_group_leaves_of_it(limit, expected, monkeypatch):
    def read(path):
        if limit is None:
            raise FileNotFoundError(path)
        return limit

    monkeypatch.setattr(machine.Path, "read_text", read)
    assert machine.memory() == (expected or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
