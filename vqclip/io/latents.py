"""Reads the saved latents of runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqclip.errors import UserError
from vqclip.io.files import read_text, refuse_endless
from vqclip.io.run_files import PictureFolder, RunFiles
from vqclip.io.yaml_text import read_json

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SavedLatent", "digest", "saved_latents"]


@dataclass(frozen=True)
class SavedLatent:
    """The latent of one picture at one step of a run."""

    picture: PictureFolder
    step: int
    file: Path  #: the file that contains it
    shape: tuple[int, ...]  #: (C, h, w)
    generator: str | None  #: sha256 of the weights that it belongs to

    def read(self) -> np.ndarray:
        """[C,h,w], float32."""
        from safetensors import safe_open

        for path in (self.file, self.picture.latents_file):  # the latter, if the run has ended since
            with suppress(FileNotFoundError), safe_open(path, framework="np") as file:
                return file.get_tensor(f"{self.step:06d}")
        raise self.picture.run.missing(self.file)

    @property
    def png(self) -> Path:
        """The picture that the run made of it."""
        return self.picture.snapshot(self.step)


def saved_latents(
    run: str | Path, picture: int | None = None, step: int | str = "best", count: int | None = None
) -> list[SavedLatent]:
    """The latents that ``init=run`` starts from.

    Args:
        run: a run folder.
        picture: number of one of its pictures; None: all.
        step: ``best``, ``final``, or the step of a snapshot.
        count: number of pictures to start; None: any.

    Returns:
        One latent for each of the ``count`` pictures.

    Raises:
        UserError: it is no run folder, or has no such picture or step.
    """
    folder = RunFiles(run)
    report = _report(folder)
    pictures = report["pictures"]
    if picture is not None and not 0 <= picture < len(pictures):
        raise UserError(
            f"init.picture={picture}: {folder} has {len(pictures)}. Allowed: 0 to {len(pictures) - 1}, or null for "
            "each from its own. Try: init.picture=0"
        )
    indices = list(range(len(pictures))) if picture is None else [picture]
    if count is not None and len(indices) not in (1, count):
        raise UserError(
            f"init.run={folder}: it has {len(indices)} pictures, and {count} are to be made. Allowed: as many, or one "
            "of them for all. Try: init.picture=0"
        )
    saved = [_saved(folder, report, index, step) for index in indices]
    return saved * count if count and len(saved) == 1 else saved


def digest(init: Mapping[str, Any]) -> str:
    """sha256 of the latents that a config's ``init=run`` reads."""
    whole = hashlib.sha256()
    for saved in saved_latents(init["run"], init.get("picture"), init.get("step", "best")):
        whole.update(saved.read().tobytes())
    return whole.hexdigest()


def _report(run: RunFiles) -> dict[str, Any]:
    run.refuse_link(run.report_file)
    try:
        report = read_json(read_text(run.report_file))
        best = [_best(picture) for picture in report["pictures"]]
        if not best or not all(step is None or type(step) is int for step in best):
            raise ValueError("no steps of its pictures")
        (report.get("weights") or {}).get("generator")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"init.run={run}: not a run folder, it has no run.json that vqclip wrote. Allowed: a folder that vqclip "
            "wrote, such as outputs/DATE/TIME or multirun/DATE/TIME/0"
        ) from None
    return report


def _best(picture: Mapping[str, Any]) -> Any:
    """The step of the best snapshot according to the report; None if not known yet."""
    return picture.get("best", {}).get("step")


def _saved(run: RunFiles, report: Mapping[str, Any], index: int, step: int | str) -> SavedLatent:
    picture = run.picture(index)
    try:
        latents = picture.latents_by(lambda path: _shapes(picture, path))
    except FileNotFoundError:
        if report.get("status") in ("finished", "stopped early"):
            raise run.missing(picture.latents_file) from None
        raise UserError(
            f"init.run={run}: it has no latents of picture {index} yet. Try: {run.resume_command}"
        ) from None
    found = {int(name): place_and_shape for name, place_and_shape in latents.items()}
    best = _best(report["pictures"][index])
    if step == "best" and best not in found:
        raise UserError(f"init.step=best: {run} is not finished, its best is not known. Try: init.step=final")
    at = best if step == "best" else max(found) if step == "final" else int(step)
    if at not in found:
        raise UserError(
            f"init.step={step}: {run} has no snapshot of it. Allowed: best, final, or one of "
            f"{', '.join(map(str, sorted(found)))}. Try: init.step={min(found, key=lambda s: abs(s - at))}"
        )
    return SavedLatent(picture, at, *found[at], (report.get("weights") or {}).get("generator"))


def _shapes(picture: PictureFolder, path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the latents in a file, from its header alone."""
    from safetensors import SafetensorError, safe_open

    picture.run.refuse_link(path)
    try:
        refuse_endless(path)
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            kinds = {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
    except FileNotFoundError:
        raise
    except (OSError, SafetensorError) as error:
        raise picture.run.damaged(path, str(error)) from None
    picture.require_latents(path, kinds, "F32")
    return {name: shape for name, (_, shape) in kinds.items()}
