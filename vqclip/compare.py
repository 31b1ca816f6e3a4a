"""The comparison of a sweep, or of any runs: ``compare.png``, ``compare.html`` and ``results.csv``.

Pictures are laid out by what differs between their configs.  The keys of a sweep come first, in its order; the first
makes the rows, the second the columns, and the others make blocks.  A job that failed leaves a marked gap.
"""

from __future__ import annotations

import argparse
import base64
import csv
import html
import io
import itertools
import json
import math
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw, ImageFont

from vqclip.config import picture_config
from vqclip.errors import UserError
from vqclip.files import write_whole
from vqclip.records import read_config

__all__ = ["Picture", "axes", "compare", "find_runs", "main", "read_pictures"]

#: Bytes of timelapses that the page holds; where there are more, it links to the files beside it.
INLINE_VIDEO = 48 * 2**20
#: A PNG above this is held in the page as WebP.
INLINE_PNG = 200 * 2**10


@dataclass(frozen=True)
class Picture:
    """One picture of a run, made or not."""

    run: Path
    index: int
    config: dict[str, Any]  #: of the run, resolved
    report: dict[str, Any]  #: run.json
    command: str  #: makes the run again

    @property
    def own(self) -> dict[str, Any]:
        """Its part of the report: prompt, seed, scores."""
        pictures = self.report.get("pictures") or []
        return pictures[self.index] if self.index < len(pictures) else {}

    @property
    def folder(self) -> Path:
        return self.run / f"picture-{self.index:02d}"

    @property
    def file(self) -> Path | None:
        """Its best snapshot, where the run finished."""
        path = self.folder / "best.png"
        return path if self.report.get("status") == "finished" and path.is_file() else None

    @property
    def scores(self) -> dict[str, float]:
        return self.own.get("best") or {}

    def value(self, key: str) -> Any:
        """The value of a config key; of a swept group, the choice."""
        if key in ("prompt", "picture seed"):
            return self.own.get(key.removeprefix("picture "))
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return self.swept.get(key) if value is None or isinstance(value, Mapping) else value

    @property
    def swept(self) -> dict[str, str]:
        return (self.config.get("sweep") or {}).get("swept") or {}


def compare(folders: Sequence[Path], out: Path) -> list[Path]:
    """Write the comparison of all runs in ``folders`` into ``out``; what was written."""
    pictures = read_pictures(find_runs(folders))
    keys = axes(pictures)
    out.mkdir(parents=True, exist_ok=True)
    written = {
        "compare.png": lambda: _sheet(pictures, keys),
        "compare.html": lambda: _page(pictures, keys, out, folders),
        "results.csv": lambda: _table(pictures, keys, out),
    }
    for name, make in written.items():
        write_whole(out / name, make())
    return [out / name for name in written]


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Run folders among and under ``folders``, those with numbers by number.

    Raises:
        UserError: a folder without runs.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        here = [folder] if (folder / "config.yaml").is_file() else []
        for path, names, files in os.walk(folder):
            if "run.json" in files and Path(path) != folder:
                here.append(Path(path))
                names.clear()
        if not here:
            raise UserError(
                f"{folder}: no run in it. Allowed: run folders, and folders that hold some. "
                "Try: vqclip compare multirun/*/*"
            )
        found |= dict.fromkeys(sorted(here, key=lambda p: [(len(x), x) if x.isdigit() else (0, x) for x in p.parts]))
    return list(found)


