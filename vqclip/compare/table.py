"""``results.csv``: one row per picture, one column per key that differs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqclip.compare.keys import format_value
from vqclip.compare.pictures import Picture
from vqclip.io.files import csv_bytes
from vqclip.paths import relative_where_possible

__all__ = ["table", "table_row"]


def table(pictures: Sequence[Picture], keys: Sequence[str], further: Sequence[str], out: Path) -> bytes:
    """Make ``results.csv``: the columns of :func:`table_row`, then the other settings that differ.

    Args:
        keys: swept keys.
        further: the other settings that differ.
        out: the folder of the table, to which its paths are relative.
    """
    rows = [table_row(picture, keys, out) for picture in pictures]
    names = dict.fromkeys(name for row in rows for name in row)  # also those that only later rows have
    others = [key for key in further if key not in names]
    settings = [{key: format_value(picture.value(key)) for key in others} for picture in pictures]
    return csv_bytes([names | row | own for row, own in zip(rows, settings, strict=True)])


def table_row(picture: Picture, keys: Sequence[str], out: Path) -> dict[str, Any]:
    """A picture's run, status, values of ``keys``, prompt, scores and files; arguments as in :func:`table`."""
    entry, report = picture.entry, picture.report
    row = {"run": relative_where_possible(picture.run, out), "picture": picture.index, "status": report.get("status")}
    row |= {key: format_value(picture.value(key)) for key in keys}
    row |= {key: value for key, value in picture.swept.items() if key not in row}
    row |= {
        "prompt": entry.get("prompt"),
        "seed": entry.get("seed", picture.config.get("seed")),
        "judge": entry.get("judge"),
    }
    for name in ("best", "final"):
        row |= {f"{name}.{key}": value for key, value in (entry.get(name) or {}).items()}
    row |= {"seconds": report.get("seconds"), "error": report.get("reason") or report.get("error")}
    row |= {"started": report.get("started"), "wandb": report.get("wandb"), "command": picture.command}
    versions = report.get("versions")
    row |= {f"version.{name}": version for name, version in versions.items()} if isinstance(versions, dict) else {}
    row["file"] = relative_where_possible(picture.file, out) if picture.file else None
    return row
