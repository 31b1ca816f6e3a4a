"""What does each way to look and to search change, alone, where experiment=from_noise draws?

    python experiments/ways/study.py             every variant on forty prompts, then what may help on forty others
    python experiments/ways/study.py confirming  every variant on the forty others
    python experiments/ways/study.py places      ten pairs, left and right, with and without regions: places.csv, .png
    python experiments/ways/study.py times       the same pairs one after the other: times.csv, .jpg

Run from the repository's folder; goes on where it was stopped.  Writes results.csv and sheet.jpg beside this file; the
runs go to outputs/ways.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image, ImageDraw

from vqclip import run
from vqclip.checkpoints.load import load_perceptor
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve
from vqclip.io.pixels import fit, read_image
from vqclip.runs.evaluate import Bench, judge_pictures

HERE = Path("experiments/ways")
RUNS = Path("outputs/ways")
SETS = ("tuning", "confirming")
#: Prompts that are optimised together; each picture is the one that it would be alone.
BATCH = 10


class Eyes:
    """The guide and the judge, each on the whole picture: alike for all variants, whatever crops they were drawn by."""

    def __init__(self, base: list[str]):
        ((name, card),) = resolve(compose(base))["checkpoints"]["perceptors"].items()
        self.guide = load_perceptor(name, card)

    @torch.no_grad()
    def __call__(self, path: Path, text: str) -> dict[str, float]:
        image, side = read_image(path), self.guide.input_size
        vectors = self.guide.encode_image(fit(image, side, side)), self.guide.encode_text([text])
        guide = torch.nn.functional.cosine_similarity(*vectors).item()
        return {"guide": round(guide, 4), "judge": round(judge_pictures([path], [text])[0], 4)}


def measure(texts: list[str], variant: str, overrides: list[str], eyes: Eyes, folder: Path) -> list[dict]:
    """One run of several prompts; its rows of the results."""
    report = run(texts, overrides, folder, overwrite=True).report
    rows = []
    for i, text in enumerate(texts):
        seen = eyes(folder / f"picture-{i:02d}" / "final.png", text)
        seconds = round(report["seconds"] / len(texts), 2)
        rows.append({"variant": variant, "prompt": text, **seen, "steps": report["steps"], "seconds": seconds})
    return rows


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % of the means of prompts drawn again, by bootstrap."""
    drawn = np.random.default_rng(0).choice(differences, (10_000, len(differences)))
    low, high = np.quantile(drawn.mean(1), [0.025, 0.975])
    return float(low), float(high)


def differences(rows: list[dict], variant: str, name: str) -> np.ndarray:
    """Of ``judge`` or ``guide`` from the base's, a number a prompt that both have."""
    own, base = ({row["prompt"]: float(row[name]) for row in rows if row["variant"] == v} for v in (variant, "base"))
    return np.array([own[text] - base[text] for text in own if text in base])


def may_help(rows: list[dict], variant: str) -> bool:
    """Whether the judge likes it better by more than a hundredth, in the mean: what is worth a second look."""
    apart = differences(rows, variant, "judge")
    return len(apart) > 0 and apart.mean() > 0.01


def table(rows: list[dict]) -> str:
    """Each variant's mean difference from the base over the prompts that both have, as Markdown."""
    lines = ["| variant | prompts | judge | guide | steps | s | judge better in |", "| --- " * 7 + "|"]
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == variant]
        cells = [variant, str(len(own))]
        for name in ("judge", "guide"):
            apart = differences(rows, variant, name)
            if variant == "base":
                cells.append(f"{np.mean([float(row[name]) for row in own]):.3f}")
            else:
                cells.append("{:+.3f} ({:+.3f} to {:+.3f})".format(apart.mean(), *interval(apart)))
        cells += [
            f"{np.mean([float(row[name]) for row in own]):.{digits}f}"
            for name, digits in (("steps", 0), ("seconds", 1))
        ]
        cells.append("" if variant == "base" else str((differences(rows, variant, "judge") > 0).sum()))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def sheet(rows: list[dict], prompts: int = 8) -> Image.Image:
    """A row of pictures a variant, a column a tuning prompt."""
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    made = Image.new("RGB", (84 + 68 * prompts, 68 * len(variants)), "white")
    for y, variant in enumerate(variants):
        ImageDraw.Draw(made).text((4, 68 * y + 26), variant, fill="black")
        for x, path in enumerate(sorted((RUNS / variant / "tuning-00").glob("picture-*/final.png"))[:prompts]):
            made.paste(Image.open(path).convert("RGB"), (84 + 68 * x, 68 * y + 2))
    return made


def pair_folder(kind: str, one: str, other: str, runs: Path = RUNS) -> Path:
    return runs / kind / f"{one} {other}".replace(" ", "_")


