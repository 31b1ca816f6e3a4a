"""Takes snapshots: every current picture, its latent, one crop as the perceptor sees it, and the best so far."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from vqclip.io.files import atomic_write
from vqclip.io.images import png_bytes
from vqclip.io.run_files import PictureFolder
from vqclip.module import LatentOptimisation
from vqclip.runs.checkpoint import no_checkpoint
from vqclip.runs.folder import RunFolder
from vqclip.runs.rollback import refuse_changed, remove_new_latents, roll_back
from vqclip.runs.status import RunError

__all__ = ["Snapshot", "Snapshots"]


@dataclass(frozen=True)
class Snapshot:
    """The pictures at one step."""

    images: Tensor  #: [B,3,H,W] in [0,1]
    crops: Tensor  #: one per picture, [B,3,S,S], as the first perceptor sees it
    latents: Tensor  #: [B,C,h,w], on the CPU
    scores: list[dict[str, float]]  #: of each picture, by name


class Snapshots:
    """Writes the pictures' folders: ``steps``, ``crops``, ``latents.safetensors``, ``best.png``, ``final.png``.

    During a run, each snapshot's latent has a file of its own in ``latents``; a common file would have to be rewritten
    at every snapshot to be safe if the process is killed.

    Args:
        run: the run folder.
        records: the record in the PNGs of each picture.
    """

    def __init__(self, run: RunFolder, records: list[dict]):
        self.run, self.records = run, records
        self.best: list[dict] = [{} for _ in records]  #: of each picture: step and scores of its best snapshot
        self.last: list[dict] = [{} for _ in records]  #: of each picture: step and scores of its newest snapshot
        self.digests: dict[str, str] = {}  #: sha256 of every picture written, by path in the folder
        self.newest: Snapshot | None = None  #: None before the first one in this process
        self._latents: list[dict[str, Tensor]] = [{} for _ in records]
        self._single: set[int] = set()  #: steps whose latents are not in the common file yet
        self._resumed_at: int | None = None

    @property
    def step(self) -> int:
        """The step of the newest snapshot; -1 before the first."""
        return self.last[0].get("step", -1)

    def take(self, module: LatentOptimisation, step: int) -> Snapshot:
        """Write every picture after ``step`` steps.

        Raises:
            RunError: files that were written before are gone.
        """
        self._require_latents()
        latents = module.shown()  # computed once, since a coarse stage decodes and encodes
        images, scores, crops = module.snapshot(latents)
        by_picture = [{name: value[i].item() for name, value in scores.items()} for i in range(len(self.records))]
        self.newest = snapshot = Snapshot(images, crops, latents.cpu(), by_picture)
        for i in range(len(self.records)):
            self._write(snapshot, i, step)
        return snapshot

    def require_there(self) -> None:
        """Refuse to finish a run if a picture's results were removed.

        Older snapshots may be missing: some users prune ``steps/`` during a run.

        Raises:
            RunError: a file is gone.
        """
        self._require_latents()
        for picture in self._taken():
            for path in (picture.final, picture.best):
                self._refuse_gone(path, self.run.resume_command)  # which writes both anew

    def _require_latents(self) -> None:
        """Refuse to go on if a picture's latents are gone, since the run could not be resumed.

        ``final.png`` and ``best.png`` are not required here: the next snapshot writes them again.
        """
        for picture in self._taken():
            joined = picture.latents_file
            self._refuse_gone(joined if joined.exists() else picture.new_latents, self.run.rerun_command)

    def _taken(self) -> list[PictureFolder]:
        """The folders of the pictures that have a snapshot."""
        return [self.run.picture(i) for i, last in enumerate(self.last) if last]

    def _refuse_gone(self, path: Path, mend: str) -> None:
        if self.run.is_there() and not path.exists():
            gone = path if path.parent.exists() else path.parent
            raise RunError(f"{gone}: it was removed while the run went on. Try: {mend}")

    def join_latents(self) -> None:
        """Write all latents of each picture into one file, at the end of a run, however it ends."""
        for i, latents in enumerate(self._latents):
            picture = self.run.picture(i)
            if self._single and self.run.is_there() and picture.path.is_dir():  # do not recreate removed folders
                atomic_write(picture.latents_file, save(latents))
                remove_new_latents(picture, self._single)
        self._single = set()

    def best_latents(self) -> list[Tensor]:
        """The latent [C,h,w] of each picture's best snapshot."""
        return [latents[f"{best['step']:06d}"] for latents, best in zip(self._latents, self.best, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "last": self.last, "digests": self.digests}

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Restore the state at ``step``; :meth:`roll_back` then does so for the folder.

        Raises:
            UserError: a snapshot is missing or has changed.
        """
        self.best, self.last, self.digests = state["best"], state["last"], state["digests"]
        refuse_changed(self.run, self.digests)
        self._resumed_at = step

    def roll_back(self, step: int) -> None:
        """Roll the folder of a resumed run back to the checkpoint.

        Raises:
            UserError: Lightning resumed at another ``step`` than the checkpoint's; or a file is missing or damaged.
        """
        if self._resumed_at is None:
            return
        if step != self._resumed_at:
            raise no_checkpoint(self.run, f"it is of step {self._resumed_at}, and its loops of {step}")
        roll_back(self.run, self._resumed_at, [best["step"] for best in self.best])
        for i in range(len(self.records)):
            self._latents[i] = self.run.picture(i).latents()

    def _write(self, snapshot: Snapshot, i: int, step: int) -> None:
        picture, scores, record = self.run.picture(i), snapshot.scores[i], {**self.records[i], "step": step}
        content = png_bytes(snapshot.images[i], {**record, "scores": scores})
        self._picture(picture.snapshot(step), content)
        self._picture(picture.crop(step), png_bytes(snapshot.crops[i], record))
        self._picture(picture.final, content)
        # Ties go to the later snapshot: with loss.alpha=0 nothing is scored, and the first snapshot may be noise.
        if not self.best[i] or scores["score"] >= self.best[i]["score"]:
            self.best[i] = {"step": step, **scores}
            self._picture(picture.best, content)
        self.last[i] = {"step": step, **scores}
        self._latents[i][f"{step:06d}"] = latent = snapshot.latents[i].clone()
        self._single.add(step)
        atomic_write(picture.new_latent(step), save({f"{step:06d}": latent}))

    def _picture(self, path: Path, content: bytes) -> None:
        atomic_write(path, content)
        self.digests[path.relative_to(self.run.path).as_posix()] = hashlib.sha256(content).hexdigest()
