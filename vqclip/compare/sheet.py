"""The labelled contact sheet."""

from __future__ import annotations

import io
import itertools
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from vqclip.compare.keys import distinct_values, format_value, swept_keys
from vqclip.compare.pictures import Picture
from vqclip.config.grammar import short_names
from vqclip.io.images import open_undecoded
from vqclip.paths import common_folder, relative_where_possible
from vqclip.runs.status import FINISHED, WITH_PICTURES

__all__ = ["draw_sheet"]

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

#: Maximum ratio of the numbers of cells along the sides of a block.
LONGEST = 8

INK, FAINT, PAPER, GAP = "#1c1c1c", "#707070", "#ffffff", "#f3dcdc"


def draw_sheet(
    pictures: Sequence[Picture], keys: Sequence[str], further: Sequence[str], folders: Sequence[Path]
) -> bytes:
    """Draw the contact sheet as PNG; its head and PNG text say prompt, seed, steps, folders and ``further`` keys."""
    # Large sheets are viewed scaled down: smaller pictures, larger letters.
    side, text = (256, 15) if len(pictures) <= 16 else (192, 17) if len(pictures) <= 48 else (160, 21)
    width, height = _cell(pictures, side)
    drawn = [_block(block, width, height, text) for whole in _blocks(pictures, keys) for block in _parts(whole)]
    across = _across(len(drawn), drawn[0].width, drawn[0].height)
    columns = [max(b.width for b in drawn[i::across]) for i in range(min(across, len(drawn)))]
    rows = [max(b.height for b in drawn[i : i + across]) for i in range(0, len(drawn), across)]
    facts, font = _facts(pictures, further, folders), ImageFont.load_default(text)
    head = len(facts) * (text + 6) + 8
    sheet = Image.new("RGB", (sum(columns) + 24, head + sum(rows) + 24), PAPER)
    draw = ImageDraw.Draw(sheet)
    left = 12 + max(_wide(font, f"{name}  ") for name in facts)
    for i, (name, value) in enumerate(facts.items()):
        y = 10 + i * (text + 6)
        draw.text((12, y), name, FAINT, font)
        draw.text((left, y), _cut(font, value, sheet.width - left - 12), INK, font)
    for i, block in enumerate(drawn):
        row, column = divmod(i, across)
        sheet.paste(block, (12 + sum(columns[:column]), head + 12 + sum(rows[:row])))
    out, words = io.BytesIO(), PngInfo()
    for name, value in facts.items():
        words.add_itxt(name, value)
    sheet.save(out, "PNG", pnginfo=words)
    return out.getvalue()


def _facts(pictures: Sequence[Picture], further: Sequence[str], folders: Sequence[Path]) -> dict[str, str]:
    """Prompts, seeds and steps (or how many there are), the folders, and the further keys that differ."""

    def all_of(values: Iterable[Any], many: str) -> str:
        found = list(dict.fromkeys(str(value) for value in values if value is not None))
        few = len(found) <= 8 and len(", ".join(found)) <= 60
        return ", ".join(found) if few or len(found) == 1 else f"{len(found)} {many}: {found[0]}, {found[1]}, …"

    facts = {
        "prompt": all_of((p.entry.get("prompt") for p in pictures), "prompts"),
        "seed": all_of((p.entry.get("seed", p.config.get("seed")) for p in pictures), "seeds"),
        "steps": all_of((p.config.get("steps") for p in pictures), "lengths"),
        "folder": ", ".join(folder.absolute().name for folder in folders),
        "also differ": ", ".join(further),
    }
    lines = {name: " ".join(value.split()) for name, value in facts.items() if value}
    return {name: line.encode("utf-8", "backslashreplace").decode() for name, line in lines.items()}


def _cell(pictures: Sequence[Picture], side: int) -> tuple[int, int]:
    """Width and height of a cell's picture: those of the widest and of the highest picture."""
    height, width = map(max, zip(*(p.config.get("size") or (1, 1) for p in pictures), strict=True))
    return round(side * width / max(width, height)), round(side * height / max(width, height))


def _across(count: int, width: int, height: int) -> int:
    """How many of ``count`` equal boxes to put in a row for a shape of about 4:3."""
    return min(range(1, count + 1), key=lambda n: abs(math.log(n * width / (math.ceil(count / n) * height) * 3 / 4)))


@dataclass(frozen=True)
class _Block:
    """One grid of the sheet."""

    title: list[str]  #: ``key=value`` of the keys beyond rows and columns
    rows: list[str]  #: labels; empty if there are none
    columns: list[str]
    corner: tuple[str, str]  #: keys of the rows and of the columns
    cells: dict[tuple[int, int], Picture]
    told: dict[tuple[int, int], list[str]]  #: run and values of a cell, if its row and column do not say them