def in_their_places(left: str, right: str, regions: bool, overrides: list[str], runs: Path = RUNS) -> dict:
    """One picture of two entries, each with its half; what the judge says of each half for each text.

    Args:
        regions: without them both entries are for the whole picture, as they would be without this way.
    """
    folder = pair_folder("places" if regions else "no_places", left, right, runs)
    where = [f", region: {side}" if regions else "" for side in ("left", "right")]
    parts = f'{{text: "{left}"{where[0]}}}, {{text: "{right}"{where[1]}}}'
    run(overrides=[*overrides, f"prompts.include=[{{parts: [{parts}]}}]"], folder=folder, overwrite=True)
    image = read_image(folder / "picture-00" / "best.png")
    middle = image.shape[-1] // 2
    bench, halves = Bench([left, right]), (image[..., :middle], image[..., middle:])
    found = [[round(bench.opinions(half, text)["judge"].similarity, 4) for text in bench.texts] for half in halves]
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
    base, pairs = study["places"]["base"], study["places"]["pairs"]
    rows = [in_their_places(*pair, regions, base) for regions in (True, False) for pair in pairs]
    write(HERE / "places.csv", rows)
    made = Image.new("RGB", (2 * 132, len(pairs) * 68), "white")
    for i, row in enumerate(rows):
        i = 2 * (i % len(pairs)) + i // len(pairs)
        kind = "places" if row["regions"] else "no_places"
        path = pair_folder(kind, row["left"], row["right"]) / "picture-00" / "best.png"
        made.paste(Image.open(path).convert("RGB"), (132 * (i % 2), 68 * (i // 2)))
    made.save(HERE / "places.png", optimize=True)


def in_their_times(first: str, second: str, overrides: list[str], runs: Path = RUNS) -> dict:
    """One picture, of one text in the first half of the run and of another in the second; what the judge says then."""
    folder = pair_folder("times", first, second, runs)
    fades, comes = "[[0, 1], [0.4, 1], [0.5, 0]]", "[[0.4, 0], [0.5, 1]]"
    parts = f'{{text: "{first}", weight: {{points: {fades}}}}}, {{text: "{second}", weight: {{points: {comes}}}}}'
    made = run(overrides=[*overrides, f"prompts.include=[{{parts: [{parts}]}}]"], folder=folder, overwrite=True)
    row = {"first": first, "second": second}
    for when, share in (("middle", 0.4), ("end", 1)):
        step = round(made.report["steps"] * share)
        seen = judge_pictures([folder / "picture-00" / "steps" / f"{step:06d}.png"] * 2, [first, second])
        row |= {f"{when}_first": round(seen[0], 4), f"{when}_second": round(seen[1], 4)}
    right = [row["middle_first"] > row["middle_second"], row["end_second"] > row["end_first"]]
    return row | {"halves_right": sum(right)}


def times() -> None:
    study = yaml.safe_load((HERE / "study.yaml").read_text())
    rows = [in_their_times(*pair, study["times"]["base"]) for pair in study["places"]["pairs"]]
    write(HERE / "times.csv", rows)
    made = Image.new("RGB", (132 * len(rows), 2 * 132), "white")
    for x, row in enumerate(rows):
        folder = pair_folder("times", row["first"], row["second"])
        snapshots = sorted((folder / "picture-00" / "steps").glob("*.png"))
        for y, snapshot in enumerate((snapshots[round(0.4 * (len(snapshots) - 1))], snapshots[-1])):
            made.paste(Image.open(snapshot).convert("RGB").resize((128, 128)), (132 * x, 132 * y))
    made.save(HERE / "times.jpg", quality=85)


def write(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(everything: bool = False) -> None:
    study = yaml.safe_load((HERE / "study.yaml").read_text())
    results = HERE / "results.csv"
    rows = list(csv.DictReader(results.open())) if results.is_file() else []
    eyes = Eyes(study["base"])
    for name in SETS:
        texts = (HERE / f"{name}.txt").read_text().splitlines()
        tuned = [row for row in rows if row["set"] == "tuning"]
        variants = {"base": [], **study["variants"]}
        if name == "confirming" and not everything:
            variants = {own: lines for own, lines in variants.items() if own == "base" or may_help(tuned, own)}
        for i in range(0, len(texts), BATCH):  # all variants of some prompts, before the next prompts
            for variant, changes in variants.items():
                if (name, variant, texts[i]) in {(row["set"], row["variant"], row["prompt"]) for row in rows}:
                    continue
                folder = RUNS / variant / f"{name}-{i:02d}"
                made = measure(texts[i : i + BATCH], variant, [*study["base"], *changes], eyes, folder)
                rows += [{"set": name, **row} for row in made]
                write(results, rows)
        print(f"{name}\n\n{table([row for row in rows if row['set'] == name])}")
        if (RUNS / "base" / "tuning-00").is_dir():  # not where the first prompts were run elsewhere
            sheet(rows).save(HERE / "sheet.jpg", quality=80)


if __name__ == "__main__":
    parts = {"all": main, "confirming": lambda: main(everything=True), "places": places, "times": times}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="all", choices=parts)
    parts[parser.parse_args().part]()
