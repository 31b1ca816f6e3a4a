"""Keeps run.json up to date during a run, however it ends."""

from __future__ import annotations

import errno
import logging
import re
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from lightning_fabric.utilities.exceptions import MisconfigurationException

from vqclip.config.records import trusting
from vqclip.config.resolve import identity
from vqclip.errors import NO_ROOM, UserError, message_of
from vqclip.io.files import atomic_write
from vqclip.runs.checkpoint import no_checkpoint
from vqclip.runs.digests import callback_weights, inputs, own_weights
from vqclip.runs.folder import RunFolder
from vqclip.runs.plan import RunPlan
from vqclip.runs.provenance import machine, versions
from vqclip.runs.status import FAILED, INTERRUPTED, RUNNING, RunError

__all__ = ["Report", "keep_report"]

_log = logging.getLogger(__name__)

_NO_ENTRY = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE}
_NO_ENTRY |= {errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST}

#: Lightning's error for a callback that needs a logger.
_NO_LOGGER = re.compile(r"Cannot use `(\w+)` callback with `Trainer.*logger")


class Report:
    """The report of a run in its folder.

    Args:
        first: the entries known at the beginning.
        seconds: of the run before it was resumed.
    """

    def __init__(self, run: RunFolder, first: Mapping[str, Any], seconds: float):
        self.run, self.content = run, dict(first)
        self.began = False  #: whether training has started, so that the folder has changed
        self._began = time.perf_counter() - seconds

    def add(self, **parts: Any) -> None:
        """Add entries to the report, and update the seconds."""
        seconds = round(time.perf_counter() - self._began, 3)
        self.content = {**self.content, **parts, "seconds": seconds}

    def write(self) -> None:
        self.run.write_report(self.content)


def first_report(plan: RunPlan, past: Mapping[str, Any], resumed_at: int | None) -> dict[str, Any]:
    """The report's entries that are known before models are loaded."""
    return {
        "status": RUNNING,
        "identity": identity(plan.config),
        "started": past.get("started", datetime.now().astimezone().isoformat(timespec="seconds")),
        "resumed": past.get("resumed", []) + ([] if resumed_at is None else [resumed_at]),
        **{key: past[key] for key in ("wandb", "mlflow", "loggers") if key in past},  # kept even if they are off now
        "seed": plan.config["seed"],
        "steps": 0,
        "pictures": plan.pictures,
        "versions": versions(),
        "machine": machine(),
    }


@contextmanager
def keep_report(run: RunFolder, plan: RunPlan, past: Mapping[str, Any], resumed_at: int | None) -> Iterator[Report]:
    """Make the report of a new or resumed run, and write into it however the run ends.

    Raises:
        RunError: the folder could not be written, or disappeared.
    """
    report = Report(run, first_report(plan, past, resumed_at), past.get("seconds", 0.0))
    before = {} if resumed_at is None else {path: run.read(path) for path in (run.config_file, run.report_file)}
    try:
        if resumed_at is None:
            # Hashes before config.yaml: resume reads only files whose hashes the report has.
            weights = own_weights(plan.config) | callback_weights(plan.config)
            report.add(weights=weights, inputs=inputs(plan.config))
            report.write()
        run.write_config(plan.recorded)
        with _failures(report, plan, before):
            yield report
            if not run.is_there():
                raise _gone(run)
            report.write()
    except (KeyboardInterrupt, SystemExit):
        if before and not report.began:
            _put_back(run, before)
            _log.warning("stopped before another step was made: %s is what it was", run)
        else:
            _end(report, status=INTERRUPTED)
            _log.warning("stopped. To continue: %s%s", trusting(plan.config), run.resume_command)
        raise


@contextmanager
def _failures(report: Report, plan: RunPlan, before: Mapping[Path, bytes]) -> Iterator[None]:
    """Write an exception that ends a run into its report and log.

    Args:
        before: the contents of a resumed run's files, restored if resuming is refused.
    """
    run = report.run
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        explained = _explained(error, run, plan)
        if before and not report.began:
            _put_back(run, before)
        else:
            _end(report, status=FAILED, error=message_of(explained))
        with suppress(OSError):
            if run.is_there():
                run.log("".join(traceback.format_exception(error)))
        if explained is error:
            raise
        raise explained from error


def _end(report: Report, **ending: Any) -> None:
    report.add(**ending)
    if not report.run.is_there():
        return
    try:
        report.write()
    except OSError:  # the disk is full
        with suppress(OSError):
            report.run.mark_failed()


def _put_back(run: RunFolder, files: Mapping[Path, bytes]) -> None:
    with suppress(OSError):  # if it cannot be written now, it has not been changed
        for path, content in files.items() if run.is_there() else ():
            atomic_write(path, content)


def _is_lightnings(error: BaseException) -> bool:
    """Whether Lightning raised it: EarlyStopping for a metric that nobody logs, a plugin that conflicts."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    refuse = ("pytorch_lightning.callbacks.", "pytorch_lightning.trainer.connectors.")
    return isinstance(error, RuntimeError | ValueError) and frame.f_globals.get("__name__", "").startswith(refuse)


def _is_of_checkpoint(error: BaseException) -> bool:
    """Whether Lightning or torch raised it while loading the checkpoint, not a custom part."""
    names = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    theirs = names[-1].partition(".")[0] in (
        "torch",
        "pytorch_lightning",
        "lightning_fabric",
        "vqclip",
        "copy",
        "packaging",
    )
    return theirs and "pytorch_lightning.trainer.connectors.checkpoint_connector" in names


def _gone(run: RunFolder) -> RunError:
    return RunError(f"{run}: it was removed or renamed while the run went on. Try: the same command again")


def _explained(error: BaseException, run: RunFolder, plan: RunPlan) -> BaseException:
    """Turn errors of the system and of Lightning into a sentence; return others unchanged."""
    if isinstance(error, Exception) and not isinstance(error, UserError | OSError) and _is_of_checkpoint(error):
        return no_checkpoint(run, message_of(error))
    if isinstance(error, MisconfigurationException) and (found := _NO_LOGGER.search(str(error))):
        return UserError(
            f"callbacks: {found[1]} writes to a logger, and this run has none (logger=csv is metrics.csv alone). "
            "Allowed: logger=tensorboard, wandb or mlflow. Try: logger=tensorboard"
        )
    if isinstance(error, MisconfigurationException) or _is_lightnings(error):
        return UserError(f"callbacks or trainer: Lightning refuses it: {' '.join(str(error).split())}")
    if not isinstance(error, OSError) or error.errno not in NO_ROOM | _NO_ENTRY:
        return error
    if not run.is_there():
        return _gone(run)
    where, go_on = error.filename or run, f"{trusting(plan.config)}{run.resume_command}"
    if error.errno in NO_ROOM:
        return RunError(f"{where}: no space left. What was written is kept; with space, continue: {go_on}")
    return RunError(f"{where}: {error.strerror}. What was written is kept. To continue: {go_on}")
