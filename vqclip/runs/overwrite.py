"""Prevents overwriting of runs, and cleans up after a run that failed before its first step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vqclip.errors import UserError
from vqclip.io.sweep_files import is_ours
from vqclip.runs.checkpoint import had_checkpoint
from vqclip.runs.digests import inputs
from vqclip.runs.folder import RunFolder
from vqclip.runs.plan import RunPlan
from vqclip.runs.status import DIVERGED, WITH_PICTURES, RunError

__all__ = ["clean_up", "refuse_overwrite", "refuse_own_inputs"]


def refuse_overwrite(run: RunFolder, overwrite: bool) -> None:
    """Refuse a folder in which something would be lost.

    Args:
        overwrite: whether an existing run may be replaced.

    Raises:
        UserError: it holds a run with pictures; or, even with ``overwrite``, a sweep, or files with a run's names that
            are not a run's.
    """
    if is_ours(run.path / "multirun.yaml"):  # other Hydra programs write one too
        raise UserError(
            f"{run}: a sweep's folder, whose comparison would have this run in it. Allowed: another folder. "
            "Try: hydra.run.dir=FOLDER, or from Python folder=FOLDER"
        )
    # Except vqclip.log, which is appended to, and which Hydra has already created for this run.
    ours = [run.path / name for name in run.names if name != run.log_file.name] + [p.path for p in run.pictures()]
    if not (found := [path.name for path in ours if os.path.lexists(path)]):
        return
    try:
        status = run.report()["status"]
    except UserError as error:
        why = str(error).partition(". Try: ")[0] if run.report_file.exists() else "there is no run.json beside it"
        raise UserError(
            f"{run}: {', '.join(found)} would be replaced, and may be no run of vqclip's ({why}). "
            "Allowed, also with overwrite=true: another folder. Try: hydra.run.dir=FOLDER, or from Python folder=FOLDER"
        ) from None
    has_checkpoint = os.path.lexists(run.checkpoint_file)
    if overwrite or not (has_checkpoint or status in (*WITH_PICTURES, DIVERGED) or had_checkpoint(run)):
        return
    goes_on = f", or {run.resume_command}" if has_checkpoint and status != DIVERGED else ""
    raise UserError(
        f"{run}: a run is in it already ({status}), and it is kept. "
        f"Allowed: another folder{goes_on}. To start over in it: overwrite=true"
    )


def refuse_own_inputs(run: RunFolder, config: Mapping[str, Any]) -> None:
    """Refuse to start over in a folder whose run the new run would read.

    Raises:
        UserError: it would read it.
    """
    for path in inputs(config):
        if Path(path).resolve().is_relative_to(run.path.resolve()):
            raise UserError(
                f"{path}: the run reads it, and overwrite=true removes the run that it is of. Allowed: another folder. "
                "Try: hydra.run.dir=FOLDER, or from Python folder=FOLDER"
            )


@contextmanager
def clean_up(run: RunFolder, plan: RunPlan) -> Iterator[None]:
    """Remove what a run wrote if a mistake shows before the first step, unless it is a sweep's job."""
    created = [path for path in [run.path, *run.path.parents] if not path.exists()]
    before = set(run.path.iterdir()) if run.path.is_dir() else set()
    try:
        yield
    except UserError as error:
        alone = not plan.config.get("sweep") and not isinstance(error, RunError)
        if alone and not run.picture(0).path.exists():
            for path in set(run.path.iterdir()) - before if run.path.is_dir() else ():
                with suppress(OSError):  # Windows cannot remove open files; the mistake must be reported anyway
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            _remove_empty(run.path, created)
        raise


def _remove_empty(folder: Path, created: list[Path]) -> None:
    """Remove the folder, Hydra's record in it, and the parents that this run created, if they are empty."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names and names <= {".hydra", "vqclip.log"} and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
        created = [folder, *created]
    for path in created:
        with suppress(OSError):
            path.rmdir()
