"""Regions: the part of a picture that a prompt entry applies to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from vqclip.errors import UserError, closest, shown
from vqclip.io.images import open_picture

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SIDES", "Region", "box_of", "equal_regions", "largest_first", "parse_region"]

T = TypeVar("T")
#: Regions by name; any other text is the path of a mask picture.
SIDES = {
    "left": (0.0, 0.0, 0.5, 1.0),
    "right": (0.5, 0.0, 1.0, 1.0),
    "top": (0.0, 0.0, 1.0, 0.5),
    "bottom": (0.0, 0.5, 1.0, 1.0),
}


@dataclass(frozen=True)
class Region:
    """A part of the picture."""

    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)  #: x0, y0, x1, y1 as fractions of width and height
    mask: str | None = None  #: path of a picture, white where the region is

    @cached_property
    def white(self) -> Tensor | None:
        """The mask [1,1,H,W] in [0,1], read once, so that changing the file during a run has no effect."""
        from vqclip.io.pixels import read_image

        white = None if self.mask is None else read_image(self.mask, "black").mean(1, keepdim=True)
        if white is not None and not white.any():  # changed since the check
            raise UserError(f"{self.mask}: black all over. Allowed: a mask picture, white where the region is")
        return white

    @cached_property
    def name(self) -> str:
        """The name for its random numbers; a mask is named by its content, not its path."""
        if self.white is None:
            return repr(self)
        pixels = self.white[0, 0].mul(255).round().byte().numpy()
        return repr(Region(self.box, hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()))

    @property
    def share(self) -> float:
        """Its fraction of the picture's area, in [0,1]."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0) if self.white is None else self.white.mean().item()


def parse_region(value: Any, open_files: bool = False) -> Region | None:
    """Parse the region of a prompt entry; with ``open_files``, check that its mask opens and has some white.

    Raises:
        ValueError: it is not a region; says what is allowed.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return Region(SIDES[value]) if value in SIDES else _of_mask(value, open_files)
    numbers = isinstance(value, list | tuple) and len(value) == 4
    if not numbers or not all(isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= 1 for v in value):
        raise ValueError(f"its region is {shown(value)}; a box is [x0, y0, x1, y1], each from 0 to 1")
    x0, y0, x1, y1 = map(float, value)
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"its region is {shown(value)}; x0 < x1 and y0 < y1, from the upper left corner")
    return Region((x0, y0, x1, y1))


def equal_regions(count: int, across: bool) -> list[Region]:
    """Divide the picture into ``count`` equal regions from left to right (``across``) or from top to bottom."""
    edges = [i / count for i in range(count + 1)]
    return [Region((a, 0.0, b, 1.0) if across else (0.0, a, 1.0, b)) for a, b in pairwise(edges)]


def _of_mask(path: str, open_files: bool) -> Region:
    if not open_files:
        return Region(mask=path)
    from PIL import ImageChops

    try:
        *colours, alpha = open_picture(path).split()
    except ValueError as error:
        allowed = f"{', '.join(SIDES)}, [x0, y0, x1, y1] in parts of width and height, or a mask picture"
        raise ValueError(f"its region is {path!r}; it is {allowed}.{closest(path, SIDES)} ({error})") from None
    if not any(ImageChops.multiply(colour, alpha).getbbox() for colour in colours):
        raise ValueError(f"its region is {path!r}, black all over; a mask picture is white where the region is")
    return Region(mask=path)


def box_of(maps: Tensor, place: Region | None) -> tuple[Any, Tensor | None]:
    """The index of a region's box in pictures or latents [B,C,H,W], and its mask [1,1,h,w] in the box."""
    import torch.nn.functional as F

    if place is None:
        return ..., None
    height, width = maps.shape[-2:]
    if place.white is None:
        x0, y0, x1, y1 = place.box
        left, top = min(round(x0 * width), width - 1), min(round(y0 * height), height - 1)
        return (..., slice(top, max(round(y1 * height), top + 1)), slice(left, max(round(x1 * width), left + 1))), None
    white = F.interpolate(place.white, (height, width), mode="area").to(maps)
    most = min(0.5, white.max().item() / 2)  # below a half if the region is thinner than a position
    rows, columns = ((white[0, 0] > most).any(dim).nonzero().flatten() for dim in (1, 0))
    box = (..., slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    return box, white[box]


def largest_first(places: Mapping[Region, T]) -> list[tuple[Region, T]]:
    """Items by region, largest region first, so that smaller regions end up on top.

    The order must not depend on what else is in the batch.
    """
    return sorted(places.items(), key=lambda item: (-item[0].share, item[0].name, repr(item[0])))
