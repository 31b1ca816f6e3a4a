"""How a step's time and memory grow with size, crops, batch and perceptors.

    python experiments/benchmarks/growth.py                      # the embedded pair on this CPU
    python experiments/benchmarks/growth.py --device cuda --pair official
    python experiments/benchmarks/growth.py --dry-run /tmp/dry   # one small point, in that folder

One thing is changed at a time from 128x128, 32 crops, one picture, one perceptor.  Every point runs in a process of its
own, so that its peak memory is its own: resident memory on a CPU, allocated memory on a GPU.  Writes
``results/growth-<pair>-<device>.csv`` and ``.png``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from speed import RESULTS, bare, networks, our_module, peak_mib

from vqclip.io.files import csv_bytes

BASE = {"size": 128, "crops": 32, "batch": 1, "perceptors": 1}
GRID = {
    "size": [128, 256, 512, 1024],
    "crops": [8, 16, 32, 64, 128, 256],
    "batch": [1, 2, 4, 8, 16],
    "perceptors": [1, 2, 3],
}


def measure(pair: str, device: str, size: int, crops: int, batch: int, perceptors: int, steps: int) -> dict[str, float]:
    """Median seconds of a step after one that warms up, and peak MiB."""
    generator, perceptor = networks(pair)
    generator.to(device), perceptor.to(device)
    module = our_module(generator, perceptor, size, crops, device, pictures=batch, guides=perceptors)
    step, times = bare(module), []
    for _ in range(steps + 1):
        began = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else peak_mib()
    return {"seconds": statistics.median(times[1:]), "peak_mib": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", choices=["embedded", "official"], default="embedded")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--dry-run", type=Path, metavar="FOLDER", help="a small step on the CPU, results into FOLDER")
    parser.add_argument("--point", help=argparse.SUPPRESS)  # one point, as JSON: how the processes are called
    arguments = parser.parse_args()
    if arguments.point:
        point = json.loads(arguments.point)
        print(json.dumps(measure(arguments.pair, arguments.device, **point, steps=arguments.steps)))
        return
    rows = []
    for what, values in ({"size": [32]} if arguments.dry_run else GRID).items():
        for value in values:
            point = BASE | {what: value}
            command = [sys.executable, __file__, "--pair", arguments.pair, "--device", arguments.device]
            command += ["--steps", str(arguments.steps), "--point", json.dumps(point)]
            done = subprocess.run(command, capture_output=True, text=True)
            row = {"varied": what, **point}
            if done.returncode == 0:
                row |= {k: round(v, 4) for k, v in json.loads(done.stdout.splitlines()[-1]).items()}
            else:  # out of memory is a result too
                row["error"] = (done.stderr.strip().splitlines() or ["killed"])[-1][:200]
            rows.append(row)
            print(row, flush=True)
    write(arguments, rows)


def write(arguments: argparse.Namespace, rows: list[dict]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder = arguments.dry_run or RESULTS
    folder.mkdir(exist_ok=True)
    name = f"growth-{arguments.pair}-{arguments.device}"
    (folder / f"{name}.csv").write_bytes(csv_bytes(rows))
    figure, axes = plt.subplots(2, len(GRID), figsize=(11, 5), sharey="row")
    for column, what in enumerate(GRID):
        points = [row for row in rows if row["varied"] == what and "seconds" in row]
        for line, key in enumerate(("seconds", "peak_mib")):
            axes[line, column].plot([p[what] for p in points], [p[key] for p in points], "o-")
            axes[line, column].set(xscale="log", yscale="log", xlabel=what)
            axes[line, column].set_xticks([p[what] for p in points], [str(p[what]) for p in points])
            axes[line, column].minorticks_off()
    axes[0, 0].set_ylabel("seconds a step")
    axes[1, 0].set_ylabel("peak MiB")
    figure.tight_layout()
    figure.savefig(folder / f"{name}.png", dpi=110)


if __name__ == "__main__":
    main()
