"""The battery: fixed prompts times seeds, drawn with any config, and how many pictures the judges recognise.

``battery.json`` beside the embedded weights holds the prompts, and the captions among which each must be found.  A
battery's folder is a sweep's folder with the judges' scores of every picture in ``battery.csv``.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from shlex import quote
from statistics import fmean
from typing import Any

from vqclip.compare.pictures import find_runs, read_pictures
from vqclip.errors import UserError
from vqclip.io.files import atomic_write, csv_bytes, read_text
from vqclip.runs.evaluate import Bench, refuse_own_guide

__all__ = ["Found", "battery", "hits", "interval", "judge_battery", "read_battery", "trend"]

_RESAMPLINGS = 1000


@dataclass(frozen=True)
class Found:
    """One judge's result for one picture of a battery."""

    run: str  #: folder within the battery's
    prompt: str
    seed: int
    judge: str  #: its name, see :data:`vqclip.runs.evaluate.JUDGES`
    similarity: float  #: cosine of picture and prompt
    rank: int  #: of its prompt among the battery's captions, from 1


@cache
def battery() -> dict[str, list[str]]:
    """The ``prompts`` of the battery and its ``captions``, which begin with the prompts."""
    return json.loads((resources.files("vqclip") / "embedded" / "battery.json").read_text(encoding="utf-8"))


def judge_battery(folder: Path) -> list[Found]:
    """Judge every finished picture in a battery's folder and write ``battery.csv`` there.

    Raises:
        UserError: there is no finished picture of the battery's prompts, or a judge guided one of them.
    """
    from vqclip.io.pixels import read_image

    bench, rows = Bench(battery()["captions"]), []
    for picture in read_pictures(find_runs([folder])):
        prompt = picture.entry.get("prompt")
        if picture.file is None or prompt not in battery()["prompts"]:
            continue
        refuse_own_guide(picture.run, picture.report.get("weights") or {})
        run, seed = f"{picture.run.relative_to(folder)}/{picture.place.path.name}", picture.entry["seed"]
        for name, opinion in bench.opinions(read_image(picture.file), prompt).items():
            rows.append(Found(run, prompt, seed, name, opinion.similarity, opinion.rank))
    if not rows:
        raise UserError(
            f"{folder}: no finished picture of the battery. Try: vqclip evaluate --battery {quote(str(folder))}"
        )
    atomic_write(folder / "battery.csv", csv_bytes([vars(row) for row in rows]))
    return rows


def read_battery(folder: Path) -> list[Found]:
    """Read the results of :func:`judge_battery`, or judge now if there are none."""
    try:
        text = read_text(folder / "battery.csv")
    except OSError:
        return judge_battery(folder)
    try:
        rows = csv.DictReader(io.StringIO(text))
        return [
            Found(r["run"], r["prompt"], int(r["seed"]), r["judge"], float(r["similarity"]), int(r["rank"]))
            for r in rows
        ]
    except (KeyError, TypeError, ValueError):
        path = folder / "battery.csv"
        raise UserError(f"{path}: no table of a battery. Try: rm {quote(str(path))}") from None


def interval(rows: Sequence[Found], value: Any) -> tuple[float, float, float]:
    """Mean of ``value(row)`` with a 95 % bootstrap interval over *prompts*, since seeds of one are not independent."""
    by_prompt: dict[str, list[float]] = {}
    for row in rows:
        by_prompt.setdefault(row.prompt, []).append(float(value(row)))
    means = [fmean(values) for values in by_prompt.values()]
    rng = random.Random(0)
    drawn = sorted(fmean(rng.choices(means, k=len(means))) for _ in range(_RESAMPLINGS))
    return fmean(means), drawn[int(0.025 * _RESAMPLINGS)], drawn[int(0.975 * _RESAMPLINGS) - 1]


def hits(rows: Sequence[Found]) -> list[str]:
    """R@1, R@5 and the mean similarity of one judge's rows, each with its interval."""
    asked = (lambda row: row.rank == 1, lambda row: row.rank <= 5, lambda row: row.similarity)
    return ["{:.3f} ({:.3f} to {:.3f})".format(*interval(rows, value)) for value in asked]


def trend(folders: Sequence[Path]) -> str:
    """A Markdown table with one row per battery and judge: hits among the captions, with intervals."""
    lines = ["| battery | judge | pictures | R@1 | R@5 | similarity |", "| --- | --- | --- | --- | --- | --- |"]
    for folder in folders:
        found = read_battery(folder)
        for judge in dict.fromkeys(row.judge for row in found):
            rows = [row for row in found if row.judge == judge]
            lines.append(f"| {folder} | {judge} | {len(rows)} | {' | '.join(hits(rows))} |")
    return "\n".join(lines)
