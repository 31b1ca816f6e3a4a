"""Checks the files of a run folder against JSON schemas (``schemas/*.schema.json``) and their format number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from vqclip.errors import UserError

__all__ = ["FORMAT", "problem_in", "refuse_newer"]

#: Format of run.json, config.yaml and the record in a PNG.  Older files have no number and can be read.
FORMAT = 1

_TYPES = {
    "object": Mapping,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


def refuse_newer(value: Any, path: Path) -> None:
    """Refuse a file that a newer vqclip wrote.

    Raises:
        UserError: the file has a later format number.
    """
    number = value.get("format", 0) if isinstance(value, Mapping) else 0
    if type(number) is int and number > FORMAT:
        raise UserError(
            f"{path}: a newer vqclip wrote it, in format {number}. Allowed: up to {FORMAT}. Try: pip install -U vqclip"
        )


def problem_in(value: Any, name: str, part: str = "") -> str | None:
    """What is wrong with the content of a file, in a few words; None if it matches the schema ``name``.

    Args:
        part: name in the schema's definitions, if ``value`` is not a whole file.
    """
    root = _schema(name)
    return next(_problems(value, root["$defs"][part] if part else root, root, ""), None)


@cache
def _schema(name: str) -> dict[str, Any]:
    file = resources.files("vqclip.runs") / "schemas" / f"{name}.schema.json"
    return json.loads(file.read_text(encoding="utf-8"))


def _problems(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], path: str) -> Iterator[str]:
    """Validate the subset of JSON Schema that our schemas use."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "type" in schema and not _is_a(value, schema["type"]):
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        yield f"{path or 'the whole'} is {_short(value)}, not of type {' or '.join(types)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path} is {_short(value)}, none of {', '.join(schema['enum'])}"
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{path} is {_short(value)}, out of range"
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{path} has {len(value) or 'no'} items"
        for i, item in enumerate(value):
            yield from _problems(item, schema.get("items", {}), root, f"{path}[{i}]")
    elif isinstance(value, Mapping):
        yield from _object_problems(value, schema, root, f"{path}." if path else "")


def _object_problems(value: Mapping, schema: Mapping[str, Any], root: Mapping[str, Any], path: str) -> Iterator[str]:
    yield from (f"{path}{key} is missing" for key in schema.get("required", ()) if key not in value)
    known, other = schema.get("properties", {}), schema.get("additionalProperties", {})
    for key, item in value.items():
        yield from _problems(item, known.get(key, other), root, f"{path}{key}")


def _is_a(value: Any, types: str | list[str]) -> bool:
    names = types if isinstance(types, list) else [types]
    return any(isinstance(value, _TYPES[name]) and not isinstance(value, bool) for name in names)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
