"""What a perceptor should see: prompts become vectors, mixed anew as weights change, and from place to place.

    target of a place at t  =  unit(w1 · Σ weight(t) · include  +  w2 · Σ weight(t) · extras)

A place is a region of the picture, looked at as a picture of its own.  Its share of the loss is that of its entries'
weights; without regions there is one place, the whole picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.io.pixels import fit, read_image
from vqclip.prompts import Prompt, Region, parse_templates
from vqclip.protocols import Targets
from vqclip.schedules import AnySchedule, schedule

__all__ = ["MovingTargets", "combine_texts", "gated", "targets_of"]


def combine_texts(include: Tensor, extras: Tensor | None, include_weight: float, extras_weight: float) -> Tensor:
    """``w1 · include + w2 · extras``, to unit length (algorithm.md, row "target"): [B,D] and [D] or None → [B,D]."""
    target = include_weight * include
    if extras is not None:
        target = target + extras_weight * extras
    return F.normalize(target, dim=-1)


@dataclass(frozen=True)
class Entry:
    """One prompt as a perceptor knows it."""

    vector: Tensor  #: [D], not normalised
    weight: AnySchedule
    stop: float | None
    region: Region | None

    def at(self, t: float) -> Tensor:
        """Its vector times its weight at progress ``t``, [D]."""
        return self.weight(t) * self.vector


def targets_of(
    perceptor: Any, include: Sequence[Prompt], extras: Sequence[Prompt], exclude: Sequence[Prompt], prompts: Mapping
) -> Targets | MovingTargets:
    """What ``perceptor`` should see in B pictures.

    Args:
        include: of each picture; extras and exclude: of all.
        prompts: the config's group, for include_weight, extras_weight and templates.
    """
    sentences = parse_templates(prompts.get("templates"))

    def entries(some: Sequence[Prompt]) -> list[Entry]:
        return _encoded(perceptor, some, sentences)

    flat = iter(entries([part for own in include for part in own.entries]))
    moving = MovingTargets(
        [[next(flat) for _ in own.entries] for own in include],
        entries([part for own in extras for part in own.entries]),
        entries([part for own in exclude for part in own.entries]),
        (prompts["include_weight"], prompts["extras_weight"]),
    )
    return moving.at(0.0)[0][1] if moving.constant else moving


class MovingTargets:
    """Targets whose entries have schedules, stops or regions.

    Args:
        include: the entries of each of B pictures.
        extras, exclude: entries of all pictures.
        weights: w1 and w2 of the formula above.
    """

    def __init__(
        self,
        include: Sequence[Sequence[Entry]],
        extras: Sequence[Entry],
        exclude: Sequence[Entry],
        weights: tuple[float, float],
    ):
        self.include, self.extras, self.exclude = [list(own) for own in include], list(extras), list(exclude)
        self.w1, self.w2 = weights
        self.device: Any = "cpu"
        everything = [entry for own in self.include for entry in own] + self.extras + self.exclude
        self.places = list(dict.fromkeys(entry.region for entry in everything))
        self.places.sort(key=lambda place: place is not None)  # the whole picture first
        self._everything = everything
        self._last: tuple[tuple[float, ...], list[tuple[Region | None, Targets]]] | None = None

    @property
    def constant(self) -> bool:
        """Whether there is one target for all of the run and of the picture."""
        plain = all(entry.weight.shape == "constant" and entry.stop is None for entry in self._everything)
        return plain and self.places == [None]

    def to(self, device: Any) -> MovingTargets:
        self.device, self._last = device, None
        return self

    def at(self, t: float) -> list[tuple[Region | None, Targets]]:
        """The targets of every place at progress ``t`` in [0,1]; mixed on the CPU, the same on every device."""
        now = tuple(entry.weight(t) for entry in self._everything)
        if self._last is None or self._last[0] != now:
            self._last = now, [(place, self._of_place(place, t).to(self.device)) for place in self.places]
        return self._last[1]

    def _of_place(self, place: Region | None, t: float) -> Targets:
        own = [[entry for entry in some if entry.region == place] for some in self.include]
        extras, exclude = ([entry for entry in some if entry.region == place] for some in (self.extras, self.exclude))
        zero = torch.zeros_like(self._everything[0].vector)
        include = torch.stack([_sum(some, t, zero) for some in own])
        towards = combine_texts(include, _sum(extras, t, zero) if extras else None, self.w1, self.w2)
        away = _sum(exclude, t, zero).expand_as(towards) if exclude else None
        parts, stops = self._parts([[*some, *extras] for some in own], towards, len(extras), t)
        away_parts, away_stops = _padded([[(e.at(t), e.stop, _turn(e, t)) for e in exclude]] * len(own), -1.0)
        return Targets(
            towards,
            away,
            share=self._shares(own, extras, t),
            exclude_share=_share(exclude, self.exclude, t) if away is not None else 1.0,
            parts=parts,
            stops=stops,
            exclude_parts=None if away_parts is None or away is None else away_parts / _length(away)[:, None, None],
            exclude_stops=away_stops,
        )

    def _parts(
        self, listed: Sequence[Sequence[Entry]], towards: Tensor, extras: int, t: float
    ) -> tuple[Tensor | None, Tensor | None]:
        """What each entry adds to each picture's target, [B,K,D], and where it stops, [B,K]; None without stops."""
        parts, stops = _padded(
            [
                [
                    ((self.w1 if i < len(own) - extras else self.w2) * e.at(t), e.stop, _turn(e, t))
                    for i, e in enumerate(own)
                ]
                for own in listed
            ],
            1.0,
        )
        return (None if parts is None else parts / _length(parts.sum(1))[:, None, None]), stops

    def _shares(self, own: Sequence[Sequence[Entry]], extras: Sequence[Entry], t: float) -> Tensor | None:
        """The place's share of each picture's loss, [B]; None where there is one place."""
        if self.places == [None]:
            return None
        both = [([*some, *extras], [*every, *self.extras]) for some, every in zip(own, self.include, strict=True)]
        return torch.tensor([_share(some, every, t) for some, every in both])


