"""Reads the checkpoint that a run resumes from, as tensors and plain data only."""

from __future__ import annotations

import io
import pickle
import re
import sys
import zipfile
from collections.abc import Mapping
from typing import Any

from vqclip.checkpoints.safe_pickle import refuse_endless_tuples
from vqclip.config.resolve import leaves
from vqclip.errors import UserError, shown
from vqclip.runs.folder import RunFolder
from vqclip.runs.schema import problem_in
from vqclip.runs.status import FINISHED, STOPPED_EARLY

__all__ = ["RECORDER", "had_checkpoint", "no_checkpoint", "read_checkpoint", "recorder_state"]

#: Key of the recorder's state in a checkpoint.  Older checkpoints use the class name ``Recorder``, which a custom
#: callback may have too.
RECORDER = "vqclip.Recorder"

_PARTS = {
    "global_step": int,
    "state_dict": Mapping,
    "callbacks": Mapping,
    "optimizer_states": list,
    "loops": Mapping,
    "pytorch-lightning_version": str,
}
#: Relative paths of a run's pictures; others might lead out of its folder.
_OF_A_PICTURE = re.compile(r"picture-[0-9]+/((steps|crops)/[0-9]+|[a-z]+)\.png")
_SNAPSHOTS = {"best": list, "last": list, "digests": Mapping}


def read_checkpoint(run: RunFolder) -> dict[str, Any] | None:
    """Read the last checkpoint; None if there has been none yet.

    Raises:
        UserError: the file is not a checkpoint, or it existed and is missing.
    """
    import torch

    if not run.checkpoint_file.exists() and not run.checkpoint_file.is_symlink():
        return _never_had_one(run)
    content = run.read(run.checkpoint_file)
    try:
        _refuse_bombs(content)
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything for damaged or forged files
        what = str(error).splitlines()[0] if content and str(error) else "it is empty"
        if isinstance(error, pickle.UnpicklingError):  # its message recommends loading the file without checks
            what = "it holds more than tensors and plain data"
        raise no_checkpoint(run, what) from None
    if lacks := _lacks(found):
        raise no_checkpoint(run, f"it has no {lacks}")
    return found


def recorder_state(checkpoint: Mapping[str, Any]) -> Any:
    """The recorder's state in a checkpoint."""
    states = checkpoint["callbacks"]
    return states[RECORDER] if RECORDER in states else states.get("Recorder")


def _refuse_bombs(content: bytes) -> None:
    """Refuse archives with compressed records, which torch does not write, and exponentially nested tuples."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise ValueError("it is no archive of torch's")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        records = archive.infolist()
        packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
        if packed or sum(record.file_size for record in records) > len(content):
            raise ValueError("its records are packed, which torch never does: it looks like a zip bomb")
        for record in records:
            if record.filename.endswith("data.pkl"):
                refuse_endless_tuples(io.BytesIO(archive.read(record)))


def _lacks(found: Any) -> str | None:
    """What this checkpoint lacks, or None."""
    import torch
    from torch import Tensor

    if missing := _missing(found, _PARTS):
        return missing
    if found["global_step"] < 1:
        return "global_step"
    latent = found["state_dict"].get("latent")
    if not isinstance(latent, Tensor) or (latent.dtype, latent.layout) != (torch.float32, torch.strided):
        return "latent"
    if not found["optimizer_states"] or not all(isinstance(state, Mapping) for state in found["optimizer_states"]):
        return "optimizer_states"
    if not all(isinstance(count, int) and count >= 0 for _, count in leaves(found["loops"]) if count):
        return "loops"
    recorder = recorder_state(found)
    return _missing(recorder, _SNAPSHOTS) or _no_snapshots(recorder, len(latent))


def _no_snapshots(recorder: Mapping[str, Any], count: int) -> str | None:
    """What is wrong with the recorder's scores and digests for ``count`` pictures, or None."""
    for name in ("best", "last"):
        scores = recorder[name]
        if len(scores) != count or any(problem_in(one, "run", "scores") for one in scores):
            return name
    named = all(isinstance(name, str) and _OF_A_PICTURE.fullmatch(name) for name in recorder["digests"])
    return None if named else "digests"


def _missing(found: Any, parts: Mapping[str, type]) -> str | None:
    found = found if isinstance(found, Mapping) else {}
    return next((name for name, kind in parts.items() if not isinstance(found.get(name), kind)), None)


def _never_had_one(run: RunFolder) -> None:
    """Print that the run starts over; refuse if it once had a checkpoint."""
    report = run.try_report()
    if had_checkpoint(run) or (report["status"] in (FINISHED, STOPPED_EARLY) and report["steps"]):
        raise UserError(f"{run.checkpoint_file}: missing, so this run cannot be resumed. Try: {run.rerun_command}")
    if _snapshots(run):
        print(f"note: {run} was stopped before its first checkpoint, so it begins at its first step", file=sys.stderr)


def had_checkpoint(run: RunFolder) -> bool:
    """Whether a run got as far as its first checkpoint, judged by its other files."""
    # The checkpoint is written right after the second snapshot, before any further step.
    snapshots = _snapshots(run)
    return len(snapshots) > 2 or (len(snapshots) == 2 and _newest_row(run) > snapshots[-1])


def _snapshots(run: RunFolder) -> list[int]:
    """The steps of the run's snapshots."""
    return sorted(int(path.stem) for path in run.picture(0).steps.glob("*.png") if path.stem.isdecimal())


def _newest_row(run: RunFolder) -> float:
    try:
        return max((row.get("step", 0) for row in run.history()), default=0)
    except UserError:  # the table is damaged too
        return 0


def no_checkpoint(run: RunFolder, what: str) -> UserError:
    """The error for a checkpoint that cannot be used."""
    said = shown(" ".join(what.split())).strip("'\"")
    return UserError(f"{run.checkpoint_file}: not a checkpoint of vqclip ({said}). Try: {run.rerun_command}")
