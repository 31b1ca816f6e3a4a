"""The prior: predicts an initial latent from a text's tokens.

It has two halves, both trained on scenes whose parts are known (`experiments/embedded`):

* ``parse``: a small transformer reads the tokens; three queries (first object, second object, scene) attend to them and
  name the parts: which of the concepts each object is and in which colour, the background, the layout, the style.
* ``paint``: the named objects are looked up in a memory of latents (large for a single object, small for one of two),
  tinted, composited over the background's latent by their masks, and refined by a few convolutions.

Since parts are separate, it can draw combinations that it has never seen.  Its limits follow too: a concept outside its
memory is drawn as the nearest one it knows, and the same text always gives the same latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vqclip.models.shipped import Shipped
from vqclip.models.tokenizer import CompactTokenizer

__all__ = ["Prior"]


class _Film(nn.Module):
    """A residual block of two convolutions, scaled and shifted by a condition (FiLM)."""

    def __init__(self, width: int, condition: int, kernel: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, kernel, padding=kernel // 2)
        self.second = nn.Conv2d(width, width, kernel, padding=kernel // 2)
        self.film = nn.Linear(condition, 2 * width)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, 1)
        return x + self.second(nn.functional.gelu(self.first(x) * (1 + scale) + shift))


class _Convolutions(nn.Module):
    """A conditional convolutional network: a stem, residual blocks, and a head initialised with zeros."""

    def __init__(self, inputs: int, outputs: int, width: int, condition: int, depth: int, kernel: int = 3):
        super().__init__()
        self.stem = nn.Conv2d(inputs, width, 3, padding=1)
        self.blocks = nn.ModuleList(_Film(width, condition, kernel) for _ in range(depth))
        self.head = nn.Conv2d(width, outputs, 1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, condition)
        return self.head(nn.functional.gelu(x))


class Prior(Shipped):
    """Token ids → latent.

    Args:
        vocab_size, context_length: of the compact tokenizer, which it shares with the perceptor.
        concepts, colours, backgrounds, styles: the number of each that it can name.
        style_sets: for each style, the index in the memory of the drawing that it uses.
        channels, side: of the latent, [channels, side, side].
        text_width, text_layers, paint_width, paint_depth: sizes of the two halves.
    """

    key, advice = "checkpoints.prior.path", "Try: checkpoints.prior=null init=sine"

    token_ids: Tensor
    style_sets: Tensor
    sha256: str  #: of the file the weights came from

    LAYOUTS = 3  # one object; two side by side; two one above the other
    MASK = 4  # an object's mask at twice the latent's resolution, folded into channels

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        concepts: int,
        colours: int,
        backgrounds: int,
        styles: int,
        style_sets: list[int],
        channels: int = 16,
        side: int = 16,
        text_width: int = 160,
        text_layers: int = 2,
        paint_width: int = 64,
        paint_depth: int = 4,
    ):
        super().__init__()
        self.channels, self.side = channels, side
        self.register_buffer("token_ids", torch.arange(vocab_size))  # the openai-clip ids in the vocabulary
        self.register_buffer("style_sets", torch.tensor(style_sets), persistent=False)
        self._init_parser(vocab_size, context_length, text_width, text_layers)
        self.object_head = nn.Linear(text_width, concepts + 1)  # the last: no object
        self.colour_head = nn.Linear(text_width, colours + 1)  # the last: its natural colours
        self.background_head = nn.Linear(text_width, backgrounds)
        self.layout_head = nn.Linear(text_width, self.LAYOUTS)
        self.style_head = nn.Linear(text_width, styles)
        sets, maps = max(style_sets) + 1, channels + self.MASK
        self.large = nn.Parameter(torch.zeros(sets, concepts, maps, side, side))
        self.small = nn.Parameter(torch.zeros(sets, concepts, maps, side // 2, side // 2))
        self.grounds = nn.Parameter(torch.zeros(backgrounds, channels, side, side))
        self.texture = nn.Parameter(torch.randn(8, side, side) * 0.1)
        self.colour_vectors = nn.Embedding(colours + 1, 32)
        self.style_vectors = nn.Embedding(styles, 32)
        self.tint = _Convolutions(maps, channels, paint_width, 32 + channels, 3, kernel=1)
        self.finish = _Convolutions(2 * channels + 2 * self.MASK + 8, channels, paint_width, 32, paint_depth)

    def _init_parser(self, vocab_size: int, context_length: int, w: int, layers: int) -> None:
        self.embedding = nn.Embedding(vocab_size, w)
        self.position = nn.Parameter(torch.randn(context_length, w) * 0.02)
        layer: dict[str, Any] = dict(
            d_model=w, nhead=4, dim_feedforward=3 * w, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**layer), layers, enable_nested_tensor=False)
        self.queries = nn.Parameter(torch.randn(3, w) * 0.5)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**layer), 2, nn.LayerNorm(w))

    def tokenize(self, texts: list[str]) -> Tensor:
        """Texts → token ids [B,L], on the prior's device."""
        return CompactTokenizer(self.token_ids, len(self.position))(texts).to(self.token_ids.device)

    def parse(self, tokens: Tensor) -> dict[str, Tensor]:
        """Tokens [B,L] → logits: objects [B,2,concepts+1], colours [B,2,colours+1], background, layout, style [B,·]."""
        tokens = tokens[:, : int(tokens.argmax(1).max()) + 1]  # up to the end token, which has the highest id
        padding = tokens == 0  # also the "!" within "!!", which does not occur in training
        padding[:, 0] = False
        x = self.embedding(tokens) + self.position[: tokens.shape[1]]
        x = self.encoder(x, src_key_padding_mask=padding)
        slots = self.decoder(self.queries.expand(len(tokens), -1, -1), x, memory_key_padding_mask=padding)
        objects, scene = slots[:, :2], slots[:, 2]
        return {
            "objects": self.object_head(objects),
            "colours": self.colour_head(objects),
            "background": self.background_head(scene),
            "layout": self.layout_head(scene),
            "style": self.style_head(scene),
        }

    def paint(self, objects: Tensor, colours: Tensor, background: Tensor, layout: Tensor, style: Tensor) -> Tensor:
        """Part indices → latent [B,C,h,w]: objects and colours [B,2] (the highest index: none), the others [B]."""
        side, half, quarter = self.side, self.side // 2, self.side // 4
        sets = self.style_sets[style]
        maps = self.large.new_zeros(len(style), 2, self.channels + self.MASK, side, side)
        present = objects < self.large.shape[1]
        known = objects.clamp(max=self.large.shape[1] - 1)
        single = layout == 0
        maps[single, 0] = self.large[sets[single], known[single, 0]] * present[single, 0, None, None, None]
        for slot in range(2):
            for kind in (1, 2):
                rows = (layout == kind) & present[:, slot]
                y, x = (quarter, half * slot) if kind == 1 else (half * slot, quarter)
                maps[rows, slot, :, y : y + half, x : x + half] = self.small[sets[rows], known[rows, slot]]
        latent, mask = maps[:, :, : self.channels], maps[:, :, self.channels :]
        cover = mask.mean(2, keepdim=True)
        mean = (latent * cover).sum((3, 4)) / cover.sum((3, 4)).clamp_min(1)
        condition = torch.cat([self.colour_vectors(colours), mean], 2)
        tinted = latent + self.tint(maps.flatten(0, 1), condition.flatten(0, 1)).unflatten(0, (-1, 2))
        latent = torch.where((colours < self.colour_vectors.num_embeddings - 1)[:, :, None, None, None], tinted, latent)
        ground = self.grounds[background]
        scene = ground
        for slot in range(2):
            scene = scene + cover[:, slot] * (latent[:, slot] - scene)
        given = torch.cat([scene, ground, mask.flatten(1, 2), self.texture.expand(len(scene), -1, -1, -1)], 1)
        return scene + self.finish(given, self.style_vectors(style))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B,L] (long, zero-padded) → initial latent [B,C,h,w] at the generator's native size."""
        parts = {key: logits.argmax(-1) for key, logits in self.parse(tokens).items()}
        # If layout and second object disagree, draw one object.
        alone = (parts["layout"] == 0) | (parts["objects"][:, 1] == self.large.shape[1])
        parts["layout"] = parts["layout"].masked_fill(alone, 0)
        second = parts["objects"][:, 1].masked_fill(alone, self.large.shape[1])
        parts["objects"] = torch.stack([parts["objects"][:, 0], second], 1)
        return self.paint(**parts)
