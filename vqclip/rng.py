"""Random numbers, each drawn from a generator named by seed, purpose and step.

No draw depends on how many draws came before it.  So a component can be added without changing the numbers of another,
a resumed run draws what an uninterrupted one would, and a picture gets the same numbers in a batch as alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["StepRandom", "generator_for"]


def generator_for(seed: int, purpose: str, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of one (seed, purpose, step)."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{step}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


class StepRandom:
    """The random numbers of one step, for pictures with the given seeds.

    Pictures with equal seeds get equal numbers, so that prompts can be compared under the same draws.
    """

    def __init__(self, seeds: Sequence[int], step: int, device: torch.device | str = "cpu", place: str | None = None):
        self.seeds, self.step, self.device, self.place = list(seeds), step, device, place

    def of(self, place: str | None) -> StepRandom:
        """The numbers for a region of the picture, by its name; None returns ``self``."""
        return self if place is None else StepRandom(self.seeds, self.step, self.device, place)

    def _stack(self, purpose: str, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        purpose = purpose if self.place is None else f"{self.place}.{purpose}"
        by_seed = {s: draw(generator_for(s, purpose, self.step, self.device)) for s in dict.fromkeys(self.seeds)}
        return torch.stack([by_seed[s] for s in self.seeds])

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """Uniform on [0,1), [pictures, *shape]."""
        return self._stack(purpose, lambda g: torch.rand(shape, generator=g, device=self.device))

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """Standard normal, [pictures, *shape]."""
        return self._stack(purpose, lambda g: torch.randn(shape, generator=g, device=self.device))

    def integers(self, purpose: str, high: int, *shape: int) -> Tensor:
        """Uniform integers in [0, high), [pictures, *shape]."""
        return self._stack(purpose, lambda g: torch.randint(high, shape, generator=g, device=self.device))
