"""The second round's figures beside their aims, this tree against an earlier one in turn.

    git worktree add ../before 0ca2121
    python experiments/benchmarks/round2.py --before ../before                   # about half an hour on two idle cores
    python experiments/benchmarks/round2.py --before ../before --parts start busy

Every command runs in a process of its own, from its tree (``PYTHONPATH``), in an empty folder, W&B offline, with as
many threads as torch takes, whatever this shell's environment says of them.  Prints one line a figure, with its aim
where it has one: ``met`` or ``MISSED``.  ``step`` and ``official`` (20 GB, only where asked for) are ``speed.py``'s,
which writes its results anew.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

AFTER = Path(__file__).resolve().parents[2]
MAIN = "from vqclip.cli import main; main()"


#: Of the shell that this is started in, not of a user's: threads, and no compiled modules kept.
_NOT_A_USERS = ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "PYTHONDONTWRITEBYTECODE")
DECODE = """
import torch
from vqclip.checkpoints.load import load_generator
from vqclip.config.compose import compose
from vqclip.config.resolve import resolved
model = load_generator(resolved(compose([]))["checkpoints"]["generator"]).to(memory_format=torch.channels_last)
model.strip = 128
with torch.no_grad():
    assert model.decode(torch.randn(1, model.channels, 256, 256)).shape == (1, 3, 2048, 2048)
"""


def path_of(tree: Path) -> str:
    return f"{tree}:{tree / 'vqclip/plugins'}"


def environment(path: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in _NOT_A_USERS}
    return kept | {"WANDB_MODE": "offline", "PYTHONPATH": path}


def command(tree: Path, *words: str, folder: Path | None = None) -> tuple[float, float, int]:
    """Run ``vqclip`` of a tree: seconds, seconds from its start to its first step (nan where none), peak MiB."""
    return python(["-c", MAIN, *words], path_of(tree), folder)


def python(arguments: Sequence[str], path: str = "", folder: Path | None = None) -> tuple[float, float, int]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = folder or Path(scratch)
        began, clock = time.time(), time.perf_counter()
        process = started(arguments, path, folder)
        said = process.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - clock
        if status:
            sys.exit(f"{arguments}: exit {os.waitstatus_to_exitcode(status)}\n{said}")
        rows = sorted(folder.rglob("metrics.csv"), key=lambda file: file.stat().st_mtime)
        first = rows[0].stat().st_mtime - began if rows else float("nan")
    return seconds, first, usage.ru_maxrss // 1024


def started(arguments: Sequence[str], path: str, folder: Path, stdout: int = subprocess.PIPE) -> subprocess.Popen:
    words, more = [sys.executable, *arguments], {"stdout": stdout, "stderr": subprocess.STDOUT}
    return subprocess.Popen(words, cwd=folder, env=environment(path), start_new_session=True, **more)


def to_first_step(tree: Path, *words: str) -> float:
    """Seconds until a command has its first row of ``metrics.csv``; it is ended then."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        clock = time.perf_counter()
        process = started(["-c", MAIN, *words], path_of(tree), Path(scratch), subprocess.DEVNULL)
        while process.poll() is None and not any(Path(scratch).rglob("metrics.csv")):
            time.sleep(0.05)
        seconds = time.perf_counter() - clock
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return seconds


