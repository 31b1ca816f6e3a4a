"""The denoiser: removes noise from the latents of drawings, conditioned on text or not.

`experiments/embedded/train_denoiser.py` trains it as in Karras et al. 2022 (https://arxiv.org/abs/2206.00364);
`vqclip.terms.Denoised` pulls a latent towards its output.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vqclip.models.shipped import Shipped

__all__ = ["Denoiser"]


class _Block(nn.Module):
    """A transformer layer whose norms are scaled and shifted by a condition (Peebles & Xie 2022, arXiv 2212.09748)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.gather = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.change = nn.Linear(width, 4 * width)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Tokens [B,n,width] and condition [B,width] → tokens."""
        scale, shift, scale_after, shift_after = self.change(condition)[:, None].chunk(4, 2)
        parts = self.attend(self.first(x) * (1 + scale) + shift)
        q, k, v = rearrange(parts, "b n (three h d) -> three b h n d", three=3, h=self.heads)
        x = x + self.gather(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)"))
        wide = F.gelu(self.widen(self.second(x) * (1 + scale_after) + shift_after), approximate="tanh")
        return x + self.narrow(wide)


class Denoiser(Shipped):
    """A transformer over patches of a latent.

    Args:
        channels: C, of the latent.
        side: of the latents that it was trained on; for others, the position embeddings are interpolated.
        patch: side of a patch, in latent positions.
        width, depth, heads: of the transformer.
        words: D, the length of the text vectors.
        reader: SHA-256 of the file of the perceptor that encodes the texts.
        hidden, rank: of the network that predicts a text's mean picture.
    """

    advice = "Allowed: a file that experiments/embedded/train_denoiser.py wrote"

    mean: Tensor  #: of the training latents, per channel [C]
    std: Tensor  #: of the training latents, per channel [C]; standard deviation
    usual: Tensor  #: mean of the training captions' vectors [D]

    def __init__(
        self,
        channels: int,
        side: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        words: int,
        reader: str,
        hidden: int,
        rank: int,
    ):
        super().__init__()
        self.channels, self.patch, self.grid, self.words, self.reader = channels, patch, side // patch, words, reader
        self.enter = nn.Linear(channels * patch**2, width)
        self.positions = nn.Parameter(torch.randn(self.grid**2, width) * 0.02)
        self.level = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))
        self.read = nn.Sequential(nn.Linear(words, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.sketch = nn.Sequential(
            nn.Linear(words, hidden),
            nn.ReLU(),
            nn.Linear(hidden, rank, bias=False),
            nn.Linear(rank, channels * side**2),
            nn.Unflatten(1, (channels, side, side)),
        )
        self.enter_sketch = nn.Linear(channels * patch**2, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, channels * patch**2)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        nn.init.zeros_(self.enter_sketch.weight)
        nn.init.zeros_(self.enter_sketch.bias)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.register_buffer("usual", torch.zeros(words))

    def standard(self, z: Tensor) -> Tensor:
        """Standardise latents [B,C,h,w] by the training latents' mean and standard deviation."""
        return (z - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)

    def original(self, x: Tensor) -> Tensor:
        """The inverse of :meth:`standard`."""
        return x * self.std.view(-1, 1, 1) + self.mean.view(-1, 1, 1)

    def forward(self, x: Tensor, sigma: Tensor, words: Tensor | None = None) -> Tensor:
        """Estimate standardised latents without their noise: [B,C,h,w] → [B,C,h,w].

        Args:
            x: standardised latents with normal noise.
            sigma: the noise's standard deviation [B].
            words: unit vectors of texts [B,D]; zeros, or None for all, mean no text.
        """
        level = sigma.view(-1, 1, 1, 1)
        norm = (level.square() + 1).sqrt()
        words = x.new_zeros(len(x), self.words) if words is None else words
        return x / norm.square() + level / norm * self._guess(x / norm, sigma.log() / 4, words)

    def guided(self, x: Tensor, sigma: Tensor, words: Tensor, scale: float) -> Tensor:
        """The same with classifier-free guidance (arXiv 2207.12598)."""
        plain = self(x, sigma)
        return plain + scale * (self(x, sigma, words) - plain)

    def centred(self, words: Tensor) -> Tensor:
        """Centre text vectors [B,D] and scale their elements to about 1, as the networks take them."""
        return (words - self.usual) * self.words**0.5

    def _guess(self, x: Tensor, level: Tensor, words: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        p = self.patch
        x = F.pad(x, (0, -width % p, 0, -height % p), mode="replicate")
        rows, columns = x.shape[-2] // p, x.shape[-1] // p
        waves = level[:, None] * torch.exp(torch.linspace(0, 4, 16)).to(level)
        noise = self.level(torch.cat([waves.sin(), waves.cos()], 1))
        any_words = words.any(1, keepdim=True)
        centred = self.centred(words)
        said = self.read(centred) * any_words
        sketch = self._sized(self.sketch(centred) * any_words[..., None, None], x.shape[-2:])
        tokens = self.enter(self._patches(x)) + self.enter_sketch(self._patches(sketch))
        tokens = tokens + rearrange(self._positions(rows, columns), "d h w -> (h w) d") + noise[:, None]
        for block in self.blocks:
            tokens = block(tokens, F.silu(noise + said))
        out = self.leave(self.norm(tokens))
        out = rearrange(out, "b (h w) (c p q) -> b c (h p) (w q)", h=rows, p=p, q=p)
        return out[..., :height, :width]

    def _patches(self, x: Tensor) -> Tensor:
        return rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=self.patch, q=self.patch)

    def _positions(self, rows: int, columns: int) -> Tensor:
        square = rearrange(self.positions, "(h w) d -> 1 d h w", h=self.grid)
        return self._sized(square, (rows, columns))[0]

    @staticmethod
    def _sized(maps: Tensor, size: Sequence[int]) -> Tensor:
        """Interpolate maps [B,C,h,w] to a size, if theirs differs."""
        if tuple(maps.shape[-2:]) == tuple(size):
            return maps
        return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