def read_pictures(runs: Sequence[Path]) -> list[Picture]:
    """Every picture of ``runs``; a run that failed before it had any counts as it was asked for."""
    pictures = []
    for run in runs:
        config = read_config(run)
        try:
            report = json.loads((run / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            report = {"status": "failed", "error": "no run.json"}
        count = len(report.get("pictures") or [None])
        pictures += [Picture(run, i, config, report, _command(run)) for i in range(count)]
    return pictures


def axes(pictures: Sequence[Picture]) -> list[str]:
    """Keys that tell the pictures apart, each one more than those before it: swept ones first."""
    keys = list(dict.fromkeys(key for picture in pictures for key in picture.swept))
    flat = [_flat(picture_config(picture.config)) for picture in pictures]
    keys += sorted({key for config in flat for key in config})
    kept: list[str] = []
    groups = 1
    for key in dict.fromkeys([*keys, "prompt", "picture seed"]):
        refined = len({tuple(_shown(p.value(k)) for k in [*kept, key]) for p in pictures})
        if refined > groups:
            kept.append(key)
            groups = refined
    return kept


def _flat(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{path}{key}.")
        else:
            found[f"{path}{key}"] = value
    return found


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return "" if value is None else str(value)


def _values(pictures: Iterable[Picture], key: str) -> list[str]:
    """The values of a key: numbers by size, others as they come."""
    found = dict.fromkeys(_shown(picture.value(key)) for picture in pictures)
    try:
        return sorted(found, key=float)
    except ValueError:
        return list(found)


def _command(run: Path) -> str:
    """The command that makes a run again: as it was typed, where that is known."""
    try:
        overrides = yaml.safe_load((run / ".hydra" / "overrides.yaml").read_text())
        hydra = yaml.safe_load((run / ".hydra" / "hydra.yaml").read_text())["hydra"]
        own = [s["path"] for s in hydra["runtime"]["config_sources"] if s["provider"] == "command-line"]
    except (OSError, yaml.YAMLError, TypeError, KeyError):
        return shlex.join(["vqclip", "rerun", str(run)])
    flags = [word for path in own for word in ("--config-dir", os.path.relpath(path))]
    return shlex.join(["vqclip", *flags, *(word for word in overrides if not word.startswith("sweep="))])


# The sheet.


INK, FAINT, PAPER, GAP = "#1c1c1c", "#707070", "#ffffff", "#f3dcdc"


def _sheet(pictures: Sequence[Picture], keys: Sequence[str]) -> bytes:
    """The contact sheet as PNG."""
    # A large sheet is looked at from further away: smaller pictures, larger letters.
    side, text = (256, 15) if len(pictures) <= 16 else (192, 17) if len(pictures) <= 48 else (160, 21)
    width, height = _cell(pictures, side)
    drawn = [_block(block, width, height, text) for block in _blocks(pictures, keys)]
    across = _across(len(drawn), drawn[0].width, drawn[0].height)
    columns = [max(b.width for b in drawn[i::across]) for i in range(min(across, len(drawn)))]
    rows = [max(b.height for b in drawn[i : i + across]) for i in range(0, len(drawn), across)]
    sheet = Image.new("RGB", (sum(columns) + 24, sum(rows) + 24), PAPER)
    for i, block in enumerate(drawn):
        row, column = divmod(i, across)
        sheet.paste(block, (12 + sum(columns[:column]), 12 + sum(rows[:row])))
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()


def _cell(pictures: Sequence[Picture], side: int) -> tuple[int, int]:
    """Width and height of a cell's picture: the proportions of the largest."""
    height, width = max((tuple(p.config.get("size") or (1, 1)) for p in pictures), default=(1, 1))
    return round(side * width / max(width, height)), round(side * height / max(width, height))


def _across(count: int, width: int, height: int) -> int:
    """How many of ``count`` equal boxes to put in a row so that the whole is about 4:3."""
    return min(range(1, count + 1), key=lambda n: abs(math.log(n * width / (math.ceil(count / n) * height) * 3 / 4)))


@dataclass(frozen=True)
class _Block:
    """A grid of the sheet."""

    title: str
    rows: list[str]  #: labels; empty for none
    columns: list[str]
    corner: tuple[str, str]  #: names of the rows' and the columns' key
    cells: dict[tuple[int, int], Picture]
    captions: bool  #: whether a cell says what it is, where rows and columns do not


def _blocks(pictures: Sequence[Picture], keys: Sequence[str]) -> list[_Block]:
    grid = list(itertools.product(*(_values(pictures, key) for key in keys)))
    wide = len(keys) == 1 and len(grid) > 8
    if not keys or wide or len(grid) > 2 * len(pictures):
        across = _across(len(pictures), 1, 1)
        cells = {divmod(i, across): picture for i, picture in enumerate(pictures)}
        return [_Block("", [], [""] * across, ("", ""), cells, True)]
    row_key, column_key = (keys[0], keys[1]) if len(keys) > 1 else ("", keys[0])
    rows = _values(pictures, row_key) if row_key else [""]
    columns = _values(pictures, column_key)
    found: dict[tuple[str, ...], dict[tuple[int, int], Picture]] = {}
    for values in itertools.product(*(_values(pictures, key) for key in keys[2:])):
        found[values] = {}
    for picture in pictures:
        values = tuple(_shown(picture.value(key)) for key in keys[2:])
        row = rows.index(_shown(picture.value(row_key))) if row_key else 0
        found[values][row, columns.index(_shown(picture.value(column_key)))] = picture
    return [
        _Block(
            "   ".join(f"{key} = {value}" for key, value in zip(keys[2:], values, strict=True)),
            rows,
            columns,
            (row_key, column_key),
            cells,
            False,
        )
        for values, cells in found.items()
        if cells
    ]


def _block(block: _Block, width: int, height: int, letters: int) -> Image.Image:
    """A grid of pictures of ``width`` × ``height`` pixels, with letters of that height."""
    font, small = ImageFont.load_default(letters), ImageFont.load_default(letters - 3)
    pad, caption = 6, letters + 3
    left = max([_wide(font, text) for text in [*block.rows, block.corner[0]]], default=0)
    left = min(left, 2 * width) + 2 * pad if block.corner[0] else 0
    top = (letters + 10 if block.title else 0) + (2 * (letters + 6) if block.corner[1] else 0)
    rows = max((row for row, _ in block.cells), default=0) + 1 if block.captions else len(block.rows)
    step = (width + pad, height + pad + caption)
    image = Image.new("RGB", (left + len(block.columns) * step[0] + 18, top + rows * step[1] + 18), PAPER)
    draw = ImageDraw.Draw(image)
    y = 0
    if block.title:
        draw.text((0, y), _cut(font, block.title, image.width), INK, font)
        y += letters + 10
    if block.corner[1]:
        draw.text((left, y), _cut(font, block.corner[1], image.width - left), FAINT, font)
        draw.text((0, y + letters + 6), _cut(font, block.corner[0], left), FAINT, font)
        for i, text in enumerate(block.columns):
            draw.text((left + i * step[0], y + letters + 6), _cut(font, text, width), INK, font)
    for i, text in enumerate(block.rows):
        draw.text((0, top + i * step[1] + height // 2 - letters // 2), _cut(font, text, left), INK, font)
    for row, column in itertools.product(range(rows), range(len(block.columns))):
        picture = block.cells.get((row, column))
        x, y = left + column * step[0], top + row * step[1]
        if picture is None:
            if not block.captions:
                draw.rectangle((x, y, x + width - 1, y + height - 1), outline="#dddddd")
                draw.text((x + pad, y + pad), "not run", FAINT, small)
            continue
        if picture.file is None:
            _gap(draw, x, y, width, height, picture, small)
        else:
            image.paste(_fitted(picture.file, width, height), (x, y))
        text = picture.run.name if block.captions else ""
        if "include" in picture.scores:
            text = f"{text}  include {picture.scores['include']:.3f}".strip()
        draw.text((x, y + height + 1), _cut(small, text, width), FAINT, small)
    return image


def _fitted(path: Path, width: int, height: int) -> Image.Image:
    with Image.open(path) as picture:
        picture = picture.convert("RGB")
    scale = min(width / picture.width, height / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    cell = Image.new("RGB", (width, height), PAPER)
    cell.paste(picture.resize(size, Image.Resampling.LANCZOS), ((width - size[0]) // 2, (height - size[1]) // 2))
    return cell


def _gap(draw: ImageDraw.ImageDraw, x: int, y: int, width: int, height: int, picture: Picture, font) -> None:
    """A cell without a picture, and why."""
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=GAP, outline="#a33c3c")
    draw.line((x, y, x + width - 1, y + height - 1), "#d9a3a3")
    draw.line((x, y + height - 1, x + width - 1, y), "#d9a3a3")
    status = picture.report.get("status", "failed")
    words = f"{status}: {picture.report.get('error', '')}".rstrip(": ").split()
    lines = [""]
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if _wide(font, longer) <= width - 12 or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    step = round(font.size * 1.25)
    for i, line in enumerate(lines[: max(1, (height - 8) // step)]):
        draw.text((x + 6, y + 4 + i * step), _cut(font, line, width - 12), INK, font)


def _wide(font: ImageFont.FreeTypeFont, text: str) -> int:
    return math.ceil(font.getlength(text))


def _cut(font: ImageFont.FreeTypeFont, text: str, width: int) -> str:
    """``text``, shortened to ``width`` pixels."""
    if _wide(font, text) <= width:
        return text
    while text and _wide(font, text + "…") > width:
        text = text[:-1]
    return text + "…"


# The table.


def _table(pictures: Sequence[Picture], keys: Sequence[str], out: Path) -> bytes:
    rows = [_row(picture, keys, out) for picture in pictures]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _row(picture: Picture, keys: Sequence[str], out: Path) -> dict[str, Any]:
    own, report = picture.own, picture.report
    row = {"run": os.path.relpath(picture.run, out), "picture": picture.index, "status": report.get("status")}
    row |= {key: _shown(picture.value(key)) for key in keys}
    row |= {"prompt": own.get("prompt"), "seed": own.get("seed")}
    for name in ("best", "final"):
        row |= {f"{name}.{key}": value for key, value in (own.get(name) or {}).items()}
    row |= {"seconds": report.get("seconds"), "error": report.get("error"), "command": picture.command}
    row["file"] = os.path.relpath(picture.file, out) if picture.file else None
    return row


# The page.


def _page(pictures: Sequence[Picture], keys: Sequence[str], out: Path, folders: Sequence[Path]) -> bytes:
    flat = [_flat(picture_config(picture.config)) for picture in pictures]
    names = list(dict.fromkeys(key for config in flat for key in config))
    common = {key: flat[0].get(key) for key in names if all(c.get(key, ...) == flat[0].get(key) for c in flat)}
    videos = [path if (path := picture.folder / "timelapse.mp4").is_file() else None for picture in pictures]
    inline = sum(path.stat().st_size for path in videos if path) <= INLINE_VIDEO
    data = {
        "keys": [{"name": key, "values": _values(pictures, key)} for key in keys],
        "common": common,
        "pictures": [
            {
                **{k: v for k, v in _row(picture, [], out).items() if v is not None},
                "values": {key: _shown(picture.value(key)) for key in keys},
                "config": {key: value for key, value in config.items() if key not in common},
                "scores": picture.scores,
                "image": _image_uri(picture.file) if picture.file else None,
                "video": video and (_uri("video/mp4", video.read_bytes()) if inline else os.path.relpath(video, out)),
            }
            for picture, config, video in zip(pictures, flat, videos, strict=True)
        ],
    }
    title = ", ".join(folder.absolute().name for folder in folders)
    template = (resources.files("vqclip") / "compare.html").read_text(encoding="utf-8")
    # "</" would end the script that holds the data.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, default=str).replace("</", "<\\/")
    return template.replace("{{title}}", html.escape(title)).replace("{{data}}", text).encode()


def _image_uri(path: Path) -> str:
    content = path.read_bytes()
    if len(content) <= INLINE_PNG:
        return _uri("image/png", content)
    out = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").save(out, "WEBP", quality=92)
    return _uri("image/webp", out.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def main(argv: Sequence[str]) -> int:
    """The command line tool."""
    parser = argparse.ArgumentParser(prog="vqclip compare", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="sweeps, runs, or folders that hold some")
    parser.add_argument("--out", type=Path, help="where to write; default the one DIR, or the folder that holds all")
    arguments = parser.parse_args(argv)
    together = Path(os.path.commonpath([folder.absolute() for folder in arguments.folders]))
    out = arguments.out or (arguments.folders[0] if len(arguments.folders) == 1 else together)
    for path in compare(arguments.folders, out):
        print(path)
    return 0
