"""Files written whole or not at all, and pictures that carry their own record."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vqclip.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["png_bytes", "read_record", "sha256", "write_json", "write_whole"]

#: Keyword of the PNG text chunk that holds the record.
RECORD_KEY = "vqclip"


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` is, at every moment, the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, content: dict) -> None:
    """Write ``content`` as indented JSON, whole."""
    write_whole(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def png_bytes(image: Tensor, record: dict) -> bytes:
    """Image [3,H,W] in [0,1] → an 8-bit PNG that carries ``record`` as JSON in its metadata."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(RECORD_KEY, json.dumps(record, ensure_ascii=False))
    pixels = (image.detach().clamp(0, 1) * 255).round().byte().movedim(0, -1).cpu().numpy()
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def read_record(path: Path) -> dict:
    """The record that :func:`png_bytes` wrote.

    Raises:
        UserError: not a PNG, or one that lost its record.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            picture.load()
            text = getattr(picture, "text", {})
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"{path} cannot be read as a picture: {error}") from None
    if RECORD_KEY not in text:
        raise UserError(
            f"{path} carries no vqclip record: it was made by something else, or a program that re-saved it dropped "
            "the metadata. The run folder's own PNGs and its config.yaml have it."
        )
    try:
        return json.loads(text[RECORD_KEY])
    except ValueError:
        raise UserError(f"{path}: its vqclip record is damaged. The run folder's config.yaml has it too") from None
