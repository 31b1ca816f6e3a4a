"""Protocols: what each part of a run is called with and must return.

A part is any class with these methods; there is no base class.  A config names it by ``_target_`` in its group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from vqclip.rng import StepRandom

__all__ = [
    "Augmentation",
    "CropView",
    "Generator",
    "Init",
    "InitContext",
    "Latent",
    "Noise",
    "Optimised",
    "Perceptor",
    "Targets",
    "Term",
    "View",
]


@runtime_checkable
class Generator(Protocol):
    """Turns latents into pictures.

    Optional: ``encode`` (pictures [B,3,H,W] in [0,1] → latents), ``quantise`` (latents → the nearest codes) and
    ``codebook`` [n,C].  Starts, latents and terms list in ``needs`` which of them they use.  A checkpoint's card names
    the class by ``_target_``, beside its arguments.

    Attributes:
        factor: pixels per position of the latent, along a side.
    """

    factor: int

    def decode(self, z: Tensor) -> Tensor:
        """Latents [B,C,h,w] → pictures [B,3,H,W] in [0,1], with a gradient."""
        ...

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of the latent for a picture of ``height`` × ``width`` pixels, sizes rounded down as needed."""
        ...


@runtime_checkable
class Perceptor(Protocol):
    """Encodes texts and pictures as vectors of one space.  It normalises pictures and tokenizes texts itself.

    Attributes:
        input_size: side S of its square inputs, in pixels.
    """

    input_size: int

    def encode_text(self, texts: list[str]) -> Tensor:
        """Texts → vectors [len(texts), D]; they need not be normalised."""
        ...

    def encode_image(self, crops: Tensor) -> Tensor:
        """Crops [M,3,S,S], nominally in [0,1] → vectors [M,D], differentiable."""
        ...


@dataclass(frozen=True)
class InitContext:
    """What a start is called with.

    Attributes:
        generator: the Generator, with its optional attributes.
        shape: (C, h, w) of one latent.
        texts: one per picture: the texts with a positive weight at the beginning of the run, extras appended.
        rng: the random number generators, different for every try (``init.best_of``, ``search.restarts``).
        prior: path of the pair's prior, if it has one.
        score: latents [B,C,h,w] → the score [B] that they would have as the run's first snapshot; higher is better.
        of_picture: latents [B,C,h,w] of pictures → initial latents, encoded again for the first of ``search.stages``.
    """

    generator: Any
    shape: tuple[int, int, int]
    texts: list[str]
    rng: StepRandom
    prior: str | None
    score: Callable[[Tensor], Tensor] | None = None
    of_picture: Callable[[Tensor], Tensor] = lambda z: z

    def place(self, x: Tensor) -> Tensor:
        """Move ``x`` to the device and dtype of the codebook; without one, to the device of the weights."""
        if hasattr(self.generator, "codebook"):
            return x.to(self.generator.codebook)
        weights = self.generator.parameters() if isinstance(self.generator, nn.Module) else ()
        return x.to(next(iter(weights), x).device)


class Init(Protocol):
    """Where the latent starts.

    A class attribute ``needs = ("encode", "codebook")`` lists what the start uses of the generator besides ``decode``;
    latents and terms may have it too.  A generator that lacks one of these is refused before the first step.
    """

    def __call__(self, start: InitContext) -> Tensor:
        """Latents [B,C,h,w], one for each text."""
        ...


class Latent(Protocol):
    """Maps the trainable parameter to what the generator decodes."""

    def __call__(self, z: Tensor, generator: Generator) -> Tensor:
        """Latents [B,C,h,w] → the latents that the generator decodes, differentiable."""
        ...


class Augmentation(Protocol):
    """Cuts crops from pictures.  Random parameters are drawn first, so that crops can be cut in chunks later.

    Attributes:
        count: N, crops per picture.
    """

    count: int

    def draw(self, rng: StepRandom, height: int, width: int) -> Any:
        """Random parameters for B pictures, in any form; they are passed to the two methods below."""
        ...

    def transform(self, image: Tensor, draw: Any) -> Tensor:
        """Transform whole pictures, once per step: [B,3,H,W] → [B,3,H',W']."""
        ...

    def cut(self, padded: Tensor, draw: Any, input_size: int, chunk: slice) -> Tensor:
        """Cut a chunk of n crops from every picture: [B·n,3,S,S], picture by picture."""
        ...


class Noise(Protocol):
    """Noise on the crops."""

    def factor(self, t: float) -> float:
        """The strength at progress ``t``, for metrics.csv."""
        ...

    def draw(self, rng: StepRandom, count: int, input_size: int, progress: float) -> Tensor | None:
        """Noise [B,N,3,S,S] to add to the crops, or None."""
        ...


