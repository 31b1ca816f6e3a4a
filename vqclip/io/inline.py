"""Shows pictures in terminals that support it, by kitty's or iTerm2's protocol or as sixels.

``VQCLIP_INLINE`` is ``0`` for no pictures, or ``kitty``, ``iterm`` or ``sixel`` for a terminal that is not recognised.
"""

from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from vqclip.io.images import open_undecoded

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["show"]

_LARGEST = (960, 640)  #: maximum size in pixels
_GAP = 4
_CHUNK = 4096  #: bytes per escape sequence of kitty's protocol


def show(paths: Sequence[Path]) -> None:
    """Print pictures side by side on stdout, if it is a terminal that shows pictures."""
    if protocol := _protocol():
        sys.stdout.write({"kitty": _kitty, "iterm": _iterm, "sixel": _sixel}[protocol](_strip(paths)) + "\n")
        sys.stdout.flush()


def _protocol() -> str:
    """``kitty``, ``iterm``, ``sixel`` or empty; also empty in a terminal multiplexer, which would print the bytes."""
    of = os.environ.get
    term, program = of("TERM", ""), of("TERM_PROGRAM", "")
    asked = of("VQCLIP_INLINE", "")
    if not sys.stdout.isatty() or asked == "0":
        return ""
    if asked in ("kitty", "iterm", "sixel"):
        return asked
    if of("TMUX") or term.startswith(("tmux", "screen")):
        return ""
    if of("KITTY_WINDOW_ID") or term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm"):
        return "iterm"
    return "sixel" if term.startswith(("foot", "mlterm")) or "sixel" in term else ""


def _strip(paths: Sequence[Path]) -> Image.Image:
    """All pictures side by side, scaled down if they are too large."""
    from PIL import Image

    pictures = [open_undecoded(path).convert("RGBA") for path in paths]
    width = sum(picture.width for picture in pictures) + _GAP * (len(pictures) - 1)
    strip = Image.new("RGBA", (width, max(picture.height for picture in pictures)))
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + _GAP
    strip.thumbnail(_LARGEST)
    return strip


def _png(picture: Image.Image) -> bytes:
    """A picture as PNG in base64."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue())


def _kitty(picture: Image.Image) -> str:
    """Transmit and show a PNG (``a=T,f=100``), without an answer (``q=2``), in chunks (``m=1``: more follows)."""
    data = _png(picture)
    parts = [data[i : i + _CHUNK].decode() for i in range(0, len(data), _CHUNK)]
    last = len(parts) - 1
    return "".join(
        f"\033_G{'a=T,f=100,q=2,' if i == 0 else ''}m={int(i < last)};{part}\033\\" for i, part in enumerate(parts)
    )


def _iterm(picture: Image.Image) -> str:
    return f"\033]1337;File=inline=1:{_png(picture).decode()}\a"


def _sixel(picture: Image.Image) -> str:
    """DEC sixels with 256 colours: bands of six rows, each drawn one colour after another.

    A character encodes six pixels in its bits (from ``?`` on), ``!n`` repeats it, ``$`` returns to the start of the
    band, ``-`` goes to the next band.
    """
    import numpy as np

    coloured = picture.convert("RGB").quantize(256)
    palette = np.asarray(coloured.getpalette("RGB")).reshape(-1, 3) * 100 // 255
    codes = np.where(np.asarray(picture.getchannel("A")) > 127, np.asarray(coloured, int), -1)
    bands = []
    for top in range(0, len(codes), 6):
        band = codes[top : top + 6]
        bits = 1 << np.arange(len(band))[:, None]
        columns = {i: np.where(band == i, bits, 0).sum(0) for i in np.unique(band) if i >= 0}
        bands.append("$".join(f"#{i}{_runs(column)}" for i, column in columns.items()))
    colours = "".join("#{};2;{};{};{}".format(i, *colour) for i, colour in enumerate(palette))
    # 0;1: unset pixels keep the terminal's background; then the pixel aspect ratio, width and height.
    return f'\033P0;1q"1;1;{picture.width};{picture.height}{colours}{"-".join(bands)}\033\\'


def _runs(column: Sequence[int]) -> str:
    runs = ((chr(63 + bits), len(list(same))) for bits, same in groupby(column))
    return "".join(f"!{n}{sixel}" if n > 3 else sixel * n for sixel, n in runs)
