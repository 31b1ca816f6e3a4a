"""Passes jobs to Hydra's launcher, and reports those that it could not finish."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from vqclip.config.grammar import quote
from vqclip.errors import NO_ROOM, UserError
from vqclip.io.progress import watched
from vqclip.runs.checkpoint import read_checkpoint
from vqclip.runs.folder import RunFolder
from vqclip.runs.rollback import require_whole, start_over
from vqclip.runs.status import INTERRUPTED, RUNNING
from vqclip.sweeps.jobs import Job, changed_files, other_weights, read_report

__all__ = ["launch", "require_processes"]

#: Entries of a report that are known before a run starts.
_OF_THE_PLAN = ("identity", "seed", "versions", "machine", "weights", "inputs")


def require_processes(launcher: Any) -> None:
    """Raise UserError if joblib's launcher is set to no processes, before anything is written."""
    if _is_of(launcher, "joblib") and launcher.joblib["n_jobs"] == 0:
        raise UserError(
            "hydra.launcher.n_jobs=0: no process, in which no job would run. Allowed: whole numbers from 1 up, or -1 "
            "for one process per CPU. Try: hydra.launcher.n_jobs=2"
        )


def launch(
    launcher: Launcher, name: str, jobs: Sequence[Job], places: Sequence[Path], group: str, size: int | None
) -> Iterator[JobReturn]:
    """Run jobs in their folders, and yield the result of each.

    Args:
        name: of the launcher, for errors.
        places: folders of the jobs; their numbers become ``hydra.job.num``, which may occur in the log's name.
        group: of the sweep, for loggers.
        size: jobs passed to the launcher at a time; None: all.

    Raises:
        UserError: the launcher could not start any job.
    """
    for job, place in zip(jobs, places, strict=True):
        _make_ready(RunFolder(place), job)
    # The basic launcher runs one after another anyway, and in one batch would keep the configs of all.
    size = 1 if isinstance(launcher, BasicLauncher) else size or max(1, len(jobs))
    commands, before = _commands(jobs, places, group), [read_report(place) for place in places]
    _import_from_where_we_do(launcher)
    _start_no_more_than(min(size, len(jobs)), launcher)
    for start in range(0, len(commands), size):
        try:
            # submitit's jobs print into files, and may queue for hours.
            with watched(lambda: _state(places)) if _is_of(launcher, "submitit") else nullcontext():
                done = launcher.launch(commands[start : start + size], initial_job_idx=int(places[start].name))
        except UserError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise
            complaint = f"hydra/launcher={name}: {_in_a_line(error)}"
            if before == [read_report(place) for place in places]:
                raise UserError(
                    f"{complaint}. Allowed: a launcher whose cluster is there, and keys that it grants. To see them: "
                    f"vqclip hydra/launcher={name} --cfg hydra -p hydra.launcher. Try: hydra/launcher=workers, or none"
                ) from error
            print(f"vqclip: {complaint}", file=sys.stderr)  # a job was killed; jobs that did not end are reported later
        else:
            yield from done


def _make_ready(run: RunFolder, job: Job) -> None:
    """Let a job that cannot be resumed start over; files in its folder that are not the run's stay."""
    if not run.path.is_dir():
        return
    with suppress(UserError, OSError), run.open():  # in use or not writable: the job reports it
        report = run.report()
        if report["status"] in (RUNNING, INTERRUPTED) and _can_go_on(run, report, job):
            return
        start_over(run)
        run.log_file.unlink(missing_ok=True)
        # Keep the identity, by which the next sweep finds the folder, but not the old outcome.
        kept = {key: report[key] for key in _OF_THE_PLAN if key in report}
        pictures = [{key: picture[key] for key in ("prompt", "seed")} for picture in report["pictures"]]
        run.write_report({**kept, "status": INTERRUPTED, "pictures": pictures})


def _can_go_on(run: RunFolder, report: Mapping[str, Any], job: Job) -> bool:
    try:
        checkpoint = read_checkpoint(run)
        if checkpoint is None or not run.config_file.is_file():
            return False
        require_whole(run, checkpoint)
        if changed := changed_files(report, job.config) + other_weights(report, job.config):
            raise UserError(f"{run}: cut before {', '.join(changed)} changed")
    except UserError as error:
        print(f"note: {str(error).partition('. Try: ')[0]}. The job begins anew", file=sys.stderr)
        return False
    return True


def _commands(jobs: Sequence[Job], places: Sequence[Path], group: str) -> list[list[str]]:
    """The overrides of each job."""
    import torch

    # The last bits depend on the number of threads, and some launchers give their workers fewer.
    common = f"group:{quote(group)},threads:{torch.get_num_threads()},of:{len(jobs)}"
    commands = []
    for number, (job, place) in enumerate(zip(jobs, places, strict=True), 1):
        keys = ",".join(f"{key}:{quote(value)}" for key, value in job.swept.items())
        sweep = f"sweep={{{common},job:{number},swept:{{{keys}}}}}"
        # The absolute folder: a worker may start elsewhere, and ${seed} in its name would differ in the job.
        folder = [f"hydra.sweep.dir={quote(str(place.parent.absolute()))}", f"hydra.sweep.subdir={place.name}"]
        commands.append([*job.overrides, sweep, *folder])
    return commands


def _is_of(launcher: Launcher, package: str) -> bool:
    return type(launcher).__module__.startswith(f"hydra_plugins.hydra_{package}_launcher")


def _import_from_where_we_do(launcher: Launcher) -> None:
    """Prevent a launcher's processes from importing modules from the working folder, unless this process does.

    They start with ``python -m``, which looks there first, and the folder may be untrusted.
    """
    ours = os.getcwd() in map(os.path.realpath, sys.path)  # with python -m vqclip, for custom parts
    if not ours and any(_is_of(launcher, package) for package in ("joblib", "submitit")):
        os.environ["PYTHONSAFEPATH"] = "1"


def _start_no_more_than(jobs: int, launcher: Any) -> None:
    """Limit joblib's processes to the number of jobs, since it starts all of them at once."""
    if not _is_of(launcher, "joblib"):
        return
    from joblib import effective_n_jobs

    # The typed value, not that of an earlier, smaller batch of a search.
    typed = effective_n_jobs(launcher.config.hydra.launcher.n_jobs)
    # At least 2: with 1, joblib runs the job in this process, and a killed job would end the sweep.
    launcher.joblib["n_jobs"] = min(typed, max(2, jobs))


def _state(places: Sequence[Path]) -> str:
    found = [read_report(place).get("status") for place in places]
    at_work, waiting = found.count(RUNNING), sum(status in (None, INTERRUPTED) for status in found)
    return f"jobs: {waiting} waiting, {at_work} at work, {len(found) - waiting - at_work} ended"


def _in_a_line(error: Exception) -> str:
    """The first two lines of an error: submitit's second line has the job's state, later ones a log."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]).rstrip(".:") or type(error).__name__
