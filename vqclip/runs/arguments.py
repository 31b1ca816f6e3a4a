"""Python values as overrides of the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqclip.config.grammar import quote
from vqclip.errors import UserError

__all__ = ["as_overrides"]


def as_overrides(
    prompt: str | Sequence[str] | None,
    overrides: Sequence[str] | Mapping[str, Any],
    keys: Mapping[str, Any],
    swept: bool = False,
) -> list[str]:
    """What the command line would be given.

    Args:
        swept: whether a list among the values is several values of its key.

    Raises:
        UserError: a value that no config can hold.
    """
    if isinstance(overrides, str):
        raise UserError(
            f"overrides={overrides!r}: a text. Allowed: a list or a mapping. Try: overrides=[{overrides!r}]"
        )
    texts = [prompt] if isinstance(prompt, str) else list(prompt or [])
    if any(not isinstance(text, str) or not text.strip() for text in texts):
        raise UserError(f"prompt={prompt!r}: not allowed. Allowed: a text that is not blank, or a list of such texts")
    words, given = ([], {**overrides, **keys}) if isinstance(overrides, Mapping) else ([*overrides], keys)
    words += [f"{key}={choices_of(key, value) if swept else value_of(value)}" for key, value in given.items()]
    return [*words, *([f"prompts.include=[{','.join(map(quote, texts))}]"] if texts else [])]


def value_of(value: Any) -> str:
    """A value in Hydra's grammar: a text is taken as it would be typed, texts inside lists and mappings are quoted."""
    if isinstance(value, str | Path):
        return str(value)
    return _nested(value)


def choices_of(key: str, value: Any) -> str:
    """A list as Hydra's choices, anything else as one value."""
    if not isinstance(value, list):
        return value_of(value)
    if not value:
        raise UserError(f"{key}=[]: nothing to sweep over. Allowed: one value or more; () is an empty list")
    return ",".join(
        item if isinstance(item, str) and re.fullmatch(r"[\w./-]+", item) else _nested(item) for item in value
    )


def _nested(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        return quote(str(value))
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_nested(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_nested, value)) + "]"
    raise UserError(f"{value!r}: no config can hold it. Allowed: texts, numbers, true, false, null, lists and mappings")
