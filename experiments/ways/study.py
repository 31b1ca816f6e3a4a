"""What does each way to look and to search change, alone, from an empty sheet?

    python experiments/ways/study.py             from the repository's folder; half an hour of one core, or less
    python experiments/ways/study.py 2           the first two prompts
    python experiments/ways/study.py places      ten pairs, left and right, with and without regions: places.csv, .png

Goes on where it was stopped.  Writes results.csv and sheet.png beside this file; the runs go to outputs/ways.
"""

from __future__ import annotations

import csv
import json
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image, ImageDraw

from vqclip import run
from vqclip.checkpoints.load import load_perceptor
from vqclip.config.compose import compose
from vqclip.io.pixels import fit, read_image
from vqclip.models.judge import Judge

HERE = Path("experiments/ways")
RUNS = Path("outputs/ways")
#: Prompts below which an interval says nothing.
FEWEST = 5


class Eyes:
    """The guide and the judge, each on the whole picture: alike for all variants, whatever crops they were drawn by."""

    def __init__(self, base: list[str]):
        ((name, card),) = compose(base).checkpoints.perceptors.items()
        self.guide = load_perceptor(name, card)
        self.judge = Judge.load(Path(str(resources.files("vqclip"))) / "embedded" / "judge.safetensors")

    @torch.no_grad()
    def __call__(self, path: Path, text: str) -> dict[str, float]:
        image, side = read_image(path), self.guide.input_size
        vectors = self.guide.encode_image(fit(image, side, side)), self.guide.encode_text([text])
        guide = torch.nn.functional.cosine_similarity(*vectors).item()
        judge = (self.judge.encode_image(image)[0] @ self.judge.encode_text([text])[0]).item()
        return {"guide": round(guide, 4), "judge": round(judge, 4)}


def measure(text: str, variant: str, overrides: list[str], eyes: Eyes, runs: Path = RUNS) -> dict:
    """One run; its row of the results."""
    folder = runs / variant / text.replace(" ", "_")
    run(text, overrides, folder)
    report = json.loads((folder / "run.json").read_text())
    seen = eyes(folder / "picture-00" / "final.png", text)
    return {"variant": variant, "prompt": text, **seen, "steps": report["steps"], "seconds": report["seconds"]}


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % of the means of prompts drawn again, by bootstrap."""
    drawn = np.random.default_rng(0).choice(differences, (10_000, len(differences)))
    return tuple(np.quantile(drawn.mean(1), [0.025, 0.975]))


def table(rows: list[dict]) -> str:
    """Each variant's mean difference from the base over the prompts that both have, as Markdown."""
    found = {(row["variant"], row["prompt"]): row for row in rows}
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    lines = ["| variant | prompts | judge | guide | steps | judge better in |", "| --- | --- | --- | --- | --- | --- |"]
    for variant in variants:
        prompts = [p for v, p in found if v == variant and ("base", p) in found]
        own, base = ([found[v, p] for p in prompts] for v in (variant, "base"))
        steps = np.mean([float(row["steps"]) for row in own])
        cells = []
        for name in ("judge", "guide"):
            values = np.array([float(row[name]) for row in own])
            if variant == "base":
                cells.append(f"{values.mean():.3f}")
            else:
                apart = values - np.array([float(row[name]) for row in base])
                cells.append(f"{apart.mean():+.3f}")
                if len(apart) >= FEWEST:
                    cells[-1] += " ({:+.3f} to {:+.3f})".format(*interval(apart))
        better = sum(float(a["judge"]) > float(b["judge"]) for a, b in zip(own, base, strict=True))
        last = "" if variant == "base" else f"{better} of {len(prompts)}"
        lines.append(f"| {variant} | {len(prompts)} | {' | '.join(cells)} | {steps:.0f} | {last} |")
    return "\n".join(lines) + "\n"


def sheet(rows: list[dict], prompts: int = 6) -> Image.Image:
    """A row of pictures a variant, a column a prompt."""
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    texts = list(dict.fromkeys(row["prompt"] for row in rows))[:prompts]
    made = Image.new("RGB", (84 + 68 * len(texts), 68 * len(variants)), "white")
    for y, variant in enumerate(variants):
        ImageDraw.Draw(made).text((4, 68 * y + 26), variant, fill="black")
        for x, text in enumerate(texts):
            path = RUNS / variant / text.replace(" ", "_") / "picture-00" / "final.png"
            if path.is_file():
                made.paste(Image.open(path).convert("RGB"), (84 + 68 * x, 68 * y + 2))
    return made


def pair_folder(left: str, right: str, regions: bool, runs: Path = RUNS) -> Path:
    return runs / ("places" if regions else "no_places") / f"{left} {right}".replace(" ", "_")


def in_their_places(left: str, right: str, regions: bool, overrides: list[str], eyes: Eyes, runs: Path = RUNS) -> dict:
    """One picture of two entries, each with its half; what the judge says of each half for each text.

    Args:
        regions: without them both entries are for the whole picture, as they would be without this way.
    """
    folder = pair_folder(left, right, regions, runs)
    where = [f", region: {side}" if regions else "" for side in ("left", "right")]
    parts = f'{{text: "{left}"{where[0]}}}, {{text: "{right}"{where[1]}}}'
    run(overrides=[*overrides, f"prompts.include=[{{parts: [{parts}]}}]"], folder=folder)
    image = read_image(folder / "picture-00" / "best.png")
    middle = image.shape[-1] // 2
    with torch.no_grad():
        seen = [eyes.judge.encode_image(half)[0] for half in (image[..., :middle], image[..., middle:])]
        words = eyes.judge.encode_text([left, right])
    found = [[round((half @ text).item(), 4) for text in words] for half in seen]
    return {
        "left": left,
        "right": right,
        "regions": regions,
        **{f"{side}_half_{side}_text": found[i][i] for i, side in enumerate(("left", "right"))},
        **{f"{side}_half_other_text": found[i][1 - i] for i, side in enumerate(("left", "right"))},
        "halves_right": sum(found[i][i] > found[i][1 - i] for i in (0, 1)),
    }


def places() -> None:
    study = yaml.safe_load((HERE / "study.yaml").read_text())
    eyes = Eyes(study["base"])
    base, pairs = study["places"]["base"], study["places"]["pairs"]
    rows = [in_their_places(*pair, regions, base, eyes) for regions in (True, False) for pair in pairs]
    write(HERE / "places.csv", rows)
    made = Image.new("RGB", (2 * 132, len(pairs) * 68), "white")
    for i, row in enumerate(rows):
        i = 2 * (i % len(pairs)) + i // len(pairs)
        path = pair_folder(row["left"], row["right"], row["regions"]) / "picture-00" / "best.png"
        made.paste(Image.open(path).convert("RGB"), (132 * (i % 2), 68 * (i // 2)))
    made.save(HERE / "places.png", optimize=True)


def write(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(count: int | None = None) -> None:
    study = yaml.safe_load((HERE / "study.yaml").read_text())
    results = HERE / "results.csv"
    rows = list(csv.DictReader(results.open())) if results.is_file() else []
    done = {(row["variant"], row["prompt"]) for row in rows}
    eyes = Eyes(study["base"])
    for text in study["prompts"][:count]:
        for variant, changes in {"base": [], **study["variants"]}.items():
            if (variant, text) in done:
                continue
            rows.append(measure(text, variant, [*study["base"], *changes], eyes))
            write(results, rows)
        print(table(rows))
        sheet(rows).save(HERE / "sheet.png", optimize=True)


if __name__ == "__main__":
    places() if sys.argv[1:] == ["places"] else main(int(sys.argv[1]) if sys.argv[1:] else None)
