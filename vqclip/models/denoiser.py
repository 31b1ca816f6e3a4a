"""What drawings' latents look like: a network that takes the noise out of a latent, whatever the picture shows.

It knows no words. Trained by `experiments/embedded/train_denoiser.py` as the denoiser of Karras et al. 2022
(https://arxiv.org/abs/2206.00364); `vqclip.terms.Denoised` holds a latent near to what it says.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vqclip.models.shipped import load_shipped_of

__all__ = ["Denoiser"]


class Denoiser(nn.Module):
    """A transformer over patches of a latent.

    Args:
        channels: C, of the latent.
        side: of the latents that it was trained on, in places; others are read with their positions stretched.
        patch: side of a patch, in places.
        width, depth, heads: of the transformer.
    """

    mean: Tensor  #: of the training latents, by channel [C]
    std: Tensor  #: the same of their deviation [C]

    def __init__(self, channels: int, side: int, patch: int, width: int, depth: int, heads: int):
        super().__init__()
        self.channels, self.patch, self.grid = channels, patch, side // patch
        self.enter = nn.Linear(channels * patch**2, width)
        self.positions = nn.Parameter(torch.randn(self.grid**2, width) * 0.02)
        self.level = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.leave = nn.Linear(width, channels * patch**2)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    @classmethod
    def load(cls, path: str | Path, key: str) -> Denoiser:
        """A denoiser from its safetensors file, frozen, in float32.

        Args:
            path: of the file.
            key: of the term in the config, for messages.

        Raises:
            UserError: it is missing or no denoiser of this project's.
        """
        allowed = "Allowed: a file that experiments/embedded/train_denoiser.py wrote"
        return load_shipped_of(cls, path, f"{key}.path", "denoiser", f"{allowed}. Try: {key}=null, to do without")

    def standard(self, z: Tensor) -> Tensor:
        """Latents [B,C,h,w] in units of the training latents' deviations."""
        return (z - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Standard latents [B,C,h,w] with noise of the deviations ``sigma`` [B] → without it, as far as one can say."""
        level = sigma.view(-1, 1, 1, 1)
        norm = (level.square() + 1).sqrt()
        return x / norm.square() + level / norm * self._guess(x / norm, sigma.log() / 4)

    def _guess(self, x: Tensor, level: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        p = self.patch
        x = F.pad(x, (0, -width % p, 0, -height % p), mode="replicate")
        rows, columns = x.shape[-2] // p, x.shape[-1] // p
        waves = level[:, None] * torch.exp(torch.linspace(0, 4, 16)).to(level)
        condition = self.level(torch.cat([waves.sin(), waves.cos()], 1))[:, None]
        tokens = self.enter(rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=p, q=p))
        tokens = self.layers(tokens + self._positions(rows, columns) + condition)
        out = rearrange(self.leave(tokens), "b (h w) (c p q) -> b c (h p) (w q)", h=rows, p=p, q=p)
        return out[..., :height, :width]

    def _positions(self, rows: int, columns: int) -> Tensor:
        if (rows, columns) == (self.grid, self.grid):
            return self.positions
        square = rearrange(self.positions, "(h w) d -> 1 d h w", h=self.grid)
        stretched = F.interpolate(square, size=(rows, columns), mode="bilinear", align_corners=False)
        return rearrange(stretched, "1 d h w -> (h w) d")
