"""Prints a line when a sweep's job starts, and a run's pictures and the next command when it has ended."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqclip.errors import printable
from vqclip.paths import relative_where_possible
from vqclip.runs.status import DIVERGED

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vqclip.runs.result import Result

__all__ = ["job_line", "print_result"]

#: Maximum number of a run's pictures shown in the terminal.
SHOWN = 6


def job_line(folder: Path, sweep: DictConfig) -> str:
    """A line with the number of the starting job and the estimated time left."""
    from vqclip.config.grammar import job_name

    number, of = sweep.get("job", 1), sweep.get("of", 1)
    try:
        left = _time_left((folder.parent / "multirun.yaml").stat().st_mtime, number - 1, of)
    except OSError:  # with a launcher on other machines
        left = ""
    return f"job {number} of {of}{left}: {', '.join(filter(None, [job_name(sweep.swept), str(folder)]))}"


def _time_left(began: float, done: int, of: int) -> str:
    """``, 3 min left`` from the time that the jobs took so far (``began``: seconds since 1970); empty at the first."""
    from vqclip.runs.cost import duration

    if not done:
        return ""
    return f", {duration(max(0.0, time.time() - began) / done * (of - done))} left"


def print_result(result: Result, job: bool = False) -> None:
    """Print the paths of the pictures and, unless in a sweep, the next command."""
    from vqclip.io.inline import show

    if result.reason:
        print(f"vqclip: {result.status}: {result.reason}", file=sys.stderr)
    pictures = [path for path in result.pictures if path.exists()]
    for path in pictures:
        print(printable(str(path)))
    if job:
        return
    show(pictures[:SHOWN])
    if result.status != DIVERGED:
        print(f"next: {_next(result)}", file=sys.stderr)


def _next(result: Result) -> str:
    from vqclip.config.records import trusting
    from vqclip.config.resolve import keys_of_length
    from vqclip.runs.folder import RunFolder
    from vqclip.runs.resume import LIMITS

    near = RunFolder(Path(relative_where_possible(result.folder)))
    config = result.config
    trusted = trusting(config)
    limits = [key for key in LIMITS if config["trainer"].get(key.partition(".")[2]) is not None]
    ended = [*limits, *_that_ended_it(result.reason, config)] if result.reason else []
    if ended:  # these callbacks would end it again
        lifted = " ".join(f"{key}=null" for key in ended)
        return f"{trusted}{near.resume_command} {lifted}   (the steps that are left)"
    if keys_of_length(config):  # schedules span the run: more steps would change it
        return f"{trusted}{near.rerun_command}"
    return f"{trusted}{near.resume_command} steps={2 * config['steps']}   (more steps)"


def _that_ended_it(reason: str, config: Mapping[str, Any]) -> list[str]:
    """Keys of the callbacks that the reason of an early stop names."""
    from vqclip.config.own_classes import parts_on

    who = re.findall(r"\w+", reason.partition(" after step ")[0])
    callbacks = parts_on(config, "callbacks")
    return [f"callbacks.{name}" for name, callback in callbacks.items() if callback["_target_"].split(".")[-1] in who]
