"""openai-clip's own ``CLIP`` module (Radford et al. 2021, https://arxiv.org/abs/2103.00020) as a perceptor."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vqclip.models.clip_fast import CLIP, Block, OneVectorPool, replace_linears
from vqclip.models.tokenizer import CompactTokenizer
from vqclip.precision import one_by_one

__all__ = ["CLIPPerceptor"]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def _fuse_norms(network: nn.Module) -> None:
    for parent in list(network.modules()):
        for (conv_name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())


def _compute_one_vector(visual: Any) -> None:
    """Let the last attention of openai-clip's image tower compute only the vector that is used."""
    if hasattr(visual, "attnpool"):
        visual.attnpool = OneVectorPool(visual.attnpool)
    else:
        *others, last = visual.transformer.resblocks
        blocks = [Block(block, read=slice(None)) for block in others] + [Block(last, read=slice(0, 1))]
        visual.transformer.resblocks = nn.Sequential(*blocks)


class CLIPPerceptor(nn.Module):
    """A CLIP with its preprocessing: texts are tokenized, crops in [0,1] normalised.

    Args:
        config: arguments of ``clip.model.CLIP`` by name; a list of ``vision_layers`` is a ResNet.
        token_ids: for a model with a reduced vocabulary, the BPE ids that it kept, ascending [V].
    """

    mean: Tensor
    std: Tensor
    sha256: str  #: of the file the weights came from

    def __init__(self, config: dict, token_ids: Tensor | None = None):
        super().__init__()
        self.model = CLIP(**config)
        self.input_size: int = self.model.visual.input_resolution
        self.tokenize = CompactTokenizer(token_ids, self.model.context_length)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def fuse_for_inference(self) -> None:
        """Fuse layers irreversibly: the same vectors up to rounding, with less arithmetic.  For frozen weights only.

        Batch norms are folded into the convolutions before them and QuickGELU's constant into the weights around it;
        the last attention computes only the vector that is used.
        """
        visual = self.model.visual
        _fuse_norms(visual)
        _compute_one_vector(visual)
        replace_linears(visual)
        self.eval().requires_grad_(False)

    def encode_text(self, texts: list[str]) -> Tensor:
        """Texts → vectors [len(texts), D], not normalised."""
        tokens = self.tokenize(texts).to(self.mean.device)
        return one_by_one(lambda one: self.model.encode_text(one).float(), tokens)

    def encode_image(self, crops: Tensor) -> Tensor:
        """Crops [M,3,S,S], nominally in [0,1] (noise may leave it), S = ``input_size`` → vectors [M,D]."""
        return self.model.encode_image((crops - self.mean) / self.std).float()
