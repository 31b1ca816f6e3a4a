"""Makes a film: each frame takes a few steps from the previous frame, moved, or from a frame of another video.

A film can continue from what is on disk: its frames and the newest frame's latent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import torch
from pytorch_lightning.plugins.precision import Precision
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vqclip.config.resolve import picture_config
from vqclip.errors import UserError
from vqclip.io.files import atomic_write, read_text, refuse_endless, write_json
from vqclip.io.images import open_undecoded, png_bytes
from vqclip.io.motion import move
from vqclip.io.pixels import fit
from vqclip.io.quiet import quiet_lightning
from vqclip.io.run_files import RunFiles
from vqclip.io.video import read_frames, write_video
from vqclip.io.yaml_text import read_json
from vqclip.module import LatentOptimisation
from vqclip.runs.build import build
from vqclip.runs.lock import lock_folder
from vqclip.runs.plan import RunPlan
from vqclip.runs.status import RunError
from vqclip.runs.trainer import accelerated, explain_nondeterminism, make_trainer
from vqclip.schedules import schedule

__all__ = ["Camera", "Film"]

#: What a film writes into its folder after ``film.json``.
_NAMES = ("frames", "film.mp4", "latent.safetensors")


@dataclass(frozen=True)
class Camera:
    """The motion from frame to frame; every number may be a schedule over the film."""

    zoom: Any = 1.0  #: magnification about the centre
    pan: tuple[Any, Any] = (0.0, 0.0)  #: pixels right and down
    turn: Any = 0.0  #: degrees clockwise
    border: str = "reflect"  #: how pixels from outside are filled

    def __call__(self, image: Tensor, t: float) -> Tensor:
        """Move a picture according to the schedules at progress ``t`` of the film, in [0,1]."""
        zoom, right, down, turn = (schedule(motion)(t) for motion in (self.zoom, *self.pan, self.turn))
        return move(image, zoom, (right, down), turn, self.border)


@dataclass(frozen=True)
class Film:
    """A film in a folder.

    Args:
        folder: where the frames go.
        scenes: the checked config of each scene; the frames are divided evenly among scenes.
        recorded: the scenes without secrets, for the film's records.
        frames: the number of frames.
        each: steps per frame; without a video, the first frame has the ``steps`` of its config.
        camera: how the picture moves.
        video: a video or a folder of pictures to restyle, or None.
        stride: take every n-th frame of the video.
        keep: weight of the previous frame's picture in a restyled video, 0 to 1.
        fps: frames per second.
    """

    folder: Path
    scenes: Sequence[Mapping[str, Any]]
    recorded: Sequence[Mapping[str, Any]]
    frames: int
    each: int
    camera: Camera = field(default_factory=Camera)
    video: Path | None = None
    stride: int = 1
    keep: float = 0.0
    fps: int | Fraction = 24

    def run(self) -> Iterator[int]:
        """Make the missing frames one at a time, then the video; yield the index of each new frame.

        Raises:
            UserError: the folder holds another film or is in use; the video has no frames.
            RunError: a frame's latent is NaN or infinite.
        """
        with lock_folder(self.folder):
            yield from self._run()

    def _run(self) -> Iterator[int]:
        begin, latent = self._begun()
        source = read_frames(self.video, self.stride, begin) if self.video else iter(())
        made, scene = None, -1
        with ExitStack() as haste:
            for i in range(begin, self.frames):
                if (now := i * len(self.scenes) // self.frames) != scene or made is None:
                    haste.close()
                    made, scene = self._module(self.scenes[now]), now
                    haste.enter_context(accelerated(made[0].networks, self.scenes[now]["trainer"]))
                below = next(source, None)
                if self.video and below is None:
                    break
                latent = self._frame(*made, i, latent, below)
                self._write(i, made[0], latent)
                yield i
        if not self.paths():
            raise UserError(f"--video {self.video}: no frame in it. Allowed: a video, or a folder of pictures")
        pictures = (np.asarray(open_undecoded(path).convert("RGB")) for path in self.paths())
        write_video(self.folder / "film.mp4", pictures, self.fps)

    def paths(self) -> list[Path]:
        """The existing frames, in order."""
        return sorted((self.folder / "frames").glob("[0-9]*.png"))

    def _begun(self) -> tuple[int, Tensor | None]:
        """The number of existing frames and the newest one's latent; a new film writes ``film.json``."""
        for name in ("film.json", *_NAMES):
            RunFiles(self.folder).refuse_link(self.folder / name)
        known = json.loads(json.dumps(self._record()))
        path = self.folder / "film.json"
        what = None
        if not path.exists():  # frames of another program, perhaps the video to restyle
            there = [name for name in _NAMES if (at := self.folder / name).is_file() or any(at.glob("*"))]
            what = f"{there[0]} is there, and no film.json that says of which film. Allowed:" if there else None
        elif (begun := _begun_as(path)) != known:
            what = f"another film is there, with other settings{_others(begun, known)}. Allowed: the same command, "
            what += "which goes on where it stopped, or"
        if what:
            raise UserError(f"--to {self.folder}: {what} another folder. Try: --to {quote(f'{self.folder}-2')}")
        write_json(path, known)
        newest = self.folder / "latent.safetensors"
        if not newest.exists():
            return 0, None
        try:
            refuse_endless(newest)
            with safe_open(newest, framework="pt") as file:
                begin, latent = int(file.metadata()["frame"]) + 1, file.get_tensor("latent")
        except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
            raise UserError(f"{newest}: damaged: {error}. Try: --to {quote(f'{self.folder}-2')}") from None
        self._require_frames(min(begin, self.frames))
        return begin, latent

    def _require_frames(self, begin: int) -> None:
        """Refuse to continue if earlier frames are missing, since the latents to make them from are gone."""
        there = {path.name for path in self.paths()}
        if lost := [name for i in range(begin) if (name := f"{i:06d}.png") not in there]:
            names = ", ".join(lost[:3]) + (", …" if len(lost) > 3 else "")
            raise UserError(
                f"--to {self.folder}: frames/ lacks {names}, without which the film would be shorter. Allowed: all "
                f"frames until the newest one, or another folder. Try: --to {quote(f'{self.folder}-2')}"
            )

    def _record(self) -> dict[str, Any]:
        options = {key: getattr(self, key) for key in ("frames", "each", "stride", "keep")}
        options["fps"] = int(self.fps) if self.fps == int(self.fps) else float(self.fps)
        video = str(self.video) if self.video else None
        return {
            **options,
            "video": video,
            "camera": asdict(self.camera),
            "scenes": [picture_config(c) for c in self.recorded],
        }

    def _module(self, config: Mapping[str, Any]) -> tuple[LatentOptimisation, Precision]:
        """The module that makes the frames of a scene, and the precision of its steps."""
        plan = RunPlan.of(config)
        if len(plan.pictures) != 1:
            raise UserError("batch_size: a film is one picture a frame. Allowed: 1. Try: batch_size=1")
        module = build(plan)
        if (self.video or self.camera != Camera(border=self.camera.border)) and not hasattr(module.generator, "encode"):
            raise UserError(
                "checkpoints.generator: it has no encode, which a film that moves or restyles needs. Allowed: a "
                "generator with encode, or a film without --video, --zoom, --pan and --turn. Try: checkpoints=embedded"
            )
        with quiet_lightning():  # no message about devices
            trainer = make_trainer(config, self.folder, [], [])
        module.to_device(trainer.strategy.root_device)
        return module, trainer.precision_plugin

    def _frame(
        self,
        module: LatentOptimisation,
        precision: Precision,
        i: int,
        latent: Tensor | None,
        below: np.ndarray | None,
    ) -> Tensor:
        """The latent of frame ``i`` from that of the frame before it."""
        start = self._start(module, i, latent, below)
        module.latent.data.copy_(start)
        module.begin_at(start)
        for name, kept in module.search.buffers(start).items():
            getattr(module, name).copy_(kept)
        # Each frame is a short run with random numbers and schedules of its own.
        module.seeds = [self.scenes[i * len(self.scenes) // self.frames]["seed"] + 1_000_003 * i]
        if i or self.video:
            module.steps, module.search = self.each, module.search.of_a_frame()
        optimizer = module.configure_optimizers()
        with explain_nondeterminism():
            for step in range(module.steps):
                with precision.train_step_context():  # as in Lightning's training step
                    module.optimise(step, optimizer)
        made = module.shown(module.steps)
        if not made.isfinite().all():
            lr = optimizer.param_groups[0]["lr"]
            raise RunError(
                f"frame {i}: its latent is NaN or infinite. The frames before it are kept. Likely cause: the rate. "
                f"Try: optimizer.lr={lr / 10:g} (it is {lr:g}) in another folder"
            )
        return made.clone()

    @torch.no_grad()
    def _start(self, module: LatentOptimisation, i: int, latent: Tensor | None, below: np.ndarray | None) -> Tensor:
        seen = None
        if latent is not None:
            last = latent.to(module.latent)
            image = module.picture(last)
            seen = self.camera(image, i / max(1, self.frames - 1))
            if below is None:  # without motion the latent is used as it is
                return last if seen is image else module.generator.encode(seen)
        if below is None:
            return module.start.clone()
        size = [side * module.generator.factor for side in module.latent.shape[-2:]]
        picture = fit(torch.tensor(below).movedim(-1, 0)[None].to(module.latent) / 255, *size)
        return module.generator.encode(picture if seen is None else torch.lerp(picture, seen, self.keep))

    def _write(self, i: int, module: LatentOptimisation, latent: Tensor) -> None:
        """Write the frame, then its latent: a film killed in between makes the same frame again."""
        scene = self.recorded[i * len(self.scenes) // self.frames]
        record = {"config": picture_config(scene), "frame": i, "film": self._record() | {"scenes": len(self.scenes)}}
        with torch.no_grad():
            image = module.picture(latent)[0]
        atomic_write(self.folder / "frames" / f"{i:06d}.png", png_bytes(image, record))
        content = save({"latent": latent.cpu().contiguous()}, metadata={"frame": str(i)})
        atomic_write(self.folder / "latent.safetensors", content)


def _begun_as(path: Path) -> Any:
    """The options that a film's folder began with; None if the file cannot be read."""
    try:
        return read_json(read_text(path))
    except (OSError, ValueError):
        return None


def _others(begun: Any, known: Mapping[str, Any]) -> str:
    """Describe the options in which an existing film differs; empty if its file cannot be read."""
    if not isinstance(begun, Mapping):
        return ""
    names = [key for key in {**begun, **known} if begun.get(key) != known.get(key)]  # another version has other options
    told = ", ".join(f"{k}={begun[k]}" if isinstance(begun.get(k), int | float) else k for k in names)
    return told and f" ({told})"
