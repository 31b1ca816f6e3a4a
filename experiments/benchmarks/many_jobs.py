"""Does a sweep of many jobs stay as it began?  Seconds a job, memory and open files, watched from outside.

    python experiments/benchmarks/many_jobs.py --jobs 1000            # on two cores about twenty minutes
    python experiments/benchmarks/many_jobs.py --jobs 40 logger=none

Jobs of one step each in one process, which is what is left of a job when its steps are taken away.  Prints the
medians of each tenth of the sweep; more words are overrides.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vqclip.io.files import csv_bytes

TREE = Path(__file__).resolve().parents[2]


def watch(jobs: int, words: list[str]) -> list[dict[str, float]]:
    """Run the sweep; a row when each job has ended: CPU seconds and wall seconds so far, MiB, open files."""
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "sweep"
        code = "from vqclip.cli import main; main()"
        words = ["-m", "a fox", f"seed=range({jobs})", "steps=1", f"hydra.sweep.dir={place}", *words]
        environment = os.environ | {"WANDB_MODE": "offline", "PYTHONPATH": f"{TREE}:{TREE / 'vqclip/plugins'}"}
        with open(Path(folder) / "said.txt", "w") as said:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *words], cwd=folder, env=environment, stdout=said, stderr=said
            )
            while process.poll() is None:
                if (place / str(len(rows) + 1)).exists() or _ended(place / str(jobs - 1)):
                    rows.append({"job": len(rows), **_state(process.pid)})
                    if len(rows) == jobs:
                        break
                time.sleep(0.02)
            if process.wait():
                sys.exit((Path(folder) / "said.txt").read_text()[-3000:])
    return rows


def _ended(job: Path) -> bool:
    try:
        return '"finished"' in (job / "run.json").read_text()
    except OSError:
        return False


def _state(pid: int) -> dict[str, float]:
    place = Path("/proc") / str(pid)
    status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    ticks = (place / "stat").read_text().rpartition(")")[2].split()[11:13]
    return {
        "cpu": sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"),
        "seconds": time.perf_counter(),
        "mib": int(status["VmRSS"].split()[0]) / 1024,
        "files": len(list((place / "fd").iterdir())),
        "threads": int(status["Threads"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--csv", type=Path, help="a row a job goes here")
    arguments, words = parser.parse_known_args()
    rows = watch(arguments.jobs, words)
    for before, row in itertools.pairwise(rows):
        row |= {"job_cpu": row["cpu"] - before["cpu"], "job_seconds": row["seconds"] - before["seconds"]}
    if arguments.csv:
        arguments.csv.write_bytes(csv_bytes(rows))
    for tenth in _tenths(rows):
        medians = {key: statistics.median(row[key] for row in tenth) for key in list(tenth[0])[2:] if key != "seconds"}
        print(f"jobs from {tenth[0]['job']:>4}: " + "  ".join(f"{k}={v:.3g}" for k, v in medians.items()), flush=True)


def _tenths(rows: list[dict[str, float]]) -> list[list[dict[str, float]]]:
    size = max(1, len(rows) // 10)
    return [rows[start : start + size] for start in range(1, len(rows), size)]


if __name__ == "__main__":
    main()
