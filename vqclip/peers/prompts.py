"""Parses prompts of other programs: ``a fox:2 | a forest:1:.5 | blurry:-1 ^ the next scene``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from vqclip.peers.values import NoEqual
from vqclip.prompts import NUMBER, Prompt, parse

__all__ = ["NOT_READ", "Part", "override_of", "scenes"]

#: pytti's weights by a formula of the time, and masks: ``:2*sin(t)``, ``:1_[mask.png]``, ``:1_fog``.
NOT_READ = re.compile(r":\s*(?:[^:|\s]*_[^:|]*|[^:|]*[*()\[\]][^:|]*|-?t)$")
#: A text, and the last one or two numbers behind colons: a weight, and a stop.
_PART = re.compile(rf"(.*?[^\s:])\s*:\s*{NUMBER}(?:\s*:\s*{NUMBER})?", re.DOTALL)


@dataclass(frozen=True)
class Part:
    """One text among those that are mixed in a picture."""

    text: str
    weight: float = 1.0
    stop: float | None = None  #: a spherical distance, below which it no longer pulls

    @property
    def entry(self) -> str | dict[str, Any]:
        """As an entry of ``prompts.include``, the weight positive: in short, where our short form reads it so."""
        text, weight = re.sub(r":(?=[-+.\d])", r"\\:", self.text), f"{abs(self.weight):g}"
        short = text if weight == "1" else f"{text}:{weight}"
        stop = None
        if self.stop is not None:
            short = f"{text}:{weight}:{self.stop:g}"
            stop = parse(f"a:1:{self.stop:g}").stop
        if parse(short) == Prompt(text=self.text, weight=float(weight), stop=stop):
            return short
        return {"text": self.text, "weight": float(weight)} | ({} if stop is None else {"stop": round(stop, 6)})


def scenes(prompt: str) -> list[list[Part]]:
    """The texts of every scene: ``^`` or ``||`` begins the next, ``|`` is between texts of one picture.

    What is behind a text's colon and no number stays part of the text; formulas and masks are told by ``NOT_READ``.
    """
    return [
        [_part(word) for word in re.split(r"\s*\|\s*", scene) if word.strip()]
        for scene in re.split(r"\s*\^\s*|\s*\|\|\s*|\s*\n+\s*", prompt)
        if scene.strip(" |")
    ]


def _part(word: str) -> Part:
    found = _PART.fullmatch(word.strip())
    if not found:
        return Part(word.strip())
    stop = float(found[3]) if found[3] else None
    text = re.sub(r'^"(.*)"$', r"\1", found[1].strip())
    return Part(text, float(found[2]), None if stop is None or stop < 0 else stop)


def override_of(parts: list[Part]) -> tuple[object, list[str | dict[str, Any]]]:
    """One scene as an entry of ``prompts.include``, and the texts it stays away from.

    Raises:
        NoEqual: it only stays away.
    """
    towards = [part.entry for part in parts if part.weight > 0]
    away = [part.entry for part in parts if part.weight < 0]
    if not towards:
        raise NoEqual("no text that attracts. Try: prompts.include=TEXT, and prompts.exclude for what is not wanted")
    return (towards[0] if len(towards) == 1 else {"parts": towards}), away
