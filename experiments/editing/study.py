"""Do pictures move towards the words, does the anchor hold them, and does a mask keep what it should?

    python experiments/editing/study.py          from the repository's folder; minutes on one core
    python experiments/editing/study.py ten      the ten without a mask by experiment=recolour: ten.csv, ten.jpg
    python experiments/editing/study.py again    pictures/ from their own records: whole files, byte by byte

Writes results.csv, sheet.png and pictures/ beside this file; the runs themselves go to outputs/editing.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image, ImageDraw

from vqclip import run
from vqclip.io.files import csv_bytes
from vqclip.io.images import read_record
from vqclip.runs.evaluate import judge_pictures
from vqclip.runs.rerun import rerun

HERE = Path("experiments/editing")
PICTURES = HERE / "pictures"
RUNS = Path("outputs/editing")


def edit(name: str, text: str, masked: bool, anchor: float, overrides: list[str]) -> dict:
    """Run one edit; its row of the results."""
    start = [f"init.path={HERE}/inputs/{name}.png", f"loss.anchor={anchor}"]
    start += [f"init.mask={HERE}/inputs/{name}.mask.png"] if masked else []
    folder = place(name, masked, anchor)
    run(text, [*start, *overrides], folder, overwrite=True)
    return measured(name, text, masked, anchor, folder)


def measured(name: str, text: str, masked: bool, anchor: float, folder: Path) -> dict:
    """One row of the results."""
    before, after = HERE / "inputs" / f"{name}.png", folder / "picture-00" / "final.png"
    pixels = [np.asarray(Image.open(path).convert("RGB"), dtype=float) for path in (before, after)]
    outside = np.asarray(Image.open(HERE / "inputs" / f"{name}.mask.png")) == 0
    start, end = judge_pictures([before, after], [text, text])
    first = read_record(folder / "picture-00" / "steps" / "000000.png")["scores"]["include"]
    return {
        "picture": name,
        "text": text,
        "mask": masked,
        "anchor": anchor,
        "guide_before": round(first, 4),
        "guide_after": round(read_record(after)["scores"]["include"], 4),
        "judge_before": round(start, 4),
        "judge_after": round(end, 4),
        "pixel_distance": round(float(np.sqrt(((pixels[0] - pixels[1]) ** 2).mean())), 2),
        "outside_equal": bool((pixels[0][outside] == pixels[1][outside]).all()) if masked else "",
    }


def sheet(study: dict) -> None:
    """Before, mask, and after: without and with the mask, by anchor."""
    side, gap, head = 128, 6, 18
    titles = ["before", "mask"] + [f"{kind} {a:g}" for kind in ("anchor", "mask, anchor") for a in study["anchors"]]
    rows = len(study["edits"])
    page = Image.new("RGB", ((side + gap) * len(titles), head + (side + head + gap) * rows), "white")
    draw = ImageDraw.Draw(page)
    for x, title in enumerate(titles):
        draw.text((x * (side + gap), 2), title, "black")
    for y, (name, text) in enumerate(study["edits"].items()):
        top = head + y * (side + head + gap)
        paths = [HERE / "inputs" / f"{name}.png", HERE / "inputs" / f"{name}.mask.png"]
        paths += [place(name, m, a) / "picture-00" / "final.png" for m in (False, True) for a in study["anchors"]]
        for x, path in enumerate(paths):
            page.paste(Image.open(path).convert("RGB"), (x * (side + gap), top))
        draw.text((0, top + side + 2), text, "black")
    page.save(HERE / "sheet.png", optimize=True)


def place(name: str, masked: bool, anchor: float) -> Path:
    return RUNS / f"{name}-{'mask' if masked else 'whole'}-{anchor:g}"


def whole() -> None:
    """All edits at every anchor, with and without the mask."""
    torch.set_num_threads(1)
    study = yaml.safe_load((HERE / "study.yaml").read_text())
    rows = []
    new = PICTURES.with_name("pictures.new")  # beside the old ones, until all are there
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for name, text in study["edits"].items():
        for masked in (False, True):
            for anchor in study["anchors"]:
                folder = place(name, masked, anchor)
                rows.append(edit(name, text, masked, anchor, study["overrides"]))
                print(*rows[-1].values(), sep="  ", flush=True)
                if anchor == study["kept"]:
                    kept = new / f"{name}{'-mask' if masked else ''}.png"
                    shutil.copy(folder / "picture-00" / "final.png", kept)
    (HERE / "results.csv").write_bytes(csv_bytes(rows))
    shutil.rmtree(PICTURES, ignore_errors=True)
    new.rename(PICTURES)
    sheet(study)
    summary(rows, study["anchors"])


def ten(*overrides: str) -> None:
    """The ten by ``experiment=recolour``, whole pictures: before above, after below."""
    study = yaml.safe_load((HERE / "study.yaml").read_text())
    rows, page = [], Image.new("RGB", (134 * len(study["edits"]), 280), "white")
    draw = ImageDraw.Draw(page)
    for x, (name, text) in enumerate(study["edits"].items()):
        folder, path = RUNS / "ten" / name, HERE / "inputs" / f"{name}.png"
        quiet = ["snapshot_every=100", "logger=none", "callbacks=none"]
        run(text, ["experiment=recolour", f"init.path={path}", *quiet, *overrides], folder, overwrite=True)
        rows.append(measured(name, text, False, 0.1, folder))
        after = folder / "picture-00" / "final.png"
        for y, shown in enumerate((path, after)):
            page.paste(Image.open(shown).convert("RGB"), (134 * x, 134 * y))
        draw.text((134 * x, 266), text.partition(" on ")[0], "black")
    (HERE / "ten.csv").write_bytes(csv_bytes(rows))
    page.save(HERE / "ten.jpg", quality=88)


def again() -> None:
    """What becomes of the kept pictures when their own records draw them: a line each."""
    for path in sorted(PICTURES.glob("*.png")):
        (_, *found), _ = rerun(path)
        print(path.name, *map(str.strip, found), sep=" | ", flush=True)


def summary(rows: list[dict], anchors: list[float]) -> None:
    """The answers, in one line each."""
    for who in ("guide", "judge"):
        up = sum(row[f"{who}_after"] > row[f"{who}_before"] for row in rows)
        gain = np.mean([row[f"{who}_after"] - row[f"{who}_before"] for row in rows])
        print(f"{who}: similarity up in {up} of {len(rows)}, by {gain:.3f} on average")
        for masked in (False, True):
            for anchor in anchors:
                own = [row for row in rows if row["mask"] == masked and row["anchor"] == anchor]
                gains = [row[f"{who}_after"] - row[f"{who}_before"] for row in own]
                print(f"  mask {masked}, anchor {anchor:g}: up in {sum(g > 0 for g in gains)}, {np.mean(gains):+.3f}")
    ways = {}
    for row in rows:
        ways.setdefault((row["picture"], row["mask"]), []).append(row["pixel_distance"])
    falling = sum(way == sorted(way, reverse=True) for way in ways.values())
    print(f"distance falls as the anchor grows in {falling} of {len(ways)}")
    masked = [row["outside_equal"] for row in rows if row["mask"]]
    print(f"pixels outside the mask equal in {sum(masked)} of {len(masked)}")


def main(words: list[str]) -> None:
    match words:
        case []:
            whole()
        case ["ten", *overrides] if all("=" in word for word in overrides):
            ten(*overrides)
        case ["again"]:
            again()
        case _:
            sys.exit(f"study.py: {' '.join(words)}: not allowed here. Allowed: nothing, ten KEY=VALUE…, or again")


if __name__ == "__main__":
    main(sys.argv[1:])
