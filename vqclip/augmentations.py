"""Augmentations: turn a picture into the crops that the perceptors see.

Pad, flip and affine are applied once to the picture, then square crops are cut and resized to the perceptor's input
(algorithm.md, rows "pad" to "crops").  Parameters are drawn separately from applying them, so that the same crops can
be cut again, in chunks, or for perceptors with different input sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vqclip.effects import Effects
from vqclip.precision import full_precision
from vqclip.rng import StepRandom
from vqclip.sampling import grid_sample, pad

__all__ = ["Augmentations", "CropDraw"]


@dataclass(frozen=True)
class CropDraw:
    """The random parameters for B pictures of N crops each."""

    flip: Tensor  #: bool [B]
    angle: Tensor  #: radians [B]
    shift: Tensor  #: x and y shift as a fraction of the padded width and height, [B,2]
    side: Tensor  #: crop side in pixels of the padded picture, whole numbers [B,N]
    top: Tensor  #: whole numbers [B,N]
    left: Tensor  #: whole numbers [B,N]
    weights: Tensor | None = None  #: of the crops in the loss, mean 1 [B,N]; None if all are equal
    effects: Mapping[str, Tensor] = field(default_factory=dict)  #: see :class:`vqclip.effects.Effects`


class Augmentations:
    """Pad, flip, affine, crops.

    Args:
        pad: padding on each of the four sides, as a fraction of that side; 0.5 doubles width and height.
        flip: probability of a horizontal flip.
        affine: ``{degrees, translate, interpolation}`` or None; rotation is uniform in ±degrees, shift uniform in
            ±translate of each padded side.
        crops: ``{count, mean, std, min, max, antialias}``; a crop's side is ``int(clip(N(mean, std), min, max) · s)``
            with s the picture's shorter side, its position uniform.  ``antialias`` averages when a crop is shrunk, so
            that the perceptor sees every pixel; without it, sampling is plain bilinear, as in the reference.
            Further keys: ``whole``, the fraction of crops that show the whole picture (its middle, if it is longer than
            the padded shorter side); ``stratified``: positions spread evenly over the picture (a Latin square);
            ``by_size`` and ``whole_weight``: a crop is weighted by ``side ** by_size``, whole pictures by
            ``whole_weight`` times that, normalised to a mean of 1.
        border: what pad and affine fill with: ``zeros``, or for a pad below 1 the picture mirrored (``reflect``) or
            repeated (``wrap``).
        effects: arguments of ``vqclip.effects.Effects``, or None.
    """

    def __init__(
        self,
        pad: float,
        flip: float,
        affine: Mapping | None,
        crops: Mapping,
        border: str = "zeros",
        effects: Mapping | None = None,
    ):
        self.pad, self.flip, self.border = pad, flip, border
        self.affine = dict(affine) if affine else None
        self.crops = {"whole": 0.0, "stratified": False, "by_size": 0.0, "whole_weight": 1.0, **crops}
        self.count: int = self.crops["count"]
        self.effects = Effects(**(effects or {}))

    def draw(self, rng: StepRandom, height: int, width: int) -> CropDraw:
        """Parameters for pictures of ``height`` × ``width`` pixels."""
        c, size = self.crops, min(height, width)
        padded_h, padded_w = (side + 2 * int(side * self.pad) for side in (height, width))
        scale = (c["mean"] + c["std"] * rng.normal("crops.side", self.count)).clamp(c["min"], c["max"])
        side = (scale * size).floor().clamp(1, min(padded_h, padded_w))
        place = rng.uniform("crops.place", self.count, 2)
        if c["stratified"]:
            place = (rng.uniform("crops.strata", self.count, 2).argsort(1) + place) / self.count
        room_h, room_w = padded_h - side, padded_w - side
        # A stratified position may be rounded up to 1, one pixel too far.
        top, left = (place[..., 0] * (room_h + 1)).floor(), (place[..., 1] * (room_w + 1)).floor()
        top, left = top.minimum(room_h), left.minimum(room_w)
        if whole := round(c["whole"] * self.count):
            side[:, :whole] = all_of_it = min(max(height, width), padded_h, padded_w)
            top[:, :whole], left[:, :whole] = (padded_h - all_of_it) // 2, (padded_w - all_of_it) // 2
        spread = rng.uniform("affine", 3) * 2 - 1
        degrees, translate = (self.affine["degrees"], self.affine["translate"]) if self.affine else (0.0, 0.0)
        return CropDraw(
            flip=rng.uniform("flip") < self.flip,
            angle=spread[:, 0] * math.radians(degrees),
            shift=spread[:, 1:] * translate,
            side=side,
            top=top,
            left=left,
            weights=self._weights(side, whole),
            effects=self.effects.draw(rng, self.count),
        )

    def _weights(self, side: Tensor, whole: int) -> Tensor | None:
        if not self.crops["by_size"] and (not whole or self.crops["whole_weight"] == 1):
            return None
        weights = (side / side.amax(1, keepdim=True)) ** self.crops["by_size"]
        weights[:, :whole] *= self.crops["whole_weight"]
        return weights / weights.mean(1, keepdim=True)

    @full_precision()  # bfloat16 cannot address more than a few hundred pixels
    def transform(self, image: Tensor, draw: CropDraw) -> Tensor:
        """Pad, flip and affine: image [B,3,H,W] → [B,3,H+2·pad,W+2·pad], in float32."""
        image = image.float()
        period = image.shape[-2:]
        pad_h, pad_w = (int(side * self.pad) for side in period)
        mode = {"zeros": "constant", "reflect": "reflect", "wrap": "circular"}[self.border]
        image = pad(image, (pad_w, pad_w, pad_h, pad_h), mode)
        if self.flip:
            image = torch.where(draw.flip.view(-1, 1, 1, 1), image.flip(-1), image)
        if not self.affine:
            return image
        h, w = image.shape[-2:]
        # The grid says where each output pixel reads: undo the shift, then the rotation about the centre.  Normalised
        # coordinates are [-1,1] on both axes, hence the aspect ratio in the rotation.
        cos, sin = draw.angle.cos(), draw.angle.sin()
        x, y = 2 * draw.shift[:, 0], 2 * draw.shift[:, 1]
        theta = torch.stack(
            [cos, sin * (h / w), -cos * x - sin * (h / w) * y, -sin * (w / h), cos, sin * (w / h) * x - cos * y], -1
        ).view(-1, 2, 3)
        grid = F.affine_grid(theta.to(image), list(image.shape), align_corners=False)
        fill = {"zeros": "zeros", "reflect": "reflection", "wrap": "border"}[self.border]
        if self.border == "wrap":
            grid = _wrapped(grid, (h, w), period)
        return grid_sample(image, grid, self.affine["interpolation"], fill, align_corners=False)

    @full_precision()
    def cut(self, padded: Tensor, draw: CropDraw, input_size: int, chunk: slice = slice(None)) -> Tensor:
        """Cut and resize a chunk of the crops of every picture.

        Args:
            padded: the result of ``transform``, [B,3,H',W'].
            input_size: side S of the perceptor's input.
            chunk: slice of the N crops; it selects n of them.

        Returns:
            [B·n,3,S,S], picture by picture, in float32.
        """
        padded = padded.float()
        side, top, left = draw.side[:, chunk], draw.top[:, chunk], draw.left[:, chunk]
        n = side.shape[1]
        h, w = padded.shape[-2:]
        ramp = torch.linspace(0, 1, input_size, device=padded.device, dtype=padded.dtype)
        rows = top[..., None] + ramp * (side[..., None] - 1)  # [B,n,S]: align_corners, so both ends are pixels
        cols = left[..., None] + ramp * (side[..., None] - 1)
        if self.crops["antialias"]:
            reach = (side / input_size).clamp(min=1)[..., None, None]
            down = _hat_weights(rows, h, reach)  # [B,n,S,H']
            across = _hat_weights(cols, w, reach)
            crops = torch.einsum("bnsh,bchw,bntw->bncst", down, padded, across)
            return self.effects(crops.flatten(0, 1), draw.effects, chunk)
        # All crops of a picture are sampled by one grid, stacked vertically, so that the picture is not copied.
        # max(…, 1): a region may be one pixel wide.
        grid = torch.stack(
            [
                (cols * 2 / max(w - 1, 1) - 1)[:, :, None, :].expand(-1, -1, input_size, -1),
                (rows * 2 / max(h - 1, 1) - 1)[:, :, :, None].expand(-1, -1, -1, input_size),
            ],
            dim=-1,
        ).flatten(1, 2)  # [B,n·S,S,2]
        crops = grid_sample(padded, grid.to(padded), "bilinear", "zeros", align_corners=True)
        crops = rearrange(crops, "b c (n h) w -> (b n) c h w", n=n)
        return self.effects(crops, draw.effects, chunk)

    def __call__(self, image: Tensor, rng: StepRandom, input_size: int) -> Tensor:
        """Image [B,3,H,W] → crops [B·N,3,S,S]: draw, transform and cut."""
        draw = self.draw(rng, *image.shape[-2:])
        return self.cut(self.transform(image, draw), draw, input_size)


def _wrapped(grid: Tensor, padded: tuple[int, int], period: Sequence[int]) -> Tensor:
    """Shift the sampling positions [B,H',W',2] outside a padded picture by whole pictures into it."""
    for axis, (length, size) in enumerate(zip(padded[::-1], period[::-1], strict=True)):
        at = ((grid[..., axis] + 1) * length - 1) / 2  # in pixels
        first = (length - size) // 2
        inside = torch.where((at < 0) | (at > length - 1), (at - first) % size + first, at)
        grid = torch.cat([grid[..., :axis], ((2 * inside + 1) / length - 1)[..., None], grid[..., axis + 1 :]], -1)
    return grid


def _hat_weights(centres: Tensor, length: int, reach: Tensor) -> Tensor:
    """Triangle filters of half-width ``reach`` pixels about ``centres`` [...,S] → weights [...,S,length].

    Rows sum to 1.
    """
    distance = (torch.arange(length, device=centres.device, dtype=centres.dtype) - centres[..., None]).abs()
    weights = (1 - distance / reach).clamp(min=0)
    return weights / weights.sum(-1, keepdim=True)
