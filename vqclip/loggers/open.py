"""Opens the loggers of a config when a run starts, and closes them when it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

from vqclip.classes import instantiate
from vqclip.config.own_classes import parts_on
from vqclip.errors import UserError
from vqclip.loggers.base import RunView

__all__ = ["open_loggers"]

#: Our loggers, which take the whole config and can continue the run of an ``id``.
_OURS_WANDB = "vqclip.loggers.wandb_logger"
_OURS = (_OURS_WANDB, "vqclip.loggers.mlflow_logger")
#: Lightning's, which can continue a run too.
_LIGHTNINGS = "pytorch_lightning.loggers.WandbLogger"


@contextmanager
def open_loggers(
    config: Mapping[str, Any], recorded: Mapping[str, Any], past: Mapping[str, Any]
) -> Iterator[dict[str, Logger]]:
    """Open the loggers of a run, by name, and close them when it ends, with the error if there was one.

    Args:
        config: the whole config.
        recorded: the same without secrets, for loggers that store it.
        past: ``run.json`` of a resumed run, else empty.

    Raises:
        UserError: a logger cannot start.
    """
    loggers: dict[str, Logger] = {}
    known = {"wandb": past.get("wandb"), "mlflow": past.get("mlflow"), **past.get("loggers", {})}
    theirs = getattr(sys.modules.get("wandb"), "run", None)  # a surrounding W&B run, which Lightning's logger would use
    error: BaseException | None = None
    try:
        nodes = parts_on(config, "logger")
        beside = {_OURS_WANDB, _LIGHTNINGS} <= {node["_target_"] for node in nodes.values()}
        for name, node in nodes.items():
            more = _more(node, recorded, known.get(name), beside)
            loggers[name] = _start(name, node, more, recorded, [config["paths"]["output_dir"], *_tables(loggers)])
        yield loggers
    except BaseException as raised:
        error = raised
        raise
    finally:
        with ExitStack() as closing:  # closes all, even if one fails
            for logger in reversed(loggers.values()):
                closing.callback(_close, logger, error, theirs)


def _close(logger: Logger, error: BaseException | None, theirs: Any) -> None:
    if isinstance(logger, RunView):
        logger.close(error)
    elif isinstance(logger, WandbLogger) and logger.experiment is not theirs:
        logger.experiment.finish(exit_code=1 if error else 0)  # else the next job would continue it


def _more(node: Mapping[str, Any], recorded: Mapping[str, Any], id: str | None, beside: bool) -> dict[str, Any]:
    """Further arguments of a logger; ``beside``: whether Lightning's and our W&B logger are both configured."""
    job = Path(recorded["paths"]["output_dir"]).name
    # A job needs an id of its own, else W&B takes all jobs for one run.  A rerun's folder has no job number.
    if not id and recorded.get("sweep") and node.get("id") and job.isdecimal():
        id = f"{node['id']}-{job}"
    own_id = {"id": id} if id else {}
    # Otherwise W&B would give our run to Lightning's logger.
    apart = {"reinit": "create_new"} if beside and node["_target_"] in (_OURS_WANDB, _LIGHTNINGS) else {}
    if node["_target_"] in _OURS:
        return {"config": dict(recorded), **own_id, **apart}
    if node["_target_"] != _LIGHTNINGS:
        return {}
    # Lightning sets offline mode by an environment variable, which W&B has already read.
    return {**own_id, **apart, **({"mode": "offline"} if node.get("offline") else {})}


def _tables(loggers: Mapping[str, Logger]) -> list[str]:
    """The folders in which loggers write a metrics.csv."""
    return [logger.log_dir for logger in loggers.values() if isinstance(logger, CSVLogger)]


def _start(
    name: str, node: Mapping[str, Any], more: Mapping[str, Any], recorded: Mapping[str, Any], tables: Sequence[str]
) -> Logger:
    """Start a logger; ``tables``: folders with a metrics.csv, which CSVLogger would replace by its own."""
    try:
        logger: Logger = instantiate({**node, "_partial_": True})(**more)
        for table in (Path(place) / "metrics.csv" for place in _tables({name: logger})):
            if table.resolve().parent in [Path(taken).resolve() for taken in tables]:
                raise UserError(f"logger.{name}: {table} is written already. Try: logger.{name}.name={name}")
        if not isinstance(logger, RunView):  # our loggers already have the config
            logger.log_hyperparams(dict(recorded))
        return logger
    except UserError:
        raise
    except Exception as error:  # loggers raise anything: an invalid WANDB_… variable, a missing package, a folder
        what = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"logger.{name}: cannot start: {' '.join(what[:3])}. Try: logger=none") from error