def _sum(entries: Sequence[Entry], t: float, zero: Tensor) -> Tensor:
    return torch.stack([entry.at(t) for entry in entries]).sum(0) if entries else zero


def _share(some: Sequence[Entry], every: Sequence[Entry], t: float) -> float:
    """How much of the weights of ``every`` entry ``some`` of them have, in [0,1]."""
    total = sum(abs(entry.weight(t)) for entry in every)
    return sum(abs(entry.weight(t)) for entry in some) / total if total else 0.0


def _turn(entry: Entry, t: float) -> float:
    """1 or −1: which way it pulls."""
    return math.copysign(1.0, entry.weight(t))


def _length(vectors: Tensor) -> Tensor:
    return vectors.norm(dim=-1).clamp(min=1e-12)


def _padded(
    listed: Sequence[Sequence[tuple[Tensor, float | None, float]]], sign: float
) -> tuple[Tensor | None, Tensor | None]:
    """Weighed vectors with their stops and signs → [B,K,D] and [B,K], short ones filled up; None without a stop.

    A stop is turned with its sign, so that an entry stands still where its likeness to the part has *reached* it.
    """
    if all(stop is None for own in listed for _, stop, _ in own):
        return None, None
    most = max(map(len, listed))
    zero = next(vector for own in listed for vector, *_ in own).mul(0)
    parts = [torch.stack([v for v, *_ in own] + [zero] * (most - len(own))) for own in listed]
    stops = [
        [math.inf if stop is None else sign * turn * stop for _, stop, turn in own] + [math.inf] * (most - len(own))
        for own in listed
    ]
    return torch.stack(parts), torch.tensor(stops)


def gated(vectors: Tensor, parts: Tensor, stops: Tensor, sign: float = 1.0) -> Tensor:
    """``Σ parts · crop``, whose gradient leaves out every entry that a crop has come to: [B,n].

    Args:
        vectors: unit vectors of crops [B,n,D].
        parts: [B,K,D]; they add up to the target.
        stops: of each part [B,K], times ``sign``.
        sign: 1 where likeness is sought, −1 where it is avoided.
    """
    likeness = sign * torch.einsum("bnd,bkd->bnk", vectors.detach(), F.normalize(parts, dim=-1))
    moving = torch.einsum("bnk,bkd->bnd", (likeness < stops[:, None]).to(parts), parts)
    still = parts.sum(1)[:, None] - moving
    return (vectors * moving).sum(-1) + (vectors.detach() * still).sum(-1)


def _encoded(perceptor: Any, prompts: Sequence[Prompt], sentences: Sequence[str]) -> list[Entry]:
    """The prompts as the perceptor knows them.

    Pictures' vectors take the length of the empty text's, so that a weight means the same for texts and pictures.
    """
    plain = [p.text for p in prompts if p.text and not (p.templates or sentences)]
    encoded = iter(perceptor.encode_text(plain) if plain else ())
    entries = []
    for prompt in prompts:
        if prompt.image:
            image = fit(read_image(prompt.image), perceptor.input_size, perceptor.input_size)
            vector = F.normalize(perceptor.encode_image(image)[0], dim=-1)
            vector = vector * perceptor.encode_text([""])[0].norm()
        elif templates := prompt.templates or sentences:
            each = perceptor.encode_text([sentence.replace("{}", prompt.text or "") for sentence in templates])
            vector = F.normalize(F.normalize(each, dim=-1).mean(0), dim=-1) * each.norm(dim=-1).mean()
        else:
            vector = next(encoded)
        entries.append(Entry(vector, schedule(prompt.weight), prompt.stop, prompt.region))
    return entries
