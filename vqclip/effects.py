"""Effects on single crops: perspective, colour jitter, sharpness, blur, erasing.  All are differentiable.

Each has a strength; at 0 it draws no random numbers and changes no pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.rng import StepRandom
from vqclip.sampling import grid_sample, pad

__all__ = ["Effects"]

#: Uniform numbers that each effect draws per crop.
_DRAWS = {"perspective": 8, "jitter": 4, "sharpness": 1, "blur": 1, "erase": 4}


class Effects:
    """Random effects on each crop.

    Args:
        perspective: the crop's corners move inwards by uniform fractions of its side, up to half of this.
        jitter: brightness, contrast and saturation are multiplied by uniform 1 ± this, the hue turns by up to ± this
            of the circle.
        sharpness: ``x + u · sharpness · (x − mean of 3 × 3)``, u uniform.
        blur: Gaussian, with a standard deviation uniform up to this fraction of the crop's side.
        erase: a rectangle becomes black; its area is uniform up to this fraction of the crop, its ratio 1:3 to 3:1.
    """

    def __init__(
        self,
        perspective: float = 0.0,
        jitter: float = 0.0,
        sharpness: float = 0.0,
        blur: float = 0.0,
        erase: float = 0.0,
    ):
        strengths = {"perspective": perspective, "jitter": jitter, "sharpness": sharpness, "blur": blur, "erase": erase}
        self.strengths = {name: value for name, value in strengths.items() if value}

    def draw(self, rng: StepRandom, count: int) -> dict[str, Tensor]:
        """Draw each effect's uniform numbers for B pictures of ``count`` crops, [B,N,·]."""
        return {name: rng.uniform(f"effects.{name}", count, _DRAWS[name]) for name in self.strengths}

    def __call__(self, crops: Tensor, drawn: Mapping[str, Tensor], chunk: slice) -> Tensor:
        """Apply the effects to crops [B·n,3,S,S], a ``chunk`` of every picture's."""
        acts = {"perspective": _perspective, "jitter": _jitter, "sharpness": _sharpness, "blur": _blur, "erase": _erase}
        for name, strength in self.strengths.items():
            crops = acts[name](crops, strength, drawn[name][:, chunk].flatten(0, 1).to(crops))
        return crops


def _perspective(crops: Tensor, strength: float, u: Tensor) -> Tensor:
    side = crops.shape[-1]
    corners = crops.new_tensor([[-1, -1], [1, -1], [-1, 1], [1, 1]])
    seen = corners * (1 - strength * u.view(-1, 4, 2))  # positions that the result's corners read from, [M,4,2]
    # x = (a·u + b·v + c) / (g·u + h·v + 1), and likewise y, at the four corners: eight equations.
    ones, zeros = torch.ones_like(seen[..., :1]), torch.zeros_like(seen)
    at = torch.cat([corners.expand_as(seen), ones], -1)  # [M,4,3]
    none = torch.cat([zeros, zeros[..., :1]], -1)
    rows = torch.cat(
        [
            torch.cat([at, none, -at[..., :2] * seen[..., :1]], -1),
            torch.cat([none, at, -at[..., :2] * seen[..., 1:]], -1),
        ],
        1,
    )
    solved = torch.linalg.solve(rows, torch.cat([seen[..., 0], seen[..., 1]], 1))  # [M,8]
    matrix = torch.cat([solved, ones[:, 0]], 1).view(-1, 3, 3)
    ramp = torch.linspace(-1, 1, side, device=crops.device, dtype=crops.dtype)
    y, x = torch.meshgrid(ramp, ramp, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], -1).view(1, -1, 3) @ matrix.transpose(1, 2)
    grid = (points[..., :2] / points[..., 2:]).view(-1, side, side, 2)
    return grid_sample(crops, grid, "bilinear", "border", align_corners=True)


#: RGB → YIQ: brightness and two colour axes, whose rotation rotates the hue.
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def _jitter(crops: Tensor, strength: float, u: Tensor) -> Tensor:
    brightness, contrast, saturation, hue = (strength * (2 * u - 1)).T.view(4, -1, 1, 1, 1)
    crops = crops * (1 + brightness)
    mean = crops.mean((1, 2, 3), keepdim=True)
    crops = mean + (crops - mean) * (1 + contrast)
    to = crops.new_tensor(_YIQ)
    angle, length = 2 * math.pi * hue.flatten(), 1 + saturation.flatten()
    cos, sin = length * angle.cos(), length * angle.sin()
    turn = torch.zeros(len(crops), 3, 3, device=crops.device, dtype=crops.dtype)
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = cos, -sin, sin, cos
    return torch.einsum("mij,mjhw->mihw", torch.linalg.inv(to) @ turn @ to, crops)


def _sharpness(crops: Tensor, strength: float, u: Tensor) -> Tensor:
    soft = F.avg_pool2d(crops, 3, stride=1, padding=1, count_include_pad=False)
    return crops + strength * u.view(-1, 1, 1, 1) * (crops - soft)


def _blur(crops: Tensor, strength: float, u: Tensor) -> Tensor:
    m, c, side, _ = crops.shape
    reach = min(side - 1, math.ceil(3 * strength * side))
    offsets = torch.arange(-reach, reach + 1, device=crops.device, dtype=crops.dtype)
    kernel = torch.exp(-0.5 * (offsets / (strength * side * u.view(-1, 1)).clamp(min=1e-3)).square())
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(c, 0)[:, None]  # [M·3,1,K]
    padded = pad(crops, (reach,) * 4, "reflect").reshape(1, m * c, side + 2 * reach, -1)
    down = F.conv2d(padded, kernel[..., None], groups=m * c)
    return F.conv2d(down, kernel[:, :, None], groups=m * c).view(m, c, side, side)


def _erase(crops: Tensor, strength: float, u: Tensor) -> Tensor:
    area, ratio = strength * u[:, 0], torch.exp((2 * u[:, 1] - 1) * math.log(3))
    height, width = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    top, left = u[:, 2] * (1 - height), u[:, 3] * (1 - width)
    at = (torch.arange(crops.shape[-1], device=crops.device, dtype=crops.dtype) + 0.5) / crops.shape[-1]
    rows = (at >= top[:, None]) & (at < (top + height)[:, None])
    columns = (at >= left[:, None]) & (at < (left + width)[:, None])
    return crops * ~(rows[:, None, :, None] & columns[:, None, None, :])
