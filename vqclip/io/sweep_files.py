"""Distinguishes files of a comparison or sweep from others of the same names."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from vqclip.io.files import refuse_endless

__all__ = ["is_ours"]

_TABLE = rb'^(\xef\xbb\xbf)?"?run"?[,;\t]"?picture'  # also if a spreadsheet program has saved it
#: Patterns that identify our files near their beginning.
_SIGNS = {
    "results.csv": _TABLE,
    "judge.csv": _TABLE,
    "compare.html": " · vqclip</title>".encode(),
    "compare.png": rb"(tEXt|iTXt)folder\0",
    "multirun.yaml": rb"(?m)^snapshot_every:",
    "search.png": rb"(tEXt|iTXt)Software\0Matplotlib",
}
#: Bytes that a page may have before its pattern: its title has the names of all folders.
_HEAD = 2**22


def is_ours(path: Path) -> bool:
    """Whether the file exists and vqclip wrote it."""
    return bool(re.search(_SIGNS[path.name], _head(path)))


def _head(path: Path) -> bytes:
    with suppress(OSError):
        refuse_endless(path)
        with open(path, "rb") as file:
            return file.read(_HEAD)
    return b""
