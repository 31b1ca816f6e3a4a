"""The VQGAN of Esser et al. 2021 (https://arxiv.org/abs/2012.09841): latents → images.

It consists of taming-transformers' own modules under the names of its checkpoints, so that their ``state_dict`` loads
unchanged.  Adding a checkpoint takes a YAML file under ``conf/checkpoints``, not a class.
"""

from __future__ import annotations

from contextlib import redirect_stdout

from einops import rearrange
from taming.modules.diffusionmodules.model import Decoder, Encoder
from taming.modules.vqvae.quantize import VectorQuantizer
from torch import Tensor, nn

from vqclip.models.vqgan_fast import decode, encode
from vqclip.precision import full_precision

__all__ = ["VQGAN", "GumbelCodebook"]

# Number of groups of taming's ``Normalize``.
_TAMING_GROUPS = 32


class GumbelCodebook(nn.Module):
    """The codebook of a Gumbel VQGAN, with the names of its checkpoints.

    ``proj`` scores every code for an encoder vector, ``embed`` holds the codes.  taming's own class depends on its
    training loop; synthesis needs only these two weights.
    """

    def __init__(self, n_embed: int, embed_dim: int):
        super().__init__()
        self.proj = nn.Conv2d(embed_dim, n_embed, 1)
        self.embed = nn.Embedding(n_embed, embed_dim)

    def choose(self, h: Tensor) -> Tensor:
        """Encoder vectors [B,C,h,w] → the most likely code at each position [B,C,h,w]."""
        return rearrange(self.embed(self.proj(h).argmax(dim=1)), "b h w c -> b c h w")


class VQGAN(nn.Module):
    """Encoder, codebook and decoder of a VQGAN.

    Args:
        ddconfig: taming's own architecture keys (``ch``, ``ch_mult``, ``z_channels``, ``attn_resolutions``, …).
        n_embed: number of codes.
        embed_dim: channels of a code, and so of the latent.
        gumbel: the codebook is a Gumbel one (the OpenImages f8 checkpoint).
        norm_groups: groups of every GroupNorm.  taming fixes 32, which at 32 channels would normalise each
            channel alone and lose colour; small models want fewer.

    The latent is the input of ``post_quant_conv``: [B, embed_dim, H/f, W/f].
    """

    sha256: str  #: of the file the weights came from

    def __init__(
        self, ddconfig: dict, n_embed: int, embed_dim: int, gumbel: bool = False, norm_groups: int = _TAMING_GROUPS
    ):
        super().__init__()
        ddconfig = dict(ddconfig, ch_mult=tuple(ddconfig["ch_mult"]))
        with redirect_stdout(None):  # taming's decoder prints its latent's shape
            self.encoder = Encoder(**ddconfig)
            self.decoder = Decoder(**ddconfig)
        if gumbel:
            self.quantize = GumbelCodebook(n_embed, embed_dim)
        else:
            self.quantize = VectorQuantizer(n_embed, embed_dim, beta=0.25)
        self.quant_conv = nn.Conv2d(ddconfig["z_channels"], embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, ddconfig["z_channels"], 1)
        self.factor = 2 ** (len(ddconfig["ch_mult"]) - 1)
        self.channels = embed_dim
        self.strip: int | None = None  #: rows decoded at a time if no gradient is needed; None: all
        self.checkpointed = False  #: recompute the decoder's activations in the backward pass: less memory, slower
        if norm_groups != _TAMING_GROUPS:
            for module in self.modules():
                if isinstance(module, nn.GroupNorm):
                    module.num_groups = norm_groups

    @property
    def codebook(self) -> Tensor:
        """All codes, [n_embed, C]."""
        codebook = self.quantize
        return (codebook.embed if isinstance(codebook, GumbelCodebook) else codebook.embedding).weight

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of the latent for a picture of ``height`` × ``width`` pixels.

        Sizes are rounded down to whole positions: at f = 16, 450 pixels become 28 positions and 448 pixels.
        """
        return self.channels, height // self.factor, width // self.factor

    def decode_raw(self, z: Tensor) -> Tensor:
        """Latent [B,C,h,w] → the decoder's output [B,3,H,W], nominally in [-1,1] and not clipped."""
        return decode(self.decoder, self.post_quant_conv(z), self.checkpointed, self.strip)

    def decode(self, z: Tensor) -> Tensor:
        """Latent [B,C,h,w] → image [B,3,H,W] in [0,1] (algorithm.md, "image range")."""
        return (self.decode_raw(z).clamp(-1, 1) + 1) / 2

    def encode(self, image: Tensor) -> Tensor:
        """Image [B,3,H,W] in [0,1] → latent [B,C,h,w].

        Not quantised, except for a Gumbel model, whose encoder vectors are in another space than the codes: there the
        latent consists of the most likely codes.
        """
        h = self.quant_conv(encode(self.encoder, image * 2 - 1))
        return self.quantize.choose(h) if isinstance(self.quantize, GumbelCodebook) else h

    @full_precision()  # in bfloat16 many codes are equally near
    def quantise(self, z: Tensor) -> Tensor:
        """Latent [B,C,h,w] → the nearest code (Euclidean) at each position, same shape; without gradient."""
        codes = self.codebook
        flat = rearrange(z.detach().to(codes.dtype), "b c h w -> (b h w) c")
        distance = codes.square().sum(1) - 2 * flat @ codes.T  # the query's own norm does not change the argmin
        b, _, h, w = z.shape
        return rearrange(codes[distance.argmin(1)], "(b h w) c -> b c h w", b=b, h=h, w=w)
