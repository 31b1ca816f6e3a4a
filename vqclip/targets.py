"""Targets: the vectors that a perceptor should see, mixed from the prompts' vectors, per region, as weights change.

    target of a region at t  =  unit(w1 · Σ weight(t) · include  +  w2 · Σ weight(t) · extras)

(algorithm.md, row "target").  A region is treated as a picture of its own.  Its share of the loss is its entries' part
of all weights (each times w1 or w2).  In the code a region is a ``place``, since None stands for the whole picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.io.pixels import fit, read_image
from vqclip.io.regions import Region
from vqclip.own_parts import image_vectors, text_vectors
from vqclip.prompts import Prompt, parse_templates
from vqclip.protocols import Targets
from vqclip.schedules import AnySchedule, schedule

__all__ = ["MovingTargets", "dot_with_stops", "targets_of"]


@dataclass(frozen=True)
class Entry:
    """A prompt's vector, with its weight, stop and region."""

    vector: Tensor  #: [D], not normalised
    weight: AnySchedule
    stop: float | None
    region: Region | None
    group: float = 1.0  #: w1 or w2

    def at(self, t: float) -> Tensor:
        """The vector times its weight at progress ``t``, [D]."""
        return self.weight(t) * self.vector

    def pull(self, t: float) -> float:
        """Its total weight in the target; negative: repel."""
        return self.group * self.weight(t)


def targets_of(
    perceptor: Any, include: Sequence[Prompt], extras: Sequence[Prompt], exclude: Sequence[Prompt], prompts: Mapping
) -> MovingTargets:
    """What ``perceptor`` should see in B pictures.

    Args:
        include: one prompt per picture; extras and exclude apply to every picture.
        prompts: the config group, for include_weight, extras_weight and templates.
    """
    sentences = parse_templates(prompts.get("templates"))

    def encoded(group: Sequence[Prompt]) -> list[Entry]:
        return _encoded(perceptor, [part for prompt in group for part in prompt.entries], sentences)

    flat = iter(encoded(include))
    return MovingTargets(
        [[next(flat) for _ in prompt.entries] for prompt in include],
        encoded(extras),
        encoded(exclude),
        (prompts["include_weight"], prompts["extras_weight"]),
    )


class MovingTargets:
    """The targets of B pictures, whose entries may have schedules, stops and regions.

    Args:
        include: the entries of each of the B pictures.
        extras, exclude: entries that apply to every picture.
        weights: w1 and w2 of the formula above.
    """

    def __init__(
        self,
        include: Sequence[Sequence[Entry]],
        extras: Sequence[Entry],
        exclude: Sequence[Entry],
        weights: tuple[float, float],
    ):
        self.w1, self.w2 = weights
        self.include = [[replace(entry, group=self.w1) for entry in entries] for entries in include]
        self.extras, self.exclude = [replace(entry, group=self.w2) for entry in extras], list(exclude)
        self.device: Any = "cpu"
        everything = [entry for entries in self.include for entry in entries] + self.extras + self.exclude
        self.places = list(dict.fromkeys(entry.region for entry in everything))
        # Whole picture first, then by name: the order must not depend on what else is in the batch.
        self.places.sort(key=lambda place: (place.name, repr(place)) if place else ("", ""))
        self._everything = everything
        self._last: tuple[tuple[float, ...], list[tuple[Region | None, Targets]]] | None = None

    def to(self, device: Any) -> MovingTargets:
        self.device, self._last = device, None
        return self

    def at(self, t: float) -> list[tuple[Region | None, Targets]]:
        """The targets of every region at progress ``t`` in [0,1]; mixed on the CPU, so that devices agree."""
        now = tuple(entry.weight(t) for entry in self._everything)
        if self._last is None or self._last[0] != now:
            self._last = now, [(place, self._of_place(place, t).to(self.device)) for place in self.places]
        return self._last[1]

    def _of_place(self, place: Region | None, t: float) -> Targets:
        include = [_in(place, entries) for entries in self.include]
        extras, exclude = _in(place, self.extras), _in(place, self.exclude)
        zero = torch.zeros_like(self._everything[0].vector)
        target = self.w1 * torch.stack([_sum(entries, t, zero) for entries in include])
        if extras:
            target = target + self.w2 * _sum(extras, t, zero)
        target = F.normalize(target, dim=-1)
        negative = _sum(exclude, t, zero).expand_as(target) if exclude else None
        parts, stops = _padded([[*entries, *extras] for entries in include], t, 1.0)
        if parts is not None:
            parts = parts / _length(parts.sum(1))[:, None, None]
        negative_parts, negative_stops = _padded([exclude] * len(include), t, -1.0)
        if negative is not None and negative_parts is not None:
            negative_parts = negative_parts / _length(negative)[:, None, None]
        return Targets(
            target,
            negative,
            share=self._shares(include, extras, t),
            exclude_share=_share(exclude, self.exclude, t) if exclude else 1.0,
            parts=parts,
            stops=stops,
            exclude_parts=negative_parts,
            exclude_stops=negative_stops,
        )

    def _shares(self, include: Sequence[Sequence[Entry]], extras: Sequence[Entry], t: float) -> Tensor | None:
        """The region's share of each picture's loss, [B]; None if there are no regions."""
        if self.places == [None]:
            return None
        pictures = zip(include, self.include, strict=True)
        return torch.tensor([_share([*here, *extras], [*everywhere, *self.extras], t) for here, everywhere in pictures])


