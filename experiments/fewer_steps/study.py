"""From noise: can a hundred steps do what the reference does in three hundred?

    python experiments/fewer_steps/study.py tune       every candidate, on twenty prompts set apart; three minutes each
    python experiments/fewer_steps/study.py test       the best against the reference, on forty others; half an hour

Both from the repository's folder.  ``tune`` writes tune.csv, ``test`` writes test.csv, curves.png and sheet.png.  The
prompts were drawn by ``experiments/embedded/evaluate.py`` (seeds 901 and 902).
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from importlib import resources
from multiprocessing import get_context
from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
import yaml
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from tqdm import tqdm

from vqclip.classes import instantiate
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve
from vqclip.guidance import Guide
from vqclip.io.files import csv_bytes
from vqclip.models.judge import Judge
from vqclip.prompts import parse
from vqclip.rng import StepRandom
from vqclip.runs.build import build
from vqclip.runs.plan import RunPlan

HERE = Path("experiments/fewer_steps")
REFERENCE = ["experiment=reference", "size=[128,128]"]
FOUND = ["experiment=from_noise", "size=[128,128]"]
#: Decays of the latents' moving average that every candidate is also scored with; 0 is the latent itself.
AVERAGES = (0, 0.8, 0.95)
BATCH = 10


class Scores:
    """The three measures, the same for every setting: [3,n] of n pictures.

    * ``guide``: mean cosine of the perceptor with the text over 32 crops as the reference draws them, without noise.
    * ``whole``: the perceptor's cosine of the whole picture with the text.
    * ``judge``: the judge's cosine of the whole picture with the text.
    """

    names = ("guide", "whole", "judge")

    def __init__(self):
        self.judge = Judge.load(Path(str(resources.files("vqclip"))) / "embedded" / "judge.safetensors")
        self.crops = instantiate(resolve(compose(REFERENCE))["augmentations"])

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: list[str], seeds: list[int], guide: Guide) -> Tensor:
        side, text = guide.perceptor.input_size, guide.targets.at(0.0)[0][1].include
        looked = F.normalize(guide.perceptor.encode_image(self.crops(images, StepRandom(seeds, 0), side)), dim=-1)
        own = torch.einsum("bnd,bd->bn", looked.view(len(prompts), -1, text.shape[1]), text).mean(1)
        small = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
        whole = (F.normalize(guide.perceptor.encode_image(small), dim=-1) * text).sum(1)
        judge = (self.judge.encode_image(images) * self.judge.encode_text(prompts)).sum(1)
        return torch.stack([own, whole, judge])


def measure(prompts: list[str], overrides: list[str], steps: int, at: list[int], averages=(0,)) -> tuple[dict, Tensor]:
    """Mean scores [3] by (step, average) of runs with these overrides, and the last pictures [n,3,H,W].

    Ten prompts a batch, a thread a batch: the same figures on any number of cores.
    """
    found, last = {}, []
    firsts = range(0, len(prompts), BATCH)
    with ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        jobs = [pool.submit(measure_batch, prompts[i : i + BATCH], i, overrides, steps, at, averages) for i in firsts]
        for job in tqdm(jobs, unit="batch"):
            scores, images = job.result()
            last.append(images)
            for key, own in scores.items():
                found.setdefault(key, []).append(own)
    return {key: torch.cat(parts, 1).mean(1).tolist() for key, parts in found.items()}, torch.cat(last)


def measure_batch(prompts: list[str], first: int, overrides: list[str], steps: int, at: list[int], averages) -> tuple:
    """Scores [3,n] by (step, average), and the last pictures, of prompts ``first`` and following."""
    scores, found = Scores(), {}
    seeds = list(range(first, first + len(prompts)))
    cfg = compose([*overrides, f"steps={steps}", "logger=none"])
    module = build(RunPlan(resolve(cfg), tuple(map(parse, prompts)), tuple(seeds)))
    module.to_device("cpu")
    (guide,), optimizer = module.guides.values(), module.configure_optimizers()
    means = {decay: module.latent.detach().clone() for decay in averages}
    for step in range(1, steps + 1):
        module.optimise(step - 1, optimizer)
        for decay, mean in means.items():
            mean.lerp_(module.latent.detach(), 1 - decay * min(1, step / (step + 9)))
            if step in at:
                with torch.no_grad():
                    images = module.picture(mean)
                found[step, decay] = scores(images, prompts, seeds, guide)
    return found, images


def rows_of(name: str, found: dict) -> list[dict]:
    return [
        {"setting": name, "step": step, "average": decay}
        | {k: round(v, 4) for k, v in zip(Scores.names, s, strict=True)}
        for (step, decay), s in found.items()
    ]


def tune() -> None:
    prompts = (HERE / "tune.txt").read_text().splitlines()
    rows: list[dict] = []
    for name, overrides in yaml.safe_load((HERE / "candidates.yaml").read_text()).items():
        found, _ = measure(prompts, [*REFERENCE, *overrides], 100, [50, 75, 100], AVERAGES)
        rows += [{"prompts": len(prompts), **own} for own in rows_of(name, found)]
        print(*rows[-len(AVERAGES)].values(), sep="  ", flush=True)
        (HERE / "tune.csv").write_bytes(csv_bytes(rows))


def test() -> None:
    prompts = (HERE / "test.txt").read_text().splitlines()
    reference, theirs = measure(prompts, REFERENCE, 300, [1, 10, 25, *range(50, 301, 25)])
    found, ours = measure(prompts, FOUND, 100, [1, 10, 25, 50, 75, 100])
    rows = rows_of("reference", reference) + rows_of("from_noise", found)
    (HERE / "test.csv").write_bytes(csv_bytes(rows))
    for row in rows:
        print(*row.values(), sep="  ")
    curves(rows)
    sheet(prompts, theirs, ours)


def curves(rows: list[dict]) -> None:
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4))
    for axis, name in zip(axes, Scores.names, strict=True):
        for setting, colour in (("reference", "#cc6677"), ("from_noise", "#4477aa")):
            own = [row for row in rows if row["setting"] == setting]
            axis.plot([row["step"] for row in own], [row[name] for row in own], "o-", ms=3, color=colour, label=setting)
        end = next(row for row in rows if row["setting"] == "reference" and row["step"] == 300)
        axis.axhline(end[name], color="#cc6677", lw=0.8, ls=":")
        axis.set(xlabel="step", title=f"{name}: cosine with the text, mean of 40")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(HERE / "curves.png", dpi=110)


def sheet(prompts: list[str], theirs: Tensor, ours: Tensor) -> None:
    """Pairs of the reference's picture and ours, ten prompts of the forty."""
    side, head = theirs.shape[-1], 14
    page = Image.new("RGB", (side * 10, (side + head) * 2), "white")
    draw = ImageDraw.Draw(page)
    for column, i in enumerate(range(0, 40, 4)):
        draw.text((column * side + 2, 1), prompts[i][:24], "black")
        page.paste(to_pil_image(theirs[i]), (column * side, head))
        draw.text((column * side + 2, side + head + 1), "from_noise, 100 steps", "black")
        page.paste(to_pil_image(ours[i]), (column * side, side + 2 * head))
    page.save(HERE / "sheet.png", optimize=True)


if __name__ == "__main__":
    parts = {"tune": tune, "test": test}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=parts)
    parts[parser.parse_args().part]()
