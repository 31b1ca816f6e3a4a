"""Finds the keys by which pictures of runs differ, and says their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from vqclip.compare.pictures import Picture
from vqclip.config.grammar import nested
from vqclip.errors import UserError

__all__ = ["axes", "distinct_values", "format_value", "further_keys", "swept_keys"]


def axes(pictures: Sequence[Picture]) -> list[str]:
    """Keys that tell the pictures apart, each one more than those before it.

    Swept ones come first, then the experiment, then what else differs, first of it what all have; prompt and seed last,
    and what a run was asked to include only where its prompts do not tell.  A run that lost its config differs in every
    key, and so tells nothing of them.
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
    """Keys in which the pictures differ beside ``keys``, their axes: swept ones, then others, of which all may move
    together.  Of prompt and seed each picture has its own, so what the run was asked for is left out where they tell,
    and the prompt where an axis is what was asked for.
    """
    pictures = [picture for picture in pictures if picture.config]
    made = [picture for picture in pictures if picture.entry]  # what failed before has no prompt of its own
    told = {"seed", *keys}
    both = _groups(made, ["prompt", "prompts.include"])
    if made == pictures and both == _groups(made, ["prompt"]):
        told.add("prompts.include")
    if "prompts.include" in keys and both == _groups(made, ["prompts.include"]):
        told.add("prompt")
    found = dict.fromkeys([*swept_keys(pictures), "experiment", "prompt", *_settings(pictures), *_changed(pictures)])
    return [key for key in found if key not in told and _groups(made if key == "prompt" else pictures, [key]) > 1]


def swept_keys(pictures: Sequence[Picture]) -> list[str]:
    """The keys that the sweeps of these pictures swept, in the order they are met."""
    return list(dict.fromkeys(key for picture in pictures for key in picture.swept))


def _settings(pictures: Sequence[Picture]) -> list[str]:
    """Keys of configs that are not everywhere alike, first those that all have.  Of a group that is null in some its
    own keys tell more.
    """
    flat = [picture.settings for picture in pictures]
    found = {key for config in flat for key, value in config.items() if value is not None}
    differ = [key for key in found if any(config.get(key, ...) != flat[0].get(key, ...) for config in flat)]
    return sorted(differ, key=lambda key: (not all(key in config for config in flat), key))


def _changed(pictures: Sequence[Picture]) -> list[str]:
    """Files that are not everywhere the same, though configs say the same of them: :attr:`Picture.digests`."""
    found: dict[str, dict[str | None, set[str]]] = {}
    for picture in pictures:
        for key, sha in picture.digests.items():
            found.setdefault(key, {}).setdefault(picture.weights.get(key), set()).add(sha)
    return sorted(key for key, by_name in found.items() if any(len(shas) > 1 for shas in by_name.values()))


def _groups(pictures: Sequence[Picture], keys: Sequence[str]) -> int:
    """How many the values of ``keys`` tell apart."""
    return len({tuple(format_value(picture.value(key)) for key in keys) for picture in pictures})


def format_value(value: Any) -> str:
    """A value as it is typed; in twelve digits, of which 0.1 + 0.2 is 0.3."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, list):
        return ", ".join(map(format_value, value))
    if isinstance(value, Mapping):
        with suppress(UserError):  # what a stranger's file may hold, and no command
            return nested(value)
    return "" if value is None else str(value)


def distinct_values(pictures: Iterable[Picture], key: str) -> list[str]:
    """The values of a key: numbers by size, others as they come, none after them."""

    def place(value: str) -> tuple[int, float]:
        if value in ("", "null"):
            return 2, 0
        try:
            return 0, float(value)
        except ValueError:  # a text, a schedule
            return 1, 0

    return sorted(dict.fromkeys(format_value(picture.value(key)) for picture in pictures), key=place)
