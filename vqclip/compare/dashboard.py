"""``vqclip dashboard SWEEP``: the W&B workspace of a sweep, built from code.

Pictures in a grid of step by run, a curve for every term, the table of results, and the swept keys pinned beside the
names of the runs.  The description can be printed without an account; saving it needs one.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vqclip.compare.keys import axes
from vqclip.compare.pictures import Picture
from vqclip.config.resolve import flatten
from vqclip.errors import UserError
from vqclip.io.wandb_server import sweep_group

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

__all__ = ["build", "describe", "project_of"]


def build(pictures: Sequence[Picture], entity: str, project: str) -> Workspace:
    """The workspace of some runs.

    Raises:
        UserError: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as workspaces
    except ImportError:
        raise UserError(
            'vqclip dashboard: wandb-workspaces is not installed. Try: pip install "vqclip[dashboard]"'
        ) from None
    group = next((found for p in pictures if (found := _group(p.config))), None)
    known = {key for picture in pictures for key in flatten(picture.config)}
    places = ((key, f"sweep.swept.{key}") for key in axes(pictures))  # the second of a group
    keys = [found for place in places if (found := next((path for path in place if path in known), None))]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=f"vqclip: {_named(group)}" if group else "vqclip",
        sections=_sections(pictures, keys, panels, workspaces.Section),
        runset_settings=workspaces.RunsetSettings(
            filters=f"Metric('Group') = {_quoted(group)}" if group else "",
            pinned_columns=[*(f"config:{key}" for key in keys), "summary:judge", "summary:best/include"],
        ),
    )


def _logger(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return (config.get("logger") or {}).get("wandb") or {}


def _group(config: Mapping[str, Any]) -> str | None:
    """The W&B group of a job of a sweep; None for any other run."""
    sweep = (config.get("sweep") or {}).get("group")
    return sweep_group(_logger(config).get("group"), sweep) if sweep else None


def _named(text: str) -> str:
    """A text as a workspace may be named: W&B takes every symbol, ``=`` and ``+`` among them, for an emoji."""
    return "".join("-" if unicodedata.category(sign)[0] == "S" else sign for sign in text)


def _quoted(text: str) -> str:
    """A text for a filter, which wandb-workspaces reads as Python once it has doubled every ``=``, in texts too."""
    return re.sub("[=<>]", lambda found: f"\\x{ord(found[0]):x}", json.dumps(text, ensure_ascii=False))


def _sections(pictures: Sequence[Picture], keys: Sequence[str], panels: Any, section: Any) -> list:
    """Pictures, curves, results and crops; ``panels`` is wandb-workspaces' module of them, ``section`` its class."""
    numbers = [f"{i:02d}" for i in range(max(picture.index for picture in pictures) + 1)]
    terms = [
        name for name in dict.fromkeys(k for p in pictures for k in p.scores) if name not in ("step", "score", "judge")
    ]
    curves = [panels.LinePlot(title=name, x="step", y=[name]) for name in ["loss", *terms, "lr", "noise"]]
    scored = panels.SummaryMetric("judge")
    columns = [panels.ParallelCoordinatesPlotColumn(panels.Config(key), display_name=key) for key in keys]
    results = [
        panels.WeavePanelSummaryTable(table_name="result", layout=panels.Layout(w=24, h=12)),
        panels.ParallelCoordinatesPlot([*columns, panels.ParallelCoordinatesPlotColumn(scored)]),
        panels.MediaBrowser(title="timelapse", media_keys=[f"timelapse/{number}" for number in numbers]),
    ]
    return [
        section("pictures", _browsers("picture", numbers, panels), is_open=True),
        section("curves", curves, is_open=True),
        section("results", results, is_open=True),
        section("crops, as the perceptor sees them", _browsers("crop", numbers, panels)),
    ]


def _browsers(kind: str, numbers: Sequence[str], panels: Any) -> list:
    """For every picture a grid of its ``kind``, step by run."""
    return [
        panels.MediaBrowser(
            title=f"{kind} {number}: step by run",
            media_keys=[f"{kind}/{number}"],
            mode="grid",
            grid_x_axis="step",
            grid_y_axis="run",
            layout=panels.Layout(w=24, h=14),
        )
        for number in numbers
    ]


def describe(workspace: Workspace) -> dict[str, Any]:
    """What W&B would save, as plain data."""
    return json.loads(workspace._to_model().model_dump_json(by_alias=True))


def project_of(config: Mapping[str, Any]) -> tuple[str | None, str]:
    """(entity, project) on W&B that a run of this config goes to; None is the entity of the key."""
    logger = _logger(config)
    return logger.get("entity"), logger.get("project") or os.environ.get("WANDB_PROJECT") or "vqclip"
