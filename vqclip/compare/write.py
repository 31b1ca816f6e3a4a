"""Writes the comparison of a sweep, or of any runs: ``compare.png``, ``compare.html`` and ``results.csv``.

Pictures are laid out by what differs between their configs.  The keys of a sweep come first, in its order; the first
makes the rows, the second the columns, and the others make blocks.  A job that failed leaves a marked gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vqclip.compare.page import render_page
from vqclip.compare.pictures import axes, find_runs, read_pictures
from vqclip.compare.sheet import draw_sheet
from vqclip.compare.table import table
from vqclip.io.files import atomic_write

__all__ = ["compare"]


def compare(folders: Sequence[Path], out: Path) -> list[Path]:
    """Write the comparison of all runs in ``folders`` into ``out``; what was written."""
    pictures = read_pictures(find_runs(folders))
    keys = axes(pictures)
    out.mkdir(parents=True, exist_ok=True)
    written = {
        "compare.png": lambda: draw_sheet(pictures, keys, folders),
        "compare.html": lambda: render_page(pictures, keys, out, folders),
        "results.csv": lambda: table(pictures, keys, out),
    }
    for name, make in written.items():
        atomic_write(out / name, make())
    return [out / name for name in written]
