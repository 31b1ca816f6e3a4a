"""Runs each habit in a folder of its own, on the embedded pair, and says what it saw.

python experiments/habits/run.py                      # all; writes results.csv
python experiments/habits/run.py --only profiler      # those whose command matches; their rows of results.csv
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests")]

from habits import HABITS, Habit  # noqa: E402
from wandb_server import WandbServer  # noqa: E402

#: A run of seconds: the embedded pair, few and small steps, no bar.
SMALL = ["steps=4", "snapshot_every=2", "size=[64,64]", "augmentations.crops.count=4", "callbacks=none", "seed=0"]


@dataclass(frozen=True)
class Seen:
    """What became of a command."""

    code: int
    out: str  #: standard output, then standard error
    folder: Path  #: where it was run
    server: WandbServer | None = None

    @property
    def last_line(self) -> str:
        lines = [line for line in self.out.splitlines() if line.strip()]
        told = [line for line in lines if line.startswith("vqclip: ")]
        return _plain((told or lines or [""])[-1])[:160]


def dead_port() -> int:
    """A port of loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def environment(habit: Habit, folder: Path, server: WandbServer | None, port: int) -> dict[str, str]:
    """A user's: no account, nothing but what the habit says; the package where it lies."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "MLFLOW_"))}
    kept |= {"NETRC": str(folder / "netrc"), "COLUMNS": "200", "OMP_NUM_THREADS": kept.get("OMP_NUM_THREADS", "1")}
    account = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "x" * 40} if server else {}
    return kept | account | {key: value.format(port=port) for key, value in habit.environment.items()}


def see(habit: Habit, folder: Path) -> Seen:
    """Run a habit's commands one after the other; the last one counts."""
    port = dead_port()
    with WandbServer() if habit.needs_server else nullcontext() as server:
        told = environment(habit, folder, server, port)
        for words in habit.commands(SMALL, ROOT, port):
            done = subprocess.run(
                words, cwd=folder, env=told, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
            )
        return Seen(done.returncode, done.stdout + done.stderr, folder, server)


def try_out(habit: Habit) -> tuple[bool, str]:
    """Whether a habit is as expected, and what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        seen = see(habit, Path(folder).resolve())
        try:
            said = habit.check(seen)
        except Exception as error:  # a file that is not there, a key that is missing: not as expected
            said = f"{type(error).__name__}: {error}"[:160]
        if said is True or said is None:
            return True, f"exit {seen.code}; {seen.last_line}"
        return False, f"exit {seen.code}; {_plain(str(said)) if said else seen.last_line}"


def _plain(text: str) -> str:
    """Without the names of folders of this machine and times, which differ from run to run."""
    text = text.replace(str(ROOT), "REPOSITORY")
    text = re.sub(r"/tmp/[\w/.-]*?tmp\w+/?", "", text)
    return re.sub(r"\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d-\d{6}", "DATE/TIME", text)


def keep(rows: list[list[str]]) -> None:
    """Into results.csv, in the place of earlier rows of the same commands."""
    path = Path(__file__).parent / "results.csv"
    known = {}
    if path.is_file():
        with open(path, newline="") as file:
            known = {(row[0], row[1]): row for row in list(csv.reader(file))[1:]}
    known |= {(row[0], row[1]): row for row in rows}
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["part", "command", "expected", "seen", "as expected"])
        writer.writerows(known[key] for habit in HABITS if (key := (habit.part, habit.command)) in known)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a pattern in the command")
    only = parser.parse_args().only
    rows = []
    for habit in HABITS:
        if not re.search(only, habit.command):
            continue
        began = time.perf_counter()
        good, seen = try_out(habit)
        rows.append([habit.part, habit.command, habit.expected, seen, "yes" if good else "NO"])
        took = time.perf_counter() - began
        print(f"{'ok' if good else 'NO'} {took:5.1f} s  {habit.command}\n       {seen}", flush=True)
    false = sum(row[-1] == "NO" for row in rows)
    print(f"{len(rows) - false} of {len(rows)} as expected")
    keep(rows)
    return 1 if false else 0


if __name__ == "__main__":
    sys.exit(main())
