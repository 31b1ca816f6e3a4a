"""What happens to the latents between optimizer steps: coarse-to-fine stages, restarts, overlays, averaging, clamping.

All of it depends on nothing but the latents and the step number, so that a resumed run continues like an uninterrupted
one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.errors import UserError
from vqclip.precision import full_precision, one_by_one
from vqclip.protocols import Optimised

__all__ = ["Search"]


class Search:
    """Changes the latents before and after optimizer steps; by default, does nothing.

    ``module`` is always the :class:`vqclip.module.LatentOptimisation`, which imports this module.

    Args:
        clamp: after every step, clamp each channel to the range of the generator's codebook.
        average: decode the latent's running mean, ``m ← d · m + (1 − d) · z`` with this d, smaller in the first steps;
            0: decode the latent itself.
        stages: coarse sizes before the full one, each ``{size: [height, width], share: of the steps}``.  A coarse stage
            optimises a subsampled latent, decoded to a small picture that is scaled up to the full size.  Its last
            picture is encoded and becomes the initial latent of the next stage, also for terms that refer to the start.
            An initial picture is encoded for the first stage; initial noise has no detail to lose and is used as it is.
        restarts: ``{count, steps}``: this many initial latents are tried for so many steps each, and the run continues
            from the one with the best score.  Their steps count as steps of the run; schedules restart with each trial.
        overlay: ``{every, strength, until}``: every so many steps, while progress is at most ``until``, replace the
            picture by the encoded mix ``(1 − strength) · itself + strength · the initial picture``.
    """

    def __init__(
        self,
        clamp: bool = False,
        average: float = 0.0,
        stages: Sequence[Mapping] | None = None,
        restarts: Mapping | None = None,
        overlay: Mapping | None = None,
    ):
        self.clamp, self.average = clamp, average
        self.stages = [(tuple(stage["size"]), float(stage["share"])) for stage in stages or ()]
        self.count, self.trial = (restarts["count"], restarts["steps"]) if restarts else (1, 0)
        self.overlay = {"until": 1.0, **overlay} if overlay else None

    @property
    def trial_steps(self) -> int:
        """The number of steps after which the best restart has been chosen."""
        return self.count * self.trial

    def require_of(self, networks: Any) -> None:
        """Refuse options that the generator does not support.

        Raises:
            UserError: names the key and the method that the generator lacks.
        """
        required = {
            "stages": (self.stages, "encode"),
            "overlay": (self.overlay, "encode"),
            "clamp": (self.clamp, "codebook"),
        }
        for key, (on, need) in required.items():
            if on and not hasattr(networks.generator, need):
                off = "false" if key == "clamp" else "null"
                raise UserError(f"search.{key}: needs the generator's {need}, which it lacks. Try: search.{key}={off}")

    def of_a_frame(self) -> Search:
        """The search of a film's frame, which starts from a finished picture: at full size, without restarts."""
        one = copy(self)
        one.stages, one.count, one.trial = [], 1, 0
        return one

    def buffers(self, z0: Tensor) -> dict[str, Tensor]:
        """The tensors by name that a run must checkpoint, initialised from its initial latents [B,C,h,w]."""
        z0 = z0.clone(memory_format=torch.contiguous_format)  # like the latent: safetensors stores no other order
        found = {"average": z0} if self.average else {}
        if self.count > 1:
            found |= {"best": z0.clone(), "best_start": z0.clone(), "best_score": z0.new_full((len(z0),), -torch.inf)}
        return found

    def progress(self, step: int, steps: int) -> float:
        """Progress at ``step`` of a run of ``steps``, in [0,1]; each trial begins at 0."""
        return min(1.0, self._steps_of_one(step) / max(1, self._steps_of_one(steps) - 1))

    def _steps_of_one(self, step: int) -> int:
        """Of the run's first ``step`` steps, the number that the current latents have taken."""
        return step % self.trial if step < self.trial_steps else step - (self.count - 1) * self.trial

    def stage(self, t: float) -> int:
        """The stage at progress ``t``, from 0; the last one is the full size."""
        end = 0.0
        for i, (_, share) in enumerate(self.stages):
            end += share
            if t < end:
                return i
        return len(self.stages)

    def settled(self, step: int, steps: int) -> bool:
        """Whether ``step`` (from 0) comes after all trials and coarse stages, so that losses are comparable."""
        return step >= self.trial_steps and self.stage(self.progress(step, steps)) == len(self.stages)

    def picture(self, module: Optimised, z: Tensor, t: float) -> Tensor:
        """Latents [n,C,h,w] → pictures [n,3,H,W] in [0,1] of the stage at ``t``, scaled up to the full size."""
        return self._picture(module, z, self.stage(t))

    def _picture(self, module: Optimised, z: Tensor, stage: int) -> Tensor:
        if stage == len(self.stages):
            return module.picture(z)
        image = module.decoded(self._places(module, z, stage))
        full = [side * module.generator.factor for side in z.shape[-2:]]
        image = F.interpolate(image, full, mode="bilinear", align_corners=False)
        return module.keep(image) if module.keep else image

    def start_image(self, module: Optimised, z: Tensor) -> Tensor:
        """The initial latent [1,C,h,w] → its picture [1,3,H,W] in [0,1], at the stage that it was encoded for."""
        for stage in range(len(self.stages)):
            # A latent encoded for this stage repeats each of its positions; noise and full-size latents do not.
            places = F.interpolate(self._places(module, z, stage), z.shape[-2:], mode="nearest-exact")
            if torch.equal(places, z):
                return self._picture(module, z, stage)
        return module.picture(z)

    def _places(self, module: Optimised, z: Tensor, stage: int) -> Tensor:
        """Subsample latents [n,C,h,w] to the positions [n,C,h',w'] that a coarse stage optimises."""
        _, h, w = module.generator.latent_shape(*self.stages[stage][0])
        return F.interpolate(z, (min(h, z.shape[-2]), min(w, z.shape[-1])), mode="nearest-exact")

    def encode(self, module: Optimised, images: Tensor, t: float) -> Tensor:
        """Pictures [B,3,H,W] → latents [B,C,h,w] for the stage at ``t``."""
        stage = self.stage(t)
        if stage == len(self.stages):
            return one_by_one(module.generator.encode, images)
        _, h, w = module.generator.latent_shape(*self.stages[stage][0])
        full = [side // module.generator.factor for side in images.shape[-2:]]
        side = [min(part, whole) * module.generator.factor for part, whole in zip((h, w), full, strict=True)]
        small = F.interpolate(images, side, mode="bilinear", antialias=True)
        codes = one_by_one(module.generator.encode, small)
        return F.interpolate(codes, full, mode="nearest-exact")  # repeat each of the stage's positions

    @torch.no_grad()
    def shown(self, module: Optimised, z: Tensor, step: int) -> Tensor:
        """Latents ``z`` after ``step`` steps at full size: encoded again if they belong to a coarse stage."""
        t = module.progress(max(0, step - 1))
        if self.stage(t) == len(self.stages):
            return z
        return one_by_one(lambda one: module.generator.encode(self.picture(module, one, t)), z).contiguous()

    @torch.no_grad()
    @full_precision()  # a stage must end with the same picture as its snapshot
    def before(self, module: Optimised, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Update the latents before step ``step`` (from 0)."""
        if self.count > 1 and 0 < step <= self.trial_steps and step % self.trial == 0:
            self._next_trial(module, step)
            optimizer.state.clear()
        now, past = (self.stage(module.progress(s)) for s in (step, max(0, step - 1)))
        if now > past:
            ended = self._pictures(module, module.progress(step - 1))
            self._go_on_from(module, self.encode(module, ended, module.progress(step)))
            module.begin_at(module.latent)
            optimizer.state.clear()
        o, taken = self.overlay, self._steps_of_one(step)
        if o and taken and taken % o["every"] == 0 and module.progress(step) <= o["until"]:
            start, t = module.start_images(), module.progress(step)
            mixed = (1 - o["strength"]) * self._pictures(module, t) + o["strength"] * start
            self._go_on_from(module, self.encode(module, mixed, t))

    def _pictures(self, module: Optimised, t: float) -> Tensor:
        """The current pictures [B,3,H,W] of the stage at ``t``, decoded one by one."""
        return one_by_one(lambda z: self.picture(module, z, t), module.output_latents)

    @torch.no_grad()
    def after(self, module: Optimised, step: int) -> None:
        """Update the latents after step ``step`` (from 0)."""
        if self.clamp:
            codes = module.generator.codebook.to(module.latent)
            low, high = (codes.amin(0).view(1, -1, 1, 1), codes.amax(0).view(1, -1, 1, 1))
            module.latent.copy_(module.latent.clamp(low, high))
        if self.average:
            done = self._steps_of_one(step)
            module.average.lerp_(module.latent, 1 - min(self.average, (1 + done) / (10 + done)))

    def _next_trial(self, module: Optimised, step: int) -> None:
        """Remember the best trial so far; go on with the next initial latents, after the last trial with the best."""
        _, scores, _ = module.snapshot(module.shown(step))
        number, score = step // self.trial, scores["score"]
        better = score > module.best_score  # ties go to the first, which is the seed's own start, as in init.best_of
        for best, current in ((module.best, module.output_latents), (module.best_start, module.start)):
            best.copy_(torch.where(better.view(-1, 1, 1, 1), current, best))
        module.best_score.copy_(torch.where(better, score, module.best_score))
        z, start = (
            (module.best, module.best_start) if number == self.count else (module.starts(number).to(module.latent),) * 2
        )
        self._go_on_from(module, z)
        module.begin_at(start)

    def _go_on_from(self, module: Optimised, z: Tensor) -> None:
        module.latent.copy_(z)
        if self.average:
            module.average.copy_(z)
