"""Writes and reads texts in Hydra's override grammar, and names jobs by their overrides."""

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

#: What a value of a config can be.
PLAIN = "texts, numbers, true, false, null, lists and mappings"


def quote(text: str) -> str:
    """A text as one quoted value of Hydra's override grammar, whatever it holds."""
    return in_quotes(without_interpolations(text))


def in_quotes(text: str, mark: str = '"') -> str:
    """As :func:`quote`, with the interpolations that are in the text."""
    # In a quoted value a run of backslashes is an escape only where a quote follows, or the end.
    escaped = re.sub(rf"(\\*){mark}", lambda m: m[1] * 2 + "\\" + mark, text)
    escaped = re.sub(r"(\\+)$", lambda m: m[1] * 2, escaped)
    return f"{mark}{escaped}{mark}"


def without_interpolations(text: str) -> str:
    """A text in which ``${`` means itself to OmegaConf, whatever backslashes stand before it."""
    return re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", text)


def quote_where_needed(text: str) -> str:
    """A text as one value of Hydra's override grammar, for a command that a person reads: bare where it can be."""
    return text if re.fullmatch(r"[\w./-]+", text) else quote(text)


def unquoted(value: str) -> str:
    """A value of Hydra's override grammar as it is meant: a text without its quotes and escapes, all else as typed."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # quote() is asked before Hydra is there

    meant = OverridesParser.create().parse_override(f"key={value}").value()
    return re.sub(r"(\\+)\$\{", lambda m: m[1][: len(m[1]) // 2] + "${", meant) if isinstance(meant, str) else value


def is_list(value: Any) -> bool:
    """Whether a value is a list, a tuple or OmegaConf's list."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def nested(value: Any) -> str:
    """A value inside a list or a mapping of Hydra's override grammar.

    Raises:
        UserError: no config can hold it.
    """
    if hasattr(value, "tolist"):  # of NumPy or torch: a number, or an array
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
    """``key=value`` as a person types it in a shell, for a command in a message."""
    return shlex.quote(f"{key}={quote_where_needed(value) if isinstance(value, str) else nested(value)}")


def short_names(keys: Collection[str]) -> list[str]:
    """Keys by their last word, or as many of the last ones as tell them apart; ``noise._target_`` is ``noise``."""
    # A file's name has dots of its own: by its last word it would be called png.
    words = [
        re.split("(?<=/)" if key.startswith("inputs.") else "(?<=[./])", key.removesuffix("._target_")) for key in keys
    ]
    ends = [["".join(own[-n:]) for n in range(1, len(own) + 1)] for own in words]
    times = Counter(end for own in ends for end in own)
    return [next((end for end in own if times[end] == 1), key) for key, own in zip(keys, ends, strict=True)]


#: W&B's limit on a run's name that its pages still show whole.
NAME_LENGTH = 64


def job_name(swept: Mapping[str, str]) -> str:
    """``alpha=.5 beta=0``: swept keys by their short names, at most 64 characters."""
    name = " ".join(f"{key}={value}" for key, value in zip(short_names(swept), swept.values(), strict=True))
    if len(name) <= NAME_LENGTH:
        return name
    from vqclip.config.resolve import identity  # OmegaConf is slow to import, and quote() is asked first of all

    return f"{name[: NAME_LENGTH - 7]}…{identity(swept)[:6]}"  # two long prompts may begin alike