def _blocks(pictures: Sequence[Picture], keys: Sequence[str]) -> list[_Block]:
    grid = math.prod(len(distinct_values(pictures, key)) for key in keys)  # thirty keys: a billion cells
    wide = len(keys) == 1 and grid > 8
    places = {tuple(format_value(picture.value(key)) for key in keys) for picture in pictures}
    if not keys or len(places) < len(pictures) or wide or grid > 2 * len(pictures):  # no grid: one cell per picture
        across = _across(len(pictures), 1, 1)
        cells = {divmod(i, across): picture for i, picture in enumerate(pictures)}
        together = common_folder(picture.run.parent for picture in pictures) or "."
        named = [key for key in swept_keys(pictures) if key not in keys and len(distinct_values(pictures, key)) > 1]
        told = {at: [relative_where_possible(p.run, together), *_values(p, [*keys, *named])] for at, p in cells.items()}
        return [_Block([], [], [""] * across, ("", ""), cells, told)]
    row_key, column_key = (keys[0], keys[1]) if len(keys) > 1 else ("", keys[0])
    rows = distinct_values(pictures, row_key) if row_key else [""]
    columns = distinct_values(pictures, column_key)
    found: dict[tuple[str, ...], dict[tuple[int, int], Picture]] = {}
    for values in itertools.product(*(distinct_values(pictures, key) for key in keys[2:])):
        found[values] = {}
    for picture in pictures:
        values = tuple(format_value(picture.value(key)) for key in keys[2:])
        row = rows.index(format_value(picture.value(row_key))) if row_key else 0
        found[values][row, columns.index(format_value(picture.value(column_key)))] = picture
    titles = {values: [f"{key} = {value}" for key, value in zip(keys[2:], values, strict=True)] for values in found}
    corner = (row_key, column_key)
    return [_Block(titles[values], rows, columns, corner, cells, {}) for values, cells in found.items() if cells]


def _values(picture: Picture, keys: Sequence[str]) -> list[str]:
    """``key=value`` of a picture, with the short key names of job names."""
    values = [format_value(picture.value(key)) or "(none)" for key in keys]
    return [f"{name}={value}" for name, value in zip(short_names(keys), values, strict=True)]


def _parts(block: _Block) -> Iterator[_Block]:
    """Split a block whose one side is far longer than the other into parts to lay side by side."""
    if block.told:
        yield block
        return
    high = _even(len(block.rows), LONGEST * len(block.columns))
    wide = _even(len(block.columns), LONGEST * len(block.rows))
    for y, x in itertools.product(range(0, len(block.rows), high), range(0, len(block.columns), wide)):
        cells = {(r - y, c - x): p for (r, c), p in block.cells.items() if y <= r < y + high and x <= c < x + wide}
        if cells:
            yield replace(block, rows=block.rows[y : y + high], columns=block.columns[x : x + wide], cells=cells)


def _even(count: int, most: int) -> int:
    """The size of equal parts of ``count`` items, none larger than ``most``."""
    return math.ceil(count / math.ceil(count / most))


