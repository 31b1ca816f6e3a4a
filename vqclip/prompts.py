"""Prompts: what an entry of ``prompts.include``, ``exclude`` and ``extras`` may be.

    a red fox                          a text
    a red fox:2                        a text that weighs 2
    {text: "a red fox", weight: 2}     the same; here the text is taken as it stands
    {image: fox.png, weight: 0.5}      a picture
    {file: prompts.txt}                every line of a file: an entry of the forms above; # begins a remark

The short form ends in a colon and a number, with neither space nor digit before the colon: ``16:9`` and ``at 10:30``
are text.  ``\\:`` is a colon that means itself: ``Blade Runner\\:2049``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vqclip.io.images import open_picture

__all__ = ["Prompt", "expand_files", "parse", "parse_prompts"]

_WEIGHED = re.compile(r"(.*[^\d\s\\]):([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*", re.IGNORECASE | re.DOTALL)


_FORMS = 'a text, {text: "…", weight: 2}, {image: PATH, weight: 2} or {file: PATH}'


@dataclass(frozen=True)
class Prompt:
    """A text or a picture, and what it weighs against the others of its target."""

    text: str | None = None
    image: str | None = None
    weight: float = 1.0

    @property
    def label(self) -> str:
        """The text, or the picture's path."""
        return self.text or self.image


def parse(entry: Any) -> Prompt:
    """One entry, other than a file.

    Raises:
        ValueError: it is none, with what is wrong.
    """
    if isinstance(entry, str):
        if not entry.strip():
            raise ValueError("an empty text")
        if re.fullmatch(r"\s*:[-+]?[\d.]+\s*", entry):
            raise ValueError("a weight without a text before it")
        weighed = _WEIGHED.fullmatch(entry)
        text, weight = weighed.groups() if weighed else (entry, 1)
        return Prompt(text=text.replace(r"\:", ":"), weight=_weight(float(weight)))
    if not isinstance(entry, Mapping):
        raise ValueError(f"neither a text nor one of its longer forms; a number goes in quotes: '\"{entry}\"'")
    if unknown := sorted(map(str, set(entry) - {"text", "image", "weight"})):
        raise ValueError(f"there is no {', '.join(unknown)} in a prompt")
    if len({"text", "image"} & set(entry)) != 1:
        raise ValueError("it needs a text or an image, and not both")
    kind = "text" if "text" in entry else "image"
    if not isinstance(entry[kind], str) or not entry[kind].strip():
        raise ValueError(f"its {kind} is {entry[kind]!r}")
    if kind == "image":
        open_picture(entry["image"])
    return Prompt(**{kind: entry[kind]}, weight=_weight(entry.get("weight", 1)))


def parse_prompts(value: Any) -> list[Prompt]:
    """The prompts of a config value: one entry, a list of them, or nothing.

    Raises:
        ValueError: some are none, each with what is wrong and its place in the list or file.
    """
    prompts, wrong = [], []
    for i, entry in enumerate(_listed(value)):
        where = f"{entry!r}" if isinstance(entry, str) else f"entry {i + 1}"
        try:
            if _is_file(entry):
                lines, bad = _lines(entry["file"])
                prompts += [parse(content) for _, content in lines]
                wrong += bad
            else:
                prompts.append(parse(entry))
        except ValueError as error:
            wrong.append(f"{where}: {error}")
    if wrong:
        more = [f"and {len(wrong) - 5} more"] if len(wrong) > 5 else []
        raise ValueError(f"{_FORMS}; {'; '.join(wrong[:5] + more)}")
    return prompts


def expand_files(value: Any) -> Any:
    """A config value with the lines of files in their place, so that a record needs no file; what is wrong stays."""
    if not any(_is_file(entry) for entry in _listed(value)):
        return value
    made = []
    for entry in _listed(value):
        try:
            lines, bad = _lines(entry["file"]) if _is_file(entry) else ([(0, entry)], [])
        except ValueError:
            return value
        if bad:
            return value
        made += [content for _, content in lines]
    return made


def _listed(value: Any) -> list[Any]:
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _is_file(entry: Any) -> bool:
    return isinstance(entry, Mapping) and set(entry) == {"file"}


def _weight(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value == 0:
        raise ValueError(f"its weight is {value}; it may be any number but 0")
    return float(value)


def _lines(path: Any) -> tuple[list[tuple[int, Any]], list[str]]:
    """The entries of a file with their line numbers, and what is wrong with the others."""
    try:
        content = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, TypeError) as error:
        raise ValueError(f"{path}: not a text file in UTF-8 ({error})") from None
    good, bad = [], []
    for number, line in enumerate(content.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            entry = yaml.safe_load(line) if line.startswith("{") else line
            parse(entry)
            good.append((number, entry))
        except (ValueError, yaml.YAMLError) as error:
            reason = error if isinstance(error, ValueError) else "begins like {text: …} and is not of that form"
            bad.append(f"{path} line {number}: {reason}")
    if not good and not bad:
        raise ValueError(f"{path}: no prompt in it")
    return good, bad
