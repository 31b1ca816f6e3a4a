"""Our step on a GPU in several ways: float32, TF32, bf16, compiled, batches; what each costs before its first step.

    python experiments/benchmarks/gpu.py                                 # official architectures, 448x448, 32 crops
    python experiments/benchmarks/gpu.py --dry-run /tmp/dry              # small steps on the CPU, in that folder

Every way runs in a process of its own.  Prints a Markdown table and writes ``results/gpu-<pair>-<size>.csv``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from speed import RESULTS, _wait, bare, networks, our_module, peak_mib

from vqclip.io.files import csv_bytes
from vqclip.runs.trainer import accelerated

#: way → (pictures, TF32, bf16, how torch.compile is asked)
WAYS = {
    "float32": (1, False, False, None),
    "TF32": (1, True, False, None),
    "bf16": (1, True, True, None),
    "TF32, compiled": (1, True, False, "default"),
    "bf16, compiled": (1, True, True, "default"),
    "bf16, CUDA graphs": (1, True, True, "reduce-overhead"),
    "bf16, 8 pictures": (8, True, True, None),
}


def measure(way: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds to the end of the first step once the networks are built, median of the later ones, peak MiB."""
    pictures, tf32, bf16, mode = WAYS[way]
    generator, perceptor = (network.to(arguments.device) for network in networks(arguments.pair))
    module = our_module(generator, perceptor, arguments.size, arguments.crops, arguments.device, pictures)
    module.chunks.picture_chunk = pictures
    how = mode and {"mode": mode, "backend": "eager" if arguments.dry_run else "inductor"}
    step, seconds = bare(module), []
    with (
        torch.autocast(arguments.device, torch.bfloat16, enabled=bf16),
        accelerated(module.networks, {"tf32": tf32, "compile": how}),
    ):
        for _ in range(arguments.steps + 3):
            began = time.perf_counter()
            step()
            _wait(arguments.device)
            seconds.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() / 2**20 if arguments.device == "cuda" else peak_mib()
    return {
        "first_s": round(seconds[0], 2),
        "median_s": round(statistics.median(seconds[3:]), 5),
        "pictures_steps_per_s": round(pictures / statistics.median(seconds[3:]), 1),
        "peak_mib": round(peak),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", choices=["embedded", "official"], default="official")
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--crops", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--dry-run", type=Path, metavar="FOLDER", help="a small step on the CPU, results into FOLDER")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)  # how the processes are called
    arguments = parser.parse_args()
    if arguments.dry_run:
        vars(arguments).update(pair="embedded", size=32, crops=2, steps=1, device="cpu")
    if arguments.way:
        print(json.dumps(measure(arguments.way, arguments)))
        return
    rows = []
    for way in arguments.ways:
        done = subprocess.run([sys.executable, *sys.argv, "--way", way], capture_output=True, text=True)
        last = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1:]
        rows.append(
            {"way": way} | (json.loads(last[0]) if done.returncode == 0 else {"error": (last or ["killed"])[0]})
        )
        print(rows[-1], flush=True)
    write(arguments, rows)


def write(arguments: argparse.Namespace, rows: list[dict]) -> None:
    machine = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.machine()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    folder = arguments.dry_run or RESULTS
    folder.mkdir(exist_ok=True)
    where = f"# {machine}, torch {torch.__version__}, {arguments.crops} crops\n"
    name = f"gpu-{arguments.pair}-{arguments.size}-{arguments.device}.csv"
    (folder / name).write_bytes(where.encode() + csv_bytes(rows))
    print(f"\n{machine}, torch {torch.__version__}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(str(row.get(column, '')) for column in columns)} |")


if __name__ == "__main__":
    main()
