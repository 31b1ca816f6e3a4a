"""Rolls a run folder back to an earlier step, or empties it; files that are not the run's stay."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vqclip.io.files import atomic_write
from vqclip.io.images import PNG
from vqclip.io.run_files import PictureFolder, whole_name
from vqclip.loggers.wandb_files import records_of
from vqclip.runs.checkpoint import recorder_state
from vqclip.runs.folder import RunFolder

__all__ = ["refuse_changed", "remove_new_latents", "require_whole", "roll_back", "start_over"]


def start_over(run: RunFolder) -> None:
    """Remove everything that a run's steps wrote; config.yaml, run.json and vqclip.log stay until they are replaced.

    Raises:
        UserError: one of the files is a symbolic link.
    """
    run.refuse_links()
    _remove_passing(run)
    _remove_logged(run)
    for picture in run.pictures():
        for path in picture.own_files():
            path.unlink()
        for folder in (picture.steps, picture.crops, picture.new_latents, picture.path):
            with suppress(OSError):  # missing, or has other files in it
                folder.rmdir()
    for path in (run.metrics_file, run.timing_file, run.checkpoint_file):
        path.unlink(missing_ok=True)


def _remove_logged(run: RunFolder) -> None:
    """Remove the loggers' files of the old run, which they would otherwise continue; other files stay."""
    if not run.report_file.exists():  # no run was here, so a wandb/ is not ours
        return
    report = run.try_report()
    for id in filter(None, [report.get("wandb"), *report.get("loggers", {}).values()]):
        for record in records_of(run.path, id):
            shutil.rmtree(record.parent, ignore_errors=True)
    curves = run.path / "tensorboard"
    for path in [*curves.glob("events.out.tfevents.*"), *curves.glob("hparams.yaml")]:
        path.unlink()
    with suppress(OSError):  # it is not there, or holds what is somebody's
        curves.rmdir()


def require_whole(run: RunFolder, checkpoint: Mapping[str, Any]) -> None:
    """Refuse a folder that lacks what a run needs to resume from its checkpoint.

    Raises:
        UserError: a file is missing, damaged or changed.
    """
    known = recorder_state(checkpoint)
    refuse_changed(run, known["digests"])
    _files_at(run, checkpoint["global_step"], [best["step"] for best in known["best"]])


def refuse_changed(run: RunFolder, digests: Mapping[str, str]) -> None:
    """Refuse snapshots that have changed since they were written.

    Args:
        digests: sha256 of every picture, by path in the folder.

    Raises:
        UserError: one is missing or has changed.
    """
    for name, digest in digests.items():
        path = run.path / name
        if path.parent.name != "steps":
            continue
        content = run.read(path)
        if hashlib.sha256(content).hexdigest() != digest:
            raise run.damaged(path, "it is not as it was written")
        if not content.startswith(PNG):  # loggers open the file
            raise run.damaged(path, "it is no PNG")


def roll_back(run: RunFolder, step: int, best: Sequence[int]) -> None:
    """Roll the folder back to its state when the checkpoint of ``step`` was written.

    Args:
        best: step of each picture's best snapshot so far.

    Raises:
        UserError: a required file is damaged, or one of the run's files is a symbolic link.
    """
    run.refuse_links()
    # Read everything before writing anything, so that a missing file leaves the folder unchanged.
    files = _files_at(run, step, best)
    _remove_passing(run)
    for i in range(len(best)):
        _remove_later(run.picture(i), step)
    for path, content in files.items():
        atomic_write(path, content)
    for i in range(len(best)):
        picture = run.picture(i)
        remove_new_latents(picture, [int(path.stem) for path in picture.new_latent_files()])


def remove_new_latents(picture: PictureFolder, steps: Iterable[int]) -> None:
    """Remove latents of single snapshots, once the common file has them; links are not followed."""
    for path in map(picture.new_latent, steps):
        if picture.run.holds(path):
            path.unlink()
    with suppress(OSError):  # missing, or has other files in it
        picture.new_latents.rmdir()


def _remove_passing(run: RunFolder) -> None:
    """Remove temporary files, and the video that is made at the end of the run."""
    for path in run.path.glob(".*"):
        if whole_name(path) in run.names and path.is_file():
            path.unlink()
    run.interpolation.unlink(missing_ok=True)


def _files_at(run: RunFolder, step: int, best: Sequence[int]) -> dict[Path, bytes]:
    """The contents at ``step`` of the files that have changed since, by path."""
    files = {}
    for i, best_step in enumerate(best):
        files |= _picture_at(run.picture(i), step, best_step)
    return files | {path: _rows_until(run, path, step) for path in (run.metrics_file, run.timing_file)}


def _rows_until(run: RunFolder, path: Path, step: int) -> bytes:
    """The header and rows of a table up to ``step``, without an incomplete last row."""
    header, *rows = run.read(path).splitlines(keepends=True) or [b""]
    kept = [row for row in rows if _is_whole(row) and _step(row) <= step]
    last = rows[-1] if rows else b""
    if re.match(rb"\d{1,9},", last) and not last.endswith(b"\n") and _step(last) <= step:
        raise run.damaged(path, "it ends within a line")  # it was complete when the checkpoint was written
    # The first step always has a row.
    if not header.startswith(b"step,") or not kept or any(row.count(b",") != header.count(b",") for row in kept):
        raise run.damaged(path, "it is not a table with one row per step")
    return b"".join([header, *kept])


def _is_whole(row: bytes) -> bool:
    return bool(re.match(rb"\d{1,9},", row)) and row.endswith(b"\n")


def _step(row: bytes) -> int:
    return int(row.partition(b",")[0])


def _picture_at(picture: PictureFolder, step: int, best_step: int) -> dict[Path, bytes]:
    from safetensors.torch import save

    taken = [path for path in picture.steps.glob("*.png") if path.stem.isdecimal() and int(path.stem) <= step]
    latents = {name: latent for name, latent in picture.latents().items() if int(name) <= step}
    if lacks := sorted({path.stem for path in taken if len(path.stem) >= 6} - latents.keys()):
        raise picture.no_latent(int(lacks[0]))
    last = max(taken, key=lambda path: int(path.stem), default=picture.snapshot(step))
    return {
        picture.latents_file: save(latents),
        picture.final: picture.run.read(last),
        picture.best: picture.run.read(picture.snapshot(best_step)),
    }


def _remove_later(picture: PictureFolder, step: int) -> None:
    """Remove a picture's files of later steps and of the run's end, and temporary files."""
    for path in picture.own_files():
        later = path.parent != picture.path and int(whole_name(path).partition(".")[0]) > step
        if later or path.name.startswith(".") or path in (picture.timelapse, picture.upscaled):
            path.unlink()
