"""The jobs of a sweep: their identity, their folders, and whether they are done."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vqclip.config.plain import mapping
from vqclip.config.resolve import identity
from vqclip.errors import UserError
from vqclip.io.progress import counted
from vqclip.io.run_files import PictureFolder
from vqclip.runs.digests import inputs, own_weights, packaged_weights
from vqclip.runs.folder import RunFolder
from vqclip.runs.status import WITH_PICTURES

__all__ = [
    "Job",
    "changed_files",
    "done_jobs",
    "group_name",
    "is_done",
    "job_folders",
    "numbered_folders",
    "other_weights",
    "read_report",
]


@dataclass(frozen=True)
class Job:
    """One job of a sweep."""

    overrides: list[str]  #: as on the command line, with one value each
    swept: dict[str, str]  #: the swept keys with this job's values, strings unquoted
    config: dict[str, Any]  #: resolved

    @cached_property
    def identity(self) -> str:
        return identity(self.config)


def is_done(folder: Path, report: Mapping[str, Any], identity: str) -> bool:
    """Whether ``folder``, with this report, holds this job finished and with its results; snapshots may be missing."""
    run = RunFolder(folder)
    return (
        report.get("identity") == identity
        and report.get("status") in WITH_PICTURES
        and all(_has_results(run.picture(i)) for i in range(len(report["pictures"])))
    )


def done_jobs(folder: Path, jobs: Sequence[Job], places: Mapping[str, Path]) -> set[str]:
    """Identities of the jobs that are done and whose input files are unchanged; notes about the others are printed."""
    done, anew, older = set(), Counter[str](), Counter[str]()
    for job in counted(jobs, len(jobs), "looking at job"):
        place = places[job.identity]
        report = read_report(place)
        if not is_done(place, report, job.identity):
            continue
        if changed := changed_files(report, job.config):
            anew.update(changed)
            continue
        done.add(job.identity)
        older.update(other_weights(report, job.config))
    for name, count in anew.items():
        print(f"note: {name} has changed since {count} finished in {folder}, which begin anew", file=sys.stderr)
    for name, count in older.items():  # jobs of another version still count as done
        what = f"{count} finished in {folder} had another {name} than this vqclip, and stay as they are"
        print(f"note: {what}. To have all alike: another hydra.sweep.dir", file=sys.stderr)
    return done


def changed_files(report: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Names of the user's files and runs that have changed since a job read them."""
    return _others(report, weights=own_weights(config), inputs=inputs(config))


def other_weights(report: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Names of the shipped weights that differ from those of the version that made a job."""
    return _others(report, weights=packaged_weights(config))


def _others(report: Mapping[str, Any], **now: Mapping[str, str]) -> list[str]:
    """Names of files whose sha256 in ``now`` differs from a report's; older reports may lack some."""
    known = {kind: mapping(report.get(kind)) for kind in now}
    return [name for kind, found in now.items() for name, sha in found.items() if known[kind].get(name, sha) != sha]


def _has_results(picture: PictureFolder) -> bool:
    """Whether both results can be opened, even if they were edited."""
    try:
        picture.require_picture(picture.best)
        picture.require_picture(picture.final)
    except UserError:
        return False
    return True


def job_folders(folder: Path, jobs: Sequence[Job]) -> dict[str, Path]:
    """The folder of every job: an existing one of the same identity, else the next free number."""
    places = {
        found["identity"]: path for path in numbered_folders(folder) if "identity" in (found := read_report(path))
    }
    free = (folder / str(n) for n in itertools.count())
    for job in jobs:
        if job.identity not in places:
            places[job.identity] = next(path for path in free if not path.exists())
    return places


def numbered_folders(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))


def read_report(folder: Path) -> dict[str, Any]:
    """``run.json`` of a job's folder: empty if there is none; if damaged, a report that says so."""
    run = RunFolder(folder)
    return run.try_report() if run.report_file.exists() else {}


def group_name(folder: Path) -> str:
    """The W&B group of a sweep's folder: its path without the common ``multirun``."""
    parts = folder.parts[1:] if folder.parts[:1] == ("multirun",) else folder.parts
    return "/".join(part for part in parts if part != folder.anchor)[-128:]
