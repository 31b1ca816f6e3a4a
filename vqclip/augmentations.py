"""Augmentations: an image becomes the crops that the perceptor looks at.

Pad, flip and affine act once on the picture, then square crops are cut and resized to the perceptor's input
(algorithm.md, rows "pad" to "crops").  Drawing the parameters is apart from applying them, so the same crops can be
cut again, in chunks, or for perceptors of several input sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.rng import StepRandom

__all__ = ["Augmentations", "CropDraw"]


@dataclass(frozen=True)
class CropDraw:
    """What was drawn for B pictures of N crops each."""

    flip: Tensor  #: bool [B]
    angle: Tensor  #: radians [B]
    shift: Tensor  #: x and y shift as a share of the padded width and height, [B,2]
    side: Tensor  #: crop side in pixels of the padded picture, whole numbers [B,N]
    top: Tensor  #: whole numbers [B,N]
    left: Tensor  #: whole numbers [B,N]


class Augmentations:
    """Pad, flip, affine, crops.

    Args:
        pad: zeros added on all four sides, as a share of each side; 0.5 doubles the picture.
        flip: probability of a horizontal flip.
        affine: ``{degrees, translate, interpolation}``, or None for none; rotation is uniform in ±degrees, shift
            uniform in ±translate of each padded side, holes are zeros.
        crops: ``{count, mean, std, min, max, antialias}``; a crop's side is ``int(clip(N(mean, std), min, max) · s)``
            with s the picture's shorter side, its place uniform.  ``antialias`` averages where a crop is shrunk, so
            that the perceptor sees every pixel; without it, the sampling is plain bilinear, as in the reference.
    """

    def __init__(self, pad: float, flip: float, affine: Mapping | None, crops: Mapping):
        self.pad, self.flip = pad, flip
        self.affine = dict(affine) if affine else None
        self.crops = dict(crops)
        self.count: int = self.crops["count"]

    def draw(self, rng: StepRandom, height: int, width: int) -> CropDraw:
        """Parameters for pictures of ``height`` × ``width`` pixels."""
        c, size = self.crops, min(height, width)
        padded_h, padded_w = (side + 2 * int(side * self.pad) for side in (height, width))
        scale = (c["mean"] + c["std"] * rng.normal("crops.side", self.count)).clamp(c["min"], c["max"])
        side = (scale * size).floor().clamp(1, min(padded_h, padded_w))
        place = rng.uniform("crops.place", self.count, 2)
        spread = rng.uniform("affine", 3) * 2 - 1
        degrees, translate = (self.affine["degrees"], self.affine["translate"]) if self.affine else (0.0, 0.0)
        return CropDraw(
            flip=rng.uniform("flip") < self.flip,
            angle=spread[:, 0] * math.radians(degrees),
            shift=spread[:, 1:] * translate,
            side=side,
            top=(place[..., 0] * (padded_h - side + 1)).floor(),
            left=(place[..., 1] * (padded_w - side + 1)).floor(),
        )

    def transform(self, image: Tensor, draw: CropDraw) -> Tensor:
        """Pad, flip and affine: image [B,3,H,W] → [B,3,H+2·pad,W+2·pad]."""
        h, w = image.shape[-2:]
        pad_h, pad_w = int(h * self.pad), int(w * self.pad)
        image = F.pad(image, (pad_w, pad_w, pad_h, pad_h))
        if self.flip:
            image = torch.where(draw.flip.view(-1, 1, 1, 1), image.flip(-1), image)
        if not self.affine:
            return image
        h, w = image.shape[-2:]
        # For every output pixel, where to read: rotate back about the centre what was shifted back.  Normalised
        # coordinates run over [-1,1] on both axes, hence the aspect ratio in the rotation.
        cos, sin = draw.angle.cos(), draw.angle.sin()
        x, y = 2 * draw.shift[:, 0], 2 * draw.shift[:, 1]
        theta = torch.stack(
            [cos, sin * (h / w), -cos * x - sin * (h / w) * y, -sin * (w / h), cos, sin * (w / h) * x - cos * y], -1
        ).view(-1, 2, 3)
        grid = F.affine_grid(theta.to(image), list(image.shape), align_corners=False)
        return F.grid_sample(image, grid, mode=self.affine["interpolation"], align_corners=False)

    def cut(self, padded: Tensor, draw: CropDraw, input_size: int, which: slice = slice(None)) -> Tensor:
        """Cut and resize the crops ``which`` of every picture.

        Args:
            padded: what :meth:`transform` gave, [B,3,H',W'].
            input_size: side S of the perceptor's input.
            which: slice of the N crops; n of them.

        Returns:
            [B·n,3,S,S], picture by picture.
        """
        side, top, left = draw.side[:, which], draw.top[:, which], draw.left[:, which]
        b, n = side.shape
        h, w = padded.shape[-2:]
        ramp = torch.linspace(0, 1, input_size, device=padded.device, dtype=padded.dtype)
        rows = top[..., None] + ramp * (side[..., None] - 1)  # [B,n,S]: align_corners, so both ends are pixels
        cols = left[..., None] + ramp * (side[..., None] - 1)
        if self.crops["antialias"]:
            reach = (side / input_size).clamp(min=1)[..., None, None]
            down = _hat_weights(rows, h, reach)  # [B,n,S,H']
            across = _hat_weights(cols, w, reach)
            crops = torch.einsum("bnsh,bchw,bntw->bncst", down, padded, across)
            return crops.flatten(0, 1)
        # One sampling for all crops of a picture: they lie under one another on the grid, the picture is not copied.
        grid = torch.stack(
            [
                (cols * 2 / (w - 1) - 1)[:, :, None, :].expand(-1, -1, input_size, -1),
                (rows * 2 / (h - 1) - 1)[:, :, :, None].expand(-1, -1, -1, input_size),
            ],
            dim=-1,
        ).flatten(1, 2)  # [B,n·S,S,2]
        crops = F.grid_sample(padded, grid.to(padded), mode="bilinear", align_corners=True)
        return crops.view(b, 3, n, input_size, input_size).transpose(1, 2).flatten(0, 1)

    def __call__(self, image: Tensor, rng: StepRandom, input_size: int) -> Tensor:
        """Image [B,3,H,W] → crops [B·N,3,S,S]: draw, transform and cut in one."""
        draw = self.draw(rng, *image.shape[-2:])
        return self.cut(self.transform(image, draw), draw, input_size)


def _hat_weights(centres: Tensor, length: int, reach: Tensor) -> Tensor:
    """Triangle filters of half-width ``reach`` pixels about ``centres`` [...,S] → weights [...,S,length].

    Rows sum to 1.
    """
    distance = (torch.arange(length, device=centres.device, dtype=centres.dtype) - centres[..., None]).abs()
    weights = (1 - distance / reach).clamp(min=0)
    return weights / weights.sum(-1, keepdim=True)