def _in(place: Region | None, entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.region == place]


def _sum(entries: Sequence[Entry], t: float, zero: Tensor) -> Tensor:
    return torch.stack([entry.at(t) for entry in entries]).sum(0) if entries else zero


def _share(subset: Sequence[Entry], entries: Sequence[Entry], t: float) -> float:
    """The fraction of the total weight of ``entries`` that belongs to ``subset``, in [0,1]."""
    total = sum(abs(entry.pull(t)) for entry in entries)
    return sum(abs(entry.pull(t)) for entry in subset) / total if total else 0.0


def _length(vectors: Tensor) -> Tensor:
    return vectors.norm(dim=-1).clamp(min=1e-12)


def _padded(pictures: Sequence[Sequence[Entry]], t: float, sign: float) -> tuple[Tensor | None, Tensor | None]:
    """Each entry's contribution to its picture's target, [B,K,D], and its stop, [B,K]; (None, None) without stops.

    Pictures with fewer entries are zero-padded.  A stop takes the sign of its entry's weight, so that an entry stops
    pulling once the similarity to its contribution has *reached* the stop.
    """
    if all(entry.stop is None for entries in pictures for entry in entries):
        return None, None
    most = max(map(len, pictures))
    zero = next(entry.vector for entries in pictures for entry in entries).mul(0)
    parts = [torch.stack([e.group * e.at(t) for e in own] + [zero] * (most - len(own))) for own in pictures]
    stops = [
        [math.inf if e.stop is None else sign * math.copysign(1.0, e.pull(t)) * e.stop for e in own]
        + [math.inf] * (most - len(own))
        for own in pictures
    ]
    return torch.stack(parts), torch.tensor(stops)


def dot_with_stops(vectors: Tensor, parts: Tensor, stops: Tensor, sign: float = 1.0) -> Tensor:
    """``Σ parts · crop``, [B,n], without gradient from entries whose stop a crop has reached.

    Args:
        vectors: unit vectors of crops [B,n,D].
        parts: contributions [B,K,D] that sum to the target.
        stops: of each part [B,K], times ``sign``.
        sign: 1 to attract, −1 to repel.
    """
    likeness = sign * torch.einsum("bnd,bkd->bnk", vectors.detach(), F.normalize(parts, dim=-1))
    moving = torch.einsum("bnk,bkd->bnd", (likeness < stops[:, None]).to(parts), parts)
    still = parts.sum(1)[:, None] - moving
    return (vectors * moving).sum(-1) + (vectors.detach() * still).sum(-1)


def _encoded(perceptor: Any, prompts: Sequence[Prompt], sentences: Sequence[str]) -> list[Entry]:
    """Encode prompts into entries.

    Image vectors are scaled to the norm of the empty text's vector, so that weights mean the same for texts and images.
    """
    plain = [p.text for p in prompts if p.text and not (p.templates or sentences)]
    encoded = iter(text_vectors(perceptor, plain) if plain else ())
    entries = []
    for prompt in prompts:
        if prompt.image:
            image = fit(read_image(prompt.image), perceptor.input_size, perceptor.input_size)
            empty = text_vectors(perceptor, [""])[0]
            vector = F.normalize(image_vectors(perceptor, image, len(empty))[0], dim=-1) * empty.norm()
        elif templates := prompt.templates or sentences:
            each = text_vectors(perceptor, [sentence.replace("{}", prompt.text or "") for sentence in templates])
            vector = F.normalize(F.normalize(each, dim=-1).mean(0), dim=-1) * each.norm(dim=-1).mean()
        else:
            vector = next(encoded)
        entries.append(Entry(vector, schedule(prompt.weight), prompt.stop, prompt.region))
    return entries
