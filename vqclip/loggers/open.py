"""The loggers of a config, from the start of a run to its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pytorch_lightning.loggers import Logger

from vqclip.config.instantiate import instantiate
from vqclip.errors import UserError
from vqclip.loggers.base import RunView, close

__all__ = ["open_loggers"]

#: Loggers that take the whole config when they start, and go on in the run they had: name → key in run.json.
_WITH_CONFIG = ("wandb", "mlflow")


@contextmanager
def open_loggers(
    config: Mapping[str, Any], recorded: Mapping[str, Any], past: Mapping[str, Any]
) -> Iterator[list[Logger]]:
    """The loggers of a run.  Each ends with it and is told of an error: the next job gets its own.

    Args:
        config: the whole config.
        recorded: the same without secrets, for loggers that keep it.
        past: ``run.json`` of the run that is resumed, else empty.

    Raises:
        UserError: one cannot start.
    """
    loggers: list[Logger] = []
    error: BaseException | None = None
    try:
        for name, node in (config["logger"] or {}).items():
            if node:
                own_id = {"id": past[name]} if past.get(name) else {}
                more = {"config": dict(recorded), **own_id} if name in _WITH_CONFIG else {}
                loggers.append(_start(name, node, more, recorded))
        yield loggers
    except BaseException as raised:
        error = raised
        raise
    finally:
        for logger in loggers:
            close(logger, error)


def _start(name: str, node: Mapping[str, Any], more: Mapping[str, Any], recorded: Mapping[str, Any]) -> Logger:
    try:
        logger: Logger = instantiate(node, _partial_=True)(**more)
        if not isinstance(logger, RunView):  # ours have the config already
            logger.log_hyperparams(dict(recorded))
        return logger
    except UserError:
        raise
    except Exception as error:  # a logger's own checks: a WANDB_… variable, a package that is missing, a folder
        what = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"logger.{name}: cannot start: {' '.join(what[:3])}. Try: logger=none") from error
