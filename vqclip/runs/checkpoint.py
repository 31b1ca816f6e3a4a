"""Reads the resume point of a run, as tensors and plain data only."""

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

#: Under which name a checkpoint has what the recorder knows; of old it was the name of its class alone, which a
#: callback of one's own may have too.
RECORDER = "vqclip.Recorder"

_PARTS = {
    "global_step": int,
    "state_dict": Mapping,
    "callbacks": Mapping,
    "optimizer_states": list,
    "loops": Mapping,
    "pytorch-lightning_version": str,
}
#: Names of a run's pictures; any other might lie outside of its folder.
_OF_A_PICTURE = re.compile(r"picture-[0-9]+/((steps|crops)/[0-9]+|[a-z]+)\.png")
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
        _refuse_bombs(content)
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its readers and the pickle's own bytes come upon
        what = str(error).splitlines()[0] if content and str(error) else "it is empty"
        if isinstance(error, pickle.UnpicklingError):  # whose text tells how to load it all the same
            what = "it holds more than tensors and plain data"
        raise no_checkpoint(run, what) from None
    if lacks := _lacks(found):
        raise no_checkpoint(run, f"it has no {lacks}")
    return found


def recorder_state(checkpoint: Mapping[str, Any]) -> Any:
    """What the recorder knew at the checkpoint."""
    states = checkpoint["callbacks"]
    return states[RECORDER] if RECORDER in states else states.get("Recorder")


def _refuse_bombs(content: bytes) -> None:
    """Refuse an archive that holds more than its bytes, which torch stores as they are, or tuples without end."""
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
    """What a checkpoint must have, and this has not."""
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
    """What of the scores and digests of the snapshots is none, of so many pictures."""
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
    """Say that the run begins again; refuse where it had a checkpoint once."""
    report = run.try_report()
    if had_checkpoint(run) or (report["status"] in (FINISHED, STOPPED_EARLY) and report["steps"]):
        raise UserError(f"{run.checkpoint_file}: missing, so this run cannot be resumed. Try: {run.rerun_command}")
    if _snapshots(run):
        print(f"note: {run} was stopped before its first checkpoint, so it begins at its first step", file=sys.stderr)


def had_checkpoint(run: RunFolder) -> bool:
    """Whether a run came as far as its first checkpoint, by its other files."""
    # It is written after the first snapshot that follows the start's, and before any step after that.
    snapshots = _snapshots(run)
    return len(snapshots) > 2 or (len(snapshots) == 2 and _newest_row(run) > snapshots[-1])


def _snapshots(run: RunFolder) -> list[int]:
    """The steps of its snapshots."""
    return sorted(int(path.stem) for path in run.picture(0).steps.glob("*.png") if path.stem.isdecimal())


def _newest_row(run: RunFolder) -> float:
    try:
        return max((row.get("step", 0) for row in run.history()), default=0)
    except UserError:  # the table is of no use either
        return 0


def no_checkpoint(run: RunFolder, what: str) -> UserError:
    """The error of a checkpoint that cannot be used."""
    said = shown(" ".join(what.split())).strip("'\"")
    return UserError(f"{run.checkpoint_file}: not a checkpoint of vqclip ({said}). Try: {run.rerun_command}")
