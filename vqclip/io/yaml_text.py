"""Reads untrusted YAML and JSON as plain data, or refuses it."""

from __future__ import annotations

import json
import math
import re
import sys
from typing import Any

from vqclip.errors import is_text

__all__ = ["TooManyValues", "read_json", "read_yaml"]

#: Maximum number of values in a file, counted once per alias; a config has some hundred.
_MOST = 200_000
#: Maximum nesting; a config has eight levels, and recursion over some hundred overflows Python's stack.
_DEEPEST = 40
#: A number in base sixty that is far too long: PyYAML takes quadratic time for it.
_SIXTIES = re.compile(r"(?::[0-5]?[0-9]){50}")


class TooManyValues(ValueError):
    """Nested aliases expand to more values than fit into memory."""


def read_yaml(text: str, own: bool = False) -> Any:
    """Parse YAML as plain data.

    Args:
        own: whether vqclip or Hydra wrote the file.  Such files are read by libyaml, ten times as fast; for files that
            a person may have typed it differs from PyYAML in details (tabs, a lone ``!``) and explains mistakes less.

    Raises:
        TooManyValues: nested aliases.
        ValueError: it is not YAML.
    """
    import yaml

    if _SIXTIES.search(text):
        raise ValueError("no YAML (a number in sixties of more than 50 places, 1:59:59…)")
    try:
        found = _quick(text) if own else yaml.safe_load(text)
    # Its constructors of !!int, !!bool, !!float and !!timestamp raise various exceptions.
    except (yaml.YAMLError, ValueError, KeyError, IndexError, AttributeError, TypeError, RecursionError) as error:
        what = (str(error) or type(error).__name__).splitlines()[0]
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
            what = f"line {error.problem_mark.line + 1}: {error.problem}"
        raise ValueError(f"no YAML ({what})") from None
    _check_extent(found)
    return found


def _quick(text: str) -> Any:
    """Parse with libyaml, which refuses more than a thousand levels; leave error messages to PyYAML."""
    import yaml

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError):
        return yaml.safe_load(text)


def read_json(text: str | bytes) -> Any:
    """Parse JSON as plain data.

    Raises:
        ValueError: it is not JSON, or has what :func:`read_yaml` refuses.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON ({error})") from None
    _check_extent(found, most=math.inf)  # JSON has no aliases that could multiply values
    return found


def _check_extent(value: Any, most: float = _MOST) -> None:
    """Refuse data with too many values, too deep nesting, or values that cannot be written or computed with."""
    waiting, seen = [(value, 0)], 0
    while waiting:
        item, depth = waiting.pop()
        seen += 1
        if seen + len(waiting) > most:
            raise TooManyValues(f"it has more than {_MOST} values, by aliases of aliases")
        if depth > _DEEPEST:
            raise ValueError(f"it is nested too deep: more than {_DEEPEST} levels, or aliases of themselves")
        if isinstance(item, int) and abs(item) > sys.float_info.max:
            raise ValueError("it has a number that is too large for any use")
        if isinstance(item, str) and not is_text(item):
            raise ValueError(f"it has half a surrogate pair, {item[:40]!r}")
        if isinstance(item, dict):
            waiting += [(inner, depth + 1) for inner in (*item, *item.values())]
        elif isinstance(item, list | tuple | set):
            waiting += [(inner, depth + 1) for inner in item]
