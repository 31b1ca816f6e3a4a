"""Latents: what the decoder gets of the trainable parameter."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vqclip.protocols import Generator

__all__ = ["Continuous", "Quantised"]


class Continuous:
    """The decoder gets the latent unchanged (the reference)."""

    def __call__(self, z: Tensor, generator: Generator) -> Tensor:
        """[B,C,h,w] → [B,C,h,w]."""
        return z


class Quantised:
    """The decoder gets the nearest code at each position; the gradient passes straight through to ``z``.

    Straight-through estimator of van den Oord et al. 2017 (https://arxiv.org/abs/1711.00937).
    """

    needs = ("quantise",)

    def __call__(self, z: Tensor, generator: Any) -> Tensor:
        """[B,C,h,w] → codes [B,C,h,w]."""
        return z + (generator.quantise(z) - z).detach()
