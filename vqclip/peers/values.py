"""Formats values of other programs' settings for config lines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["Given", "NoEqual", "filled", "number", "value_of"]

#: All given settings.
Given = Mapping[str, Any]


class NoEqual(Exception):
    """There is no equivalent for this value; the message says what comes nearest."""


def value_of(value: Any) -> str:
    """A value for a config line: plain words bare, other data as JSON, which is valid YAML."""
    if isinstance(value, str) and re.fullmatch(r"[\w./-]+", value):
        return value
    return json.dumps(value, ensure_ascii=False)


def filled(line: str, value: Any) -> str:
    """Fill ``{}`` in a table's line; if it is part of a larger text, the whole text is quoted."""
    key, equals, text = line.partition("=")
    if "{}" not in text:
        return line
    return f"{key}{equals}{value_of(value if text == '{}' else text.replace('{}', str(value)))}"


def number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise NoEqual(
            f"a formula ({value}). Allowed here: a number, or a schedule {{points: [[0, 1], [1, 0]]}}"
        ) from None
