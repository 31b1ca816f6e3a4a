"""Guidance: shows the crops of a picture to the perceptors, and computes the crop terms of the objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vqclip.io.regions import Region, box_of
from vqclip.loss import Objective
from vqclip.noise import Noise
from vqclip.own_parts import image_vectors, named, require_tensor
from vqclip.protocols import Augmentation, View
from vqclip.rng import StepRandom
from vqclip.targets import MovingTargets

__all__ = ["Guidance", "Guide", "part_of"]


@dataclass(frozen=True)
class Guide:
    """A perceptor of the run, its weight in the objective, and what it should see."""

    perceptor: Any  #: a Perceptor
    weight: float  #: the weights of all guides add up to 1
    targets: MovingTargets
    device: torch.device | str | None = None  #: where the perceptor is; None for where the pictures are

    def encode(self, crops: Tensor, length: int) -> Tensor:
        """Crops [n,3,S,S] → their vectors [n,D] of a length, on the crops' device wherever the perceptor is."""
        return image_vectors(self.perceptor, crops.to(self.device or crops.device), length).to(crops.device)


@dataclass(frozen=True)
class Guidance:
    """The perceptors of a run, and the crop terms of the objective that they compute."""

    guides: Mapping[str, Guide]
    augmentations: Augmentation
    noise: Noise
    objective: Objective

    def terms(
        self, image: Tensor, rng: StepRandom, view: View, chunks: Sequence[slice], backward: bool
    ) -> dict[str, Tensor]:
        """Crop terms of some pictures: name → mean over crops and guides, sum over places, [n], detached.

        Args:
            image: [n,3,H,W] in [0,1].
            view: what a term may look at, without crops.
            chunks: of the crops of every picture, each looked at in one go.
            backward: add the gradient of their weighted sum to ``image.grad``, a chunk of crops at a time, with noise
                on the crops; a score has neither.
        """
        totals: dict[str, Tensor] = {}
        for place in self.places(view.progress):
            for terms in self._on_place(place, image, rng.of(place and place.name), view, chunks, backward):
                for name, value in terms.items():
                    totals[name] = totals.get(name, 0) + value
        return totals

    def places(self, t: float) -> list[Region | None]:
        """Where the perceptors look at progress ``t``; None is the whole picture."""
        return [place for place, _ in next(iter(self.guides.values())).targets.at(t)]

    def _on_place(
        self,
        place: Region | None,
        image: Tensor,
        rng: StepRandom,
        view: View,
        chunks: Sequence[slice],
        backward: bool,
    ) -> Iterator[dict[str, Tensor]]:
        """Of each guide and chunk of crops the terms, [n], detached; after the last the gradient goes to the image."""
        part = part_of(image, place)
        draw = self.augmentations.draw(rng, *part.shape[-2:])
        count, weights = self.augmentations.count, getattr(draw, "weights", None)
        padded = self.augmentations.transform(part, draw)
        leaf = padded.detach().requires_grad_(backward)  # as the image is: one transform, many chunks
        for guide, (_, wanted) in zip(self.guides.values(), view.wanted, strict=True):
            size = guide.perceptor.input_size
            noise = self.noise.draw(rng, count, size, view.progress) if backward else None
            targets = dict(wanted)[place]
            for chunk in chunks:
                vectors = guide.encode(self.crops(leaf, draw, noise, size, chunk), targets.include.shape[-1])
                unit = rearrange(F.normalize(vectors, dim=-1), "(b n) d -> b n d", b=len(image))
                chunk_weights = None if weights is None else weights[:, chunk]
                terms = self.objective.on_crops(view.on_crops(unit, targets, chunk_weights))
                terms = {name: value * (guide.weight / count) for name, value in terms.items()}
                if backward:
                    self.objective.total(terms, view.progress).sum().backward()
                yield {name: value.detach() for name, value in terms.items()}
        if backward:
            padded.backward(leaf.grad)

    def crops(self, padded: Tensor, draw: Any, noise: Tensor | None, input_size: int, chunk: slice) -> Tensor:
        """Some crops of every picture, padded and turned, as a perceptor sees them: [B·n,3,S,S]."""
        crops, count = self.augmentations.cut(padded, draw, input_size, chunk), self.augmentations.count
        shape = (len(padded) * len(range(count)[chunk]), 3, input_size, input_size)
        require_tensor(
            crops, shape, f"{named(self.augmentations, 'augmentations')}.cut", "crops", padded, "[B·n,3,S,S]"
        )
        if noise is None:
            return crops
        own = (len(padded), count, *getattr(noise, "shape", ())[-3:])  # the rest may be broadcast
        require_tensor(noise, own, f"{named(self.noise, 'noise')}.draw", "noise", None, "[B,N,3,S,S]")
        return crops + noise[:, chunk].flatten(0, 1)

    def one_crop(self, image: Tensor, rng: StepRandom, t: float, pictures: slice) -> Tensor:
        """The first crop of each of ``pictures`` as the first perceptor sees it, [n,3,S,S] in [0,1].

        It is of the first place that counts in the picture: in a batch there are those of the others too.
        """
        guide = next(iter(self.guides.values()))
        looked, size, count = guide.targets.at(t), guide.perceptor.input_size, self.augmentations.count
        counts = [[share > 0 for share in own.share[pictures].tolist()] for _, own in looked if own.share is not None]
        first = [own.index(True) if True in own else 0 for own in zip(*counts, strict=True)] or [0] * len(image)
        crops = {}
        for i in set(first):
            place = looked[i][0]
            part, own = part_of(image, place), rng.of(place and place.name)
            draw, noise = self.augmentations.draw(own, *part.shape[-2:]), self.noise.draw(own, count, size, t)
            padded = self.augmentations.transform(part, draw)
            crops[i] = self.crops(padded, draw, noise, size, slice(0, 1)).clamp(0, 1)
        return torch.stack([crops[i][picture] for picture, i in enumerate(first)])


def part_of(image: Tensor, place: Region | None) -> Tensor:
    """The part of pictures [B,3,H,W] that lies in a region, [B,3,h,w]; the picture itself where it is None.

    Of a mask it is the box about what is white; what is black in there is seen, and gets no gradient.
    """
    box, white = box_of(image, place)
    return image[box] if white is None else white * image[box] + (1 - white) * image[box].detach()
