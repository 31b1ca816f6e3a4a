"""vqclip's Lightning callbacks: progress bar, early stop, timelapse, interpolation, upscaling."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch

from vqclip.io.progress import bar
from vqclip.module import optimisation
from vqclip.runs.cost import TRIAL, Cost, faster_setting
from vqclip.runs.recorder import Recorder

__all__ = ["AutoStop", "Interpolation", "Progress", "Timelapse", "Upscale"]

LONG = 60  #: seconds; runs that take longer print an estimate of time and memory


class Progress(pl.Callback):
    """A progress bar with the loss and its terms; for long runs also an estimate of time and memory."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.clock: list[float] = []  # at the end of the first steps
        total = optimisation(pl_module).steps
        self.bar = bar(total=total, initial=trainer.global_step, desc="optimising", unit="step")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if len(self.clock) < TRIAL:
            self.clock.append(time.perf_counter())
            left = self.bar.total - self.bar.n
            if len(self.clock) == TRIAL and (cost := Cost.of(self.clock)).step * left > LONG:
                self.bar.write(cost.line(left), file=sys.stderr)
                if note := faster_setting(pl_module.device.type, str(trainer.precision)):
                    self.bar.write(note, file=sys.stderr)
        # tqdm's own throttle decides when to draw; numbers leave the device only then.
        if self.bar.update():
            module = optimisation(pl_module)
            shown = {
                k: module.metrics[k] for k in ("loss", *getattr(module.objective, "weights", ())) if k in module.metrics
            }
            numbers = {k: f"{torch.as_tensor(v).mean().item():.3f}" for k, v in shown.items()}
            self.bar.set_postfix(numbers, refresh=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._close()  # if the run was interrupted

    def _close(self) -> None:
        if hasattr(self, "bar"):  # unset if a resumed run had no steps left
            self.bar.close()


class AutoStop(pl.Callback):
    """Stops a run when the loss no longer falls; ``run.json`` records the reason.

    Stops when ``mean(loss of the window before) − mean(loss of the last window) < threshold``, averaged over the run's
    pictures.  Every step has other random crops, so a short window stops by chance.

    Args:
        window: steps of each of the two means.
        threshold: the minimum decrease of the loss.
    """

    def __init__(self, window: int, threshold: float):
        self.window, self.threshold = window, threshold
        self._forget()

    def _forget(self) -> None:
        self.losses: list[float] = []
        self.ended_because = ""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._forget()  # losses of an earlier run; a resumed run's own are loaded after this

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = optimisation(pl_module)
        if not module.search.settled(trainer.global_step - 1, module.steps):
            return  # trials and coarse stages have losses of their own
        self.losses = [*self.losses, torch.as_tensor(module.metrics["loss"]).mean().item()][-2 * self.window :]
        if len(self.losses) < 2 * self.window:
            return
        before, last = (sum(half) / self.window for half in (self.losses[: self.window], self.losses[self.window :]))
        if before - last < self.threshold:
            self.ended_because = f"the loss fell by {before - last:.4g} in {self.window} steps"
            trainer.should_stop = True

    def state_dict(self) -> dict:
        return {"losses": self.losses}

    def load_state_dict(self, state_dict: dict) -> None:
        self.losses = state_dict["losses"]


class Timelapse(pl.Callback):
    """Writes ``timelapse.mp4`` from every picture's snapshots.

    Args:
        fps: snapshots per second; the last one stays for a second more.
    """

    def __init__(self, fps: int):
        self.fps = fps

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        from vqclip.io.video import timelapse

        recorder = Recorder.of(trainer)
        pictures = [recorder.run.picture(i) for i in range(len(recorder.records))]
        total = sum(len(list(picture.snapshots())) for picture in pictures)
        with bar(desc="timelapse", total=total, unit="frame", delay=2) as shown:  # a short one shows no bar
            for picture in pictures:
                timelapse(picture, self.fps, shown.update)


class Interpolation(pl.Callback):
    """Writes ``interpolation.mp4``, from each picture's best latent to the next one's, if the run has several pictures.

    Args:
        frames: between two pictures.
        fps: frames per second.
        mode: ``linear`` or ``spherical``, see :mod:`vqclip.io.interpolation`.
        most: a run with more pictures than this writes no video.
    """

    def __init__(self, frames: int, fps: int, mode: str, most: int):
        self.frames, self.fps, self.mode, self.most = frames, fps, mode, most

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        from vqclip.io.interpolation import Keyframe, frames_between
        from vqclip.io.video import write_video

        recorder = Recorder.of(trainer)
        module = optimisation(pl_module)
        stops = [Keyframe(z.to(module.device), module.picture) for z in recorder.snapshots.best_latents()]
        if 1 < len(stops) <= self.most:
            total = self.frames * (len(stops) - 1) + 1
            frames = bar(frames_between(stops, total, self.mode), desc="interpolating", total=total, unit="frame")
            write_video(recorder.run.interpolation, frames, self.fps)


class Upscale(pl.Callback):
    """Writes ``upscaled.png`` of every picture: its best snapshot, enlarged by a super-resolution network.

    Args:
        path: the network's weights, ``.pth`` or ``.safetensors`` (ESRGAN, Real-ESRGAN, SwinIR, …).
        tile: side of a tile in pixels; memory grows with its square.

    Raises:
        UserError: spandrel is not installed, or does not know the file.
    """

    def __init__(self, path: str, tile: int):
        from vqclip.models.upscaler import Upscaler

        self.upscaler = Upscaler(path, tile)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        from vqclip.io.files import atomic_write
        from vqclip.io.images import png_bytes

        recorder = Recorder.of(trainer)
        self.upscaler.network.to(pl_module.device)
        for i in bar(range(len(recorder.records)), desc="upscaling", unit="picture"):
            picture = recorder.run.picture(i)
            large = self.upscaler(picture.image(picture.best)[0])
            atomic_write(picture.upscaled, png_bytes(large, None))  # best.png has the record
