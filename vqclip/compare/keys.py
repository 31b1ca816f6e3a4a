"""Finds the config keys in which pictures of runs differ, and formats their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from vqclip.compare.pictures import Picture
from vqclip.config.grammar import nested
from vqclip.errors import UserError

__all__ = ["axes", "distinct_values", "format_value", "further_keys", "swept_keys"]


def axes(pictures: Sequence[Picture]) -> list[str]:
    """Keys that tell the pictures apart; each distinguishes more of them than those before it.

    Swept keys come first, then the experiment, then other keys that differ (those that all runs have first), then
    prompt and seed.  ``prompts.include`` is used only if prompts do not distinguish the pictures.  Runs without a
    config are ignored, since they differ in every key.
    """
    pictures = [picture for picture in pictures if picture.config]
    of_reports = ["prompt", "picture seed"]
    asked = ["prompts.include"] if all(picture.entry for picture in pictures) else []
    rest = [key for key in _settings(pictures) if key not in asked]
    kept: list[str] = []
    groups = 1
    for key in dict.fromkeys([*swept_keys(pictures), "experiment", *rest, *of_reports, *asked]):
        refined = _groups(pictures, [*kept, key])
        if refined > groups:
            kept.append(key)
            groups = refined
    return kept


def further_keys(pictures: Sequence[Picture], keys: Sequence[str]) -> list[str]:
    """Further keys in which the pictures differ beside their axes ``keys``: swept keys first, then others.

    Every picture has a prompt and a seed of its own, so ``prompts.include`` and ``seed`` of the run are left out if
    those distinguish the pictures, and the prompt is left out if ``prompts.include`` is an axis.
    """
    pictures = [picture for picture in pictures if picture.config]
    made = [picture for picture in pictures if picture.entry]  # a run that failed early has no pictures with prompts
    told = {"seed", *keys}
    both = _groups(made, ["prompt", "prompts.include"])
    if made == pictures and both == _groups(made, ["prompt"]):
        told.add("prompts.include")
    if "prompts.include" in keys and both == _groups(made, ["prompts.include"]):
        told.add("prompt")
    found = dict.fromkeys([*swept_keys(pictures), "experiment", "prompt", *_settings(pictures), *_changed(pictures)])
    return [key for key in found if key not in told and _groups(made if key == "prompt" else pictures, [key]) > 1]


def swept_keys(pictures: Sequence[Picture]) -> list[str]:
    """The swept keys of all pictures, in order of first occurrence."""
    return list(dict.fromkeys(key for picture in pictures for key in picture.swept))


def _settings(pictures: Sequence[Picture]) -> list[str]:
    """Config keys whose values differ, those that all runs have first.

    A key that is null in every run that has it is left out: if a group is null in some runs, the keys in it say more.
    """
    flat = [picture.settings for picture in pictures]
    found = {key for config in flat for key, value in config.items() if value is not None}
    differ = [key for key in found if any(config.get(key, ...) != flat[0].get(key, ...) for config in flat)]
    return sorted(differ, key=lambda key: (not all(key in config for config in flat), key))


def _changed(pictures: Sequence[Picture]) -> list[str]:
    """Files with different content under the same name in the configs: keys of :attr:`Picture.digests`."""
    found: dict[str, dict[str | None, set[str]]] = {}
    for picture in pictures:
        for key, sha in picture.digests.items():
            found.setdefault(key, {}).setdefault(picture.weights.get(key), set()).add(sha)
    return sorted(key for key, by_name in found.items() if any(len(shas) > 1 for shas in by_name.values()))


def _groups(pictures: Sequence[Picture], keys: Sequence[str]) -> int:
    """How many pictures the values of ``keys`` distinguish."""
    return len({tuple(format_value(picture.value(key)) for key in keys) for picture in pictures})


def format_value(value: Any) -> str:
    """A value as one would type it; numbers with twelve digits, so that 0.1 + 0.2 is 0.3."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, list):
        return ", ".join(map(format_value, value))
    if isinstance(value, Mapping):
        with suppress(UserError):  # an untrusted file may hold what cannot be typed
            return nested(value)
    return "" if value is None else str(value)


def distinct_values(pictures: Iterable[Picture], key: str) -> list[str]:
    """The distinct values of a key: numbers sorted, then others in order of occurrence, then missing ones."""

    def place(value: str) -> tuple[int, float]:
        if value in ("", "null"):
            return 2, 0
        try:
            return 0, float(value)
        except ValueError:  # not a number
            return 1, 0

    return sorted(dict.fromkeys(format_value(picture.value(key)) for picture in pictures), key=place)
