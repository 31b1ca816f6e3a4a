"""Latents: how the trainable parameter reaches the decoder."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vqclip.protocols import Generator

__all__ = ["Continuous", "Quantised"]


class Continuous:
    """The decoder sees the latent as it is (the reference)."""

    def __call__(self, z: Tensor, generator: Generator) -> Tensor:
        """[B,C,h,w] → [B,C,h,w]."""
        return z


class Quantised:
    """The decoder sees the nearest code at each place; the gradient passes straight through to ``z``.

    Straight-through estimator of van den Oord et al. 2017 (https://arxiv.org/abs/1711.00937).
    """

    needs = ("quantise",)

    def __call__(self, z: Tensor, generator: Any) -> Tensor:
        """[B,C,h,w] → codes [B,C,h,w]."""
        return z + (generator.quantise(z) - z).detach()
