"""The page: pictures, settings, scores, sort and filter, in one file."""

from __future__ import annotations

import base64
import html
import io
import json
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from PIL import Image

from vqclip.compare.pictures import Picture, distinct_values, flatten, format_value
from vqclip.compare.table import table_row
from vqclip.config.resolve import picture_config

__all__ = ["render_page"]

#: Bytes of timelapses that the page holds; where there are more, it links to the files beside it.
INLINE_VIDEO = 48 * 2**20


#: A PNG above this is held in the page as WebP.
INLINE_PNG = 200 * 2**10


def render_page(pictures: Sequence[Picture], keys: Sequence[str], out: Path, folders: Sequence[Path]) -> bytes:
    flat = [flatten(picture_config(picture.config)) for picture in pictures]
    names = list(dict.fromkeys(key for config in flat for key in config))
    common = {key: flat[0].get(key) for key in names if all(c.get(key, ...) == flat[0].get(key) for c in flat)}
    videos = [path if (path := picture.folder / "timelapse.mp4").is_file() else None for picture in pictures]
    inline = sum(path.stat().st_size for path in videos if path) <= INLINE_VIDEO
    data = {
        "keys": [{"name": key, "values": distinct_values(pictures, key)} for key in keys],
        "common": common,
        "pictures": [
            {
                **{k: v for k, v in table_row(picture, [], out).items() if v is not None},
                "values": {key: format_value(picture.value(key)) for key in keys},
                "config": {key: value for key, value in config.items() if key not in common},
                "scores": picture.scores,
                "image": _image_uri(picture.file) if picture.file else None,
                "video": video and (_uri("video/mp4", video.read_bytes()) if inline else os.path.relpath(video, out)),
            }
            for picture, config, video in zip(pictures, flat, videos, strict=True)
        ],
    }
    title = ", ".join(folder.absolute().name for folder in folders)
    template = (resources.files("vqclip.compare") / "page.html").read_text(encoding="utf-8")
    # "</" would end the script that holds the data.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, default=str).replace("</", "<\\/")
    return template.replace("{{title}}", html.escape(title)).replace("{{data}}", text).encode()


def _image_uri(path: Path) -> str:
    content = path.read_bytes()
    if len(content) <= INLINE_PNG:
        return _uri("image/png", content)
    out = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").save(out, "WEBP", quality=92)
    return _uri("image/webp", out.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
