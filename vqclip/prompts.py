"""Parses prompts: the entries of ``prompts.include``, ``exclude`` and ``extras``.

    a red fox                          a text
    a red fox:2                        a text that weighs 2
    a red fox:2:.5                     the same with a stop as in other programs: a spherical distance
    {text: "a red fox", weight: 2}     a text taken literally
    {image: fox.png, weight: 0.5}      a picture
    {parts: [a fox, an owl]}           one picture with several entries
    {row: [a fox, an owl]}             the same, side by side in equal widths; column: one above the other
    {file: prompts.txt}                one entry, in any form above, per line of a file; # begins a comment

A long form may have more keys:

    weight: {points: [[0, 1], [.5, 0]]}      a schedule: the entry comes and goes
    stop: 0.4                                the similarity above which the entry no longer pulls a crop
    templates: ["a photo of {}", "{}"]       use the mean of the text's vectors in these sentences
    region: left                             where in the picture: left, right, top, bottom, [x0, y0, x1, y1] as
                                             fractions of width and height, or a mask picture, white where it applies

The short form ends in a colon and a number, with neither space nor digit before the colon: ``16:9`` and ``at 10:30``
are text.  ``\\:`` is a literal colon: ``Blade Runner\\:2049``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

from vqclip.errors import closest, shown
from vqclip.io.files import refuse_endless
from vqclip.io.images import open_picture
from vqclip.io.regions import Region, equal_regions, parse_region
from vqclip.io.yaml_text import read_yaml
from vqclip.schedules import AnySchedule, is_number, sample, schedule

__all__ = [
    "ENTRIES",
    "NUMBER",
    "SEVERAL",
    "Prompt",
    "as_list",
    "expand_files",
    "parse",
    "parse_prompts",
    "parse_templates",
    "texts_of",
]

#: Keys of ``prompts`` that hold entries.
ENTRIES = ("include", "exclude", "extras")
NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"
_WEIGHED = re.compile(rf"(.*[^\d\s\\]):{NUMBER}(?::{NUMBER})?\s*", re.IGNORECASE | re.DOTALL)
#: The spherical distance ``2 · arcsin(‖a − b‖ / 2)²`` of opposite vectors; a larger number is not a stop but text.
_FARTHEST = math.pi**2 / 2

_FORMS = (
    'a text, {text: "…", weight: 2}, {image: PATH, weight: 2}, {parts: [ENTRY, ENTRY]}, {row: [ENTRY, ENTRY]} '
    "or {file: PATH}"
)
#: Keys whose value is a list of entries for one picture.
SEVERAL = ("parts", "row", "column")
_KEYS = {*SEVERAL, "text", "image", "weight", "stop", "region", "templates"}


@dataclass(frozen=True)
class Prompt:
    """A text or a picture with its weight in the target; or several of them for one picture."""

    text: str | None = None
    image: str | None = None
    weight: float | AnySchedule = 1.0
    stop: float | None = None  #: cosine similarity above which it no longer pulls
    region: Region | None = None  #: where in the picture it applies; None: everywhere
    templates: tuple[str, ...] = ()  #: sentences with {} for the text; their vectors are averaged
    parts: tuple[Prompt, ...] = ()  #: the entries of one picture; ``text`` then joins their texts

    @property
    def label(self) -> str:
        """The text, or the picture's path."""
        return self.text or self.image or ", ".join(part.label for part in self.parts)

    @property
    def entries(self) -> tuple[Prompt, ...]:
        """The parts, or the prompt itself if it has none."""
        return self.parts or (self,)

    @property
    def files(self) -> list[str]:
        """Paths of the pictures that the prompt reads."""
        paths = [self.image, self.region.mask if self.region else None]
        return [path for path in paths if path] + [path for part in self.parts for path in part.files]

    def weight_at(self, t: float) -> float:
        """The weight at progress ``t`` in [0,1] of the run."""
        return schedule(self.weight)(t)


def parse(entry: Any, open_files: bool = False) -> Prompt:
    """Parse one entry other than a file; with ``open_files``, check that its pictures can be opened.

    Raises:
        ValueError: it is not an entry; says what is wrong.
    """
    if isinstance(entry, str):
        return _short_form(entry)
    if not isinstance(entry, Mapping):
        raise ValueError(f"neither a text nor one of its longer forms; a number goes in quotes: '\"{entry}\"'")
    if unknown := sorted(map(str, set(entry) - _KEYS)):
        near = closest(unknown[0], sorted(_KEYS))
        raise ValueError(f"there is no {', '.join(unknown)} in a prompt{near and '.' + near}")
    if several := [key for key in SEVERAL if key in entry]:
        return _of_several(entry, several[0], open_files)
    if len({"text", "image"} & set(entry)) != 1:
        raise ValueError("it needs a text or an image, and not both")
    kind = "text" if "text" in entry else "image"
    if not isinstance(entry[kind], str) or not entry[kind].strip():
        raise ValueError(f"its {kind} is {shown(entry[kind])}")
    if kind == "image" and open_files:
        open_picture(entry["image"])
    if kind == "image" and entry.get("templates"):
        raise ValueError("templates are sentences for a text, and it has an image")
    return Prompt(
        **{kind: entry[kind]},
        weight=_weight(entry.get("weight", 1)),
        stop=_stop(entry.get("stop")),
        region=parse_region(entry.get("region"), open_files),
        templates=parse_templates(entry.get("templates")),
    )


