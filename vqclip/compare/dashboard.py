"""``vqclip dashboard SWEEP``: the W&B workspace of a sweep, built from code.

It has the pictures in a grid of steps and runs, a curve for every term, the table of results, and the swept keys pinned
beside the runs' names.  Its description can be printed without an account; saving it needs one.
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
    """Build the workspace of some runs.

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
    places = ((key, f"sweep.swept.{key}") for key in axes(pictures))  # of a swept group, the config has only the second
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
    """The W&B group of a sweep's job; None for any other run."""
    sweep = (config.get("sweep") or {}).get("group")
    return sweep_group(_logger(config).get("group"), sweep) if sweep else None


def _named(text: str) -> str:
    """Replace symbols, which W&B refuses in a workspace's name as emoji, ``=`` and ``+`` among them."""
    return "".join("-" if unicodedata.category(sign)[0] == "S" else sign for sign in text)


def _quoted(text: str) -> str:
    """Quote a text for a filter: wandb-workspaces doubles every ``=``, also in strings, and evaluates it as Python."""
    return re.sub("[=<>]", lambda found: f"\\x{ord(found[0]):x}", json.dumps(text, ensure_ascii=False))


def _sections(pictures: Sequence[Picture], keys: Sequence[str], panels: Any, section: Any) -> list:
    """The sections for pictures, curves, results and crops, made with wandb-workspaces' ``panels`` and ``section``."""
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
    """One media browser of this ``kind`` per picture, with a grid of steps and runs."""
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
    """The workspace as plain data, as W&B would save it."""
    return json.loads(workspace._to_model().model_dump_json(by_alias=True))


def project_of(config: Mapping[str, Any]) -> tuple[str | None, str]:
    """The W&B (entity, project) of a run; entity None is the default of the API key."""
    logger = _logger(config)
    return logger.get("entity"), logger.get("project") or os.environ.get("WANDB_PROJECT") or "vqclip"
