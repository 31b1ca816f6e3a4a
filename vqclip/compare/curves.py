"""The curves on the page, thinned: a screen has fewer points than a run has steps."""

from __future__ import annotations

import math
from typing import Any

from vqclip.compare.pictures import Picture
from vqclip.errors import UserError
from vqclip.runs.folder import RunFolder

__all__ = ["POINTS", "curves_of"]

#: Rows of a curve that the page holds.
POINTS = 80


def curves_of(picture: Picture, points: int) -> dict[str, list[Any]]:
    """Columns of a run's metrics.csv for one of its pictures, thinned to about ``points`` rows.

    The first and the last row stay, between them every second, fourth, eighth … step: of runs of unlike length the
    longer one has steps of the shorter one, so that a mean can be of the same steps.

    A run of several pictures has a column for each; the picture's own is taken where there is one.  A number that is
    none (the run diverged) is None.
    """
    try:
        rows = RunFolder(picture.run).history()
    except UserError:
        return {}
    rows = [row for row in rows if "step" in row]
    every = 1
    while sum(row["step"] % every == 0 for row in rows) > points:
        every *= 2
    rows = [row for row in rows if row["step"] % every == 0 or row in (rows[0], rows[-1])]
    names = dict.fromkeys(name for row in rows for name in row if "/" not in name)
    suffix = f"/{picture.index:02d}"
    return {name: [_short(row.get(f"{name}{suffix}", row.get(name))) for row in rows] for name in names}


def _short(value: float | None) -> float | None:
    """Round to four digits, to keep the page small."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.4g}")
