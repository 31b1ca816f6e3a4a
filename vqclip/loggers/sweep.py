"""Shows a whole sweep in a logger: one run with its table, sheet and page, beside the runs of the jobs."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from vqclip.io.files import read_text, write_json
from vqclip.io.yaml_text import read_json

__all__ = ["SweepReport", "SweepView", "begin_sweep", "end_sweep"]

#: Loggers that have a place for a whole sweep: ``_target_`` → module and class.
_VIEWS = {
    "vqclip.loggers.wandb_logger": ("vqclip.loggers.wandb_sweep", "WandbSweep"),
    "vqclip.loggers.mlflow_logger": ("vqclip.loggers.mlflow", "MlflowSweep"),
}


@dataclass(frozen=True)
class SweepReport:
    """The result of a sweep."""

    folder: Path
    swept: list[str]  #: its keys
    rows: list[dict[str, str]]  #: of results.csv, one a picture
    files: list[Path]  #: the sheet, the page, the table, and the plot of a search

    def numbers(self) -> dict[str, float]:
        """How many pictures there are, how many of them finished, the judge's best and mean."""
        judged = [float(row["judge"]) for row in self.rows if row.get("judge")]
        found = {"pictures": float(len(self.rows))}
        found["finished"] = float(sum(row["status"] == "finished" for row in self.rows))
        return found | ({"judge.best": max(judged), "judge.mean": sum(judged) / len(judged)} if judged else {})


class SweepView:
    """The run of a whole sweep in one logger.

    Args:
        name: of the logger in the config.
        settings: the logger's, resolved.
        folder: of the sweep.
        group: what its jobs have in common.
    """

    def __init__(self, name: str, settings: Mapping[str, Any], folder: Path, group: str):
        self.name, self.settings, self.folder, self.group = name, settings, folder, group

    def begin(self, id: str | None) -> str | None:
        """Called before the jobs; returns the id of the sweep's run.

        Args:
            id: what an earlier part of the same sweep had.
        """
        return id

    def end(self, report: SweepReport) -> None:
        """Called after the jobs, however they ended."""


def begin_sweep(loggers: Mapping[str, Any], folder: Path, group: str) -> list[SweepView]:
    """The views of the loggers that the jobs have, begun; ``sweep.json`` has their ids, for the same sweep again."""
    views: list[SweepView] = []
    known = _ids(folder)
    for name, settings in loggers.items():
        if found := _VIEWS.get(str(settings.get("_target_"))):
            view = getattr(import_module(found[0]), found[1])(name, settings, folder, group)
            known[name] = view.begin(known.get(name))
            views.append(view)
    if views:
        write_json(folder / "sweep.json", known)
    return views


def end_sweep(views: Sequence[SweepView], swept: Sequence[str]) -> None:
    """Give every view the outcome of the sweep, read from the files in its folder.

    The jobs are done then, and their pictures and tables are written: what a logger makes of them fails none.
    """
    for view in views:
        folder = view.folder
        names = ("compare.png", "compare.html", "results.csv", "search.png")
        files = [folder / name for name in names if (folder / name).is_file()]
        rows = []
        if (folder / "results.csv").is_file():
            with open(folder / "results.csv", encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        try:
            view.end(SweepReport(folder, list(swept), rows, files))
        except Exception as error:  # a server that is gone, a limit of the logger's
            what = " ".join(str(error).split()) or type(error).__name__
            print(f"logger.{view.name}: the comparison is not there: {what}", file=sys.stderr)


def _ids(folder: Path) -> dict[str, str | None]:
    try:
        found = read_json(read_text(folder / "sweep.json"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
