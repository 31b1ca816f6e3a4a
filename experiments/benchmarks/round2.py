"""The second round's figures, this tree against an earlier one in turn: start-up, size, sweeps, busy machines.

    git worktree add ../before 0ca2121
    python experiments/benchmarks/round2.py --before ../before                   # about ten minutes on two idle cores
    python experiments/benchmarks/round2.py --before ../before --parts start busy

Every command runs in a process of its own, from its tree (``PYTHONPATH``), in an empty folder, W&B offline.  Prints one
line a figure; ``ratio`` is after over before unless the line says otherwise.  The step beside the original loop is
``speed.py``'s.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

AFTER = Path(__file__).resolve().parents[2]
MAIN = "from vqclip.cli import main; main()"


def command(tree: Path, *words: str) -> tuple[float, float, int]:
    """Run ``vqclip`` of a tree: seconds, seconds from its start to its first step (nan where none), peak MiB."""
    return python(["-c", MAIN, *words], f"{tree}:{tree / 'vqclip/plugins'}")


def python(arguments: list[str], path: str = "") -> tuple[float, float, int]:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"WANDB_MODE": "offline", "PYTHONPATH": path}
        began, clock = time.time(), time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said = process.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - clock
        if status:
            sys.exit(f"{arguments}: exit {os.waitstatus_to_exitcode(status)}\n{said}")
        rows = sorted(Path(folder).rglob("metrics.csv"), key=lambda file: file.stat().st_mtime)
        first = rows[0].stat().st_mtime - began if rows else float("nan")
    return seconds, first, usage.ru_maxrss // 1024


def in_turn(rounds: int, ways: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Medians of ways measured one after the other, round by round."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    return {name: statistics.median(values) for name, values in found.items()}


def show(what: str, **numbers: float) -> None:
    print(f"{what:<44} " + "  ".join(f"{name}={value:.3g}" for name, value in numbers.items()), flush=True)


def start(before: Path) -> None:
    trees = {"before": before, "after": AFTER}
    hydra = {"hydra": lambda: python(["-c", "import hydra"])[0]}
    for words in (["--help"], ["--cfg", "job"]):
        ways = {k: lambda tree=tree, words=words: command(tree, *words)[0] for k, tree in trees.items()}
        found = in_turn(5, hydra | ways)
        show(f"vqclip {' '.join(words)}", **found, of_import_hydra=found["after"] / found["hydra"])
    words = ["a fox", "steps=1", "hydra.run.dir=run"]
    found = in_turn(5, {k: lambda tree=tree: command(tree, *words)[1] for k, tree in trees.items()})
    show("command to the first step", **found, ratio=found["after"] / found["before"])


def imports(before: Path) -> None:
    """Every import of over 50 ms, itself and what it brings along, outermost first."""
    environment = os.environ | {"PYTHONPATH": f"{AFTER}:{AFTER / 'vqclip/plugins'}", "WANDB_MODE": "offline"}
    with tempfile.TemporaryDirectory() as folder:
        arguments = [sys.executable, "-X", "importtime", "-c", MAIN, "a fox", "steps=1"]
        said = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True).stderr
    found = re.findall(r"^import time:\s+\d+ \|\s+(\d+) \| \s*([\w.]+)$", said, flags=re.MULTILINE)
    for microseconds, name in sorted(((int(t), n) for t, n in found), reverse=True):
        if microseconds > 50_000:
            show(f"import {name}", seconds=microseconds / 1e6)


def large(before: Path) -> None:
    words = ["a fox", "size=[1024,1024]", "steps=2", "init=sine", "callbacks=none", "hydra.run.dir=run"]
    runs = {"before": command(before, *words), "after": command(AFTER, *words)}
    show(
        "1024x1024, two steps, seconds",
        **{k: v[0] for k, v in runs.items()},
        ratio=runs["after"][0] / runs["before"][0],
    )
    show("1024x1024, peak MiB", **{k: v[2] for k, v in runs.items()})


def sweep(before: Path) -> None:
    def first(tree: Path, *words: str) -> tuple[float, float]:
        seconds, began, _ = command(tree, "-m", "a fox", "hydra.sweep.dir=sweep", *words)
        return seconds, began

    few, many = ["seed=range(2)", "steps=1"], ["seed=range(12)", "steps=1"]
    alone = command(AFTER, "a fox", "steps=1", "hydra.run.dir=run")[1]
    for name, tree in (("before", before), ("after", AFTER)):
        (short, _), (long, began) = first(tree, *few), first(tree, *many)
        show(f"sweep of 12, {name}: seconds to the first step", seconds=began, of_one_run=began / alone)
        show(f"sweep, {name}: seconds a further job of one step", seconds=(long - short) / 10)
    steady = ["seed=range(8)", "steps=40"]
    plain, _ = first(AFTER, *steady)
    workers, _ = first(AFTER, *steady, "hydra/launcher=workers")
    show("8 jobs of 40 steps: plain / workers", plain=plain, workers=workers, ratio=plain / workers)


def busy(before: Path) -> None:
    words = ["a fox", "hydra.run.dir=run"]
    spin = [sys.executable, "-c", "while True: pass"]
    alone = in_turn(2, {"alone": lambda: command(AFTER, *words)[0]})["alone"]
    show("a run alone", seconds=alone)
    for count, share in ((2, 2), (4, 3), (8, 5)):
        others = [subprocess.Popen(spin) for _ in range(count)]
        try:
            seconds = command(AFTER, *words)[0]
        finally:
            for other in others:
                other.kill()
                other.wait()
        show(
            f"beside {count} busy processes",
            seconds=seconds,
            of_alone=seconds / alone,
            of_share=seconds / alone / share,
        )


PARTS = {"start": start, "imports": imports, "large": large, "sweep": sweep, "busy": busy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a work tree of the commit to compare with")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    for part in arguments.parts:
        PARTS[part](arguments.before.resolve())


if __name__ == "__main__":
    main()
