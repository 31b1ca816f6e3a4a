"""The W&B run of a whole sweep: the table with every picture, the sheet, the page."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqclip.io.wandb_server import sweep_group
from vqclip.loggers.sweep import SweepReport, SweepView
from vqclip.loggers.wandb import finish, wandb_logger

__all__ = ["WandbSweep"]


class WandbSweep(SweepView):
    """A run in the group of the jobs' runs, with job type ``comparison``."""

    def begin(self, id: str | None) -> str:
        self.id = id or secrets.token_hex(4)
        return self.id

    def end(self, report: SweepReport) -> None:
        """Start and finish the run at once, since there is nothing to log before the jobs are done."""
        import wandb

        arguments = {key: value for key, value in self.settings.items() if key != "_target_"}
        arguments |= {
            "name": self.group,
            "group": sweep_group(arguments.get("group"), self.group),
            "job_type": "comparison",
            "id": self.id,
        }
        config = {"paths": {"output_dir": str(report.folder)}, "comparison": {"swept": report.swept}}
        logger = wandb_logger(config, arguments.pop("mode", None), arguments.pop("save_dir", None), **arguments)
        run = logger.experiment
        shown: dict[str, Any] = {"comparison": _table(report), **report.numbers()}
        artifact = wandb.Artifact(f"comparison-{run.id}", "comparison", metadata=report.numbers())
        for path in report.files:
            artifact.add_file(str(path), path.name)
        if (sheet := report.folder / "compare.png").is_file():
            shown["sheet"] = wandb.Image(str(sheet), caption=self.group)
        if (page := report.folder / "compare.html").is_file():
            shown["page"] = wandb.Html(str(page), inject=False)
        logger.log_metrics(shown)
        run.log_artifact(artifact)
        finish(run, 0)


def _table(report: SweepReport) -> Any:
    """A table with one row per picture: the picture, then the columns of results.csv."""
    import wandb

    columns = list(report.rows[0]) if report.rows else []
    values = zip(*(_column([row[name] for row in report.rows]) for name in columns), strict=True)
    table = wandb.Table(["shown", *columns])
    for row, shown in zip(report.rows, values, strict=True):
        path = report.folder / row["file"] if row.get("file") else Path()
        table.add_data(wandb.Image(str(path)) if path.is_file() else None, *shown)
    return table


def _column(texts: Sequence[str]) -> list[float | None] | list[str | None]:
    """A column's values, None for empty cells; numbers if all are, since W&B allows no mixed types."""
    try:
        return [float(text) if text else None for text in texts]
    except ValueError:
        return [text or None for text in texts]