def _short_form(entry: str) -> Prompt:
    if not entry.strip():
        raise ValueError("an empty text")
    if re.fullmatch(r"\s*:[-+]?[\d.]+\s*", entry):
        raise ValueError("a weight without a text before it")
    found = _WEIGHED.fullmatch(entry)
    text, weight, distance = found.groups() if found else (entry, 1, None)
    if distance is not None and abs(float(distance)) > _FARTHEST:
        text, weight, distance = entry, 1, None
    stop = None if distance is None else math.cos(math.sqrt(2 * abs(float(distance))))
    return Prompt(text=text.replace(r"\:", ":"), weight=_weight(float(weight)), stop=stop)


def _of_several(entry: Mapping, key: str, open_files: bool) -> Prompt:
    if set(entry) != {key} or not isinstance(entry[key], list | tuple) or not entry[key]:
        raise ValueError(f"{key} is a list of entries and stands alone; weights belong to the entries")
    parts = [_part(i, part, open_files) for i, part in enumerate(entry[key], start=1)]
    if any(part.parts for part in parts):
        raise ValueError(f"{key} of parts: one list is enough")
    if key != "parts":
        if any(part.region for part in parts):
            raise ValueError(f"a {key} gives its entries their regions; regions of your own go with parts")
        places = equal_regions(len(parts), across=key == "row")
        parts = [replace(part, region=place) for part, place in zip(parts, places, strict=True)]
    texts = [part.text for part in parts if part.text and max(sample(part.weight)) > 0]
    return Prompt(text=", ".join(texts) or None, parts=tuple(parts))


def _part(number: int, entry: Any, open_files: bool) -> Prompt:
    try:
        return parse(entry, open_files)
    except ValueError as error:
        raise ValueError(f"part {number}: {error}") from None


def parse_templates(value: Any) -> tuple[str, ...]:
    """Parse sentences with {} for the text: one, a list of them, or None.

    Raises:
        ValueError: it is anything else.
    """
    sentences = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(sentences, list | tuple) or not all(isinstance(one, str) and "{}" in one for one in sentences):
        raise ValueError(f'a template is a sentence with {{}} where the text belongs, "a photo of {{}}"; got {value!r}')
    return tuple(sentences)


def parse_prompts(value: Any, open_files: bool = False) -> list[Prompt]:
    """Parse a config value: one entry, a list of them, or nothing; ``open_files`` as for :func:`parse`.

    Raises:
        ValueError: some entries are wrong; says for each what is wrong and where in the list or file it is.
    """
    prompts, wrong = [], []
    for i, entry in enumerate(as_list(value)):
        where = f"{entry!r}" if isinstance(entry, str) else f"entry {i + 1}"
        try:
            if _is_file(entry):
                lines, bad = _lines(entry["file"])
                prompts += map(parse, lines)
                wrong += bad
            else:
                prompts.append(parse(entry, open_files))
        except ValueError as error:
            wrong.append(f"{where}: {error}")
    if wrong:
        more = [f"and {len(wrong) - 5} more"] if len(wrong) > 5 else []
        raise ValueError(f"{_FORMS}; {'; '.join(wrong[:5] + more)}")
    return prompts


def texts_of(*prompts: Prompt, at: float | None = None) -> list[str]:
    """Every text of some prompts; with ``at``, only those with a positive weight at this progress of the run."""
    entries = [(entry, entry.text) for prompt in prompts for entry in prompt.entries]
    return [text for entry, text in entries if text and (at is None or entry.weight_at(at) > 0)]


def expand_files(value: Any) -> Any:
    """Replace files by their lines, so that a record needs no file; return a value with mistakes unchanged."""
    if not any(_is_file(entry) for entry in as_list(value)):
        return value
    expanded = []
    for entry in as_list(value):
        try:
            lines, bad = _lines(entry["file"]) if _is_file(entry) else ([entry], [])
        except ValueError:
            return value
        if bad:
            return value
        expanded += lines
    return expanded


def as_list(value: Any) -> list[Any]:
    """The entries of a config value as a list: one, a list of them, or nothing."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _is_file(entry: Any) -> TypeGuard[Mapping[str, str]]:
    return isinstance(entry, Mapping) and set(entry) == {"file"}


def _weight(value: Any) -> float | AnySchedule:
    if isinstance(value, Mapping):
        try:
            numbers = sample(value)
        except ValueError as error:
            why = str(error) or error.__cause__
            raise ValueError(f"its weight is no schedule: {why}. One is {{points: [[0, 1], [.5, 0]]}}") from None
        if not all(map(math.isfinite, numbers)) or not any(numbers):
            raise ValueError("its weight is 0 all the time, or no finite number")
        return schedule(value)
    if not is_number(value) or value == 0:
        raise ValueError(f"its weight is {shown(value)}; it may be any number but 0")
    return float(value)


def _stop(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value <= 1:
        raise ValueError(f"its stop is {shown(value)}; it is a cosine similarity, a number from -1 to 1")
    return float(value)


def _lines(path: Any) -> tuple[list[Any], list[str]]:
    """The valid entries of a file, and what is wrong with the others."""
    try:
        refuse_endless(Path(path))
        content = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file") from None
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a text file in UTF-8 ({error})") from None
    good, bad = [], []
    for number, line in enumerate(content.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            entry = _long_form(line) if line.startswith("{") else line
            parse(entry, open_files=True)  # here, where the line number is known
            good.append(entry)
        except ValueError as error:
            bad.append(f"{path} line {number}: {error}")
    if not good and not bad:
        raise ValueError(f"{path}: no prompt in it")
    return good, bad


def _long_form(line: str) -> Any:
    try:
        return read_yaml(line)
    except ValueError:
        raise ValueError("begins like {text: …} and is not of that form") from None
