"""Runs taming's encoder and decoder in less time and memory, with their modules and weights.

SiLU is one kernel (taming's ``x * sigmoid(x)`` is two and saves one more activation), large layers save less for the
backward pass, a block may save only its input, and attention over many positions never materialises its matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from taming.modules.diffusionmodules.model import AttnBlock, Decoder, Encoder, ResnetBlock, Upsample
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vqclip.models import vqgan_strips as strips
from vqclip.models.frozen import activated, convolved

__all__ = ["BRIEF", "decode", "encode"]

#: Up to this many latent positions the decoder computes taming's exact digits: 64×64, at f = 8 512×512 pixels.
EXACT_PLACES = 4096
#: Whether the processor has bfloat16 instructions, more than twice as fast as float32.  Older torch cannot tell.
BRIEF = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()

Run = Callable[[ResnetBlock | AttnBlock, Tensor], Tensor]
#: A bare ``nn.Module`` to which taming attaches its blocks under undeclared names.
Blocks = Any


def decode(decoder: Decoder, z: Tensor, checkpointed: bool, rows: int | None = None) -> Tensor:
    """Latents [B,C,h,w] → pictures [B,3,H,W], nominally in [-1,1].

    Args:
        checkpointed: recompute each block in the backward pass: less memory, slower.
        rows: without a gradient, work on strips of this many rows; None: all at once.
    """
    run: Run = _recomputed if checkpointed and torch.is_grad_enabled() else _block
    h = _middle(decoder.mid, decoder.conv_in(z), run)
    if torch.is_grad_enabled():
        rows = None
    if rows:
        run = partial(_in_strips, rows=rows)
    for i in reversed(range(decoder.num_resolutions)):
        level: Blocks = decoder.up[i]
        h = _level(level, h, run)
        if i and rows:
            h = strips.upsampled(level.upsample, h, rows)
        elif i:
            h = _upsampled(level.upsample, h, exact=z[0, 0].numel() <= EXACT_PLACES)
    if rows:
        return strips.activated(decoder.norm_out, decoder.conv_out, h, rows)
    return activated(decoder.norm_out, decoder.conv_out, h)


def encode(encoder: Encoder, image: Tensor) -> Tensor:
    """Pictures [B,3,H,W] in [-1,1] → features [B,C,h,w]."""
    h = encoder.conv_in(image)
    for level in range(encoder.num_resolutions):
        h = _level(encoder.down[level], h, _block)
        if level < encoder.num_resolutions - 1:
            h = encoder.down[level].get_submodule("downsample")(h)
    return encoder.conv_out(F.silu(encoder.norm_out(_middle(encoder.mid, h, _block))))


def _middle(mid: Blocks, h: Tensor, run: Run) -> Tensor:
    for block in (mid.block_1, mid.attn_1, mid.block_2):
        h = run(block, h)
    return h


def _level(level: Blocks, h: Tensor, run: Run) -> Tensor:
    for i, block in enumerate(level.block):
        h = run(block, h)
        if len(level.attn):
            h = run(level.attn[i], h)
    return h


def _block(block: ResnetBlock | AttnBlock, x: Tensor) -> Tensor:
    return _residual(block, x) if isinstance(block, ResnetBlock) else _attention(block, x)


def _in_strips(block: ResnetBlock | AttnBlock, x: Tensor, rows: int) -> Tensor:
    """Run a block in strips of rows; attention runs whole, since every position attends to all others."""
    return strips.residual(block, x, rows) if isinstance(block, ResnetBlock) else _attention(block, x)


def _recomputed(block: ResnetBlock | AttnBlock, x: Tensor) -> Tensor:
    return checkpoint(_block, block, x, use_reentrant=False)


def _residual(block: ResnetBlock, x: Tensor) -> Tensor:
    # Dropout is omitted: the networks are in eval mode.
    h = activated(block.norm2, block.conv2, activated(block.norm1, block.conv1, x))
    if block.in_channels != block.out_channels:
        x = convolved(block.nin_shortcut, x)
    return h.add_(x) if h.dtype == x.dtype else x + h


def _upsampled(layer: Upsample, h: Tensor, exact: bool) -> Tensor:
    """``conv(nearest(h))`` at twice the size."""
    if not exact and layer.with_conv:
        # Upsampled neighbours are copies of one pixel, so weights are summed first: four products instead of nine.
        kernel = F.pad(layer.conv.weight.flip(2, 3), (1, 1, 1, 1))
        kernel = kernel.unfold(2, 2, 1).unfold(3, 2, 1).sum((-2, -1)).transpose(0, 1)
        return F.conv_transpose2d(h, kernel, layer.conv.bias, stride=2, padding=1)
    h = F.interpolate(h, scale_factor=2.0, mode="nearest")
    return convolved(layer.conv, h) if layer.with_conv else h


def _attention(block: AttnBlock, x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    if height * width <= EXACT_PLACES:
        return block(x)
    h = block.norm(x)
    # One head, one row per position.
    query, key, value = (
        rearrange(layer(h), "b c h w -> b 1 (h w) c").contiguous() for layer in (block.q, block.k, block.v)
    )
    # Attention averages over thousands of positions, so bfloat16 changes the picture by at most a fifteenth of 1/255
    # and its gradient by a three-thousandth.
    brief = torch.bfloat16 if BRIEF and x.device.type == "cpu" else x.dtype
    attended = F.scaled_dot_product_attention(query.to(brief), key.to(brief), value.to(brief))[:, 0].to(x.dtype)
    return x + block.proj_out(rearrange(attended, "b (h w) c -> b c h w", h=height))
