"""Memory: the official pair at its true size, from fetching to the picture, and what chunks of crops save.

    python experiments/benchmarks/memory.py                    # 256x256 on the CPU: five minutes on two cores, 6 GB
    python experiments/benchmarks/memory.py --device cuda      # also 512, 1024 and the largest square that fits
    python experiments/benchmarks/memory.py --dry-run /tmp/dry # small models, in that folder: does the command work

Files in the true formats with random weights are served from loopback, fetched by ``vqclip`` into an empty cache,
converted, and used for a whole run.  Then the first step is taken again in a process of its own for each way of
fitting it into memory: its peak, its seconds, and how far its gradient is from that of the plain way.

Writes ``results/memory-<device>.csv`` and prints the table of the README.
"""

from __future__ import annotations

import argparse
import csv
import functools
import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

from checkpoint_files import SMALL_VIT, SMALL_VQGAN, random_clip, random_vqgan, write_openai, write_taming  # noqa: E402

from vqclip.checkpoints.catalogue import cards  # noqa: E402
from vqclip.config.compose import compose  # noqa: E402
from vqclip.config.resolve import resolve  # noqa: E402
from vqclip.io.files import sha256  # noqa: E402
from vqclip.runs.build import build  # noqa: E402
from vqclip.runs.plan import RunPlan  # noqa: E402

PAIR = ("imagenet_f16_16384", "vit_b_32")
WAYS = {  # name → overrides; the first is what the others are compared with
    "all crops at once": [],
    "chunks of 4": ["memory.crop_chunk=4"],
    "chunks of 4, decoder recomputed": ["memory.crop_chunk=4", "memory.checkpoint_decoder=true"],
}
COLUMNS = ["size", "precision", "way", "peak_gb", "above_models_gb", "seconds_per_step", "steps_per_second", "gradient"]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dry-run", type=Path, metavar="FOLDER", help="a small step on the CPU, results into FOLDER")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # a process of its own for each measurement
    options = parser.parse_args()
    if options.case:
        return measure(**json.loads(options.case))
    results = options.dry_run or HERE / "results"
    results.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=results) as work:
        run_all(options.device, bool(options.dry_run), Path(work), results / f"memory-{options.device}.csv")


