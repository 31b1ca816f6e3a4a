"""Perceptors: texts and image crops become vectors of one space.

A perceptor is anything with ``encode_text``, ``encode_image`` and ``input_size``.  The one class here holds
openai-clip's own ``CLIP`` module (Radford et al. 2021, https://arxiv.org/abs/2103.00020).
"""

from __future__ import annotations

import warnings
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vqclip.tokens import CompactTokenizer

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    from clip.model import CLIP, AttentionPool2d, ResidualAttentionBlock

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

    def speed_up(self) -> None:
        """For good: the same vectors, to rounding, by less arithmetic.  Only for weights that stay as they are.

        Batch norms go into the convolutions before them; QuickGELU's constant goes into the weights around it; of the
        last attention, only the vector that is read is computed.
        """
        visual = self.model.visual
        for parent in list(visual.modules()):
            for (conv_name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
                if isinstance(norm, nn.BatchNorm2d):
                    setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                    setattr(parent, norm_name, nn.Identity())
        if hasattr(visual, "attnpool"):
            visual.attnpool.__class__ = _OneVectorPool
        else:
            for block in visual.transformer.resblocks:
                block.__class__ = _Block
                # x · sigmoid(1.702 x) = silu(1.702 x) / 1.702
                for parameter in block.mlp.c_fc.parameters():
                    parameter.data.mul_(_QUICK)
                block.mlp.c_proj.weight.data.div_(_QUICK)
                block.mlp.gelu = nn.SiLU()
            visual.transformer.resblocks[-1].__class__ = _LastBlock
        for module in visual.modules():
            if isinstance(module, nn.Linear):
                module.__class__ = _Linear
        self.eval().requires_grad_(False)

    def encode_text(self, texts: list[str]) -> Tensor:
        """Texts → vectors [len(texts), D], not normalised."""
        return self.model.encode_text(self.tokenize(texts).to(self.mean.device)).float()

    def encode_image(self, crops: Tensor) -> Tensor:
        """Crops [M,3,S,S], nominally in [0,1] (noise may leave it), S = ``input_size`` → vectors [M,D]."""
        return self.model.encode_image((crops - self.mean) / self.std).float()


# The constant of openai-clip's QuickGELU.
_QUICK = 1.702


class _Linear(nn.Linear):
    """On a CPU, a matrix product as a 1×1 convolution: oneDNN's, which on AMD's is twice as fast as MKL's."""

    def forward(self, x: Tensor) -> Tensor:
        """[…,in] → […,out]."""
        return _linear(x, self.weight, self.bias)


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if x.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return F.linear(x, weight, bias)
    columns = x.reshape(1, -1, 1, x.shape[-1]).movedim(-1, 1)  # [1,in,rows,1], channels-last
    return F.conv2d(columns, weight[..., None, None], bias).movedim(1, -1).view(*x.shape[:-1], -1)


class _OneVectorPool(AttentionPool2d):
    """The end of a ResNet: openai-clip's computes an output for every place, and keeps the first."""

    def forward(self, x: Tensor) -> Tensor:
        """[M,C,h,w] → [M,D]."""
        places = x.flatten(2).movedim(-1, 1)  # [M,h·w,C]
        places = torch.cat([places.mean(1, keepdim=True), places], 1) + self.positional_embedding
        query, key, value = self.q_proj(places[:, :1]), self.k_proj(places), self.v_proj(places)
        query, key, value = (y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y in (query, key, value))
        pooled = F.scaled_dot_product_attention(query, key, value)  # [M,heads,1,C/heads]
        return self.c_proj(pooled.flatten(1))


class _Block(ResidualAttentionBlock):
    """A vision transformer's block that copies nothing: in memory, the batch comes before the places."""

    read = slice(None)  #: the places whose output is used

    def forward(self, x: Tensor) -> Tensor:
        """[places,M,C] → [places read,M,C]."""
        x = x.transpose(0, 1)
        packed = _linear(self.ln_1(x), self.attn.in_proj_weight, self.attn.in_proj_bias)
        query, key, value = packed.unflatten(-1, (3, self.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query[:, :, self.read], key, value)  # [M,heads,places read,C/heads]
        x = x[:, self.read] + self.attn.out_proj(attended.transpose(1, 2).flatten(2))
        x = x + self.mlp(self.ln_2(x))
        return x.transpose(0, 1)


class _LastBlock(_Block):
    """Of the last block, only the first place is read."""

    read = slice(0, 1)
