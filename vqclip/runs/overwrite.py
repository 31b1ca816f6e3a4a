"""Keeps a run from being overwritten, and cleans up after a run that failed before its first step."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vqclip.errors import UserError
from vqclip.runs.folder import RunFolder
from vqclip.runs.plan import RunPlan
from vqclip.runs.status import DIVERGED, RunError

__all__ = ["clean_up", "refuse_overwrite"]


def refuse_overwrite(run: RunFolder) -> None:
    """Refuse a folder with a run whose pictures would be lost.

    Raises:
        UserError: there is one.
    """
    status = run.try_report()["status"] if run.report_file.exists() else None
    if run.checkpoint_file.exists() or run.checkpoint_file.is_symlink() or status == DIVERGED:
        raise UserError(
            f"{run}: a run is in it already ({status or 'its run.json is missing'}), and it is kept. "
            f"Allowed: another folder, or {run.resume_command}. To start over in it: overwrite=true"
        )


@contextmanager
def clean_up(run: RunFolder, plan: RunPlan) -> Iterator[None]:
    """Leave nothing behind where a mistake shows before the first step; a sweep's job stays, to say what failed."""
    created = [path for path in [run.path, *run.path.parents] if not path.exists()]
    before = set(run.path.iterdir()) if run.path.is_dir() else set()
    try:
        yield
    except UserError as error:
        alone = not plan.config.get("sweep") and not isinstance(error, RunError)
        if alone and not run.picture(0).path.exists():
            for path in set(run.path.iterdir()) - before if run.path.is_dir() else ():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            _remove_empty(run.path, created)
        raise


def _remove_empty(folder: Path, created: list[Path]) -> None:
    """The folder and those above it that were not there before; Hydra's own record of the mistake with them."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names and names <= {".hydra", "vqclip.log"} and not folder.is_symlink():
        shutil.rmtree(folder)
        created = [folder, *created]
    for path in created:
        try:
            path.rmdir()
        except OSError:
            continue
