"""Interpolates between latents, for videos that go from picture to picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqclip.io.images import pixels

__all__ = ["MODES", "Keyframe", "frames_between", "timeline"]


def spherical(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation of directions (Shoemake 1985), with linearly interpolated norms.

    Unlike on a straight line, the norm, and with it contrast and colour, does not drop in the middle.
    """
    one, other = a.norm(), b.norm()
    angle = torch.arccos(((a / one) * (b / other)).sum().clamp(-1, 1))
    if not angle.sin() >= 1e-4:  # parallel, opposite (the arc is not unique) or zero
        return torch.lerp(a, b, t)
    direction = (((1 - t) * angle).sin() * (a / one) + (t * angle).sin() * (b / other)) / angle.sin()
    return direction * torch.lerp(one, other, t)


#: Interpolations (a, b, t) of latents [C,h,w], t in [0,1].
MODES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"linear": torch.lerp, "spherical": spherical}


@dataclass(frozen=True)
class Keyframe:
    """A picture that the video passes through."""

    latent: Tensor  #: [C,h,w]
    decode: Callable[[Tensor], Tensor]  #: latents [1,C,h,w] → pictures [1,3,H,W], as its run would decode them


def timeline(stops: int, frames: int, loop: bool, ease: bool) -> Iterator[tuple[int, float]]:
    """For each frame: the previous stop, and the fraction of the way to the next, in [0,1).

    Every stop coincides with a frame; the first and last frames are the first and last stops.  A loop ends one frame
    before the first stop comes again.
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
            # The ends may differ in mask and kind of latent, so both pictures are blended.
            image = here.decode(between)
            if there.decode != here.decode:
                image = torch.lerp(image, there.decode(between), t)
        yield pixels(image[0])
