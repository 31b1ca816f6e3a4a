"""Reads pictures, and writes PNGs that carry a record."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from vqclip.errors import UserError
from vqclip.io.files import refuse_endless
from vqclip.io.yaml_text import read_json

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile
    from torch import Tensor

__all__ = ["PNG", "PictureError", "open_picture", "open_undecoded", "pixels", "png_bytes", "read_record", "why_not"]

#: Keyword of the PNG text chunk that holds the record.
RECORD_KEY = "vqclip"
PNG = b"\x89PNG\r\n\x1a\n"  #: signature
#: Formats for which Pillow runs Ghostscript, or opens embedded files of any format.
_BY_PROGRAM = ("EPS", "IPTC")


def pixels(image: Tensor) -> np.ndarray:
    """Image [3,H,W] in [0,1] → [H,W,3] uint8, for PNGs, videos and dashboards."""
    return (image.detach().float().clamp(0, 1) * 255).round().byte().movedim(0, -1).cpu().numpy()


def png_bytes(image: Tensor, record: dict | None) -> bytes:
    """Image [3,H,W] in [0,1] → an 8-bit PNG with ``record``, if any, as JSON in its metadata."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if record is not None:
        info.add_itxt(RECORD_KEY, json.dumps(record, ensure_ascii=False))
    out = io.BytesIO()
    Image.fromarray(pixels(image)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


class PictureError(ValueError):
    """A picture cannot be read.  The message completes the sentence "Allowed: …", with the file and the reason."""

    def __init__(self, path: object, reason: str):
        super().__init__(f"the path of a picture file; {path}: {reason}")
        self.reason = reason


def open_undecoded(path: str | Path) -> ImageFile:
    """Open a picture file without decoding it, only formats that Pillow reads without running other programs.

    Raises:
        OSError: it is a pipe or a device.
        Exception: Pillow raises anything for invalid files.
    """
    from PIL import Image

    refuse_endless(Path(path))
    file = Image.open(path)
    if file.format in _BY_PROGRAM:
        file.close()
        raise ValueError(f"its format is {file.format}, which another program would be run for")
    return file


def open_picture(path: str | Path) -> Image:
    """Read a picture file of any format and mode as 8-bit RGBA, upright; of an animation, the first frame.

    Raises:
        PictureError: it cannot be read.
    """
    import numpy as np
    from PIL import ImageOps
    from PIL.Image import fromarray

    if not isinstance(path, str | Path):
        raise PictureError(path, "it is not a path")
    try:
        with open_undecoded(path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode[0] in "IF":  # 16 or 32 bits of grey, which Pillow's conversion clips at 255
                values = np.asarray(picture, dtype=np.float64)
                most = values[np.isfinite(values)].max(initial=0)
                white = 65535 if picture.mode[0] == "I" else 1 if most <= 1 else 255
                grey = np.nan_to_num(values / max(white, most) * 255)  # NaN becomes black
                picture = fromarray(grey.clip(0, 255).round().astype("uint8"))
            return picture.convert("RGBA")
    except Exception as error:
        raise PictureError(path, why_not(error)) from None


def why_not(error: Exception) -> str:
    """Why a picture file cannot be read, from whatever Pillow raised."""
    from PIL import UnidentifiedImageError

    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, UnidentifiedImageError):
        return "it is not a picture Pillow can open"
    return f"it cannot be read ({getattr(error, 'strerror', None) or error})"


def read_record(path: Path) -> dict:
    """Read the record that :func:`png_bytes` wrote.

    Raises:
        UserError: it is not a PNG, or has no record.
    """
    try:
        with open_undecoded(path) as picture:
            picture.load()
            text = getattr(picture, "text", {})
    except Exception as error:
        raise UserError(f"{path} cannot be read as a picture: {why_not(error)}") from None
    if RECORD_KEY not in text:
        raise UserError(
            f"{path} carries no vqclip record: it was made by something else, or a program that re-saved it dropped "
            "the metadata. The run folder's own PNGs and its config.yaml have it."
        )
    try:
        record = read_json(text[RECORD_KEY])
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise UserError(f"{path}: its vqclip record is damaged. The run folder's config.yaml has it too")
    return record
