"""Whole commands: how soon a run starts, and what a batch, a sweep and a W&B server that is not there do to its time.

    python experiments/benchmarks/commands.py                      # all parts, the embedded pair on this CPU
    python experiments/benchmarks/commands.py --parts start wandb

Parts, each interleaved in one run:

* ``start``  seconds of ``vqclip --help``, of ``vqclip --cfg job``, and from the command to its first step; what of them
             are imports.
* ``batch``  eight prompts in one command, against eight commands.
* ``sweep``  a sweep of twenty jobs, against twenty commands.
* ``snapshots``  a run of twenty steps that keeps the last picture, against one that keeps every step's.
* ``wandb``  a run that logs to W&B offline, against one whose server's address is dead, and one whose server is silent.

Writes ``results/commands.csv``.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from vqclip.io.files import csv_bytes

VQCLIP = shutil.which("vqclip", path=str(Path(sys.executable).parent)) or "vqclip"
RESULTS = Path(__file__).parent / "results"
PROMPTS = [f"a red {thing}" for thing in ("apple", "fox", "car", "house", "rose", "fish", "boat", "hat")]


def run(*words: str, **environment: str) -> float:
    """Wall seconds of one command, in an empty folder without an account."""
    with tempfile.TemporaryDirectory() as folder:
        return _run(Path(folder), words, environment)[0]


def first_step(*words: str) -> float:
    """Seconds from the command to the end of its first step, when ``metrics.csv`` gets its first row."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        _run(Path(folder), [*words, "hydra.run.dir=run", "steps=1"], {})
        return (Path(folder) / "run" / "metrics.csv").stat().st_mtime - began


def imports(*words: str) -> dict[str, float]:
    """Seconds that a command spends on the modules of each library, where they are many, by Python's own account.

    The account itself slows imports down: the shares count.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = _run(Path(folder), words, {"PYTHONPROFILEIMPORTTIME": "1"})[1]
    found: dict[str, float] = {}
    for own, name in re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+([^.\s]+)", said, flags=re.MULTILINE):
        found[name] = found.get(name, 0) + int(own) / 1e6
    return dict(sorted(((k, v) for k, v in found.items() if v > 0.1), key=lambda item: -item[1]))


def _run(folder: Path, words, environment: dict[str, str]) -> tuple[float, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")} | {"NETRC": str(folder / "netrc")}
    began = time.perf_counter()
    done = subprocess.run([VQCLIP, *words], cwd=folder, env=clean | environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"vqclip {' '.join(words)}: exit {done.returncode}\n{done.stderr}")
    return time.perf_counter() - began, done.stderr


def start(rounds: int) -> list[dict]:
    shown = {"--help": ["--help"], "--cfg job": ["--cfg", "job"]}
    times: dict[str, list[float]] = {name: [] for name in (*shown, "first step", "whole run")}
    for _ in range(rounds):
        for name, words in shown.items():
            times[name].append(run(*words))
        times["first step"].append(first_step("a fox"))
        times["whole run"].append(run("a fox"))
    rows = [row("start", name, seconds) for name, seconds in times.items()]
    return rows + [row("start", f"import {name}", [seconds]) for name, seconds in imports("a fox", "steps=1").items()]


def batch(rounds: int) -> list[dict]:
    together, alone = [], []
    for _ in range(rounds):
        together.append(run(*PROMPTS))
        alone.append(sum(run(prompt) for prompt in PROMPTS))
    return against("batch", {"8 commands": alone, "1 command of 8 prompts": together})


def sweep(rounds: int) -> list[dict]:
    together, alone = [], []
    for _ in range(rounds):
        together.append(run("-m", "seed=range(20)", "a fox"))
        alone.append(sum(run(f"seed={seed}", "a fox") for seed in range(20)))
    return against("sweep", {"20 commands": alone, "1 sweep of 20 jobs": together})


def snapshots(rounds: int) -> list[dict]:
    few, many = [], []
    for _ in range(rounds):
        few.append(run("a fox", "snapshot_every=20"))
        many.append(run("a fox", "snapshot_every=1"))
    return against("snapshots", {"1 of 20 steps": few, "20 of 20 steps": many})


def unreachable(rounds: int) -> list[dict]:
    times: dict[str, list[float]] = {"offline": [], "dead address": [], "silent server": []}
    with closing(socket.create_server(("127.0.0.1", 0))) as silent, closing(socket.socket()) as dead:
        dead.bind(("127.0.0.1", 0))  # bound and not listening: it refuses
        account = {"WANDB_API_KEY": "0" * 40, "WANDB_MODE": "online"}
        for _ in range(rounds):
            times["offline"].append(run("a fox", WANDB_MODE="offline"))
            for name, server in (("dead address", dead), ("silent server", silent)):
                address = f"http://127.0.0.1:{server.getsockname()[1]}"
                times[name].append(run("a fox", WANDB_BASE_URL=address, **account))
    return against("wandb", times)


def against(part: str, times: dict[str, list[float]]) -> list[dict]:
    """Rows with the ratio to the first of ``times``, round by round."""
    base = next(iter(times.values()))
    rows = []
    for name, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, base, strict=True))
        rows.append(row(part, name, seconds) | {"ratio": round(ratio, 3)})
    return rows


def row(part: str, name: str, seconds: list[float]) -> dict:
    spread = f"{min(seconds):.2f}-{max(seconds):.2f}"
    return {
        "part": part,
        "what": name,
        "median_s": round(statistics.median(seconds), 3),
        "range_s": spread,
        "ratio": "",
    }


PARTS = {
    "start": (start, 7),
    "batch": (batch, 2),
    "sweep": (sweep, 1),
    "snapshots": (snapshots, 3),
    "wandb": (unreachable, 7),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    run("a fox", "steps=1")  # files into the cache
    rows = []
    for part in arguments.parts:
        measure, rounds = PARTS[part]
        for own in measure(rounds):
            print("  ".join(f"{value}" for value in own.values()), flush=True)
            rows.append(own)
    path = RESULTS / "commands.csv"
    if path.exists():  # parts that were not asked for keep their rows
        with open(path, newline="") as file:
            file.readline()
            rows += [old for old in csv.DictReader(file) if old["part"] not in arguments.parts]
    rows.sort(key=lambda own: list(PARTS).index(own["part"]))
    RESULTS.mkdir(exist_ok=True)
    where = f"# {platform.machine()}, {os.cpu_count()} cores, python {platform.python_version()}\n"
    path.write_bytes(where.encode() + csv_bytes(rows))


if __name__ == "__main__":
    main()
