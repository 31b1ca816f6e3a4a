"""The result of a run, read from its folder."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqclip.errors import UserError
from vqclip.io.images import PictureError, open_picture
from vqclip.runs.folder import RunFolder
from vqclip.runs.status import DIVERGED, WITH_PICTURES

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

__all__ = ["Result"]


class Result:
    """A run that has ended.  A notebook displays it as its pictures.

    Args:
        folder: the run folder.
        report: its run.json; None: read it.
        images, latents: if already known; else they are read on access.

    Raises:
        UserError: it is no run folder, is damaged, or has no pictures yet.
    """

    def __init__(
        self,
        folder: Path | str,
        report: Mapping[str, Any] | None = None,
        images: Tensor | None = None,
        latents: Tensor | None = None,
    ):
        self._run, self._images, self._latents = RunFolder(folder), images, latents
        self.report = dict(report or self._run.report())  #: run.json
        if self.status not in (*WITH_PICTURES, DIVERGED):
            raise UserError(f"{folder}: this run is {self.status}. Try: {self._run.resume_command}")

    def __repr__(self) -> str:
        return f"Result({str(self.folder)!r}, {self.status}, score {self.score:.4f})"

    @property
    def folder(self) -> Path:
        return self._run.path

    @property
    def status(self) -> str:
        """``finished``, ``stopped early`` or ``diverged`` (``vqclip/runs/status.py``)."""
        return self.report["status"]

    @property
    def reason(self) -> str | None:
        """Why the run stopped early or diverged, or None."""
        return self.report.get("reason")

    @property
    def scores(self) -> list[dict[str, Any]]:
        """For each picture: prompt, seed, and the scores of its best and final snapshot."""
        return self.report["pictures"]

    @property
    def score(self) -> float:
        """Mean of the pictures' best scores; NaN if the run diverged before the first snapshot."""
        return sum(picture.get("best", {}).get("score", float("nan")) for picture in self.scores) / len(self.scores)

    @property
    def pictures(self) -> list[Path]:
        """The files of the best snapshots."""
        return [self._run.picture(i).best for i in range(len(self.scores))]

    @property
    def best(self) -> list[Image]:
        """The best snapshots."""
        return [self._open(path) for path in self.pictures]

    @property
    def final(self) -> list[Image]:
        """The last snapshots."""
        return [self._open(self._run.picture(i).final) for i in range(len(self.scores))]

    def _open(self, path: Path) -> Image:
        self._run.refuse_link(path)
        try:
            return open_picture(path).convert("RGB")
        except PictureError as error:
            raise UserError(f"{path}: not a picture that can be opened ({error.reason})") from None

    @cached_property
    def images(self) -> Tensor:
        """The final pictures [P,3,H,W] in [0,1]; read from 8-bit PNGs unless the run was made in this process."""
        import torch
        from torchvision.transforms.functional import pil_to_tensor

        if self._images is not None:
            return self._images
        with torch.device("cpu"):  # and float32, whatever the notebook's defaults are
            return torch.stack([pil_to_tensor(picture) for picture in self.final]).float() / 255

    @cached_property
    def latents(self) -> Tensor:
        """The latents of the final pictures, [P,C,h,w]."""
        import torch

        if self._latents is not None:
            return self._latents
        steps = [picture["final"]["step"] for picture in self.scores]
        latents = [self._run.picture(i).latent(step) for i, step in enumerate(steps)]
        for i in range(len(latents)):
            self._run.picture(i).require_shape(latents[-1].shape)
        return torch.stack(latents)

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config."""
        return self._run.config()

    @property
    def history(self) -> list[dict[str, float]]:
        """The rows of metrics.csv: step, loss and every term, for ``pandas.DataFrame(result.history)``."""
        return self._run.history() if self.report.get("steps") != 0 else []  # a run without steps has no file

    def _repr_html_(self) -> str:
        figures = []
        for path, picture in zip(self.pictures, self.scores, strict=True):
            score = f", score {picture['best']['score']:.3f}" if "best" in picture else ""
            caption = html.escape(f"{picture['prompt']} (seed {picture['seed']}{score})")
            content = base64.b64encode(path.read_bytes()).decode() if self._run.holds(path) else ""
            figures.append(
                f'<figure style="display:inline-block;margin:4px"><img src="data:image/png;base64,{content}">'
                f"<figcaption>{caption}</figcaption></figure>"
            )
        where = html.escape(str(self.folder)) + (f": {html.escape(self.reason)}" if self.reason else "")
        return f"<div>{''.join(figures)}<br>{self.status}, <code>{where}</code></div>"
