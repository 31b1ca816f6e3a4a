"""Logs a whole sweep: one run with the table, sheet and page, beside the jobs' runs."""

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

#: Loggers that support whole sweeps: ``_target_`` → module and class.
_VIEWS = {
    "vqclip.loggers.wandb_logger": ("vqclip.loggers.wandb_sweep", "WandbSweep"),
    "vqclip.loggers.mlflow_logger": ("vqclip.loggers.mlflow", "MlflowSweep"),
}


@dataclass(frozen=True)
class SweepReport:
    """The result of a sweep."""

    folder: Path
    swept: list[str]  #: the swept keys
    rows: list[dict[str, str]]  #: of results.csv, one per picture
    files: list[Path]  #: the sheet, the page, the table, and the plot of a search

    def numbers(self) -> dict[str, float]:
        """The number of pictures and of finished ones, and the judge's best and mean score."""
        judged = [float(row["judge"]) for row in self.rows if row.get("judge")]
        found = {"pictures": float(len(self.rows))}
        found["finished"] = float(sum(row["status"] == "finished" for row in self.rows))
        return found | ({"judge.best": max(judged), "judge.mean": sum(judged) / len(judged)} if judged else {})


class SweepView:
    """The run of a whole sweep in one logger.

    Args:
        name: of the logger in the config.
        settings: of the logger, resolved.
        group: the sweep's group, which its jobs share.
    """

    def __init__(self, name: str, settings: Mapping[str, Any], group: str):
        self.name, self.settings, self.group = name, settings, group

    def begin(self, id: str | None) -> str | None:
        """Called before the jobs; returns the id of the sweep's run.

        Args:
            id: the id from an earlier part of the same sweep.
        """
        return id

    def end(self, report: SweepReport) -> None:
        """Called after the jobs, whatever their outcome."""


def begin_sweep(loggers: Mapping[str, Any], folder: Path, group: str) -> list[SweepView]:
    """Begin a view for each of the jobs' loggers; ``sweep.json`` keeps their ids for continuing the sweep."""
    views: list[SweepView] = []
    known = _ids(folder)
    for name, settings in loggers.items():
        if found := _VIEWS.get(str(settings.get("_target_"))):
            view = getattr(import_module(found[0]), found[1])(name, settings, group)
            known[name] = view.begin(known.get(name))
            views.append(view)
    if views:
        write_json(folder / "sweep.json", known)
    return views


def end_sweep(views: Sequence[SweepView], folder: Path, swept: Sequence[str]) -> None:
    """Give every view the result of the sweep, read from the files in its folder.

    Errors of loggers are only printed, since all jobs are done and their files are written.
    """
    names = ("compare.png", "compare.html", "results.csv", "search.png")
    files = [folder / name for name in names if (folder / name).is_file()]
    rows = []
    if (folder / "results.csv").is_file():
        with open(folder / "results.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    report = SweepReport(folder, list(swept), rows, files)
    for view in views:
        try:
            view.end(report)
        except Exception as error:  # the server is gone, a limit is exceeded
            what = " ".join(str(error).split()) or type(error).__name__
            print(f"logger.{view.name}: the comparison is not there: {what}", file=sys.stderr)


def _ids(folder: Path) -> dict[str, str | None]:
    try:
        found = read_json(read_text(folder / "sweep.json"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