@dataclass(frozen=True)
class Targets:
    """What B pictures should and should not look like, in one perceptor's space.

    Attributes:
        include: unit vectors [B,D].
        exclude: [B,D]; None if nothing is excluded.
        share: this region's share of the loss, [B]; None if there are no regions.
        exclude_share: the same among the regions where something is excluded.
        parts: contribution of each entry to ``include``, [B,K,D]; None if no entry has a stop.
        stops: similarity to its part above which an entry no longer pulls, [B,K].
        exclude_parts: like ``parts``, of the excluded entries.
        exclude_stops: like ``stops``, of the excluded entries, times -1.
    """

    include: Tensor
    exclude: Tensor | None
    share: Tensor | None = None
    exclude_share: float = 1.0
    parts: Tensor | None = None
    stops: Tensor | None = None
    exclude_parts: Tensor | None = None
    exclude_stops: Tensor | None = None

    def to(self, device: Any) -> Targets:
        return self._each(lambda tensor: tensor.to(device))

    def of(self, pictures: slice) -> Targets:
        """The targets of some of the pictures."""
        return self._each(lambda tensor: tensor[pictures])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Targets:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(v) for name, v in values.items() if isinstance(v, Tensor)})


@dataclass(frozen=True)
class View:
    """What a term of the objective is called with: B pictures at one step.

    Attributes:
        progress: 0 at the first step, 1 at the last one.
        image: [B,3,H,W] in [0,1]; differentiable in terms on the picture.
        latent: [B,C,h,w]; differentiable in terms on the picture.
        start: the initial latents [B,C,h,w].
        generator: the Generator, with its optional attributes.
        start_picture: decodes ``start`` once, [B,3,H,W]; use ``start_image``.
        wanted: every perceptor with its targets by region; None is the whole picture.
        vectors: unit vectors of crops [B,n,D], differentiable; None in terms on the picture.
        targets: those of the perceptor that encoded ``vectors``.
        weights: of the crops [B,n], with mean 1 over all crops of a picture; None if all are equal.
    """

    progress: float
    image: Tensor
    latent: Tensor
    start: Tensor
    generator: Any
    start_picture: Callable[[], Tensor]
    wanted: Sequence[tuple[Perceptor, Sequence[tuple[Any, Targets]]]] = ()
    vectors: Tensor | None = None
    targets: Targets | None = None
    weights: Tensor | None = None

    @property
    def start_image(self) -> Tensor:
        """The initial picture [B,3,H,W] in [0,1]; decoded when first needed."""
        return self.start_picture()

    def on_crops(self, vectors: Tensor, targets: Targets, weights: Tensor | None) -> CropView:
        """This view with crops."""
        return CropView(**{**vars(self), "vectors": vectors, "targets": targets, "weights": weights})


class CropView(View):
    """What a term on crops is called with: a view with vectors and targets."""

    vectors: Tensor
    targets: Targets


class Optimised(Protocol):
    """What the search sees of the :class:`vqclip.module.LatentOptimisation`, which imports it.

    Attributes:
        latent: the parameter [B,C,h,w].
        start: the initial latents [B,C,h,w].
        average: running mean of the latents, if the search averages.
        best, best_start, best_score: of the trials so far, if the search restarts.
        keep: keeps part of each picture unchanged, or None.
        starts: initial latents of a trial, by its number from 1.
    """

    latent: Any
    start: Tensor
    average: Tensor
    best: Tensor
    best_start: Tensor
    best_score: Tensor
    keep: nn.Module | None
    starts: Callable[[int], Tensor]

    @property
    def generator(self) -> Any: ...

    @property
    def output_latents(self) -> Tensor: ...

    def progress(self, step: int) -> float: ...

    def decoded(self, z: Tensor) -> Tensor: ...

    def picture(self, z: Tensor) -> Tensor: ...

    def start_images(self) -> Tensor: ...

    def begin_at(self, start: Tensor) -> None: ...

    def shown(self, step: int | None = None) -> Tensor: ...

    def snapshot(self, shown: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor], Tensor]: ...


@runtime_checkable
class Term(Protocol):
    """One term of the objective: ``Term(weight)(view) → [B]``.

    A term whose attribute ``on_crops`` is true is called with a chunk of crops at a time and returns the *sum* over
    them; the objective divides by their number.  Without the attribute a term is called once per step, for the picture
    and the latent.  The value is reported as it is; the loss adds ``weight`` times it.

    Attributes:
        weight: a number or a schedule (``vqclip.schedules``).
    """

    weight: Any

    def __call__(self, view: View) -> Tensor:
        """Values of the B pictures, [B]."""
        ...
