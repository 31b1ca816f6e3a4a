"""What a judge that did not guide the runs says of their pictures."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from vqclip.errors import UserError
from vqclip.io.files import sha256
from vqclip.runs.folder import RunFolder

if TYPE_CHECKING:
    from vqclip.models.judge import Judge

__all__ = ["Verdict", "judge_guided", "judge_pictures", "judge_runs"]


@dataclass(frozen=True)
class Verdict:
    """The judge on one picture."""

    picture: Path
    prompt: str
    guide: float  #: score of the perceptor that guided it
    judge: float  #: cosine of picture and prompt by the judge
    rank: int  #: of the picture's own prompt among the prompts of all runs, 1 is first


def judge_runs(folders: Sequence[Path], file: str = "best.png") -> list[Verdict]:
    """Judge ``file`` of every picture of finished runs.

    Raises:
        UserError: a folder that is no finished run, or one that the judge guided.
    """
    import torch

    pictures = []
    for folder in folders:
        run = RunFolder(folder)
        report = run.finished_report()
        _refuse_own_guide(folder, report.get("weights") or {})
        kind = file.removesuffix(".png")
        for i, picture in enumerate(report["pictures"]):
            pictures.append((run.picture(i), picture["prompt"], picture[kind]["score"]))
    judge = _judge()
    prompts = sorted({prompt for _, prompt, _ in pictures})
    with torch.no_grad():
        texts = judge.encode_text(prompts)
        verdicts = []
        for picture, prompt, guide in pictures:
            path = picture.path / file
            similar = (judge.encode_image(picture.image(path)) @ texts.T)[0]
            similarity = similar[prompts.index(prompt)]
            verdicts.append(Verdict(path, prompt, guide, similarity.item(), int((similar > similarity).sum()) + 1))
    return verdicts


#: The judge's weights.
_FILE = Path(str(resources.files("vqclip"))) / "embedded" / "judge.safetensors"


@cache
def _judge() -> Judge:
    from vqclip.models.judge import Judge

    return Judge.load(_FILE)


@cache
def _judge_sha256() -> str:
    return sha256(_FILE)


def judge_guided(weights: Mapping[str, str]) -> bool:
    """Whether the judge's own weights are among those that had a say in a picture (name → sha256, see run.json)."""
    return _judge_sha256() in weights.values()


def _refuse_own_guide(folder: Path, weights: Mapping[str, str]) -> None:
    if judge_guided(weights):
        raise UserError(
            f"{folder}: the judge guided this run, so what it says of it is no judgement. Allowed: runs by other "
            f"perceptors. Try: vqclip rerun {shlex.quote(str(folder))} checkpoints=embedded, and evaluate that"
        )


def judge_pictures(files: Sequence[Path], texts: Sequence[str | None]) -> list[float | None]:
    """The judge's cosine, in [-1,1], of each picture and its text; None where it was asked for by a picture."""
    import torch

    from vqclip.io.pixels import read_image

    judge, scores = _judge(), []
    with torch.no_grad():
        for file, text in zip(files, texts, strict=True):
            similar = judge.encode_image(read_image(file)) @ judge.encode_text([text]).T if text else None
            scores.append(None if similar is None else round(similar.item(), 6))
    return scores
