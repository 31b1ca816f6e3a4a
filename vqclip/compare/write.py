"""Writes the comparison of a sweep, or of any runs: ``compare.png``, ``compare.html`` and ``results.csv``.

Pictures are laid out by what differs between their configs.  Swept keys come first, in the sweep's order: the first
makes the rows, the second the columns, further ones blocks.  A failed job leaves a marked gap.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from vqclip.compare.keys import axes, further_keys
from vqclip.compare.page import render_page
from vqclip.compare.pictures import find_runs, read_pictures
from vqclip.compare.sheet import draw_sheet
from vqclip.compare.table import table
from vqclip.errors import UserError
from vqclip.io.files import atomic_write, takes_files
from vqclip.io.sweep_files import is_ours

__all__ = ["OF_A_COMPARISON", "compare", "refuse_others"]

#: Files that a comparison writes.
OF_A_COMPARISON = ("results.csv", "compare.html", "compare.png")


def compare(folders: Sequence[Path], out: Path) -> list[Path]:
    """Write the comparison of all runs in ``folders`` into ``out``; return the paths of its files.

    Raises:
        UserError: a folder has no run; ``out`` cannot be written; see :func:`refuse_others`.
    """
    found = find_runs(folders)
    refuse_others(out)
    if not takes_files(out):  # checked before the work
        again = shlex.join(["vqclip", "compare", *map(str, folders), "--out"])
        raise UserError(f"{out}: no folder that can be written. Allowed: another one. Try: {again} compared")
    pictures = read_pictures(found)
    keys = axes(pictures)
    further = further_keys(pictures, keys)
    written = {
        "compare.png": lambda: draw_sheet(pictures, keys, further, folders),
        "compare.html": lambda: render_page(pictures, keys, further, out, folders),
        "results.csv": lambda: table(pictures, keys, further, out),
    }
    for name, make in written.items():
        atomic_write(out / name, make())
    return [out / name for name in written]


def refuse_others(out: Path, names: Sequence[str] = OF_A_COMPARISON) -> None:
    """Refuse a folder where the comparison would replace a file that is not a comparison's.

    Raises:
        UserError: there is such a file.
    """
    there = [out / name for name in names if os.path.lexists(out / name)]
    if theirs := [path for path in there if not is_ours(path)]:
        kept = " && ".join(shlex.join(["mv", str(path), f"{path}.mine"]) for path in theirs)
        raise UserError(
            f"{', '.join(map(str, theirs))}: would be replaced, and not by a newer one of vqclip's. Allowed: another "
            f"folder: --out FOLDER, of a sweep hydra.sweep.dir=FOLDER, or from Python folder=FOLDER. Try: {kept}"
        )
