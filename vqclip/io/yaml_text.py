"""Reads YAML from strangers as plain data, or refuses it."""

from __future__ import annotations

from typing import Any

__all__ = ["TooManyValues", "read_yaml"]

#: Values of the largest file that is read, each counted wherever an alias repeats it; a config has some hundred.
_MOST = 200_000
#: A whole number beyond it is no value of ours, and Python prints none of more than 4,300 digits.
_LARGEST = 10**400


class TooManyValues(ValueError):
    """Aliases of aliases make so many values of a text that no copy of it would fit into memory."""


def read_yaml(text: str) -> Any:
    """Plain data.

    Raises:
        TooManyValues: by aliases of aliases.
        ValueError: no YAML.
    """
    import yaml

    try:
        found = yaml.safe_load(text)
    # Its constructors of !!int, !!bool, !!float and !!timestamp raise whatever they come upon.
    except (yaml.YAMLError, ValueError, KeyError, IndexError, AttributeError, TypeError, RecursionError) as error:
        what = (str(error) or type(error).__name__).splitlines()[0]
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
            what = f"line {error.problem_mark.line + 1}: {error.problem}"
        raise ValueError(f"no YAML ({what})") from None
    _check_extent(found)
    return found


def _check_extent(value: Any) -> None:
    """Refuse what is without end, or as good as."""
    waiting, seen = [value], 0
    while waiting:
        item = waiting.pop()
        seen += 1
        if seen + len(waiting) > _MOST:
            raise TooManyValues(f"it has more than {_MOST} values, by aliases of aliases")
        if isinstance(item, int) and abs(item) > _LARGEST:
            raise ValueError("it has a number of more than 400 digits")
        if isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list | tuple | set):
            waiting += item
