"""Perceptors: texts and image crops become vectors of one space.

A perceptor is anything with ``encode_text``, ``encode_image`` and ``input_size``.  The one class here holds
openai-clip's own ``CLIP`` module (Radford et al. 2021, https://arxiv.org/abs/2103.00020).
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from vqclip.tokens import CompactTokenizer

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    from clip.model import CLIP

__all__ = ["CLIPPerceptor", "build_clip"]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def build_clip(config: dict) -> CLIP:
    """openai-clip's CLIP from its constructor's arguments by name (a list of ``vision_layers`` is a ResNet)."""
    config = dict(config)
    if not isinstance(config["vision_layers"], int):
        config["vision_layers"] = tuple(config["vision_layers"])
    return CLIP(**config)


class CLIPPerceptor(nn.Module):
    """A CLIP with the way in: text → tokens, crops in [0,1] → CLIP's normalised input.

    Args:
        config: arguments of ``clip.model.CLIP`` by name.
        token_ids: for a model with a reduced vocabulary, the BPE ids it kept, in order [V].
    """

    def __init__(self, config: dict, token_ids: Tensor | None = None):
        super().__init__()
        self.model = build_clip(config)
        self.input_size: int = self.model.visual.input_resolution
        self.dim: int = self.model.text_projection.shape[1]
        self.tokenize = CompactTokenizer(token_ids, self.model.context_length)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def encode_text(self, texts: list[str]) -> Tensor:
        """Texts → vectors [len(texts), D], not normalised."""
        return self.model.encode_text(self.tokenize(texts).to(self.mean.device)).float()

    def encode_image(self, crops: Tensor) -> Tensor:
        """Crops [M,3,S,S], nominally in [0,1] (noise may leave it), S = ``input_size`` → vectors [M,D]."""
        return self.model.encode_image((crops - self.mean) / self.std).float()
