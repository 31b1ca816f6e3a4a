"""Seconds a step: vqclip beside the loops it replaces, on the same networks, interleaved in one run.

    python experiments/benchmarks/speed.py                                  # the embedded pair, 128x128
    python experiments/benchmarks/speed.py --pair official --size 224 --contenders vqclip original fork floor  # 20 GB
    python experiments/benchmarks/speed.py --pair official --size 448 --device cuda --precision bf16
    python experiments/benchmarks/speed.py --dry-run /tmp/dry   # small steps, in that folder

Contenders, each doing one whole optimisation step:

* ``vqclip``       our step as a run does it, in Lightning's trainer, with the run folder's recorder, progress bar and
                   offline W&B files (no snapshots: they are pictures asked for, not steps).
* ``vqclip_bare``  our step alone, in a plain loop: the difference is what Lightning, logging and callbacks cost.
* ``original``     the loop of algorithm.md with its slips: both networks collect weight gradients, crops are cut one by
                   one in Python.
* ``fork``         the loop of the usual fork, from its description: straight-through codes, 32 augmented copies of one
                   pooled view, spherical distance, Adam; frozen networks, kornia's augmentations.
* ``floor``        forward and backward of the two frozen networks, as they are published, on ready tensors.
* ``floor_ours``   the same of our networks: what of our step is crops, noise, objective and optimiser.

Each is a process of its own that waits for its turn, with networks of its own: ours are as a run loads them
(``CLIPPerceptor.fuse_for_inference``, channels-last), the others' as openai-clip and taming-transformers build them.

Writes ``results/speed-<name>.csv`` and ``.png``: medians and quartiles over the rounds, ratios to each baseline.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import itertools
import json
import logging
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from pytorch_lightning.loggers import WandbLogger
from safetensors import safe_open
from safetensors.torch import load_file
from torchvision.transforms import RandomAffine
from torchvision.transforms.functional import hflip

from vqclip.callbacks import Progress
from vqclip.checkpoints.load import load_generator, load_perceptor
from vqclip.classes import instantiate
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve
from vqclip.guidance import Guide
from vqclip.io.files import csv_bytes
from vqclip.loggers.wandb_startup import speed_up_start
from vqclip.models.clip import MEAN, STD, CLIPPerceptor
from vqclip.models.vqgan import VQGAN
from vqclip.module import LatentOptimisation, Networks
from vqclip.prompts import parse
from vqclip.rng import StepRandom
from vqclip.runs.folder import RunFolder
from vqclip.runs.recorder import Recorder
from vqclip.runs.signals import Signals
from vqclip.schedules import schedule
from vqclip.targets import targets_of

RESULTS = Path(__file__).parent / "results"
CONTENDERS = ("vqclip", "vqclip_bare", "original", "fork", "floor", "floor_ours")


def networks(pair: str) -> tuple[VQGAN, CLIPPerceptor]:
    """The pair to time as a run loads it; ``official`` has the true architectures with random weights."""
    if pair == "embedded":
        cards = resolve(compose())["checkpoints"]
        return load_generator(cards["generator"]), load_perceptor("embedded", cards["perceptors"]["embedded"])
    generator, perceptor = published(pair)
    perceptor.fuse_for_inference()
    return generator, perceptor


def as_published(generator: VQGAN, z: torch.Tensor) -> torch.Tensor:
    """Latents → pictures in [0,1] by taming's own forward, where ours has another order of operations."""
    return (torch.clip(generator.decoder(generator.post_quant_conv(z)), -1, 1) + 1) / 2


def published(pair: str) -> tuple[VQGAN, CLIPPerceptor]:
    """The same networks as their authors build them, in memory of their own."""
    if pair == "embedded":
        generator = copy.deepcopy(networks(pair)[0]).to(memory_format=torch.contiguous_format)
        file = Path(str(resources.files("vqclip"))) / "embedded" / "perceptor.safetensors"
        with safe_open(file, "pt") as opened:
            architecture = json.loads(opened.metadata()["config"])
        weights = {name: value.float() for name, value in load_file(file).items()}
        perceptor = CLIPPerceptor(architecture, weights.pop("token_ids").long())
        perceptor.model.load_state_dict(weights)
    else:
        cfg = compose(["checkpoints=imagenet_f16_16384", "init=sine"])
        torch.manual_seed(0)
        (card,) = cfg.checkpoints.perceptors.values()
        generator = VQGAN(**OmegaConf.to_container(cfg.checkpoints.generator.architecture))
        perceptor = CLIPPerceptor(OmegaConf.to_container(card.architecture))
    return generator.eval().requires_grad_(False), perceptor.float().eval().requires_grad_(False)


