"""A run killed at 30 moments and on a disk that is full at five, then gone on with: are the bytes the same?

    python experiments/reliability/kills.py        # writes kills.csv; about two minutes; the full disks need root

Each run is a process of its own (SIGKILL leaves it no last word): just before a file takes its name, as it is opened,
while it is half written (a thread watches for it), or at a chance time.
"""

from __future__ import annotations

import csv
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import vqclip
from vqclip import UserError

HERE = Path(__file__).parent
PROMPTS = ["a fox", "an owl"]
SETTINGS = [
    *("checkpoints.prior=null", "init=sine", "size=[64,64]", "steps=6", "snapshot_every=2"),
    *("augmentations.crops.count=2", "logger=none", "callbacks.progress=null"),
]

#: Before a file takes its name: its end, and the how manyeth time.
RENAMED = [
    *[("config.yaml", 1), ("run.json", 1), ("run.json", 2), ("run.json", 3)],
    *[(f"picture-0{i}/steps/00000{step}.png", 1) for i in (0, 1) for step in (0, 4)],
    *[("crops/000002.png", 1), ("best.png", 1), ("final.png", 3)],
    *[("picture-00/latents.safetensors", 1), ("picture-01/latents/000004.safetensors", 1)],
    *[("last.ckpt", 1), ("last.ckpt", 2), ("last.ckpt", 3)],
    *[("picture-00/timelapse.mp4", 1), ("picture-01/timelapse.mp4", 1), ("interpolation.mp4", 1)],
]
OPENED = [("metrics.csv", 1), ("metrics.csv", 9), ("timing.csv", 5)]
HALF_WRITTEN = [".last.ckpt"]
#: Too short for a thread to see them half written: the system ends the process at a byte of the file that comes after
#: an event of another one.
VIDEOS = {
    "picture-00/.timelapse.mp4": ("open", "picture-00/steps/000000.png"),
    ".interpolation.mp4": ("os.rename", "picture-01/timelapse.mp4"),
}
BYTES = 700
CHANCE = 5
#: Of the room that a whole run takes.
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)


def kill_when(event: str, end: str, count: int) -> None:
    """Kill this process at an audit event of a file."""
    seen = 0

    def watch(name: str, args: tuple) -> None:
        nonlocal seen
        if name == event and str(args[1 if event == "os.rename" else 0]).endswith(end):
            seen += 1
            if seen == count:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def kill_half_written(folder: Path, pattern: str) -> None:
    """Kill this process once such a file is there and holds something."""

    def watch() -> None:
        while True:
            for path in folder.glob(pattern):
                if path.exists() and path.stat().st_size:
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.setswitchinterval(1e-5)
    threading.Thread(target=watch, daemon=True).start()


def kill_at_byte(event: str, end: str, size: int) -> None:
    """Have the system end this process (SIGXFSZ) as a file grows beyond ``size``, after an audit event of another."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)

    def watch(name: str, args: tuple) -> None:
        if name == event and str(args[1 if event == "os.rename" else 0]).endswith(end):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    sys.addaudithook(watch)


def kill_after(seconds: float) -> None:
    """Kill this process in a while."""
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, seconds)


def in_a_process(work: Callable[[], object]) -> int:
    """The exit status of some work in a copy of this process; below 0 the signal that ended it."""
    child = os.fork()
    if not child:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            tqdm.set_lock(threading.RLock())  # its own is shared by all copies: one killed while drawing a bar keeps it
            work()
            status = 0
        except UserError as error:
            status = error.exit_status
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def draw(folder: Path) -> None:
    vqclip.run(PROMPTS, SETTINGS, folder)


def go_on(folder: Path) -> int:
    """Resume; where not even the config was there yet, the same command once more."""
    if (folder / "config.yaml").exists():
        return in_a_process(lambda: vqclip.run(resume=str(folder)))
    return in_a_process(lambda: draw(folder))


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file that is to be the same."""
    kinds = ("*.png", "latents.safetensors", "*.mp4", "metrics.csv")
    return {str(path.relative_to(folder)): path.read_bytes() for kind in kinds for path in folder.rglob(kind)}


def row(what: str, folder: Path, status: int, whole: dict[str, bytes]) -> dict[str, object]:
    resumed = go_on(folder)
    left = [path.name for path in folder.rglob(".*") if path.name != ".lock"]
    same = bytes_of(folder) == whole and not left
    return {"what": what, "ended": status, "resumed": resumed, "same_bytes": same}


def moments() -> list[tuple[str, Callable[[Path], None]]]:
    """Each with what prepares a process to be killed there."""
    found: list[tuple[str, Callable[[Path], None]]] = []
    for end, count in RENAMED:
        found.append((f"before {end} has its name, {count}", lambda _, e=end, n=count: kill_when("os.rename", e, n)))
    for end, count in OPENED:
        found.append((f"as {end} is opened, {count}", lambda _, e=end, n=count: kill_when("open", e, n)))
    for pattern in HALF_WRITTEN:
        found.append((f"{pattern} half written", lambda folder, p=pattern: kill_half_written(folder, p)))
    for video, (event, end) in VIDEOS.items():
        found.append((f"{video} half written", lambda _, e=event, n=end: kill_at_byte(e, n, BYTES)))
    dice = random.Random(0)
    for seconds in sorted(dice.uniform(0.02, 0.8) for _ in range(CHANCE)):
        found.append((f"after {seconds:.2f} s", lambda _, s=seconds: kill_after(s)))
    return found


def killed(place: Path, whole: dict[str, bytes]) -> list[dict[str, object]]:
    rows = []
    for number, (what, prepare) in enumerate(moments()):
        folder = place / str(number)

        def work(folder: Path = folder, prepare: Callable[[Path], None] = prepare) -> None:
            prepare(folder)
            draw(folder)

        rows.append(row(f"kill {what}", folder, in_a_process(work), whole))
        print(rows[-1], flush=True)
    return rows


def full_disks(place: Path, whole: dict[str, bytes], room: int) -> list[dict[str, object]]:
    """Runs on a disk of the system's memory, made larger once it was full."""
    rows = []
    for share in SHARES:
        disk = place / f"disk{share}"
        disk.mkdir()
        size = f"size={int(room * share)}"
        if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", disk], capture_output=True).returncode:
            print("full disks: not run, since mount is not allowed here")
            return rows
        try:
            status = in_a_process(lambda disk=disk: draw(disk / "run"))
            subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
            rows.append(row(f"disk full at {share:.0%} of a run", disk / "run", status, whole))
        finally:
            subprocess.run(["umount", disk], check=True)
        print(rows[-1], flush=True)
    return rows


def held(row: Mapping[str, Any]) -> bool:
    """Whether a row, also as the CSV has it, ended in the same bytes; by status 0 what was to end it never came."""
    return str(row["same_bytes"]) == "True" and str(row["ended"]) != "0"


def main() -> int:
    torch.set_num_threads(1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        draw(place / "whole")
        whole = bytes_of(place / "whole")
        room = sum(path.stat().st_blocks * 512 for path in (place / "whole").rglob("*") if path.is_file())
        rows = killed(place, whole) + full_disks(place, whole, room)
        shutil.rmtree(place / "whole")
    with open(HERE / "kills.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    kept = sum(map(held, rows))
    print(f"{kept} of {len(rows)} held, {time.perf_counter() - began:.0f} s")
    return 0 if kept == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
