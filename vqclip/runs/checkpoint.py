"""Reads the resume point of a run, as tensors and plain data only."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from typing import Any

from vqclip.errors import UserError
from vqclip.runs.folder import RunFolder
from vqclip.runs.status import FINISHED, STOPPED_EARLY

__all__ = ["read_checkpoint"]

_PARTS = {
    "global_step": int,
    "state_dict": Mapping,
    "callbacks": Mapping,
    "optimizer_states": list,
    "loops": Mapping,
    "pytorch-lightning_version": str,
}
_SNAPSHOTS = {"best": list, "last": list, "digests": Mapping}


def read_checkpoint(run: RunFolder) -> dict[str, Any] | None:
    """The last whole checkpoint; None where there is none yet.

    Raises:
        UserError: the file holds anything else, or there was one and it is gone.
    """
    import torch

    if not run.checkpoint_file.exists() and not run.checkpoint_file.is_symlink():
        return _never_had_one(run)
    content = run.read(run.checkpoint_file)
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its readers and the pickle's own bytes come upon
        what = str(error).splitlines()[0] if content and str(error) else "it is empty"
        raise _no_checkpoint(run, what) from None
    if lacks := _lacks(found):
        raise _no_checkpoint(run, f"it has no {lacks}")
    return found


def _lacks(found: Any) -> str | None:
    """What a checkpoint must have, and this has not."""
    from torch import Tensor

    if missing := _missing(found, _PARTS):
        return missing
    if found["global_step"] < 1:
        return "global_step"
    if not isinstance(found["state_dict"].get("latent"), Tensor):
        return "latent"
    if not found["optimizer_states"] or not all(isinstance(state, Mapping) for state in found["optimizer_states"]):
        return "optimizer_states"
    return _missing(found["callbacks"].get("Recorder"), _SNAPSHOTS)


def _missing(found: Any, parts: Mapping[str, type]) -> str | None:
    found = found if isinstance(found, Mapping) else {}
    return next((name for name, kind in parts.items() if not isinstance(found.get(name), kind)), None)


def _never_had_one(run: RunFolder) -> None:
    """Say that the run begins again; refuse where it had a checkpoint once."""
    # The first is written after the first snapshot that follows the start's, and before any step after that.
    snapshots = sorted(int(path.stem) for path in run.picture(0).steps.glob("*.png") if path.stem.isdecimal())
    had_one = len(snapshots) > 2 or (len(snapshots) == 2 and _newest_row(run) > snapshots[-1])
    report = run.try_report()
    if had_one or (report["status"] in (FINISHED, STOPPED_EARLY) and report["steps"]):
        raise UserError(f"{run.checkpoint_file}: missing, so this run cannot be resumed. Try: {run.rerun_command}")
    if snapshots:
        print(f"note: {run} was stopped before its first checkpoint, so it begins at its first step", file=sys.stderr)


def _newest_row(run: RunFolder) -> float:
    try:
        return max((row.get("step", 0) for row in run.history()), default=0)
    except UserError:  # the table is of no use either
        return 0


def _no_checkpoint(run: RunFolder, what: str) -> UserError:
    return UserError(f"{run.checkpoint_file}: not a checkpoint of vqclip ({what}). Try: {run.rerun_command}")
