"""Scores pictures of runs with judges that did not guide them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqclip.errors import UserError
from vqclip.io.files import sha256
from vqclip.io.run_files import PictureFolder
from vqclip.prompts import SEVERAL, as_list
from vqclip.runs.folder import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

    from vqclip.models.judge import Judge, PhotoJudge

__all__ = [
    "JUDGES",
    "Bench",
    "Opinion",
    "Verdict",
    "judge_guided",
    "judge_pictures",
    "judge_runs",
    "judge_scored",
    "refuse_own_guide",
    "scored_pictures",
    "with_text",
]

#: Names of the judges in tables and files.  The second needs the extra ``judge``.
JUDGES = ("judge", "photo_judge")
_EMBEDDED = Path(str(resources.files("vqclip"))) / "embedded"


@dataclass(frozen=True)
class Opinion:
    """One judge's result for one picture."""

    similarity: float  #: cosine of picture and text, in [-1,1]
    rank: int  #: of the picture's own text among those given, from 1


@dataclass(frozen=True)
class Verdict:
    """All judges' results for one picture of a run."""

    picture: Path
    prompt: str
    guide: float  #: score of the perceptor that guided it
    opinions: Mapping[str, Opinion]  #: by judge; the ranks are among the prompts of all runs


class Bench:
    """The installed judges, and the texts among which each ranks a picture's own.

    The judges' scales differ, so they are never averaged.
    """

    def __init__(self, texts: Sequence[str]):
        import torch

        self.texts = list(texts)
        with torch.no_grad():
            self._vectors = {name: judge.encode_text(self.texts) for name, judge in _judges().items()}

    def opinions(self, image: Tensor, text: str) -> dict[str, Opinion]:
        """Each judge's opinion of an image [1,3,H,W] in [0,1] and its text, which is one of those given."""
        import torch

        found = {}
        for name, judge in _judges().items():
            with torch.no_grad():
                similar = (judge.encode_image(image) @ self._vectors[name].T)[0]
            similarity = similar[self.texts.index(text)]
            found[name] = Opinion(round(similarity.item(), 6), int((similar > similarity).sum()) + 1)
        return found


def judge_scored(pictures: Sequence[tuple[PictureFolder, str, float]], file: str = "best.png") -> Iterator[Verdict]:
    """Judge ``file`` of every picture found by :func:`scored_pictures`."""
    bench = Bench(sorted({prompt for _, prompt, _ in pictures}))
    for picture, prompt, guide in pictures:
        path = picture.path / file
        yield Verdict(path, prompt, guide, bench.opinions(picture.image(path), prompt))


def judge_runs(folders: Sequence[Path]) -> list[Verdict]:
    """Judge the best snapshot of every picture of finished runs.

    Raises:
        UserError: see :func:`scored_pictures`.
    """
    return list(judge_scored([picture for folder in folders for picture in scored_pictures(folder)]))


def scored_pictures(folder: Path, file: str = "best.png") -> list[tuple[PictureFolder, str, float]]:
    """Every picture of a finished run that has a text, with its text and the guide's score of ``file``.

    Raises:
        UserError: the run is not finished, a judge guided it, it has no text, or a picture is missing.
    """
    run = RunFolder(folder)
    report = run.finished_report()
    refuse_own_guide(folder, report.get("weights") or {})
    judged = _judged(run, report)
    if not any(judged):
        raise UserError(
            f"{folder}: its prompts are pictures, and the judges compare with texts. Allowed: runs with a text"
        )
    found = []
    for i, entry in enumerate(report["pictures"]):
        if not judged[i]:
            continue
        picture = run.picture(i)
        picture.require_picture(picture.path / file)
        found.append((picture, entry["prompt"], entry[file.removesuffix(".png")]["score"]))
    return found


def _judged(run: RunFolder, report: Mapping[str, Any]) -> list[bool]:
    """For each picture in a run's report, whether it can be judged; the config is untrusted."""
    try:
        config = run.config()
        judged, size = with_text(config), config["batch_size"]
    except (KeyError, TypeError):
        what = "prompts.include or batch_size is missing, or of another form than vqclip writes"
        raise run.damaged(run.config_file, what) from None
    run.require_count(report, len(judged) * size)
    return [one for one in judged for _ in range(size)]


def with_text(config: Mapping[str, Any]) -> list[bool]:
    """For each prompt of a config, whether it has a text that a judge can compare pictures with."""
    return [_has_text(entry) for entry in as_list(config["prompts"]["include"])]


def _has_text(entry: Any) -> bool:
    """Whether an entry has a text, judged by its form alone: files of an untrusted record are not opened."""
    if not isinstance(entry, Mapping):
        return True
    parts = [part for key in SEVERAL for part in entry.get(key, ())]
    repels = isinstance(weight := entry.get("weight", 1), int | float) and weight < 0
    return any(map(_has_text, parts)) if parts else "text" in entry and not repels


@cache
def _judge() -> Judge:
    from vqclip.models.judge import Judge

    return Judge.load(_EMBEDDED / "judge.safetensors")


@cache
def _judges() -> Mapping[str, Judge | PhotoJudge]:
    """The installed judges by name."""
    from vqclip.models.judge import PhotoJudge, photo_weights

    try:
        photo_weights()
    except ImportError as error:
        print(f"note: only one of the two judges: {error}", file=sys.stderr)
        return {"judge": _judge()}
    return {"judge": _judge(), "photo_judge": PhotoJudge.load(_EMBEDDED / "photo_judge.safetensors")}


@cache
def _own_weights() -> frozenset[str]:
    """The sha256 of every weight file of the judges."""
    from vqclip.models.judge import photo_weights

    files = [_EMBEDDED / f"{name}.safetensors" for name in JUDGES]
    with suppress(ImportError):
        files.append(photo_weights())
    return frozenset(map(sha256, files))


def judge_guided(weights: Mapping[str, str]) -> bool:
    """Whether a judge's weights are among those of a picture (name → sha256, see run.json)."""
    return not _own_weights().isdisjoint(weights.values())


def refuse_own_guide(folder: Path, weights: Mapping[str, str]) -> None:
    """Refuse a run that one of the judges guided.

    Raises:
        UserError: it did.
    """
    if judge_guided(weights):
        raise UserError(
            f"{folder}: the judge guided this run, so its score would not be independent. Allowed: runs by other "
            f"perceptors. Try: vqclip rerun {shlex.quote(str(folder))} checkpoints=embedded, and evaluate that"
        )


def judge_pictures(files: Sequence[Path], texts: Sequence[str | None]) -> list[float | None]:
    """The judge's cosine, in [-1,1], of each picture and its text; None for a picture without a text."""
    import torch

    from vqclip.io.pixels import read_image

    judge, scores = _judge(), []
    with torch.no_grad():
        for file, text in zip(files, texts, strict=True):
            similar = judge.encode_image(read_image(file)) @ judge.encode_text([text]).T if text else None
            scores.append(None if similar is None else round(similar.item(), 6))
    return scores
