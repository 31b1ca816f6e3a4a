"""Guidance: encodes crops of the pictures with the perceptors and computes the objective's crop terms."""

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
from vqclip.own_parts import image_vectors, part_name, require_tensor
from vqclip.protocols import Augmentation, View
from vqclip.rng import StepRandom
from vqclip.targets import MovingTargets

__all__ = ["Guidance", "Guide", "part_of"]


@dataclass(frozen=True)
class Guide:
    """A perceptor of the run with its weight in the objective and its targets."""

    perceptor: Any  #: a Perceptor
    weight: float  #: the weights of all guides sum to 1
    targets: MovingTargets
    device: torch.device | str | None = None  #: of the perceptor; None: the pictures' device

    def encode(self, crops: Tensor, length: int) -> Tensor:
        """Crops [n,3,S,S] → vectors [n,length], on the crops' device whatever the perceptor's is."""
        return image_vectors(self.perceptor, crops.to(self.device or crops.device), length).to(crops.device)


@dataclass(frozen=True)
class Guidance:
    """The perceptors of a run and what they need to compute the objective's crop terms."""

    guides: Mapping[str, Guide]
    augmentations: Augmentation
    noise: Noise
    objective: Objective

    def terms(
        self, image: Tensor, rng: StepRandom, view: View, chunks: Sequence[slice], backward: bool
    ) -> dict[str, Tensor]:
        """Crop terms by name: the mean over crops and guides, summed over regions, [n], detached.

        Args:
            image: [n,3,H,W] in [0,1].
            view: the inputs of a term, without crops.
            chunks: slices of each picture's crops, one per forward pass.
            backward: accumulate the gradient of the terms' weighted sum in ``image.grad``, chunk by chunk, and add
                noise to the crops; False for a score.
        """
        totals: dict[str, Tensor] = {}
        for place in self.places(view.progress):
            for terms in self._on_place(place, image, rng.of(place and place.name), view, chunks, backward):
                for name, value in terms.items():
                    totals[name] = totals.get(name, 0) + value
        return totals

    def places(self, t: float) -> list[Region | None]:
        """The regions that the perceptors look at, at progress ``t``; None is the whole picture."""
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
        """Yield the terms, [n], detached, of each guide and chunk; after the last, backpropagate to the image."""
        part = part_of(image, place)
        draw = self.augmentations.draw(rng, *part.shape[-2:])
        count, weights = self.augmentations.count, getattr(draw, "weights", None)
        padded = self.augmentations.transform(part, draw)
        leaf = padded.detach().requires_grad_(backward)  # detached, so that all chunks share one transform
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
        """A chunk of every picture's crops, as a perceptor sees them: [B·n,3,S,S]."""
        crops, count = self.augmentations.cut(padded, draw, input_size, chunk), self.augmentations.count
        shape = (len(padded) * len(range(count)[chunk]), 3, input_size, input_size)
        require_tensor(
            crops, shape, f"{part_name(self.augmentations, 'augmentations')}.cut", "crops", padded, "[B·n,3,S,S]"
        )
        if noise is None:
            return crops
        own = (len(padded), count, *getattr(noise, "shape", ())[-3:])  # the rest may be broadcast
        require_tensor(noise, own, f"{part_name(self.noise, 'noise')}.draw", "noise", None, "[B,N,3,S,S]")
        return crops + noise[:, chunk].flatten(0, 1)

    def one_crop(self, image: Tensor, rng: StepRandom, t: float, pictures: slice) -> Tensor:
        """The first crop of each of ``pictures`` as the first perceptor sees it, [n,3,S,S] in [0,1].

        It is of the first region with a share in that picture's loss; pictures of a batch may differ in regions.
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
    """Crop pictures [B,3,H,W] to a region, [B,3,h,w]; None leaves them whole.

    For a mask, the crop is the bounding box of its white part; black pixels inside are visible but get no gradient.
    """
    box, white = box_of(image, place)
    return image[box] if white is None else white * image[box] + (1 - white) * image[box].detach()
