"""Protocols: what each part of a run is given and must do.  Whoever writes a part of their own reads this file.

A part is any class with the methods below; nothing has to be inherited.  It is named by ``_target_`` in its group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

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

    Where it can, also: ``encode`` (pictures [B,3,H,W] in [0,1] → latents) for ``init=image``; ``quantise`` (latents →
    the nearest codes) for ``latent=quantised``; ``codebook`` [n,C] for ``init=codebook`` and ``init=blank``.
    A card names its class by ``_target_``, with its arguments beside it (``vqclip/checkpoints/classes.py``).
    """

    factor: int  #: pixels a place of the latent covers, a side

    def decode(self, z: Tensor) -> Tensor:
        """Latents [B,C,h,w] → pictures [B,3,H,W] in [0,1], with a gradient."""
        ...

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of the latent of a picture asked for at ``height`` × ``width`` pixels."""
        ...


@runtime_checkable
class Perceptor(Protocol):
    """Turns texts and pictures into vectors of one space.  Its normalisation and its tokenizer are its own."""

    input_size: int  #: side S of the squares it looks at, in pixels

    def encode_text(self, texts: list[str]) -> Tensor:
        """Texts → vectors [len(texts), D], of any length."""
        ...

    def encode_image(self, crops: Tensor) -> Tensor:
        """Crops [M,3,S,S], nominally in [0,1], not normalised → vectors [M,D], with a gradient."""
        ...


@dataclass(frozen=True)
class InitContext:
    """What a start may look at."""

    generator: Any  #: a Generator, with whatever else it has
    shape: tuple[int, int, int]  #: (C, h, w) of one latent
    texts: list[str]  #: one a picture, extras joined
    rng: StepRandom  #: step 0
    prior: str | None  #: the pair's prior, a path
    #: what latents [B,C,h,w] would score as the run's first snapshot, [B]; higher is better
    score: Callable[[Tensor], Tensor] | None = None

    def place(self, x: Tensor) -> Tensor:
        """``x`` with the device and precision of the generator, where it has a codebook to tell."""
        return x.to(getattr(self.generator, "codebook", x))


@runtime_checkable
class Init(Protocol):
    """Where the latent starts.

    What it uses of the generator beside ``decode`` may be named in a class attribute ``needs``, as a latent and a term
    may: ``needs = ("encode", "codebook")``.  Another generator is then refused before the first step, by a sentence.
    """

    def __call__(self, start: InitContext) -> Tensor:
        """Latents [B,C,h,w], one for each text."""
        ...


@runtime_checkable
class Latent(Protocol):
    """How the trainable parameter reaches the decoder."""

    def __call__(self, z: Tensor, generator: Generator) -> Tensor:
        """[B,C,h,w] → what the generator decodes, with a gradient."""
        ...


@runtime_checkable
class Augmentation(Protocol):
    """How a picture becomes crops.  Drawn apart from applied, so that crops can be cut in chunks."""

    count: int  #: N, crops of a picture

    def draw(self, rng: StepRandom, height: int, width: int) -> Any:
        """What was drawn for B pictures; anything, it comes back to the two methods below."""
        ...

    def transform(self, image: Tensor, draw: Any) -> Tensor:
        """What happens to the whole picture: [B,3,H,W] → [B,3,H',W']."""
        ...

    def cut(self, padded: Tensor, draw: Any, input_size: int, chunk: slice) -> Tensor:
        """A chunk of the crops of every picture, picture by picture: [B·n,3,S,S]."""
        ...


@runtime_checkable
class Noise(Protocol):
    """Noise on the crops."""

    def factor(self, t: float) -> float:
        """Its strength at progress ``t``, for the curves."""
        ...

    def draw(self, rng: StepRandom, count: int, input_size: int, progress: float) -> Tensor | None:
        """[B,N,3,S,S] to add to the crops, or None for none."""
        ...


@dataclass(frozen=True)
class Targets:
    """What B pictures should and should not look like, in one perceptor's space."""

    include: Tensor  #: unit vectors [B,D]
    exclude: Tensor | None  #: [B,D]; None where nothing is excluded
    share: Tensor | None = None  #: of the place among the places looked at [B]; None where it is the only one
    exclude_share: float = 1.0  #: the same among the places where something is excluded
    parts: Tensor | None = None  #: what each entry adds to ``include`` [B,K,D], where one has a stop
    stops: Tensor | None = None  #: likeness to its part from which on an entry no longer pulls [B,K]
    exclude_parts: Tensor | None = None  #: as ``parts``, of the excluded entries
    exclude_stops: Tensor | None = None  #: as ``stops``, of the excluded entries, times -1

    def to(self, device: Any) -> Targets:
        return self._each(lambda tensor: tensor.to(device))

    def of(self, pictures: slice) -> Targets:
        """Those of some of the pictures."""
        return self._each(lambda tensor: tensor[pictures])

    def at(self, t: float) -> list[tuple[Any, Targets]]:
        """The targets of every place at progress ``t``: these, of the whole picture (None), always."""
        return [(None, self)]

    def _each(self, change: Callable[[Tensor], Tensor]) -> Targets:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(v) for name, v in values.items() if isinstance(v, Tensor)})


@dataclass(frozen=True)
class View:
    """What a term of the objective may look at, of B pictures at one step."""

    progress: float  #: 0 at the first step, 1 at the last
    image: Tensor  #: [B,3,H,W] in [0,1]; with a gradient for terms on the picture
    latent: Tensor  #: [B,C,h,w]; with a gradient for terms on the picture
    start: Tensor  #: the latent that the run began at [B,C,h,w]
    generator: Any  #: the Generator, with its codebook where it has one
    start_picture: Callable[[], Tensor]  #: decodes the start once, [B,3,H,W]; see :attr:`start_image`
    #: every perceptor with what it should see, place by place; None is the whole picture
    wanted: Sequence[tuple[Perceptor, Sequence[tuple[Any, Targets]]]] = ()
    vectors: Tensor | None = None  #: unit vectors of crops [B,n,D], with a gradient; for terms on crops
    targets: Targets | None = None  #: of the perceptor that gave the vectors
    weights: Tensor | None = None  #: of the crops, mean 1 over all of a picture's [B,n]; None where all count alike

    @property
    def start_image(self) -> Tensor:
        """The picture that the run began at, [B,3,H,W] in [0,1]; decoded when it is first asked for."""
        return self.start_picture()

    def on_crops(self, vectors: Tensor, targets: Targets, weights: Tensor | None) -> CropView:
        """The same with crops."""
        return CropView(**{**vars(self), "vectors": vectors, "targets": targets, "weights": weights})


class CropView(View):
    """What a term on crops may look at: a view whose crops and targets are there."""

    vectors: Tensor
    targets: Targets


@runtime_checkable
class Term(Protocol):
    """One term of the objective: ``Term(weight)(view) → [B]``.

    A term whose ``on_crops`` is true is called with some of the crops at a time and gives the *sum* over them; the
    objective divides by how many there are.  Without the attribute a term looks at the picture and the latent, once
    a step.  The value is reported as it is; the sign of what is minimised is in the weight.
    """

    weight: Any  #: a number or a schedule (``vqclip.schedules``)

    def __call__(self, view: View) -> Tensor:
        """Values of the B pictures, [B]."""
        ...
