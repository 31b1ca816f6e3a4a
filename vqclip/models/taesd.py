"""Tiny autoencoders for diffusion models' latents: TAESD, TAESDXL, TAESD3, TAEF1 (Bohan, MIT).

The decoder has two million weights and no codebook, and takes an eighth of a VQGAN's time.  Files of three forms are
read: the decoder alone, encoder and decoder, and diffusers' ``AutoencoderTiny``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["TAESD"]

_WIDTH, _DEPTH = 64, 3  # channels, and blocks per level


def _conv(inputs: int, outputs: int, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **more)


class _Block(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [layer for _ in range(3) for layer in (_conv(_WIDTH, _WIDTH), nn.ReLU())]
        self.conv = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


class _SoftClamp(nn.Module):
    """Softly clamp latents to ±3."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


def _decoder(channels: int) -> nn.Sequential:
    layers: list[nn.Module] = [_SoftClamp(), _conv(channels, _WIDTH), nn.ReLU()]
    for _ in range(3):
        layers += [_Block() for _ in range(_DEPTH)]
        layers += [nn.Upsample(scale_factor=2), _conv(_WIDTH, _WIDTH, bias=False)]
    return nn.Sequential(*layers, _Block(), _conv(_WIDTH, 3))


def _encoder(channels: int) -> nn.Sequential:
    layers: list[nn.Module] = [_conv(3, _WIDTH), _Block()]
    for _ in range(3):
        layers += [_conv(_WIDTH, _WIDTH, stride=2, bias=False), *(_Block() for _ in range(_DEPTH))]
    return nn.Sequential(*layers, _conv(_WIDTH, channels))


class TAESD(nn.Module):
    """Latents [B,C,H/8,W/8], nominally standard normal → pictures.

    Args:
        channels: C, 4 for the latents of Stable Diffusion 1, 2 and XL, 16 for those of 3 and FLUX.1.
        encoder: whether there is an encoder; without it a run cannot start from a picture.
    """

    factor = 8

    def __init__(self, channels: int = 4, encoder: bool = True):
        super().__init__()
        self.channels = channels
        self.decoder = _decoder(channels)
        if encoder:
            self.encoder = _encoder(channels)
            self.encode = self._encode

    @staticmethod
    def arguments_from(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        renamed = {new: shapes[old] for old, new in TAESD.tensor_names(shapes).items()}
        return {"channels": renamed["decoder.1.weight"][1], "encoder": "encoder.0.weight" in renamed}

    @staticmethod
    def tensor_names(names: Iterable[str]) -> dict[str, str]:
        return {name: _own(name) for name in names}

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return self.channels, height // self.factor, width // self.factor

    def decode(self, z: Tensor) -> Tensor:
        """Latents [B,C,h,w] → pictures [B,3,8h,8w] in [0,1]."""
        return self.decoder(z).clamp(0, 1)

    def _encode(self, image: Tensor) -> Tensor:
        """Pictures [B,3,H,W] in [0,1] → latents [B,C,H/8,W/8]."""
        return self.encoder(image)


def _own(name: str) -> str:
    if re.match(r"\d+\.", name):  # a file of the decoder alone
        return f"decoder.{name}"
    if found := re.fullmatch(r"decoder\.layers\.(\d+)\.(.*)", name):  # diffusers', which has no clamp layer
        return f"decoder.{int(found[1]) + 1}.{found[2]}"
    return name.replace("encoder.layers.", "encoder.", 1)
