"""``results.csv``: a row a picture, a column a swept key."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqclip.compare.pictures import Picture, format_value

__all__ = ["table", "table_row"]


def table(pictures: Sequence[Picture], keys: Sequence[str], out: Path) -> bytes:
    rows = [table_row(picture, keys, out) for picture in pictures]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def table_row(picture: Picture, keys: Sequence[str], out: Path) -> dict[str, Any]:
    own, report = picture.own, picture.report
    row = {"run": os.path.relpath(picture.run, out), "picture": picture.index, "status": report.get("status")}
    row |= {key: format_value(picture.value(key)) for key in keys}
    row |= {"prompt": own.get("prompt"), "seed": own.get("seed")}
    for name in ("best", "final"):
        row |= {f"{name}.{key}": value for key, value in (own.get(name) or {}).items()}
    row |= {"seconds": report.get("seconds"), "error": report.get("error"), "command": picture.command}
    row["file"] = os.path.relpath(picture.file, out) if picture.file else None
    return row
