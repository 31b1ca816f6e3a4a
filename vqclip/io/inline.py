"""A picture in the terminal, where it can: kitty's protocol and iTerm2's.  ``VQCLIP_INLINE=0`` turns it off."""

from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["show"]

_LARGEST = (960, 640)  #: pixels of what is shown
_GAP = 4
_CHUNK = 4096  #: bytes of one escape sequence of kitty's


def show(paths: Sequence[Path]) -> None:
    """The pictures beside one another on stdout; nothing where it is no terminal, or one that shows none."""
    if protocol := _protocol():
        data = base64.b64encode(_strip(paths))
        sys.stdout.write((_kitty(data) if protocol == "kitty" else _iterm(data)) + "\n")
        sys.stdout.flush()


def _protocol() -> str:
    """``kitty``, ``iterm`` or nothing; a multiplexer would print the bytes, whatever terminal is around it."""
    of = os.environ.get
    term, program = of("TERM", ""), of("TERM_PROGRAM", "")
    if not sys.stdout.isatty() or of("VQCLIP_INLINE") == "0" or of("TMUX") or term.startswith(("tmux", "screen")):
        return ""
    if of("KITTY_WINDOW_ID") or term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return "kitty"
    return "iterm" if program in ("iTerm.app", "WezTerm") else ""


def _strip(paths: Sequence[Path]) -> bytes:
    """One PNG of all pictures, made smaller where it is too large."""
    from PIL import Image

    pictures = [Image.open(path).convert("RGBA") for path in paths]
    width = sum(picture.width for picture in pictures) + _GAP * (len(pictures) - 1)
    strip = Image.new("RGBA", (width, max(picture.height for picture in pictures)))
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + _GAP
    strip.thumbnail(_LARGEST)
    file = io.BytesIO()
    strip.save(file, "PNG")
    return file.getvalue()


def _kitty(data: bytes) -> str:
    """Transmit and show a PNG (``a=T,f=100``), without an answer (``q=2``), in chunks (``m=1``: more follows)."""
    parts = [data[i : i + _CHUNK].decode() for i in range(0, len(data), _CHUNK)]
    last = len(parts) - 1
    return "".join(
        f"\033_G{'a=T,f=100,q=2,' if i == 0 else ''}m={int(i < last)};{part}\033\\" for i, part in enumerate(parts)
    )


def _iterm(data: bytes) -> str:
    return f"\033]1337;File=inline=1:{data.decode()}\a"
