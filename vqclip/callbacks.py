"""Callbacks: what is seen and kept of a run while it goes on."""

from __future__ import annotations

import pytorch_lightning as pl
from torch import Tensor
from tqdm import tqdm

from vqclip.module import LatentOptimisation
from vqclip.runs.recorder import Recorder

__all__ = ["Interpolation", "Progress", "Timelapse"]


class Progress(pl.Callback):
    """A bar with the loss and its terms."""

    def on_train_start(self, trainer: pl.Trainer, module: LatentOptimisation) -> None:
        self.bar = tqdm(
            total=module.steps, initial=trainer.global_step, desc="optimising", unit="step", dynamic_ncols=True
        )

    def on_train_batch_end(self, trainer: pl.Trainer, module: LatentOptimisation, *_) -> None:
        # tqdm's own throttle decides when to draw; numbers leave the device only then.
        if self.bar.update():
            shown = {k: v.mean().item() for k, v in module.metrics.items() if isinstance(v, Tensor)}
            self.bar.set_postfix({k: f"{v:.3f}" for k, v in shown.items()}, refresh=False)

    def teardown(self, trainer: pl.Trainer, module: LatentOptimisation, stage: str) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


class Timelapse(pl.Callback):
    """``timelapse.mp4`` of every picture's snapshots.

    Args:
        fps: snapshots shown a second; the last one stays for a second more.
    """

    def __init__(self, fps: int):
        self.fps = fps

    def on_train_end(self, trainer: pl.Trainer, module: LatentOptimisation) -> None:
        from vqclip.io.video import timelapse

        recorder = Recorder.of(trainer)
        for i in range(len(recorder.records)):
            timelapse(recorder.run.picture(i).path, self.fps)


class Interpolation(pl.Callback):
    """``interpolation.mp4``: from each picture's best latent to the next one's, where the run makes several.

    Args:
        frames: from a picture to the next.
        fps: frames a second.
        mode: ``linear`` or ``spherical``, see ``vqclip.interpolate``.
        most: pictures; a run of more makes no video.
    """

    def __init__(self, frames: int, fps: int, mode: str, most: int):
        self.frames, self.fps, self.mode, self.most = frames, fps, mode, most

    def on_train_end(self, trainer: pl.Trainer, module: LatentOptimisation) -> None:
        from vqclip.io.interpolation import Keyframe, frames_between
        from vqclip.io.video import write_video

        recorder = Recorder.of(trainer)
        stops = [Keyframe(z.to(module.device), module.picture) for z in recorder.best_latents()]
        if 1 < len(stops) <= self.most:
            total = self.frames * (len(stops) - 1) + 1
            frames = tqdm(frames_between(stops, total, self.mode), desc="interpolating", total=total, unit="frame")
            write_video(recorder.run.interpolation, frames, self.fps)