def run_all(device: str, small: bool, work: Path, results: Path) -> None:
    os.environ["VQCLIP_HOME"] = str(work / "cache")
    size = 64 if small else 256
    serve(work, small)
    common = [
        "experiment=reference",
        "checkpoints=served",
        "prompts.include=[a castle]",
        "logger=none",
        "callbacks=none",
    ]
    fetch_to_picture(work, [*common, f"size=[{size},{size}]", "steps=3", "snapshot_every=3"])

    os.environ["VQCLIP_OFFLINE"] = "1"
    rows = cases(work, device, common, size, "32", WAYS)
    if device == "cuda":
        for precision in ("32", "bf16"):
            for side in (512, 1024):
                rows += cases(work, device, common, side, precision, WAYS)
        name, way = [*WAYS.items()][-1]
        side, found = 1024, True
        while found:  # the largest square that fits
            side += 256
            found = cases(work, device, common, side, "bf16", {name: way})
            rows += found
    with open(results, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    print("\n| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    for row in rows:
        print("| " + " | ".join(str(row[column]) for column in COLUMNS) + " |")
    print(f"\n{results}")


def serve(work: Path, small: bool) -> None:
    """Write the files, serve them from loopback, and leave a config folder with cards that point there."""
    site, conf = work / "site", work / "conf" / "checkpoints"
    for folder in (site, conf / "generator", conf / "perceptors"):
        folder.mkdir(parents=True)
    official = {card.name: card.architecture for card in cards()}
    architectures = {
        "generator": SMALL_VQGAN if small else official[PAIR[0]],
        "perceptor": SMALL_VIT if small else official[PAIR[1]],
    }
    files = {"generator": site / "last.ckpt", "perceptor": site / "clip.pt"}
    write_taming(files["generator"], random_vqgan(architectures["generator"]))
    write_openai(files["perceptor"], random_clip(architectures["perceptor"]), architectures["perceptor"])

    handler = functools.partial(Quiet, directory=site)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    served = {
        kind: {
            "path": None,
            "file": path.name,
            "bytes": path.stat().st_size,
            "sha256": sha256(path),
            "urls": [f"http://127.0.0.1:{server.server_port}/{path.name}"],
            "architecture": architectures[kind],
        }
        for kind, path in files.items()
    }
    (conf / "generator/served.yaml").write_text(yaml.safe_dump({"name": "served"} | served["generator"]))
    (conf / "perceptors/served.yaml").write_text(yaml.safe_dump({"served": served["perceptor"] | {"weight": 1}}))
    pair = {
        "defaults": [{"generator": "served"}, {"perceptors": ["served"]}, "_self_"],
        "name": "served",
        "prior": None,
    }
    (conf / "served.yaml").write_text(yaml.safe_dump(pair))
    print(f"served: {', '.join(f'{p.stat().st_size / 1e6:,.0f} MB {p.name}' for p in files.values())}")


def fetch_to_picture(work: Path, overrides: list[str]) -> None:
    """The whole command a user would type, into an empty cache."""
    command = [
        sys.executable,
        "-m",
        "vqclip",
        "--config-dir",
        str(work / "conf"),
        *overrides,
        f"hydra.run.dir={work}/run",
    ]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - start
    [picture] = (work / "run").glob("picture-*/final.png")
    print(f"from an empty cache to {picture.name} ({picture.stat().st_size:,} bytes): {seconds:.0f} s")
    kept = [f"{path.stat().st_size / 1e6:,.0f} MB {path.name}" for path in (work / "cache").glob("*.safetensors")]
    print(f"kept: {', '.join(kept)}")


def cases(
    work: Path, device: str, common: list[str], size: int, precision: str, ways: dict[str, list[str]]
) -> list[dict]:
    """One row for each way that fits into memory; gradients are compared with that of the first way."""
    rows, reference = [], None
    gradient = work / "gradient.safetensors"
    for name, way in ways.items():
        case = {
            "work": str(work),
            "device": device,
            "precision": precision,
            "overrides": [*common, f"size=[{size},{size}]", *way],
            "gradient": str(gradient),
        }
        done = subprocess.run([sys.executable, __file__, "--case", json.dumps(case)], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            print(f"{size}, {precision}, {name}: does not fit")
            continue
        own = load_file(gradient)["gradient"]
        if name == next(iter(ways)):
            reference = own
        off = "" if reference is None else f"{float((own - reference).norm() / reference.norm()):.1e}"
        rows.append({"size": size, "precision": precision, "way": name, **json.loads(done.stdout.splitlines()[-1])})
        rows[-1]["gradient"] = off
        print(", ".join(f"{key} {value}" for key, value in rows[-1].items()))
    return rows


def measure(work: str, device: str, precision: str, overrides: list[str], gradient: str) -> None:
    """One way, in this process: prints its numbers as JSON, leaves the first step's gradient in a file."""

    module = build(RunPlan.of(resolve(compose([*overrides, "prompts.include=[a castle]"], str(Path(work) / "conf")))))
    module.to_device(device)
    optimizer = module.configure_optimizers()
    chunk, before = module.chunks.crop_chunk, held(device)
    bf16 = precision == "bf16"
    marks = [time.perf_counter()]
    for step in range(3):
        with torch.autocast(device, torch.bfloat16) if bf16 else nullcontext():
            module.optimise(step, optimizer)
        if step == 0:
            save_file({"gradient": module.latent.grad.cpu().clone()}, gradient)
        if device == "cuda":
            torch.cuda.synchronize()
        marks.append(time.perf_counter())
    if module.chunks.crop_chunk != chunk:
        sys.exit("does not fit")  # a run would go on in smaller chunks
    seconds = min(b - a for a, b in pairwise(marks))
    highest = peak(device)
    numbers = {
        "peak_gb": round(highest / 1e9, 2),
        "above_models_gb": round((highest - before) / 1e9, 2),
        "seconds_per_step": round(seconds, 3),
        "steps_per_second": round(1 / seconds, 3),
    }
    print(json.dumps(numbers))


def held(device: str) -> int:
    """Bytes held now, on the device or by this process; what was held at most is counted from here."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")  # the kernel forgets the highest mark
    return _status("VmRSS")


def peak(device: str) -> int:
    """Bytes held at most since :func:`held`."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(key: str) -> int:
    return int(re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


if __name__ == "__main__":
    main()
