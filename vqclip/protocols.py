"""Protocols: what each part of a run is called with and must return.  Read this to write a part of your own.

A part is any class with the methods below; there is no base class.  A config names it by ``_target_`` in its group.
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
    "Perceptor",
    "Targets",
    "Term",
    "View",
]


@runtime_checkable
class Generator(Protocol):
    """Turns latents into pictures.

    Optional: ``encode`` (pictures [B,3,H,W] in [0,1] → latents), ``quantise`` (latents → the nearest codes) and
    ``codebook`` [n,C].  Starts, latents and terms say in ``needs`` which of them they use.
    A card names its class by ``_target_``, with its arguments beside it (``vqclip/checkpoints/classes.py``).
    """

    factor: int  #: pixels per position of the latent, along a side

    def decode(self, z: Tensor) -> Tensor:
        """Latents [B,C,h,w] → pictures [B,3,H,W] in [0,1], with a gradient."""
        ...

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of the latent for a picture of ``height`` × ``width`` pixels, sizes rounded down as needed."""
        ...


@runtime_checkable
class Perceptor(Protocol):
    """Turns texts and pictures into vectors of one space.  Normalisation and tokenizer are internal to it."""

    input_size: int  #: side S of its square inputs, in pixels

    def encode_text(self, texts: list[str]) -> Tensor:
        """Texts → vectors [len(texts), D]; they need not be normalised."""
        ...

    def encode_image(self, crops: Tensor) -> Tensor:
        """Crops [M,3,S,S], nominally in [0,1] → vectors [M,D], differentiable."""
        ...


@dataclass(frozen=True)
class InitContext:
    """What a start is called with."""

    generator: Any  #: a Generator, with its optional attributes
    shape: tuple[int, int, int]  #: (C, h, w) of one latent
    texts: list[str]  #: one per picture, extras appended, of what is wanted at the run's begin
    rng: StepRandom  #: its random numbers, others for every try (``init.best_of``, ``search.restarts``)
    prior: str | None  #: path of the pair's prior
    #: the score [B] that latents [B,C,h,w] would have as the run's first snapshot; higher is better
    score: Callable[[Tensor], Tensor] | None = None
    #: latents [B,C,h,w] of pictures → those that the run begins at: with ``search.stages`` what the first one encodes
    of_picture: Callable[[Tensor], Tensor] = lambda z: z

    def place(self, x: Tensor) -> Tensor:
        """``x`` on the device and in the precision of the generator's codebook; without one, where its weights are."""
        if hasattr(self.generator, "codebook"):
            return x.to(self.generator.codebook)
        weights = self.generator.parameters() if isinstance(self.generator, nn.Module) else ()
        return x.to(next(iter(weights), x).device)


class Init(Protocol):
    """Where the latent starts.

    A class attribute ``needs = ("encode", "codebook")`` may list what the part uses of the generator besides
    ``decode``, also in latents and terms.  A generator without it is then refused before the first step.
    """

    def __call__(self, start: InitContext) -> Tensor:
        """Latents [B,C,h,w], one for each text."""
        ...


class Latent(Protocol):
    """How the trainable parameter reaches the decoder."""

    def __call__(self, z: Tensor, generator: Generator) -> Tensor:
        """Latents [B,C,h,w] → the latents that the generator decodes, differentiable."""
        ...


class Augmentation(Protocol):
    """How a picture becomes crops.  Random parameters are drawn first, so that crops can be cut in chunks later."""

    count: int  #: N, crops per picture

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
        """Its strength at progress ``t``, for metrics.csv."""
        ...

    def draw(self, rng: StepRandom, count: int, input_size: int, progress: float) -> Tensor | None:
        """Noise [B,N,3,S,S] to add to the crops, or None."""
        ...


@dataclass(frozen=True)
class Targets:
    """What B pictures should and should not look like, in one perceptor's space."""

    include: Tensor  #: unit vectors [B,D]
    exclude: Tensor | None  #: [B,D]; None if nothing is excluded
    share: Tensor | None = None  #: this region's share of the loss [B]; None if there is only one
    exclude_share: float = 1.0  #: the same among the regions where something is excluded
    parts: Tensor | None = None  #: what each entry adds to ``include`` [B,K,D], where one has a stop
    stops: Tensor | None = None  #: similarity to its part above which an entry no longer pulls [B,K]
    exclude_parts: Tensor | None = None  #: as ``parts``, of the excluded entries
    exclude_stops: Tensor | None = None  #: as ``stops``, of the excluded entries, times -1

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
    """What a term of the objective is called with: B pictures at one step."""

    progress: float  #: 0 at the first step, 1 at the last one
    image: Tensor  #: [B,3,H,W] in [0,1]; differentiable for terms on the picture
    latent: Tensor  #: [B,C,h,w]; differentiable for terms on the picture
    start: Tensor  #: the latent that the run began at [B,C,h,w]
    generator: Any  #: the Generator, with its optional attributes
    start_picture: Callable[[], Tensor]  #: decodes the start once, [B,3,H,W]; see :attr:`start_image`
    #: every perceptor with its targets by region; None is the whole picture
    wanted: Sequence[tuple[Perceptor, Sequence[tuple[Any, Targets]]]] = ()
    vectors: Tensor | None = None  #: unit vectors of crops [B,n,D], differentiable; for terms on crops
    targets: Targets | None = None  #: of the perceptor that encoded the vectors
    weights: Tensor | None = None  #: of the crops [B,n], with mean 1 over all crops of a picture; None if all are equal

    @property
    def start_image(self) -> Tensor:
        """The picture that the run began at, [B,3,H,W] in [0,1]; decoded when it is first asked for."""
        return self.start_picture()

    def on_crops(self, vectors: Tensor, targets: Targets, weights: Tensor | None) -> CropView:
        """This view with crops."""
        return CropView(**{**vars(self), "vectors": vectors, "targets": targets, "weights": weights})


class CropView(View):
    """What a term on crops is called with: a view with vectors and targets."""

    vectors: Tensor
    targets: Targets


@runtime_checkable
class Term(Protocol):
    """One term of the objective: ``Term(weight)(view) → [B]``.

    A term whose attribute ``on_crops`` is true is called with a chunk of crops at a time and returns the *sum* over
    them; the objective divides by their number.  Without the attribute a term is called once per step, for the picture
    and the latent.  The value is reported as it is; the loss adds ``weight`` times it.
    """

    weight: Any  #: a number or a schedule (``vqclip.schedules``)

    def __call__(self, view: View) -> Tensor:
        """Values of the B pictures, [B]."""
        ...