def in_turn(rounds: int, ways: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Medians of ways measured one after the other, round by round."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    return {name: statistics.median(values) for name, values in found.items()}


def show(what: str, figure: float | None = None, aim: float | None = None, least: bool = False, **more: float) -> None:
    """A line: the figure, its aim (at most; ``least``: at least) and whether it is met, and what it was made of."""
    told = f"{figure:>8.3g}" if figure is not None else " " * 8
    if aim is not None and figure is not None:
        met = figure >= aim if least else figure <= aim
        told += f"  aim {'>=' if least else '<='} {aim:<5.3g} {'met' if met else 'MISSED'}"
    print(f"{what:<58} {told:<32}  " + "  ".join(f"{name}={value:.3g}" for name, value in more.items()), flush=True)


def start(before: Path) -> None:
    trees = {"before": before, "after": AFTER}
    for tree in trees.values():
        command(tree, "--cfg", "job")  # the first compiles its modules
    hydra = {"hydra": lambda: python(["-c", "import hydra"])[0]}
    for words, aim in (["--help"], 3), (["--cfg", "job"], 2):
        ways = {k: lambda tree=tree, words=words: command(tree, *words)[0] for k, tree in trees.items()}
        found = in_turn(5, hydra | ways)
        show(f"vqclip {' '.join(words)}: times `import hydra`", found["after"] / found["hydra"], aim, **found)
    words = ["a fox", "steps=1", "hydra.run.dir=run"]
    found = in_turn(5, {k: lambda tree=tree: command(tree, *words)[1] for k, tree in trees.items()})
    show("command to the first step: after / before", found["after"] / found["before"], 0.75, **found)


def imports(before: Path) -> None:
    """Every import of over 50 ms, itself and what it brings along, outermost first."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["-X", "importtime", "-c", MAIN, "a fox", "steps=1"]
        said = started(arguments, path_of(AFTER), Path(folder)).communicate()[0].decode(errors="replace")
    found = re.findall(r"^import time:\s+\d+ \|\s+(\d+) \| \s*([\w.]+)$", said, flags=re.MULTILINE)
    for microseconds, name in sorted(((int(t), n) for t, n in found), reverse=True):
        if microseconds > 50_000:
            show(f"import {name}", seconds=microseconds / 1e6)


def large(before: Path) -> None:
    words = ["a fox", "size=[1024,1024]", "steps=2", "init=sine", "callbacks=none", "hydra.run.dir=run"]
    (was, _, peak_before), (now, _, peak) = command(before, *words), command(AFTER, *words)
    show("1024x1024, two steps, the command: after / before", now / was, 0.5, before=was, after=now)
    show("1024x1024, peak GB", peak * 2**20 / 1e9, 3, before=peak_before * 2**20 / 1e9)
    seconds, _, peak = python(["-c", DECODE], path_of(AFTER))
    show("2048x2048 decodes: peak GB", peak * 2**20 / 1e9, seconds=seconds)


def sweep(before: Path) -> None:
    def seconds(tree: Path, jobs: int, steps: int) -> float:
        words = [f"seed=range({jobs})", f"steps={steps}", "snapshot_every=1000", "hydra.sweep.dir=sweep"]
        return command(tree, "-m", "a fox", *words)[0]

    alone = to_first_step(AFTER, "a fox", "hydra.run.dir=run")
    for name, tree, aim in (("before", before, None), ("after", AFTER, 2)):
        began = to_first_step(tree, "-m", "a fox", "seed=range(200)", "hydra.sweep.dir=sweep")
        show(f"200 jobs, {name}: to the first step, times one run's", began / alone, aim, seconds=began)
    for name, tree, aim in (("before", before, None), ("after", AFTER, 0.3)):
        two, twelve, long = seconds(tree, 2, 1), seconds(tree, 12, 1), seconds(tree, 2, 41)
        job, step = (twelve - two) / 10, (long - two) / 80
        show(f"a job above its steps, {name}: seconds", job - step, aim, job_of_one_step=job, step=step)


def workers(before: Path) -> None:
    """In a short sweep the workers' start (two processes more) is a fifth of the time; a longer one spreads it."""
    for jobs in (8, 24):
        words, found, pictures = ["-m", "a fox", f"seed=range({jobs})", "steps=40", "hydra.sweep.dir=sweep"], {}, {}
        for name, more in (("plain", []), ("workers", ["hydra/launcher=workers"])):
            with tempfile.TemporaryDirectory() as scratch:
                found[name] = command(AFTER, *words, *more, folder=Path(scratch))[0]
                files = sorted(Path(scratch).rglob("picture-00/final.png"))
                pictures[name] = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        show(f"{jobs} jobs of 40 steps: plain / workers", found["plain"] / found["workers"], 1.3, least=True, **found)
        same = sum(a == b for a, b in zip(*pictures.values(), strict=True))
        show(f"the same, pictures of the same bytes, of {jobs}", same, jobs, least=True)


def busy(before: Path) -> None:
    words = ["a fox", "hydra.run.dir=run"]
    spin = [sys.executable, "-c", "while True: pass"]
    alone = in_turn(2, {"alone": lambda: command(AFTER, *words)[0]})["alone"]
    show("a run alone", seconds=alone)
    for count, share in ((2, 2), (4, 3), (8, 5)):
        others = [subprocess.Popen(spin, start_new_session=True) for _ in range(count)]  # each a terminal of its own
        try:
            seconds = command(AFTER, *words)[0]
        finally:
            for other in others:
                other.kill()
                other.wait()
        show(f"beside {count} busy processes, times a fair share", seconds / alone / share, 1.2, seconds=seconds)


def step(before: Path) -> None:
    _speed("embedded 128x128", 0.40)


def official(before: Path) -> None:
    _speed("official sizes 224x224", 0.35, "--pair", "official", "--size", "224")


def _speed(what: str, aim: float, *words: str) -> None:
    """A step beside the original loop and beside our networks alone."""
    script = [
        str(AFTER / "experiments/benchmarks/speed.py"),
        *words,
        "--contenders",
        "vqclip",
        "original",
        "floor_ours",
    ]
    with tempfile.TemporaryDirectory() as folder:
        said = started(script, path_of(AFTER), Path(folder)).communicate()[0].decode(errors="replace")
    ours = next((line for line in said.splitlines() if line.startswith("contender=vqclip ")), None)
    if ours is None:
        sys.exit(said)
    found = {key: float(value) for key, _, value in (pair.partition("=") for pair in ours.split()[1:])}
    show(f"a step, {what}: of the original's", found["of_original"], aim, seconds=found["median_s"])
    show(f"a step, {what}: of our networks alone", found["of_floor_ours"], 1.05)


PARTS = {part.__name__: part for part in (start, imports, large, sweep, workers, busy, step, official)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a work tree of the commit to compare with")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[name for name in PARTS if name != "official"])
    arguments = parser.parse_args()
    for part in arguments.parts:
        PARTS[part](arguments.before.resolve())


if __name__ == "__main__":
    main()
