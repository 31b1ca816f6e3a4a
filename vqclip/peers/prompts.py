"""Parses prompts of other programs: ``a fox:2 | a forest:1:.5 | blurry:-1 ^ the next scene``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vqclip.io.yaml_text import read_yaml
from vqclip.peers.values import value_of
from vqclip.prompts import NUMBER, Prompt, parse

__all__ = ["NOT_READ", "Part", "entries_of", "parts_of", "picture_of", "scenes", "strength_of_exclude"]

#: pytti's weights with formulas of the time, and masks: ``:2*sin(t)``, ``:1_[mask.png]``, ``:1_fog``.
NOT_READ = re.compile(r":\s*(?:[^:|\s]*_[^:|]*|[^:|]*[*()\[\]][^:|]*|-?t)$")
#: A text with one or two trailing numbers after colons: weight and stop.
_PART = re.compile(rf"(.*?[^\s:])\s*:\s*{NUMBER}(?:\s*:\s*{NUMBER})?", re.DOTALL)


@dataclass(frozen=True)
class Part:
    """One of the texts and pictures that are mixed in a picture."""

    text: str  #: or the picture's path
    weight: float = 1.0
    stop: float | None = None  #: the spherical distance at which it no longer attracts or repels

    @property
    def entry(self) -> str | dict[str, Any]:
        """As an entry of ``prompts.include``, in the short form if that is equivalent."""
        text, weight = re.sub(r":(?=[-+.\d])", r"\\:", self.text), f"{self.weight:g}"
        short = text if weight == "1" else f"{text}:{weight}"
        if self.stop is not None:
            short = f"{text}:{weight}:{self.stop:g}"
        if parse(short) == Prompt(text=self.text, weight=float(weight), stop=self._cosine):
            return short
        return self.mapping()

    @property
    def opposite(self) -> Part:
        """The part with the opposite weight, for ``prompts.exclude``."""
        return replace(self, weight=-self.weight)

    def mapping(self, kind: str = "text") -> dict[str, Any]:
        """As an entry in the long form; ``kind`` is text or image."""
        weight = {} if self.weight == 1 else {"weight": float(self.weight)}
        return {kind: self.text} | weight | ({} if self._cosine is None else {"stop": round(self._cosine, 6)})

    @property
    def _cosine(self) -> float | None:
        return None if self.stop is None else parse(f"a:1:{self.stop:g}").stop


def scenes(prompt: str, prefix: str = "", suffix: str = "") -> list[list[Part]]:
    """Split a prompt into scenes at ``^`` or ``||``, and scenes into texts at ``|``.

    What follows a colon and is not a number stays part of the text; ``NOT_READ`` finds formulas and masks.  Each scene
    is enclosed by ``prefix`` and ``suffix``.
    """
    return [
        parts_of(re.sub(" +", " ", prefix + scene + suffix))
        for scene in re.split(r"\^|\|\||\n", prompt)
        if scene.strip(" \t\r|")
    ]


def parts_of(value: Any) -> list[Part]:
    """The texts or paths of one picture, in a list or separated by ``|``; paths may contain everything else."""
    text = "|".join(value) if isinstance(value, list) else str(value)
    return [_part(word) for word in text.split("|") if word.strip()]


def _part(word: str) -> Part:
    found = _PART.fullmatch(word.strip())
    if not found:
        return Part(word.strip())
    text = re.sub(r'^"(.*)"$', r"\1", found[1].strip())
    weight, stop = float(found[2]), float(found[3]) if found[3] else None
    if stop is None or weight > 0:
        return Part(text, weight, stop if stop is None or stop >= 0 else None)
    # There the distance has the weight's sign, and pulls only above the stop: with a positive stop, never.
    return Part(text, weight, -stop) if stop < 0 else Part(text, 0.0)


def entries_of(found: list[list[Part]]) -> tuple[list[str | dict[str, Any]], list[str | dict[str, Any]]]:
    """Scenes as entries of ``prompts.include``, and the common entries of ``prompts.exclude``.

    If scenes differ in what repels, or nothing attracts, repelling parts are in the scene's own entry.
    """
    away = [[part.opposite.entry for part in scene if part.weight < 0] for scene in found]
    shared = all(own == away[0] for own in away) and all(any(part.weight > 0 for part in scene) for scene in found)
    mixed = [[part.entry for part in scene if part.weight > 0 or (part.weight < 0 and not shared)] for scene in found]
    return [own[0] if len(own) == 1 else {"parts": own} for own in mixed if own], away[0] if shared else []


def picture_of(lines: Sequence[str]) -> list[str]:
    """Combine the lines of all options: without include prompts, the extras become the include prompt."""
    extras = _entries(lines, "prompts.extras")
    if not extras or _entries(lines, "prompts.include"):
        return [*lines, *strength_of_exclude(lines)]
    include = extras if len(extras) == 1 else [{"parts": extras}]
    others = [line for line in lines if not line.startswith("prompts.extras=")]
    return picture_of([*others, f"prompts.include={value_of(include)}"])


def strength_of_exclude(lines: Sequence[str]) -> list[str]:
    """``loss.beta`` if something is excluded: targets are unit vectors here, so it is the ratio of the weights."""
    include, extras, exclude = (_entries(lines, f"prompts.{key}") for key in ("include", "extras", "exclude"))
    towards = sum(map(_weight, include)) / max(1, len(include)) + sum(map(_weight, extras))
    return [f"loss.beta={sum(map(_weight, exclude)) / (towards or 1):.4g}"] if exclude else []


def _entries(lines: Sequence[str], key: str) -> list[Any]:
    """The entries in the lines of a key: only the last line of include counts, others are joined."""
    found = [read_yaml(line.partition("=")[2]) for line in lines if line.startswith(f"{key}=")]
    return [entry for own in (found[-1:] if key.endswith("include") else found) for entry in own]


def _weight(entry: Any) -> float:
    """The positive weight of an entry."""
    if isinstance(entry, str):
        return max(0.0, parse(entry).weight_at(0))
    return sum(map(_weight, entry["parts"])) if "parts" in entry else max(0.0, entry.get("weight", 1.0))
