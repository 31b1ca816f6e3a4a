"""Interpolates between latents: the frames of a video that goes from picture to picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqclip.io.images import pixels

__all__ = ["MODES", "Keyframe", "frames_between", "timeline"]


def spherical(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Along the arc between the directions of ``a`` and ``b``, their lengths between each other (Shoemake 1985).

    Between latents, unlike on a straight line, the length does not sag in the middle, nor do contrast and colour.
    """
    one, other = a.norm(), b.norm()
    angle = torch.arccos(((a / one) * (b / other)).sum().clamp(-1, 1))
    if not angle.sin() >= 1e-4:  # the same direction, opposite ones, between which no arc is nearest, or none at all
        return torch.lerp(a, b, t)
    direction = (((1 - t) * angle).sin() * (a / one) + (t * angle).sin() * (b / other)) / angle.sin()
    return direction * torch.lerp(one, other, t)


#: How to get from one latent [C,h,w] to another, t in [0,1].
MODES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"linear": torch.lerp, "spherical": spherical}


@dataclass(frozen=True)
class Keyframe:
    """A picture that the video passes through."""

    latent: Tensor  #: [C,h,w]
    decode: Callable[[Tensor], Tensor]  #: latents [1,C,h,w] → the pictures its run would make of them, [1,3,H,W]


def timeline(stops: int, frames: int, loop: bool, ease: bool) -> Iterator[tuple[int, float]]:
    """For each frame: the stop behind it, and how far it is to the next, in [0,1).

    Every stop has a frame of its own; the first frame is the first stop and the last frame the last one.  A loop ends
    one frame before the first stop comes again.
    """
    legs = stops if loop else stops - 1
    at = [round(i * (frames if loop else frames - 1) / max(1, legs)) for i in range(legs + 1)]
    for leg in range(legs):
        for frame in range(at[leg], at[leg + 1]):
            t = (frame - at[leg]) / (at[leg + 1] - at[leg])
            yield leg, t * t * (3 - 2 * t) if ease else t
    if not loop:
        yield stops - 1, 0.0


@torch.no_grad()
def frames_between(
    stops: Sequence[Keyframe], frames: int, mode: str, loop: bool = False, ease: bool = False
) -> Iterator[np.ndarray]:
    """The frames [H,W,3] uint8 of a video through ``stops``, one at a time."""
    for leg, t in timeline(len(stops), frames, loop, ease):
        here = stops[leg]
        if t == 0:
            image = here.decode(here.latent[None])
        else:
            there = stops[(leg + 1) % len(stops)]
            between = MODES[mode](here.latent, there.latent, t)[None]
            # Each end may have a mask and a latent of its own kind: the picture passes from one's to the other's.
            image = here.decode(between)
            if there.decode != here.decode:
                image = torch.lerp(image, there.decode(between), t)
        yield pixels(image[0])
