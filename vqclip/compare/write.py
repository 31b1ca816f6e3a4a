"""Writes the comparison of a sweep, or of any runs: ``compare.png``, ``compare.html`` and ``results.csv``.

Pictures are laid out by what differs between their configs.  The keys of a sweep come first, in its order; the first
makes the rows, the second the columns, and the others make blocks.  A job that failed leaves a marked gap.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from vqclip.compare.page import render_page
from vqclip.compare.pictures import axes, find_runs, read_pictures
from vqclip.compare.sheet import draw_sheet
from vqclip.compare.table import table
from vqclip.errors import UserError
from vqclip.io.files import atomic_write, refuse_endless

__all__ = ["compare", "refuse_others"]

#: By what a file that was written here is known near its beginning; the sheet, by either of them beside it.
_SIGNS = {"results.csv": b"run,picture,status,", "compare.html": " · vqclip</title>".encode()}
#: Characters that a page may have before its sign: the names of all folders are in its title.
_HEAD = 2**16


def compare(folders: Sequence[Path], out: Path) -> list[Path]:
    """Write the comparison of all runs in ``folders`` into ``out``; what was written.

    Raises:
        UserError: no run is in one of the folders; see :func:`refuse_others`.
    """
    found = find_runs(folders)
    refuse_others(out)
    pictures = read_pictures(found)
    keys = axes(pictures)
    out.mkdir(parents=True, exist_ok=True)
    written = {
        "compare.png": lambda: draw_sheet(pictures, keys, folders),
        "compare.html": lambda: render_page(pictures, keys, out, folders),
        "results.csv": lambda: table(pictures, keys, out),
    }
    for name, make in reversed(written.items()):  # the sheet last, which has no sign of its own
        atomic_write(out / name, make())
    return [out / name for name in written]


def refuse_others(out: Path) -> None:
    """Refuse a folder in which a file of somebody else's would be replaced.

    Raises:
        UserError: there is one.
    """
    there = [out / name for name in (*_SIGNS, "compare.png") if os.path.lexists(out / name)]
    ours = [path for path in there if path.name in _SIGNS and _SIGNS[path.name] in _head(path)]
    for path in there:
        if path not in ours and not (path.name == "compare.png" and ours):
            raise UserError(
                f"{path}: would be replaced, and is of no comparison of vqclip's. Allowed: a folder without it, "
                "--out FOLDER, of a sweep hydra.sweep.dir=FOLDER, or from Python folder=FOLDER. "
                f"Try: mv {shlex.quote(str(path))} elsewhere"
            )


def _head(path: Path) -> bytes:
    with suppress(OSError):
        refuse_endless(path)
        with open(path, "rb") as file:
            return file.read(_HEAD)
    return b""
