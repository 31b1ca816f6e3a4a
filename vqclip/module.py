"""The optimisation as a LightningModule whose one trainable parameter is the latent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch import Tensor

from vqclip.augmentations import Augmentations, CropDraw
from vqclip.errors import UserError
from vqclip.generators import VQGAN
from vqclip.loss import Objective, Targets
from vqclip.noise import Noise
from vqclip.perceptors import CLIPPerceptor
from vqclip.rng import Draws
from vqclip.schedules import Schedule

__all__ = ["Eye", "LatentOptimisation"]

#: The crops a score looks at are drawn under this step's name: the same for every snapshot of a run.
SCORE_STEP = 0


@dataclass(frozen=True)
class Eye:
    """A perceptor of the run, its share of the objective, and what it should see."""

    perceptor: CLIPPerceptor
    share: float  #: shares of all eyes add up to 1
    targets: Targets


class LatentOptimisation(pl.LightningModule):
    """Moves latents until crops of their pictures look like the texts.

    The networks are frozen, shared between the jobs of a process, and no part of this module's state.

    Args:
        generator: decodes latents.
        eyes: perceptors by name, with the targets of the B pictures.
        z0: starting latents [B,C,h,w].
        seeds: the seed of each picture, B of them.
        steps: length of the run; progress runs from 0 at the first step to 1 at the last.
        latent_kind: how the parameter reaches the decoder (``vqclip.latent``).
        optimizer: makes the optimiser from a list of parameters.
        lr: learning rate over the run.
        keep: what of a picture stays as it is (``vqclip.init.Keep``), or None.
        crop_chunk: crops a perceptor looks at in one go; None for all.  Memory only: gradients are the same.
    """

    def __init__(
        self,
        generator: VQGAN,
        eyes: Mapping[str, Eye],
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
        crop_chunk: int | None = None,
    ):
        super().__init__()
        self.automatic_optimization = False  # the backward goes through the crops in chunks, see below
        # Past nn.Module's own registry: frozen weights belong to no checkpoint.
        object.__setattr__(self, "generator", generator)
        object.__setattr__(self, "eyes", dict(eyes))
        self.latent = torch.nn.Parameter(z0.clone(memory_format=torch.contiguous_format))
        self.register_buffer("start", self.latent.detach().clone())
        self.seeds, self.steps, self.latent_kind, self.keep = list(seeds), steps, latent_kind, keep
        self.augmentations, self.noise, self.objective = augmentations, noise, objective
        self.make_optimizer, self.lr, self.crop_chunk = optimizer, lr, crop_chunk
        self.metrics: dict[str, Tensor | float] = {}  #: of the last step: loss and terms [B], lr and noise factor

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer([self.latent])

    def place(self, device: torch.device | str) -> None:
        """Move everything to ``device``, also the networks, which are not registered here.

        Their weights lie channels-last: convolutions are faster so, on CPUs and GPUs (experiments/benchmarks).
        """
        self.to(device)
        self.generator.to(device, memory_format=torch.channels_last)
        for name, eye in self.eyes.items():
            perceptor = eye.perceptor.to(device, memory_format=torch.channels_last)
            self.eyes[name] = Eye(perceptor, eye.share, eye.targets.to(device))

    def rng(self, step: int) -> Draws:
        """The random numbers of ``step``."""
        return Draws(self.seeds, step, self.device)

    def progress(self, step: int) -> float:
        """How far ``step`` (from 0) is into the run, in [0,1]."""
        return step / max(1, self.steps - 1)

    def decode(self) -> Tensor:
        """The pictures of the latents as they are now, [B,3,H,W] in [0,1]."""
        return self.picture(self.latent)

    def picture(self, z: Tensor) -> Tensor:
        """Latents [n,C,h,w] → the pictures this run makes of them, [n,3,H,W] in [0,1]."""
        made = self.generator.decode(self.latent_kind(z, self.generator))
        return self.keep(made) if self.keep else made

    def training_step(self, batch: int, batch_idx: int) -> None:
        self.optimise(self.global_step, self.optimizers())

    def optimise(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """One step: decode, look at crops, move the latents.  Numbers of it are left in ``metrics``."""
        t = self.progress(step)
        optimizer.zero_grad()
        for group in optimizer.param_groups:
            group["lr"] = self.lr(t)

        image = self.decode()  # [B,3,H,W] in [0,1]
        # The crops' gradient gathers on a leaf, so that one crop's graph can be freed before the next is built.
        leaf = image.detach().requires_grad_()
        while True:
            try:
                terms = self.on_crops(leaf, self.rng(step), t, backward=True)
                break
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
            leaf.grad = None
            self._halve_chunk(len(image))
        picture_terms = self.objective.on_picture(image, self.latent, self.start)
        picture_loss = self.objective.total(picture_terms, t)
        if picture_terms:
            torch.autograd.backward([image, picture_loss.sum()], [leaf.grad, None])
        else:
            image.backward(leaf.grad)
        optimizer.step()

        terms |= {name: value.detach() for name, value in picture_terms.items()}
        self.metrics = {"loss": self.objective.total(terms, t), **terms}
        self.metrics |= {"lr": self.lr(t), "noise": self.noise.factor(t)}

    def on_crops(self, image: Tensor, rng: Draws, t: float, backward: bool, noisy: bool = True) -> dict[str, Tensor]:
        """Crop terms of ``image`` [B,3,H,W]: name → mean over crops and eyes, [B], detached.

        With ``backward``, the gradient of their weighted sum is added to ``image.grad``, a chunk of crops at a time.
        """
        draw = self.augmentations.draw(rng, *image.shape[-2:])
        count = self.augmentations.count
        padded = self.augmentations.transform(image, draw)
        leaf = padded.detach().requires_grad_(backward)  # as the image is: one transform, many chunks
        totals: dict[str, Tensor] = {}
        for eye in self.eyes.values():
            size = eye.perceptor.input_size
            noise = self.noise.draw(rng, count, size, t) if noisy else None
            for which in self._chunks(len(image), count):
                vectors = eye.perceptor.encode_image(self.crops(leaf, draw, noise, size, which))
                terms = self.objective.on_crops(vectors, eye.targets)
                terms = {name: value * (eye.share / count) for name, value in terms.items()}
                if backward:
                    self.objective.total(terms, t).sum().backward()
                for name, value in terms.items():
                    totals[name] = totals.get(name, 0) + value.detach()
        if backward:
            padded.backward(leaf.grad)
        return totals

    def crops(self, padded: Tensor, draw: CropDraw, noise: Tensor | None, input_size: int, which: slice) -> Tensor:
        """Crops ``which`` of every picture, padded and turned, as a perceptor sees them: [B·n,3,S,S]."""
        crops = self.augmentations.cut(padded, draw, input_size, which)
        return crops if noise is None else crops + noise[:, which].flatten(0, 1)

    def _halve_chunk(self, pictures: int) -> None:
        """Out of memory: look at half as many crops in one go, or give up where it was one of each picture."""
        crops = self.crop_chunk or self.augmentations.count * pictures
        if crops <= pictures:
            raise UserError(
                f"out of memory with one crop of each of {pictures} pictures at a time. Allowed: what the device "
                "holds. Try: a smaller size, a smaller batch_size, or memory.checkpoint_decoder=true"
            ) from None
        self.crop_chunk = crops // 2
        torch.cuda.empty_cache()
        print(f"out of memory with {crops} crops at a time; going on with memory.crop_chunk={self.crop_chunk}")

    def _chunks(self, pictures: int, count: int) -> list[slice]:
        """Slices of the N crops of every picture, each of about ``crop_chunk`` crops over all pictures."""
        n = max(1, self.crop_chunk // pictures) if self.crop_chunk else count
        return [slice(i, min(i + n, count)) for i in range(0, count, n)]

    @torch.no_grad()
    def look(self) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The pictures now, what they score, and one crop of each.

        The scores are the crop terms on the same crops at every look, without noise, and ``score`` =
        ``alpha · cos(target) − beta · cos(exclude)`` at the weights of the run's end: higher is better.

        Returns:
            pictures [B,3,H,W] in [0,1]; scores by name, each [B]; crops [B,3,S,S], with this step's noise.
        """
        image = self.decode()
        terms = self.on_crops(image, self.rng(SCORE_STEP), 1.0, backward=False, noisy=False)
        scores = {"score": -self.objective.total(terms, 1.0), **terms}
        rng, t = self.rng(self.global_step), self.progress(min(self.global_step, self.steps - 1))
        size = next(iter(self.eyes.values())).perceptor.input_size
        noise = self.noise.draw(rng, self.augmentations.count, size, t)
        draw = self.augmentations.draw(rng, *image.shape[-2:])
        crop = self.crops(self.augmentations.transform(image, draw), draw, noise, size, slice(0, 1))
        return image, scores, crop.clamp(0, 1)


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether a device or the CPU had no memory left; the CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
