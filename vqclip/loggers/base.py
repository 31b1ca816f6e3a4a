"""The base of our loggers: what they get of a run, and when."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

from pytorch_lightning.loggers import Logger, TensorBoardLogger
from torch import Tensor

from vqclip.config.grammar import NAME_LENGTH, job_name
from vqclip.prompts import as_list, parse

__all__ = ["Media", "RunView", "log_result", "log_step", "mean_scores", "numbers_of", "run_name"]

_log = logging.getLogger(__name__)

#: A number as typed; 007 and 2026_11 are names.
_NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")

#: Loggers whose ``log_image`` has failed.
_WITHOUT_PICTURES: WeakSet[Logger] = WeakSet()


@dataclass(frozen=True)
class Media:
    """The pictures and crops of a snapshot, for loggers."""

    images: Tensor  #: [B,3,H,W] in [0,1]
    crops: Tensor  #: one per picture, as a perceptor sees it, [B,3,S,S] in [0,1]
    latents: Tensor  #: [B,C,h,w]
    captions: list[str]  #: per picture: prompt, step, scores
    files: tuple[list[Path], list[Path]]  #: PNG files of the pictures and of the crops

    def pictures(self) -> dict[str, tuple[Tensor, str, Path]]:
        """Every picture and crop [3,H,W] by name, with its caption and file."""
        kinds = zip(("picture", "crop"), (self.images, self.crops), self.files, strict=True)
        return {
            f"{kind}/{i:02d}": shown
            for kind, xs, files in kinds
            for i, shown in enumerate(zip(xs, self.captions, files, strict=True))
        }


class RunView:
    """A logger that takes more than numbers; by default, every method does nothing."""

    def begin(self, report: Mapping[str, Any]) -> None:
        """Called when the models are loaded, with the current ``run.json``."""

    def show(self, step: int, numbers: Mapping[str, float], media: Media | None) -> None:
        """Called with a step's numbers, and its pictures if there is a snapshot."""

    def result(self, folder: Path, report: Mapping[str, Any]) -> None:
        """Called with the folder and the final ``run.json`` of a run that has ended."""

    def close(self, error: BaseException | None) -> None:
        """Called when the run has ended, with or without an error."""


def log_step(logger: Logger, step: int, numbers: Mapping[str, float], media: Media | None) -> None:
    """Log the numbers and pictures of one step to one logger, in one call if it takes both."""
    if isinstance(logger, RunView):
        logger.show(step, numbers, media)
        return
    logger.log_metrics(dict(numbers), step)
    for name, (x, caption, _) in (media.pictures() if media else {}).items():
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, x, step)
        elif callable(show := getattr(logger, "log_image", None)) and logger not in _WITHOUT_PICTURES:
            try:
                show(key=name, images=[x], step=step, caption=[caption])
            except Exception as error:  # another logger's log_image may take other arguments
                _WITHOUT_PICTURES.add(logger)
                told = f"{type(error).__name__}: {' '.join(str(error).split())}"
                _log.warning("%s: its log_image takes no pictures (%s); it is sent none", type(logger).__name__, told)


def log_result(logger: Logger, folder: Path, report: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Give one logger the result of a run that has ended: its folder and final ``run.json``."""
    if isinstance(logger, RunView):
        logger.result(folder, report)
    elif isinstance(logger, TensorBoardLogger):  # its table of runs, HPARAMS
        swept = (config.get("sweep") or {}).get("swept", {})
        scores = {name.replace(".", "/"): mean for name, mean in mean_scores(report).items()}
        logger.log_hyperparams(numbers_of(swept), scores, report["steps"])
        logger.finalize("")  # writes it, since Lightning has already closed the file


def numbers_of(swept: Mapping[str, str]) -> dict[str, int | float | str]:
    """The swept values with numbers converted, so that tables of runs can sort and plot them."""

    def number(text: str) -> int | float | str:
        if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
            return text
        return int(text) if text.lstrip("+-").isdigit() else float(text)

    return {key: number(str(text)) for key, text in swept.items()}


def mean_scores(report: Mapping[str, Any]) -> dict[str, float]:
    """Means over a run's pictures: ``judge``, if all have one, and each score of ``best`` and ``final``."""
    pictures = report["pictures"]
    found = {
        f"{kind}.{name}": [picture[kind][name] for picture in pictures]
        for kind in ("best", "final")
        for name in pictures[0][kind]
    }
    if all("judge" in picture for picture in pictures):
        found = {"judge": [picture["judge"] for picture in pictures], **found}
    return {name: sum(values) / len(values) for name, values in found.items()}


def run_name(config: Mapping[str, Any]) -> str | None:
    """The name of a run: the swept keys for a sweep's job, else the prompt."""
    if swept := (config.get("sweep") or {}).get("swept"):
        return job_name(swept)
    include = as_list((config.get("prompts") or {}).get("include"))
    if not include:
        return None
    first, *others = include
    name = parse(first).label + (f" and {len(others)} more" if others else "")
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"
