"""MLflow: runs, curves, pictures and files on the user's own server or in a database; without an account."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger

from vqclip.config.resolve import flatten, picture_config
from vqclip.errors import Diverged, UserError
from vqclip.io.images import pixels
from vqclip.io.run_files import RunFiles
from vqclip.io.wandb_server import is_reachable
from vqclip.loggers.base import Media, RunView, mean_scores, run_name
from vqclip.loggers.sweep import SweepReport, SweepView

__all__ = ["MlflowRun", "MlflowSweep", "mlflow_logger"]

#: The default tracking URI.
DATABASE = "sqlite:///mlflow.db"
#: The tag of a sweep's parent run with the name of the sweep.
_SWEEP = "vqclip.sweep"


class MlflowRun(RunView, MLFlowLogger):
    """An MLflow run; the jobs of a sweep are children of one run."""

    def begin(self, report: Mapping[str, Any]) -> None:
        """Log weights, versions and input pictures as tags."""
        self.experiment.update_run(self.run_id, status="RUNNING")  # a resumed run had ended
        for kind in ("weights", "versions", "inputs"):
            for name, value in report[kind].items():
                self.experiment.set_tag(self.run_id, f"vqclip.{kind}.{_plain(name)}", value)

    def show(self, step: int, numbers: Mapping[str, float], media: Media | None) -> None:
        if numbers:
            self.log_metrics(dict(numbers), step)
        for name, (x, caption, _) in (media.pictures() if media else {}).items():
            self.experiment.log_image(self.run_id, pixels(x), key=name, step=step)
            if name.startswith("picture"):
                self.experiment.set_tag(self.run_id, f"vqclip.{name}", caption)

    def result(self, folder: Path, report: Mapping[str, Any]) -> None:
        """Log the final scores of the run, and its files."""
        for name, mean in mean_scores(report).items():
            self.experiment.log_metric(self.run_id, name, mean, step=report["steps"])
        run = RunFiles(folder)
        for picture in map(run.picture, range(len(report["pictures"]))):
            self._files(run, picture.best, picture.final, picture.latents_file, picture.timelapse)
        self._files(run, run.config_file, run.metrics_file, run.checkpoint_file, run.interpolation)
        self.experiment.log_text(self.run_id, json.dumps(report, indent=2, ensure_ascii=False), "run.json")

    def close(self, error: BaseException | None) -> None:
        if isinstance(error, Diverged):
            self.experiment.set_tag(self.run_id, "vqclip.reason", str(error))
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        self.experiment.set_terminated(self.run_id, "KILLED" if stopped else "FAILED" if error else "FINISHED")

    def _files(self, run: RunFiles, *paths: Path) -> None:
        """Log the files that exist, each under its folder in the run folder."""
        for path in paths:
            if path.is_file():
                below = path.parent.relative_to(run.path)
                self.experiment.log_artifact(self.run_id, str(path), str(below) if below.parts else None)


class MlflowSweep(SweepView):
    """The parent run of a sweep's jobs, with table, sheet and page."""

    def begin(self, id: str | None) -> str:
        self.uri, self.experiment = _uri(self.settings.get("tracking_uri")), self.settings["experiment"]
        self.run = _ask(self.uri, lambda: _parent(self.uri, self.experiment, self.group))
        return self.run

    def end(self, report: SweepReport) -> None:
        from mlflow.tracking import MlflowClient
        from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

        client = MlflowClient(self.uri)
        for path in report.files:
            client.log_artifact(self.run, str(path))
        if report.rows:
            # Not log_table, which appends: a continued sweep's rows would be in it twice.
            table = {"columns": list(report.rows[0]), "data": [list(row.values()) for row in report.rows]}
            client.log_dict(self.run, table, "results.json")
            shown = [{"path": "results.json", "type": "table"}]  # marks it as a table for MLflow's pages
            client.set_tag(self.run, MLFLOW_LOGGED_ARTIFACTS, json.dumps(shown))
        for name, value in report.numbers().items():
            client.log_metric(self.run, name, value)
        client.set_tag(self.run, "vqclip.swept", ", ".join(report.swept))
        client.set_terminated(self.run, "FINISHED")


def mlflow_logger(
    config: dict,
    tracking_uri: str | None = None,
    experiment: str = "vqclip",
    id: str | None = None,
    tags: list | None = None,
) -> MlflowRun:
    """Make Lightning's logger of an MLflow run, with every key of the config as a parameter.

    Args:
        config: the resolved config.
        tracking_uri: the server, ``http://127.0.0.1:5000``, or a database, ``sqlite:///mlflow.db``; None is
            ``MLFLOW_TRACKING_URI``, else :data:`DATABASE`.
        experiment: MLflow's experiment; created if it does not exist.
        id: the run to continue.
        tags: words to find the run by.

    Raises:
        UserError: MLflow is not installed, or the server does not answer.
    """
    uri = _uri(tracking_uri)
    labels = {f"vqclip.tag.{_plain(tag)}": "true" for tag in tags or []}

    def make() -> MlflowRun:
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        sweep = config.get("sweep")
        if sweep:
            labels[MLFLOW_PARENT_RUN_ID] = _parent(uri, experiment, sweep["group"])
        logger = MlflowRun(experiment, run_name(config), uri, tags=labels, run_id=id)
        _ = logger.run_id
        if id is None:
            swept = {f"sweep.{key}": value for key, value in (sweep or {}).get("swept", {}).items()}
            settings = {**flatten(picture_config(config)), **swept}
            logger.log_hyperparams({_plain(key): str(value) for key, value in settings.items()})
        return logger

    return _ask(uri, make)


def _uri(asked: str | None) -> str:
    """Where MLflow keeps its runs.

    Raises:
        UserError: MLflow is not installed; the server does not answer (MLflow itself would retry for minutes).
    """
    from importlib.util import find_spec

    if find_spec("mlflow") is None:
        raise UserError('logger=mlflow: MLflow is not installed. Try: pip install "vqclip[mlflow]"')
    uri = asked or os.environ.get("MLFLOW_TRACKING_URI") or DATABASE
    if uri.startswith("http") and not is_reachable(uri, patience=10):
        raise UserError(
            f"logger.mlflow.tracking_uri={uri}: the server does not answer. Allowed: one that runs, or a database. "
            f"Try: mlflow server --port 5000, or logger.mlflow.tracking_uri={DATABASE}"
        )
    return uri


def _ask(uri: str, what: Any) -> Any:
    """Call MLflow, and turn its errors into a UserError of one line."""
    from mlflow.exceptions import MlflowException

    try:
        return what()
    except (MlflowException, OSError) as error:
        raise UserError(
            f"logger.mlflow.tracking_uri={uri}: {str(error).splitlines()[0]}. Allowed: a server that answers, or a "
            f"database. Try: logger.mlflow.tracking_uri={DATABASE}"
        ) from None


def _parent(uri: str, experiment: str, group: str) -> str:
    """The parent run of a sweep's jobs, which the sweep has created."""
    from mlflow.tracking import MlflowClient

    client, name = MlflowClient(uri), group.replace("'", "_")  # its filters cannot escape a quote
    found = client.get_experiment_by_name(experiment)
    place = found.experiment_id if found else client.create_experiment(experiment)
    runs = client.search_runs([place], f"tags.`{_SWEEP}` = '{name}'", max_results=1)
    run = runs[0] if runs else client.create_run(place, tags={_SWEEP: name}, run_name=group)
    return run.info.run_id


def _plain(name: str) -> str:
    """A name with only the characters that MLflow allows."""
    return "".join(letter if letter.isalnum() or letter in "-_./ " else "_" for letter in name)
