"""LlamaGen's VQ tokenizers (Sun et al. 2024, https://arxiv.org/abs/2406.06525), in taming's modules.

The layers are a VQGAN's with attention at the lowest resolution.  The differences: codes and vectors have norm 1, and
files number the decoder's levels from the deepest up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from vqclip.checkpoints.architecture import vqgan_from_shapes
from vqclip.models.vqgan import VQGAN

__all__ = ["LlamaGen"]

_MIDDLE = {"0": "block_1", "1": "attn_1", "2": "block_2"}


class LlamaGen(VQGAN):
    """A VQGAN whose latents [B, embed_dim, H/f, W/f] are normalised: only their direction matters."""

    @staticmethod
    def arguments_from(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        return vqgan_from_shapes({new: shapes[old] for old, new in LlamaGen.tensor_names(shapes).items()})

    @staticmethod
    def tensor_names(names: Iterable[str]) -> dict[str, str]:
        names = list(names)
        levels = len({found[1] for name in names if (found := re.match(r"decoder\.conv_blocks\.(\d+)\.", name))})
        return {name: _tamings(name, levels) for name in names if name != "quantize.codebook_used"}

    @property
    def codebook(self) -> Tensor:
        """All codes, [n_embed, C], with norm 1."""
        return F.normalize(super().codebook, dim=1)

    def decode_raw(self, z: Tensor) -> Tensor:
        return super().decode_raw(F.normalize(z, dim=1))

    def encode(self, image: Tensor) -> Tensor:
        return F.normalize(super().encode(image), dim=1)

    def quantise(self, z: Tensor) -> Tensor:
        return super().quantise(F.normalize(z, dim=1))


def _tamings(name: str, levels: int) -> str:
    """Convert the name of a LlamaGen tensor to taming's."""
    if found := re.fullmatch(r"(encoder|decoder)\.mid\.([012])\.(.*)", name):
        return f"{found[1]}.mid.{_MIDDLE[found[2]]}.{found[3]}"
    if found := re.fullmatch(r"(encoder|decoder)\.conv_blocks\.(\d+)\.(.*)", name):
        half, level, rest = found.groups()
        level = int(level) if half == "encoder" else levels - 1 - int(level)
        return f"{half}.{'down' if half == 'encoder' else 'up'}.{level}.{re.sub(r'^res[.]', 'block.', rest)}"
    return name
