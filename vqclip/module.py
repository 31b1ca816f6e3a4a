"""The optimisation as a LightningModule whose one trainable parameter is the latent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from vqclip.augmentations import Augmentations
from vqclip.guidance import Guidance, Guide
from vqclip.loss import Objective
from vqclip.memory import Chunks, bytes_kept, device_memory, keep_freed_memory, move_to
from vqclip.models.vqgan import VQGAN
from vqclip.noise import Noise
from vqclip.optimizer import clip_gradients, step_with
from vqclip.own_parts import part_name, require_tensor
from vqclip.picture_cache import PictureCache
from vqclip.precision import full_precision, one_by_one
from vqclip.protocols import View
from vqclip.rng import StepRandom
from vqclip.schedules import Schedule
from vqclip.search import Search

__all__ = ["LatentOptimisation", "Networks", "optimisation"]

#: Scores draw their crops as if at this step, so that every snapshot of a run is scored on the same crops.
SCORE_STEP = 0


@dataclass
class Networks:
    """The frozen networks of a run, shared by the jobs of a process.

    Deliberately not an ``nn.Module``: the networks stay out of the LightningModule's state dict and its checkpoints.
    """

    generator: VQGAN
    guides: dict[str, Guide]
    devices: Sequence[str] = ()  #: of the perceptors, round robin; empty: the device of the pictures

    def to_device(self, device: torch.device | str) -> None:
        """Move the networks to ``device`` (perceptors to ``devices``); see :func:`vqclip.memory.move_to`."""
        move_to(self.generator, device)
        for (name, guide), there in zip(self.guides.items(), cycle(self.devices or [device]), strict=False):
            perceptor = move_to(guide.perceptor, there)
            self.guides[name] = replace(guide, perceptor=perceptor, targets=guide.targets.to(device), device=there)


def optimisation(module: pl.LightningModule) -> LatentOptimisation:
    """Narrow the type: Lightning hands callbacks a plain LightningModule."""
    return cast("LatentOptimisation", module)


def _no_starts(number: int) -> Tensor:
    raise ValueError("a search that restarts needs starts")


class LatentOptimisation(pl.LightningModule):
    """Optimises latents until crops of the decoded pictures match the texts.

    Args:
        networks: the generator, and the perceptors with the targets of the B pictures.
        z0: initial latents [B,C,h,w].
        seeds: the seed of each picture, B of them.
        steps: length of the run; progress goes from 0 at the first step to 1 at the last.
        latent_kind: maps the parameter to what the decoder takes (``vqclip.latent``).
        optimizer: builds the optimizer from a list of parameters.
        lr: learning rate over the run.
        keep: keeps part of each picture unchanged (``vqclip.io.masks.MaskComposite``), or None.
        picture_chunk: pictures per forward and backward pass; None: as many as fit into half of the device's memory.
        crop_chunk: crops per pass of a perceptor; None: all.  Both chunk sizes affect memory only, not the gradients.
        clip: maximum norm of the gradient of one picture's latent; None: no clipping.
        search: what is done to the latents between steps; None: nothing.
        starts: initial latents [B,C,h,w] of a restart, by its number from 1.
    """

    start: Tensor  #: initial latents [B,C,h,w]
    #: Buffers of the search, if it averages, and if it restarts.
    average: Tensor
    best: Tensor
    best_start: Tensor
    best_score: Tensor

    def __init__(
        self,
        networks: Networks,
        z0: Tensor,
        seeds: Sequence[int],
        steps: int,
        latent_kind: Callable[[Tensor, VQGAN], Tensor],
        augmentations: Augmentations,
        noise: Noise,
        objective: Objective,
        optimizer: Callable[[list], torch.optim.Optimizer],
        lr: Schedule,
        keep: torch.nn.Module | None = None,
        picture_chunk: int | None = None,
        crop_chunk: int | None = None,
        clip: float | None = None,
        search: Search | None = None,
        starts: Callable[[int], Tensor] | None = None,
    ):
        super().__init__()
        self.automatic_optimization = False  # backward runs chunk by chunk, see ``_backward``
        self.networks = networks
        self.latent = torch.nn.Parameter(z0.clone(memory_format=torch.contiguous_format))
        self.register_buffer("start", self.latent.detach().clone())
        self.seeds, self.steps, self.latent_kind, self.keep = list(seeds), steps, latent_kind, keep
        self.augmentations, self.noise, self.objective = augmentations, noise, objective
        self.make_optimizer, self.lr, self.clip = optimizer, lr, clip
        self.chunks = Chunks(len(self.seeds), augmentations.count, picture_chunk, crop_chunk, self._pictures_that_fit)
        self.search = search or Search()
        self.starts: Callable[[int], Tensor] = starts or _no_starts
        for name, kept in self.search.buffers(z0).items():
            self.register_buffer(name, kept)
        self._start_images: Tensor | None = None
        self.picture_cache = PictureCache()
        #: of the last step: loss, terms, norms of the gradient and of the updated latent [B], lr, noise factor
        self.metrics: dict[str, Tensor | float] = {}
        self.scores: dict[str, float] = {}  #: of the newest snapshot, averaged over the pictures

    @property
    def generator(self) -> VQGAN:
        return self.networks.generator

    @property
    def guides(self) -> dict[str, Guide]:
        return self.networks.guides

    # The step

    def optimise(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """One step: decode, score crops, update the latents.  Its numbers are left in ``metrics``."""
        self.search.before(self, step, optimizer)
        t = self.progress(step)
        for group in optimizer.param_groups:
            group["lr"] = self.lr(t)
        terms = step_with(
            optimizer, lambda: self._gradients(step, optimizer), lambda terms: self.objective.total(terms, t)
        )
        self.search.after(self, step)
        self.metrics = {
            "loss": self.objective.total(terms, t),
            **terms,
            "lr": self.lr(t),
            "noise": self.noise.factor(t),
            "grad_norm": self.grad_norm,
            "latent_norm": self.latent.detach().flatten(1).norm(dim=1),
        }

    def _gradients(self, step: int, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Compute every latent's gradient, clipped; return the objective's terms, each [B], detached."""
        parts = self.chunks.over_pictures(lambda pictures: self._backward(step, pictures), optimizer.zero_grad)
        self.grad_norm = clip_gradients(self.latent, self.clip)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _backward(self, step: int, pictures: slice) -> dict[str, Tensor]:
        """Accumulate the gradient of ``pictures``; return the objective's terms, each [n], detached."""
        t, latent = self.progress(step), self.latent[pictures]
        image = self.picture_cache.take(self.latent)
        if image is None:
            image = self.search.picture(self, latent, t)  # [n,3,H,W] in [0,1]
        # Crops accumulate their gradient on a detached leaf: each chunk's graph is freed before the next is built.
        leaf = image.detach().requires_grad_()
        terms = self.on_crops(leaf, self.rng(step, pictures), t, pictures, backward=True)
        picture_terms = self.objective.on_picture(self.view(image, latent, t, pictures))
        if picture_terms:
            torch.autograd.backward([image, self.objective.total(picture_terms, t).sum()], [leaf.grad, None])
        else:
            image.backward(leaf.grad)
        return terms | {name: value.detach() for name, value in picture_terms.items()}

    def on_crops(self, image: Tensor, rng: StepRandom, t: float, pictures: slice, backward: bool) -> dict[str, Tensor]:
        """Crop terms of ``image`` [n,3,H,W]; see :meth:`Guidance.terms`."""
        view = self.view(image.detach(), self.latent[pictures].detach(), t, pictures)
        return self.guidance.terms(image, rng, view, self.chunks.crops(len(image)), backward)

    @property
    def guidance(self) -> Guidance:
        return Guidance(self.guides, self.augmentations, self.noise, self.objective)

    # Parts of the step

    def picture(self, z: Tensor) -> Tensor:
        """Latents [n,C,h,w] → pictures [n,3,H,W] in [0,1], with what ``keep`` preserves."""
        image = self.decoded(z)
        return self.keep(image) if self.keep else image

    def decoded(self, z: Tensor) -> Tensor:
        """Latents [n,C,h,w] → decoded pictures [n,3,factor·h,factor·w] in [0,1]."""
        image = self.generator.decode(self.latent_kind(z, self.generator))
        shape = (len(z), 3, *(self.generator.factor * n for n in z.shape[-2:]))
        who = f"{part_name(self.generator, 'checkpoints.generator')}.decode"
        return require_tensor(image, shape, who, "pictures", z, "[B,3,factor·h,factor·w]")

    def view(self, image: Tensor, latent: Tensor, t: float, pictures: slice) -> View:
        """The inputs of the objective's terms, for ``pictures``."""
        wanted = [
            (guide.perceptor, [(place, own.of(pictures)) for place, own in guide.targets.at(t)])
            for guide in self.guides.values()
        ]
        return View(
            t, image, latent, self.start[pictures], self.generator, lambda: self.start_images()[pictures], wanted
        )

    def begin_at(self, start: Tensor) -> None:
        """Replace the initial latents [B,C,h,w]: restarts, stages and the frames of a film do."""
        self.start.copy_(start)
        self._start_images = None

    @torch.no_grad()
    @full_precision()  # cached: it must not depend on whether the first call comes from inside a step
    def start_images(self) -> Tensor:
        """The initial pictures [B,3,H,W] in [0,1]; decoded once, when a term first asks for them."""
        if self._start_images is None:
            # One by one, since the chunk size may not be measured yet, and must not change these pictures.
            self._start_images = one_by_one(lambda z: self.search.start_image(self, z), self.start)
        return self._start_images

    def rng(self, step: int, pictures: slice = slice(None)) -> StepRandom:
        """The random number generators of ``step``."""
        return StepRandom(self.seeds[pictures], step, self.device)

    def progress(self, step: int) -> float:
        """Progress at ``step`` (from 0) of the run, in [0,1]."""
        return self.search.progress(step, self.steps)

    @full_precision()  # a resumed run asks inside a step, a new run in its first snapshot
    def _pictures_that_fit(self) -> int:
        """How many pictures fit into half of the memory, from what the autograd graph of one keeps.

        Counted against the device's total memory, not its free memory, so that a machine always chooses the same.
        """
        networks = [self.generator, *(guide.perceptor for guide in self.guides.values())]
        step = self.steps - 1 if self.search.stages else 0  # stages grow: the last one is the largest
        one = bytes_kept(lambda: self._backward(step, slice(0, 1)), networks)
        self.latent.grad = None
        return max(1, device_memory(self.device) // 2 // one)

    # Hooks that Lightning calls

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer([self.latent])

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        # Lightning's wrapper of the optimizer from configure_optimizers: it also counts the steps.
        try:
            self.optimise(self.global_step, cast("torch.optim.Optimizer", self.optimizers()))
        except StopIteration as error:  # from user code; Lightning would take it for the end of the epoch
            what = RuntimeError("StopIteration, as next() raises it on an iterator that is exhausted")
            raise what.with_traceback(error.__traceback__) from None
        # For callbacks that read the trainer's metrics; the loggers get them from the recorder, with the pictures.
        # Lightning's ``log_dict`` would take 3 ms, a twentieth of a step of the embedded pair.
        numbers = {name: torch.as_tensor(v).mean() for name, v in self.metrics.items()}
        self.trainer.callback_metrics.update(numbers)
        self.trainer.logged_metrics.update(numbers)
        if self.trainer.progress_bar_callback:  # .item() synchronises a GPU
            self.trainer.progress_bar_metrics["loss"] = numbers["loss"].item()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Log the newest snapshot's scores for callbacks that monitor them: a snapshot is this run's validation."""
        self.log_dict(self.scores, logger=False, batch_size=1)

    def to_device(self, device: torch.device | str) -> None:
        """Move the latents and the networks to ``device``."""
        if torch.device(device).type == "cpu":
            keep_freed_memory()
        self.to(device)
        self.networks.to_device(device)

    # Snapshots

    @property
    def output_latents(self) -> Tensor:
        """The latents [B,C,h,w] to decode for output: the parameter, or its running mean."""
        return self.average if self.search.average else self.latent.detach()

    def shown(self, step: int | None = None) -> Tensor:
        """The output latents [B,C,h,w] after ``step`` steps (default: the trainer's), at the run's full size."""
        return self.search.shown(self, self.output_latents, self.global_step if step is None else step)

    @torch.no_grad()
    def snapshot(self, shown: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Pictures of the ``shown`` latents (default: the current ones), their scores, and one crop of each.

        The scores are the crop terms without noise, on the same crops at every snapshot, and ``score`` =
        ``alpha · cos(target) − beta · cos(exclude)`` with the weights of the run's end: higher is better.

        Returns:
            pictures [B,3,H,W] in [0,1]; scores by name, each [B]; crops [B,3,S,S], with this step's noise.
        """
        shown = self.shown() if shown is None else shown
        parts = self.chunks.over_pictures(lambda pictures: self._snapshot(shown, pictures))
        images, terms, crops = zip(*parts, strict=True)
        terms = {name: torch.cat([chunk[name] for chunk in terms]) for name in terms[0]}
        return torch.cat(images), {"score": -self.objective.total(terms, 1.0), **terms}, torch.cat(crops)

    def _snapshot(self, shown: Tensor, pictures: slice) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        image = self.picture_cache.picture(self, shown, pictures)
        terms = self.on_crops(image, self.rng(SCORE_STEP, pictures), 1.0, pictures, backward=False)
        rng, t = self.rng(self.global_step, pictures), self.progress(min(self.global_step, self.steps - 1))
        return image, terms, self.guidance.one_crop(image, rng, t, pictures)
