"""The page: pictures, settings, scores, sort and filter, in one file."""

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
from vqclip.io.images import opened
from vqclip.paths import relative_where_possible
from vqclip.runs.folder import RunFolder

__all__ = ["render_page"]

#: Bytes of timelapses that the page holds; where there are more, it links to the files beside it.
INLINE_VIDEO = 48 * 2**20

#: Characters of last pictures that the page holds beside the best ones; where there are more, it holds none.
INLINE_FINAL = 48 * 2**20

#: A PNG above this is held in the page as WebP.
INLINE_PNG = 200 * 2**10

#: Settings that the page has menus and columns for, beside those that lay it out; its ``where`` knows all.
FURTHER = 60

#: Rows of a curve that the page holds: a screen has fewer points than a run has steps.
POINTS = 80


def render_page(
    pictures: Sequence[Picture], keys: Sequence[str], further: Sequence[str], out: Path, folders: Sequence[Path]
) -> bytes:
    """``compare.html`` in UTF-8, to lie in ``out``: pictures by swept ``keys``, under the names of ``folders``.

    It holds pictures and timelapses; where these are many, it links to their files.  ``further`` are the other
    settings that differ.
    """
    flat = [picture.settings for picture in pictures]
    first, *others = [config for config in flat if config] or [{}]  # not of runs that lost theirs
    common = {key: value for key, value in first.items() if all(config.get(key, ...) == value for config in others)}
    shown = further[:FURTHER]
    short = dict(zip([*keys, *shown], short_names([*keys, *shown]), strict=True))
    videos = [picture.video for picture in pictures]
    inline = sum(path.stat().st_size for path in videos if path) <= INLINE_VIDEO
    # The pictures of a run come one after the other, and its table is read once for them all.
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
    """The page with its data."""
    template = (resources.files("vqclip.compare") / "page.html").read_text(encoding="utf-8")
    # Without a "<" nothing in the data can end or open a script, whatever a prompt says.
    text = json.dumps(_finite(data), ensure_ascii=False, allow_nan=False, default=str).replace("<", "\\u003c")
    parts = {"title": html.escape(title), "data": text, "policy": _policy(template)}
    # One pass: a name that holds "{{data}}" stays a name.
    page = re.sub(r"\{\{(title|data|policy)\}\}", lambda found: parts[found[1]], template)
    return page.encode("utf-8", "backslashreplace")  # names of files may be no UTF-8


def _finals(pictures: Sequence[Picture]) -> list[dict[str, Any] | None]:
    """Scores and picture of every last step that was not the best one; None of any where they do not fit."""
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
    """The rows of a run's metrics.csv, thinned to about ``points``; none where it cannot be read.

    The first and the last row stay, between them every second, fourth, eighth … step: of runs of unlike length the
    longer one has steps of the shorter one, so that a mean can be of the same steps.
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
    """Columns of a run's rows for one of its pictures.

    A run of several pictures has a column for each; the picture's own is taken where there is one.  A number that is
    none (the run diverged) is None.
    """
    names = dict.fromkeys(name for row in rows for name in row if "/" not in name)
    suffix = f"/{index:02d}"
    return {name: [_short(row.get(f"{name}{suffix}", row.get(name))) for row in rows] for name in names}


def _short(value: float | None) -> float | None:
    """Round to four digits, to keep the page small."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.4g}")


def _policy(template: str) -> str:
    """The page's Content-Security-Policy: its one script by its hash, pictures and videos, and nothing from outside."""
    script = template.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "media-src data: file: 'self'; base-uri 'none'; form-action 'none'"
    )


def _finite(value: Any) -> Any:
    """Numbers that are none, as texts: JSON has no word for them."""
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
    with opened(path) as picture:
        picture.convert("RGB").save(out, "WEBP", quality=92)
    return _uri("image/webp", out.getvalue())


def _link(path: Path, out: Path) -> str:
    """The address of a file beside the page; a name may hold any letter."""
    name = Path(relative_where_possible(path, out))
    return name.as_uri() if name.is_absolute() else urllib.parse.quote(os.fsencode(name.as_posix()))


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