def our_module(
    generator: VQGAN, perceptor: CLIPPerceptor, size: int, crops: int, device: str, pictures: int = 1, guides: int = 1
) -> LatentOptimisation:
    """Our step with the reference preset's settings; ``guides`` times the same perceptor."""
    config = resolve(compose(["experiment=reference", f"augmentations.crops.count={crops}"]))
    shape = generator.latent_shape(size, size)
    with torch.no_grad():
        targets = targets_of(perceptor, [parse("a castle")] * pictures, [], [parse("blurry")], config["prompts"])
    module = LatentOptimisation(
        networks=Networks(generator, {f"guide {i}": Guide(perceptor, 1 / guides, targets) for i in range(guides)}),
        z0=torch.sin(0.5 * StepRandom(range(pictures), 0).normal("init", *shape)),
        seeds=range(pictures),
        steps=10**6,
        latent_kind=instantiate(config["latent"]),
        augmentations=instantiate(config["augmentations"]),
        noise=instantiate(config["noise"]),
        objective=instantiate(config["loss"]),
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=0.5, weight_decay=0.1),
        lr=schedule(0.5),
    )
    module.to_device(device)
    return module


class Ours:
    """Our step inside Lightning: the trainer waits between two steps until the next one is asked for."""

    def __init__(self, module: LatentOptimisation, folder: Path, device: str, precision: str):
        self.module, self.folder = module, folder
        self.trainer = dict(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            max_epochs=-1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def seconds(self, steps: int) -> list[float]:
        """Times of ``steps`` steps after one that warms up."""
        marks = []

        class Clock(pl.Callback):
            def on_train_batch_end(self, *_):
                _wait(self.device)
                marks.append(time.perf_counter())

        clock = Clock()
        clock.device = self.module.device.type
        recorder = Recorder(RunFolder(self.folder), [{}], snapshot_every=10**9, log_every=1, signals=Signals())
        recorder.on_train_start = lambda *_: None  # no snapshot of the start: it is no step
        speed_up_start()  # as before every run's logger: else W&B brings pandas, 50 MB
        logger = WandbLogger(save_dir=self.folder, offline=True, settings={"silent": True, "console": "off"})
        callbacks = [recorder, Progress(), clock]
        trainer = pl.Trainer(**self.trainer, max_steps=steps + 1, callbacks=callbacks, logger=logger)
        with contextlib.redirect_stderr(io.StringIO()):  # the bar is drawn, not shown
            trainer.fit(self.module, train_dataloaders=range(steps + 1))
        logger.experiment.finish()
        return [b - a for a, b in itertools.pairwise(marks)]


def bare(module: LatentOptimisation) -> Callable[[], None]:
    optimizer = module.configure_optimizers()
    count = iter(range(10**9))
    return lambda: module.optimise(next(count), optimizer)


def original(generator: VQGAN, perceptor: CLIPPerceptor, size: int, crops: int, device: str) -> Callable[[], None]:
    """The loop of algorithm.md as it was, on networks that keep ``requires_grad``."""
    clip = perceptor.model
    mean, std = torch.tensor(MEAN, device=device).view(1, 3, 1, 1), torch.tensor(STD, device=device).view(1, 3, 1, 1)
    z = torch.sin(0.5 * torch.randn(1, *generator.latent_shape(size, size), device=device)).requires_grad_()
    optimizer = torch.optim.AdamW([z], lr=0.5, weight_decay=0.1)
    turn = RandomAffine(30, (0.2, 0.2))
    with torch.no_grad():
        include, exclude = perceptor.encode_text(["a castle"]), perceptor.encode_text(["blurry"])
    target = include / include.norm(dim=-1, keepdim=True)
    side = perceptor.input_size

    for network in (generator, clip):
        network.requires_grad_(True)

    def step() -> None:
        image = as_published(generator, z)
        padded = F.pad(image, (size // 2,) * 4)
        if torch.rand(()) < 0.5:
            padded = hflip(padded)
        padded = turn(padded)
        cut = []
        for _ in range(crops):
            edge = int(torch.normal(1.2, 0.3, ()).clip(0.43, 1.9) * size)
            x, y = (torch.randint(0, 2 * size - edge, ()) for _ in range(2))
            crop = padded[:, :, y : y + edge, x : x + edge]
            cut.append(F.interpolate(crop, (side, side), mode="bilinear", align_corners=True))
        cut = torch.cat(cut)
        cut = cut + 0.22 * torch.rand(crops, 1, 1, 1, device=device) * torch.randn_like(cut)
        vectors = clip.encode_image((cut - mean) / std)
        towards = torch.cosine_similarity(target, vectors)
        away = torch.cosine_similarity(exclude, vectors)
        loss = (-towards + 0.5 * away).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def fork(generator: VQGAN, perceptor: CLIPPerceptor, size: int, crops: int, device: str) -> Callable[[], None] | None:
    """The usual fork's loop shape; None where kornia is not installed."""
    try:
        import kornia.augmentation as K
    except ImportError:
        return None
    clip = perceptor.model
    mean, std = torch.tensor(MEAN, device=device).view(1, 3, 1, 1), torch.tensor(STD, device=device).view(1, 3, 1, 1)
    _, h, w = generator.latent_shape(size, size)
    codes = generator.codebook
    z = codes[torch.randint(len(codes), (1, h, w), device=device)].movedim(-1, 1).clone().requires_grad_()
    low, high = codes.min(0).values[None, :, None, None], codes.max(0).values[None, :, None, None]
    optimizer = torch.optim.Adam([z], lr=0.1)
    augment = torch.nn.Sequential(
        K.RandomAffine(degrees=15, translate=(0.1, 0.1), p=0.7, padding_mode="border"),
        K.RandomPerspective(0.7, p=0.7),
        K.ColorJitter(hue=0.1, saturation=0.1, p=0.7),
        K.RandomErasing((0.1, 0.4), (0.3, 1 / 0.3), same_on_batch=True, p=0.7),
    )
    with torch.no_grad():
        target = F.normalize(perceptor.encode_text(["a castle"]), dim=-1)
    side = perceptor.input_size

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        quantised = z + (generator.quantise(z) - z).detach()
        image = as_published(generator, quantised)
        view = (F.adaptive_avg_pool2d(image, side) + F.adaptive_max_pool2d(image, side)) / 2
        batch = augment(torch.cat([view] * crops))
        batch = batch + torch.rand(crops, 1, 1, 1, device=device) * 0.1 * torch.randn_like(batch)
        vectors = F.normalize(clip.encode_image((batch - mean) / std), dim=-1)
        loss = ((vectors - target).norm(dim=-1) / 2).arcsin().square().mul(2).mean()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            z.copy_(z.maximum(low).minimum(high))

    return step


def floor(generator: VQGAN, perceptor: CLIPPerceptor, size: int, crops: int, device: str) -> Callable[[], None]:
    z = torch.randn(1, *generator.latent_shape(size, size), device=device).requires_grad_()
    side = perceptor.input_size
    ready = torch.rand(crops, 3, side, side, device=device).requires_grad_()

    def step() -> None:
        image = as_published(generator, z)
        perceptor.encode_image(ready).sum().backward()
        image.backward(torch.ones_like(image))
        z.grad = ready.grad = None

    return step


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_mib() -> int:
    """Peak resident memory of this process; ``ru_maxrss`` would count the parent's too."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024


def placed(pair: tuple[VQGAN, CLIPPerceptor], arguments: argparse.Namespace) -> tuple:
    """What every contender is made from."""
    for network in pair:
        network.to(arguments.device)
    return (*pair, arguments.size, arguments.crops, arguments.device)


def steps_of(name: str, arguments: argparse.Namespace) -> Callable[[int], list[float]] | None:
    """How contender ``name`` makes n steps and times each; None where it lacks a library."""
    if name in ("original", "fork", "floor"):
        build = {"original": original, "fork": fork, "floor": floor}[name]
        step = build(*placed(published(arguments.pair), arguments))
    else:
        module = our_module(*placed(networks(arguments.pair), arguments))  # lays the networks out as a run does
        if name == "vqclip":
            folder = Path(tempfile.mkdtemp(prefix="vqclip-speed-"))
            return Ours(module, folder, arguments.device, arguments.precision).seconds
        (guide,) = module.guides.values()
        pair = (module.generator, guide.perceptor)
        step = bare(module) if name == "vqclip_bare" else floor(*placed(pair, arguments))
    amp = arguments.precision == "bf16" and name in ("vqclip_bare", "floor", "floor_ours")

    def timed(count: int) -> list[float]:
        seconds = []
        with torch.autocast(arguments.device, torch.bfloat16, enabled=amp):
            for _ in range(count):
                _wait(arguments.device)
                began = time.perf_counter()
                step()
                _wait(arguments.device)
                seconds.append(time.perf_counter() - began)
        return seconds

    return step and timed


def work(name: str, arguments: argparse.Namespace) -> None:
    """A contender in a process of its own: a number of steps on stdin, their seconds and the peak memory on stdout."""
    answers, sys.stdout = sys.stdout, sys.stderr
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    steps = steps_of(name, arguments)
    print(json.dumps(bool(steps and steps(1))), file=answers, flush=True)  # a warm-up that is not counted
    for line in sys.stdin:
        seconds = steps(int(line))
        peak = torch.cuda.max_memory_allocated() // 2**20 if arguments.device == "cuda" else peak_mib()
        print(json.dumps({"seconds": seconds, "peak_mib": peak}), file=answers, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", choices=["embedded", "official"], default="embedded")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--crops", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS, help="fewer fit less memory")
    parser.add_argument("--dry-run", type=Path, metavar="FOLDER", help="a small step on the CPU, results into FOLDER")
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.dry_run:
        vars(arguments).update(pair="embedded", size=32, crops=2, rounds=2, device="cpu")
    if arguments.worker:
        return work(arguments.worker, arguments)
    workers = {}
    for name in arguments.contenders:
        command = [sys.executable, *sys.argv, "--worker", name]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if json.loads(worker.stdout.readline()):
            workers[name] = worker
        else:
            print(f"{name}: left out, it needs the extra `benchmarks`")
    times: dict[str, list[float]] = {name: [] for name in workers}
    memory = {}
    for number in range(arguments.rounds):
        for name, worker in workers.items():
            try:
                print(1 if arguments.device == "cpu" else 20, file=worker.stdin, flush=True)
                answer = json.loads(worker.stdout.readline())
            except (BrokenPipeError, json.JSONDecodeError):
                sys.exit(f"{name} died, with exit status {worker.wait()}: out of memory? Try fewer --contenders")
            times[name] += answer["seconds"]
            memory[name] = answer["peak_mib"]
        print(f"round {number + 1} of {arguments.rounds}: " + "  ".join(f"{k} {v[-1]:.3f}" for k, v in times.items()))
    for worker in workers.values():
        worker.communicate()
    report(arguments, times, memory)


def report(arguments: argparse.Namespace, times: dict[str, list[float]], memory: dict[str, float]) -> None:
    """CSV, plot and a table on the terminal."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder = arguments.dry_run or RESULTS
    folder.mkdir(exist_ok=True)
    name = f"speed-{arguments.pair}-{arguments.size}-{arguments.crops}-{arguments.device}-{arguments.precision}"
    machine = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{torch.get_num_threads()} threads"
    rows = []
    for contender, seconds in times.items():
        low, median, high = statistics.quantiles(seconds, n=4)
        # Ratios round by round: a machine whose speed drifts drifts for both.
        ratios = {
            f"of_{base}": round(statistics.median(a / b for a, b in zip(seconds, times[base], strict=False)), 3)
            for base in ("original", "fork", "floor", "floor_ours")
            if base in times
        }
        row = {"contender": contender, "median_s": round(median, 4), "q1_s": round(low, 4), "q3_s": round(high, 4)}
        rows.append(row | ratios | {"peak_mib": memory[contender]})
    where = f"# {platform.machine()}, {machine}, torch {torch.__version__}, python {platform.python_version()}\n"
    (folder / f"{name}.csv").write_bytes(where.encode() + csv_bytes(rows))
    for row in rows:
        print("  ".join(f"{key}={value}" for key, value in row.items()))
    figure, axes = plt.subplots(figsize=(7, 3))
    names = [row["contender"] for row in rows]
    medians = [row["median_s"] for row in rows]
    spread = [[m - row["q1_s"] for m, row in zip(medians, rows, strict=True)]]
    spread.append([row["q3_s"] - m for m, row in zip(medians, rows, strict=True)])
    axes.barh(names[::-1], medians[::-1], xerr=[s[::-1] for s in spread], color="#4477aa")
    axes.set_xlabel(
        f"seconds a step, {arguments.size}x{arguments.size}, {arguments.crops} crops ({arguments.pair} pair, {machine})"
    )
    figure.tight_layout()
    figure.savefig(folder / f"{name}.png", dpi=120)


if __name__ == "__main__":
    main()
