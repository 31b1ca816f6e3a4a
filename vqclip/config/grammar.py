"""Quotes and unquotes values in Hydra's override grammar, and names jobs by their overrides."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from vqclip.errors import UserError, shown

__all__ = [
    "NAME_LENGTH",
    "PLAIN",
    "as_typed",
    "in_quotes",
    "is_list",
    "job_name",
    "nested",
    "quote",
    "quote_where_needed",
    "short_names",
    "unquoted",
    "without_interpolations",
]

#: Types of config values, for messages.
PLAIN = "texts, numbers, true, false, null, lists and mappings"


def quote(text: str) -> str:
    """Quote a string as one value of Hydra's override grammar, with interpolations escaped."""
    return in_quotes(without_interpolations(text))


def in_quotes(text: str, mark: str = '"') -> str:
    """Like :func:`quote`, but interpolations in the string stay active."""
    # In a quoted value, backslashes are escapes only before a quote and at the end.
    escaped = re.sub(rf"(\\*){mark}", lambda m: m[1] * 2 + "\\" + mark, text)
    escaped = re.sub(r"(\\+)$", lambda m: m[1] * 2, escaped)
    return f"{mark}{escaped}{mark}"


def without_interpolations(text: str) -> str:
    """Escape ``${`` for OmegaConf, whatever backslashes precede it."""
    return re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", text)


def quote_where_needed(text: str) -> str:
    """A string as one value of Hydra's override grammar, without quotes if it needs none."""
    return text if re.fullmatch(r"[\w./-]+", text) else quote(text)


def unquoted(value: str) -> str:
    """Remove quotes and escapes from a string value of Hydra's override grammar; return other values as typed."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # quote() must work without importing Hydra

    meant = OverridesParser.create().parse_override(f"key={value}").value()
    return re.sub(r"(\\+)\$\{", lambda m: m[1][: len(m[1]) // 2] + "${", meant) if isinstance(meant, str) else value


def is_list(value: Any) -> bool:
    """Whether a value is a list, a tuple or OmegaConf's list."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def nested(value: Any) -> str:
    """A Python value in Hydra's override grammar, with strings quoted.

    Raises:
        UserError: no config can hold it.
    """
    if hasattr(value, "tolist"):  # a number or array of NumPy or torch
        value = value.tolist()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        return quote(str(value))
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{nested(item)}" for key, item in value.items()) + "}"
    if is_list(value):
        return "[" + ",".join(map(nested, value)) + "]"
    raise UserError(f"{shown(value)}: a {type(value).__name__}, which no config can hold. Allowed: {PLAIN}")


def as_typed(key: str, value: Any) -> str:
    """``key=value`` quoted for a shell, for a command in a message."""
    return shlex.quote(f"{key}={quote_where_needed(value) if isinstance(value, str) else nested(value)}")


def short_names(keys: Collection[str]) -> list[str]:
    """Keys shortened to their last parts, as many as distinguish them; ``noise._target_`` becomes ``noise``."""
    # inputs.PATH is split at slashes only, since file names contain dots.
    words = [
        re.split("(?<=/)" if key.startswith("inputs.") else "(?<=[./])", key.removesuffix("._target_")) for key in keys
    ]
    ends = [["".join(own[-n:]) for n in range(1, len(own) + 1)] for own in words]
    times = Counter(end for own in ends for end in own)
    return [next((end for end in own if times[end] == 1), key) for key, own in zip(keys, ends, strict=True)]


#: Longest run name that W&B's pages show in full.
NAME_LENGTH = 64


def job_name(swept: Mapping[str, str]) -> str:
    """``alpha=.5 beta=0``: swept keys by their short names, at most 64 characters."""
    name = " ".join(f"{key}={value}" for key, value in zip(short_names(swept), swept.values(), strict=True))
    if len(name) <= NAME_LENGTH:
        return name
    from vqclip.config.resolve import identity  # imports OmegaConf, which is slow

    return f"{name[: NAME_LENGTH - 7]}…{identity(swept)[:6]}"  # keeps names of equal beginning apart
