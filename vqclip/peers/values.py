"""Writes values of other programs' settings as config lines of ours have them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["Given", "NoEqual", "filled", "number", "value_of"]

#: All settings that were given.
Given = Mapping[str, Any]


class NoEqual(Exception):
    """There is nothing here for this value; the text says what comes nearest."""


def value_of(value: Any) -> str:
    """A value as a config line has it: plain data in JSON, which is YAML; a plain word bare."""
    if isinstance(value, str) and re.fullmatch(r"[\w./-]+", value):
        return value
    return json.dumps(value, ensure_ascii=False)


def filled(line: str, value: Any) -> str:
    """A table's line with ``{}`` filled in, quoted as a whole where it is part of a larger text."""
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
