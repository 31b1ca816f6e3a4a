"""Hands jobs to the launcher, whichever it is, and reports those that it could not finish."""

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
from vqclip.runs.checkpoint import read_checkpoint
from vqclip.runs.folder import RunFolder
from vqclip.runs.rollback import require_whole, start_over
from vqclip.runs.status import INTERRUPTED, RUNNING
from vqclip.sweeps.jobs import Job, changed_files, other_weights, read_report
from vqclip.sweeps.progress import watched

__all__ = ["launch", "require_processes"]

#: What a report says before a run begins.
_OF_THE_PLAN = ("identity", "seed", "versions", "machine", "weights", "inputs")


def require_processes(launcher: Any) -> None:
    """Raises UserError for joblib's launcher with none, before anything is written."""
    if _is_of(launcher, "joblib") and launcher.joblib["n_jobs"] == 0:
        raise UserError(
            "hydra.launcher.n_jobs=0: no process, in which no job would run. Allowed: whole numbers from 1 up, or -1 "
            "for one process per CPU. Try: hydra.launcher.n_jobs=2"
        )


def launch(
    launcher: Launcher, name: str, jobs: Sequence[Job], places: Sequence[Path], group: str, size: int | None
) -> Iterator[JobReturn]:
    """Run jobs in their folders, and yield what became of each.

    Args:
        name: of the launcher, for its errors.
        places: of the jobs, in their order; their numbers are ``hydra.job.num``, by which a user may name the log.
        group: of the sweep, for loggers.
        size: jobs handed over in one go; None for all.

    Raises:
        UserError: no job began, for a reason of the launcher's.
    """
    for job, place in zip(jobs, places, strict=True):
        _make_ready(RunFolder(place), job)
    # In this process one job follows another in any case, and in one go the configs of all would be kept.
    size = 1 if isinstance(launcher, BasicLauncher) else size or max(1, len(jobs))
    commands, before = _commands(jobs, places, group), [read_report(place) for place in places]
    _import_from_where_we_do(launcher)
    _start_no_more_than(min(size, len(jobs)), launcher)
    for start in range(0, len(commands), size):
        try:
            # What submitit's jobs print goes into files of their own, of a queue that may take hours.
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
            print(f"vqclip: {complaint}", file=sys.stderr)  # of one that was killed; which did not end is told later
        else:
            yield from done


def _make_ready(run: RunFolder, job: Job) -> None:
    """Have a job begin anew that cannot go on where it was cut; what is not the run's own stays in its folder."""
    if not run.path.is_dir():
        return
    with suppress(UserError, OSError), run.open():  # in use, or not to be written: the job itself says so
        report = run.report()
        if report["status"] in (RUNNING, INTERRUPTED) and _can_go_on(run, report, job):
            return
        start_over(run)
        run.log_file.unlink(missing_ok=True)
        # Its identity stays, by which the next sweep finds its folder, and nothing of what became of it.
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

    # A picture's last bits depend on the number of threads, and some launchers give their workers fewer.
    common = f"group:{quote(group)},threads:{torch.get_num_threads()},of:{len(jobs)}"
    commands = []
    for number, (job, place) in enumerate(zip(jobs, places, strict=True), 1):
        keys = ",".join(f"{key}:{quote(value)}" for key, value in job.swept.items())
        sweep = f"sweep={{{common},job:{number},swept:{{{keys}}}}}"
        # The folder as it is here: a worker may begin in another one, and ${seed} in its name be another's in a job.
        folder = [f"hydra.sweep.dir={quote(str(place.parent.absolute()))}", f"hydra.sweep.subdir={place.name}"]
        commands.append([*job.overrides, sweep, *folder])
    return commands


def _is_of(launcher: Launcher, package: str) -> bool:
    return type(launcher).__module__.startswith(f"hydra_plugins.hydra_{package}_launcher")


def _import_from_where_we_do(launcher: Launcher) -> None:
    """Have a launcher's processes take no module from the working folder, which may be a stranger's, unless we do.

    They begin with ``python -m``, which looks there first.
    """
    ours = os.getcwd() in map(os.path.realpath, sys.path)  # of python -m vqclip, beside parts of the user's own
    if not ours and any(_is_of(launcher, package) for package in ("joblib", "submitit")):
        os.environ["PYTHONSAFEPATH"] = "1"


def _start_no_more_than(jobs: int, launcher: Any) -> None:
    """Have joblib start no process that would be without a job: all begin at once, whatever there is to do."""
    if not _is_of(launcher, "joblib"):
        return
    from joblib import effective_n_jobs

    # As typed: the jobs that a search proposed before may have been fewer.
    typed = effective_n_jobs(launcher.config.hydra.launcher.n_jobs)
    # 2 for a single job: with 1 joblib makes no process, and a job that is killed would take the sweep along.
    launcher.joblib["n_jobs"] = min(typed, max(2, jobs))


def _state(places: Sequence[Path]) -> str:
    found = [read_report(place).get("status") for place in places]
    at_work, waiting = found.count(RUNNING), sum(status in (None, INTERRUPTED) for status in found)
    return f"jobs: {waiting} waiting, {at_work} at work, {len(found) - waiting - at_work} ended"


def _in_a_line(error: Exception) -> str:
    """The first lines of what it says: submitit gives a job's state in the second, and a log from the third."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]).rstrip(".:") or type(error).__name__