def _block(block: _Block, width: int, height: int, letters: int) -> Image.Image:
    """Draw a grid of pictures of ``width`` × ``height`` pixels with labels of font size ``letters``."""
    font, small = ImageFont.load_default(letters), ImageFont.load_default(letters - 3)
    pad, line = 6, letters + 6
    captions = {at: _caption_lines(p, block.told.get(at, []), small, width) for at, p in block.cells.items()}
    caption = max(map(len, captions.values())) * (letters + 1) + 2
    left = max([_wide(font, _legible(text)) for text in [*block.rows, block.corner[0]]], default=0)
    left = min(left, 2 * width) + 2 * pad if block.corner[0] else 0
    rows = max(row for row, _ in block.cells) + 1 if block.told else len(block.rows)
    step = (width + pad, height + pad + caption)
    across = left + len(block.columns) * step[0] + 18
    title = [text for part in block.title for text in _wrapped(font, _legible(part).split(), across, 3)]
    top = (len(title) * line + 4 if title else 0) + (2 * line if block.corner[1] else 0)
    image = Image.new("RGB", (across, top + rows * step[1] + 18), PAPER)
    draw = ImageDraw.Draw(image)
    for i, text in enumerate(title):
        draw.text((0, i * line), text, INK, font)
    _labels(draw, block, (left, top), step[0], line, font)
    for i, text in enumerate(block.rows):
        draw.text((0, top + i * step[1] + height // 2 - letters // 2), _cut(font, text, left), INK, font)
    for row, column in itertools.product(range(rows), range(len(block.columns))):
        picture = block.cells.get((row, column))
        x, y = left + column * step[0], top + row * step[1]
        if picture is None:
            if not block.told:
                draw.rectangle((x, y, x + width - 1, y + height - 1), outline="#dddddd")
                draw.text((x + pad, y + pad), "not run", FAINT, small)
            continue
        if picture.file is None:
            _gap(draw, x, y, width, height, picture, small)
        else:
            image.paste(_fitted(picture.file, width, height), (x, y))
        for i, text in enumerate(captions[row, column]):
            draw.text((x, y + height + 1 + i * (letters + 1)), text, FAINT, small)
    return image


def _labels(
    draw: ImageDraw.ImageDraw, block: _Block, origin: tuple[int, int], step: int, line: int, font: Font
) -> None:
    """Draw the key names and column values above a grid whose top left corner is ``origin``."""
    left, top = origin
    if block.corner[1]:
        draw.text((left, top - 2 * line), _cut(font, block.corner[1], len(block.columns) * step), FAINT, font)
        draw.text((0, top - line), _cut(font, block.corner[0], left), FAINT, font)
        for i, text in enumerate(block.columns):
            draw.text((left + i * step, top - line), _cut(font, text, step - 6), INK, font)


def _caption_lines(picture: Picture, told: Sequence[str], font: Font, width: int) -> list[str]:
    """The lines below a picture: run and score (long paths are cut at the start), then its values."""
    run = _legible(told[0]) if told else ""
    while _wide(font, run) > width and "/" in run.removeprefix("…/"):
        run = "…/" + run.removeprefix("…/").partition("/")[2]
    values = [word for text in told[1:-1] for word in _words(font, f"{text},", width)]
    values += [word for text in told[1:][-1:] for word in _words(font, text, width)]
    lines = [*_wrapped(font, [text for text in (run, _caption(picture)) if text], width, 2)]
    return lines + (_wrapped(font, values, width, 6) if values else [])


def _words(font: Font, text: str, width: int) -> list[str]:
    """``key=value`` as one word, or as two words if that is wider than ``width``."""
    fits = len(text) <= width and _wide(font, text) <= width
    return [text] if fits else [_cut(font, part, width) for part in re.split("(?<==)", text, maxsplit=1)]


def _caption(picture: Picture) -> str:
    """The caption of a picture: the status, unless finished, and the score."""
    parts = [picture.report["status"]] if picture.file and picture.report.get("status") != FINISHED else []
    parts += [f"{name} {picture.scores[name]:.3f}" for name in ("judge", "include") if name in picture.scores][:1]
    return "  ".join(parts)


def _fitted(path: Path, width: int, height: int) -> Image.Image:
    with open_undecoded(path) as picture:
        picture = picture.convert("RGB")
    scale = min(width / picture.width, height / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    cell = Image.new("RGB", (width, height), PAPER)
    cell.paste(picture.resize(size, Image.Resampling.LANCZOS), ((width - size[0]) // 2, (height - size[1]) // 2))
    return cell


def _gap(draw: ImageDraw.ImageDraw, x: int, y: int, width: int, height: int, picture: Picture, font) -> None:
    """Draw a cell that has no picture, with the reason."""
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=GAP, outline="#a33c3c")
    draw.line((x, y, x + width - 1, y + height - 1), "#d9a3a3")
    draw.line((x, y + height - 1, x + width - 1, y), "#d9a3a3")
    status = picture.report.get("status", "failed")
    lost = picture.flaw if status in WITH_PICTURES else None
    words = (lost or f"{status}: {picture.report.get('error', '')}".rstrip(": ")).split()
    step = round(font.size * 1.25)
    for i, line in enumerate(_wrapped(font, words, width - 12, max(1, (height - 8) // step))):
        draw.text((x + 6, y + 4 + i * step), line, INK, font)


def _wrapped(font: Font, words: Iterable[str], width: int, most: int) -> list[str]:
    """Wrap ``words`` to ``width`` pixels; beyond ``most`` lines, the last one says that there is more."""
    lines = [""]
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or _wide(font, longer) <= width:
            lines[-1] = longer
        elif len(lines) == most:
            lines[-1] += " …"
            break
        else:
            lines.append(word)
    return [_cut(font, line, width) for line in lines]


def _wide(font: Font, text: str) -> int:
    return math.ceil(font.getlength(text))


def _cut(font: Font, text: str, width: int) -> str:
    """Shorten ``text`` to one line of ``width`` pixels."""
    text = _legible(text)
    if len(text) <= width and _wide(font, text) <= width:  # no letter is narrower than a pixel
        return text
    text = text[: max(0, width)]
    while text and _wide(font, text + "…") > width:
        text = text[:-1]
    return text + "…"


def _legible(text: str) -> str:
    """``text`` as one line; letters that the font lacks are shown without their accent, or as an escape sequence."""
    return "".join(map(_letter, unicodedata.normalize("NFC", " ".join(text.split()))))


@cache
def _letter(letter: str) -> str:
    lacking = _drawn("\U0010ffff")  # no font has this one
    plain = unicodedata.normalize("NFD", letter)[0] if letter.isalpha() else letter  # but ≠ is not =
    return next((known for known in (letter, plain) if _drawn(known) != lacking), ascii(letter)[1:-1])


@cache
def _drawn(letter: str) -> bytes:
    image = Image.new("L", (40, 40))
    ImageDraw.Draw(image).text((5, 5), letter, 255, ImageFont.load_default(15))
    return image.tobytes()
