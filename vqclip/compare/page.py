"""The comparison page: pictures, settings and scores to sort and filter, in one HTML file."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
import os
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

from vqclip.compare.keys import distinct_values, format_value, swept_keys
from vqclip.compare.pictures import Picture
from vqclip.compare.table import table, table_row
from vqclip.config.grammar import short_names
from vqclip.errors import UserError
from vqclip.io.images import open_undecoded
from vqclip.paths import relative_where_possible
from vqclip.runs.folder import RunFolder

__all__ = ["render_page"]

#: Maximum bytes of timelapses in the page; if there are more, it links to their files.
INLINE_VIDEO = 48 * 2**20

#: Maximum characters of last pictures in the page, beside the best ones; if there are more, it has none of them.
INLINE_FINAL = 48 * 2**20

#: Bytes; larger PNGs are stored as WebP in the page.
INLINE_PNG = 200 * 2**10

#: Maximum number of further settings with menus and columns; the field ``where`` knows all.
FURTHER = 60

#: Approximate points per curve: a screen has fewer pixels than a run has steps.
POINTS = 80


def render_page(
    pictures: Sequence[Picture], keys: Sequence[str], further: Sequence[str], out: Path, folders: Sequence[Path]
) -> bytes:
    """Render ``compare.html`` in UTF-8 for the folder ``out``.

    Args:
        keys, further: the axes of the layout, and the other settings that differ.
        folders: the compared folders, for the title.
    """
    flat = [picture.settings for picture in pictures]
    first, *others = [config for config in flat if config] or [{}]  # ignoring runs without a config
    common = {key: value for key, value in first.items() if all(config.get(key, ...) == value for config in others)}
    shown = further[:FURTHER]
    short = dict(zip([*keys, *shown], short_names([*keys, *shown]), strict=True))
    videos = [picture.video for picture in pictures]
    inline = sum(path.stat().st_size for path in videos if path) <= INLINE_VIDEO
    # Pictures of a run are consecutive, so its table is read once.
    rows_of = lru_cache(maxsize=1)(partial(_rows, points=POINTS if len(pictures) <= 100 else POINTS // 2))
    data = {
        "short": short,
        "keys": [{"name": key, "values": distinct_values(pictures, key)} for key in keys],
        "further": [{"name": key, "values": distinct_values(pictures, key)} for key in shown],
        "swept": swept_keys(pictures),
        "common": common,
        "csv": table(pictures, keys, further, out).decode(),
        "pictures": [
            {
                **table_row(picture, [], out),
                "values": {key: format_value(picture.value(key)) for key in [*keys, *shown]},
                "config": {key: config[key] for key in config if key not in common} if config else None,
                "scores": picture.scores,
                "image": _image_uri(picture.file) if picture.file else None,
                "final": final,
                "curves": _curves(rows_of(picture.run), picture.index),
                "video": video and (_uri("video/mp4", video.read_bytes()) if inline else _link(video, out)),
            }
            for picture, config, video, final in zip(pictures, flat, videos, _finals(pictures), strict=True)
        ],
    }
    return _filled(", ".join(folder.absolute().name for folder in folders), data)


def _filled(title: str, data: Mapping[str, Any]) -> bytes:
    """Fill the page's template."""
    template = (resources.files("vqclip.compare") / "page.html").read_text(encoding="utf-8")
    # Without "<", no prompt can close the script element or open another.
    text = json.dumps(_finite(data), ensure_ascii=False, allow_nan=False, default=str).replace("<", "\\u003c")
    parts = {"title": html.escape(title), "data": text, "policy": _policy(template)}
    # In one pass, so that a name with "{{data}}" in it is not replaced.
    page = re.sub(r"\{\{(title|data|policy)\}\}", lambda found: parts[found[1]], template)
    return page.encode("utf-8", "backslashreplace")  # file names may not be valid UTF-8


def _finals(pictures: Sequence[Picture]) -> list[dict[str, Any] | None]:
    """Scores and picture of each last step other than the best; None for all if they are too large together."""
    found, left = [], INLINE_FINAL
    for picture in pictures:
        scores = picture.entry.get("final")
        differs = isinstance(scores, Mapping) and scores != picture.entry.get("best")
        uri = _image_uri(path) if differs and (path := picture.final) else ""
        left -= len(uri)
        if left < 0:
            return [None] * len(pictures)
        found.append({"scores": scores, "image": uri} if uri else None)
    return found


def _rows(run: Path, points: int) -> list[dict[str, float]]:
    """The rows of a run's metrics.csv, thinned to about ``points``; empty if it cannot be read.

    The first and last row are kept, and every second, fourth, eighth … step in between, so that runs of different
    length have steps in common to average over.
    """
    try:
        rows = RunFolder(run).history()
    except UserError:
        return []
    rows = [row for row in rows if "step" in row]
    every = 1
    while sum(row["step"] % every == 0 for row in rows) > points:
        every *= 2
    return [row for row in rows if row["step"] % every == 0 or row in (rows[0], rows[-1])]


def _curves(rows: Sequence[Mapping[str, float]], index: int) -> dict[str, list[Any]]:
    """The metric columns of one picture of a run.

    A run of several pictures may have a column per picture, which is preferred to the common one.  NaN and infinity
    (of a diverged run) become None.
    """
    names = dict.fromkeys(name for row in rows for name in row if "/" not in name)
    suffix = f"/{index:02d}"
    return {name: [_short(row.get(f"{name}{suffix}", row.get(name))) for row in rows] for name in names}


def _short(value: float | None) -> float | None:
    """Round to four digits to keep the page small; None for NaN and infinity."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.4g}")


def _policy(template: str) -> str:
    """The page's Content-Security-Policy: its own script, by hash, images and videos; nothing from the network."""
    script = template.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "media-src data: file: 'self'; base-uri 'none'; form-action 'none'"
    )


def _finite(value: Any) -> Any:
    """Convert NaN and infinity to strings at any depth, since JSON has no such numbers."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _image_uri(path: Path) -> str:
    content = path.read_bytes()
    if len(content) <= INLINE_PNG:
        return _uri("image/png", content)
    out = io.BytesIO()
    with open_undecoded(path) as picture:
        picture.convert("RGB").save(out, "WEBP", quality=92)
    return _uri("image/webp", out.getvalue())


def _link(path: Path, out: Path) -> str:
    """The link from the page to a file, percent-encoded."""
    name = Path(relative_where_possible(path, out))
    return name.as_uri() if name.is_absolute() else urllib.parse.quote(os.fsencode(name.as_posix()))


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
