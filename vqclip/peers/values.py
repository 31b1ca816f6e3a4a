"""Writes values of other programs' settings as config lines of ours have them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["Given", "NoEqual", "number", "value_of"]

#: All settings that were given.
Given = Mapping[str, Any]


class NoEqual(Exception):
    """There is nothing here for this value; the text says what comes nearest."""


def value_of(value: Any) -> str:
    """A value as a config line has it: plain data in JSON, which is YAML; a plain word bare."""
    if isinstance(value, str) and re.fullmatch(r"[\w./-]+", value):
        return value
    return json.dumps(value, ensure_ascii=False)


def number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise NoEqual(
            f"a formula ({value}). Allowed here: a number, or a schedule {{points: [[0, 1], [1, 0]]}}"
        ) from None
