"""openai-clip's layers, rewritten so that inference and its gradient take less time and memory."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

__all__ = ["CLIP", "Block", "OneVectorPool", "replace_linears"]

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    from clip.model import CLIP, AttentionPool2d, ResidualAttentionBlock


# The constant of openai-clip's QuickGELU.
QUICK = 1.702
#: Up to this many tokens, a CPU materialises the attention matrix: ViT-B/32 has 50, B/16 197, L/14 257.
FEW_PLACES = 256


class Linear(nn.Module):
    """On a CPU, a linear layer as oneDNN's 1×1 convolution, which on AMD's is twice as fast as MKL's product."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """[…,in] → […,out]."""
        return _linear(x, self.weight, self.bias)


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if x.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return F.linear(x, weight, bias)
    columns = x.reshape(1, -1, 1, x.shape[-1]).movedim(-1, 1)  # [1,in,rows,1], channels-last
    return F.conv2d(columns, weight[..., None, None], bias).movedim(1, -1).view(*x.shape[:-1], -1)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of queries [M,heads,n,C] to keys and values [M,heads,tokens,C]."""
    if query.dtype == torch.bfloat16 and query.device.type == "cpu" and key.shape[2] < FEW_PLACES:
        # Forward and backward together, torch's fused kernel takes five times as long here.
        weights = torch.softmax(query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2), -1, dtype=torch.float32)
        return weights.to(value.dtype) @ value
    return F.scaled_dot_product_attention(query, key, value)


class OneVectorPool(nn.Module):
    """The attention pooling of a ResNet, computing only the first output, which is the one that openai-clip keeps."""

    def __init__(self, pool: AttentionPool2d):
        super().__init__()
        self.positional_embedding, self.num_heads = pool.positional_embedding, pool.num_heads
        self.q_proj, self.k_proj, self.v_proj, self.c_proj = pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj

    def forward(self, x: Tensor) -> Tensor:
        """[M,C,h,w] → [M,D]."""
        places = rearrange(x, "m c h w -> m (h w) c")
        places = torch.cat([places.mean(1, keepdim=True), places], 1) + self.positional_embedding
        query, key, value = self.q_proj(places[:, :1]), self.k_proj(places), self.v_proj(places)
        query, key, value = (
            rearrange(y, "m places (heads c) -> m heads places c", heads=self.num_heads) for y in (query, key, value)
        )
        pooled = F.scaled_dot_product_attention(query, key, value)  # [M,heads,1,C/heads]
        return self.c_proj(pooled.flatten(1))


class Block(nn.Module):
    """A vision transformer's block without copies: in memory, the batch comes before the tokens.

    Args:
        block: openai-clip's block, whose weights it shares; QuickGELU's constant is folded into them.
        read: the tokens whose output is used.
    """

    def __init__(self, block: ResidualAttentionBlock, read: slice):
        super().__init__()
        self.attn, self.ln_1, self.ln_2, self.read = block.attn, block.ln_1, block.ln_2, read
        # x · sigmoid(1.702 x) = silu(1.702 x) / 1.702
        for parameter in block.mlp.get_submodule("c_fc").parameters():
            parameter.data.mul_(QUICK)
        block.mlp.get_parameter("c_proj.weight").data.div_(QUICK)
        block.mlp.gelu = nn.SiLU()
        self.mlp = block.mlp

    def forward(self, x: Tensor) -> Tensor:
        """[tokens,M,C] → [tokens read,M,C]."""
        x = x.transpose(0, 1)
        packed = _linear(self.ln_1(x), self.attn.in_proj_weight, self.attn.in_proj_bias)
        query, key, value = rearrange(
            packed, "m places (qkv heads c) -> qkv m heads places c", qkv=3, heads=self.attn.num_heads
        )
        attended = _attend(query[:, :, self.read], key, value)  # [M,heads,tokens read,C/heads]
        x = x[:, self.read] + self.attn.out_proj(rearrange(attended, "m heads places c -> m places (heads c)"))
        x = x + self.mlp(self.ln_2(x))
        return x.transpose(0, 1)


def replace_linears(network: nn.Module) -> None:
    """Replace every ``nn.Linear`` of a network by :class:`Linear`."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, Linear(child))
