"""``vqclip interpolate RUN…``: a video that goes from picture to picture through the latents between them."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from vqclip.callbacks import picture_folder
from vqclip.checkpoints import load_generator
from vqclip.errors import UserError
from vqclip.generators import VQGAN
from vqclip.init import Keep, Start
from vqclip.records import read_config, with_overrides
from vqclip.rng import Draws
from vqclip.video import pixels, write_video

__all__ = ["MODES", "Stop", "frames_between", "main", "path_of"]


def linear(a: Tensor, b: Tensor, t: float) -> Tensor:
    """``(1 − t) · a + t · b``."""
    return torch.lerp(a, b, t)


def spherical(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Along the arc between the directions of ``a`` and ``b``, their lengths between each other (Shoemake 1985).

    Between latents, unlike on a straight line, the length does not sag in the middle, nor do contrast and colour.
    """
    one, other = a.norm(), b.norm()
    angle = torch.arccos(((a / one) * (b / other)).sum().clamp(-1, 1))
    if angle.sin() < 1e-4:  # the same direction, or opposite ones, between which no arc is nearest
        return linear(a, b, t)
    way = (((1 - t) * angle).sin() * (a / one) + (t * angle).sin() * (b / other)) / angle.sin()
    return way * torch.lerp(one, other, t)


#: How to get from one latent [C,h,w] to another, t in [0,1].
MODES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"linear": linear, "spherical": spherical}


@dataclass(frozen=True)
class Stop:
    """A picture that the video passes through."""

    latent: Tensor  #: [C,h,w]
    decode: Callable[[Tensor], Tensor]  #: latents [1,C,h,w] → the pictures its run would make of them, [1,3,H,W]


@dataclass(frozen=True)
class Decoder:
    """What a finished run makes of a latent.  Runs that make the same of it are equal."""

    generator: VQGAN
    latent: DictConfig  #: the kind of latent
    keep: Keep | None

    def __call__(self, z: Tensor) -> Tensor:
        made = self.generator.decode(instantiate(self.latent)(z, self.generator))
        return self.keep(made) if self.keep else made


def path_of(stops: int, frames: int, loop: bool, ease: bool) -> Iterator[tuple[int, float]]:
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
    stops: Sequence[Stop], frames: int, mode: str, loop: bool = False, ease: bool = False
) -> Iterator[np.ndarray]:
    """The frames [H,W,3] uint8 of a video through ``stops``, one at a time."""
    for leg, t in path_of(len(stops), frames, loop, ease):
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


def stops_of(run: Path) -> tuple[list[Stop], dict]:
    """The best picture of each prompt and seed of a run, and what has to agree between runs.

    Raises:
        UserError: not a run folder, or not finished.
    """
    config = read_config(run)
    cfg = with_overrides(config, [], f"{run}/config.yaml")
    try:
        report = json.loads((run / "run.json").read_text())
        latents = [
            load_file(picture_folder(run, i) / "latents.safetensors")[f"{own['best']['step']:06d}"]
            for i, own in enumerate(report["pictures"])
        ]
    except (OSError, KeyError, ValueError):
        raise UserError(
            f"{run}: not finished, or files of it are missing. Allowed: finished runs. Try: vqclip resume={run}"
        ) from None
    generator = load_generator(cfg.checkpoints.generator).to(memory_format=torch.channels_last)  # as a run has it
    height, width = config["size"]
    init = instantiate(cfg.init)
    start = Start(generator, generator.latent_shape(height, width), [""], Draws([config["seed"]], 0), None)
    keep = init.keep(start) if hasattr(init, "keep") else None

    decode = Decoder(generator, cfg.latent, keep)
    size = tuple(side * generator.factor for side in latents[0].shape[1:])
    facts = {"size": f"{size[0]}×{size[1]}", "generator": generator.sha256, "name": cfg.checkpoints.generator.name}
    return [Stop(latent, decode) for latent in latents], facts


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="vqclip interpolate", description=__doc__.partition(":")[2].strip())
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, in the order of the video")
    parser.add_argument("--frames", type=_from(2), default=120, help="length of the whole video (120)")
    parser.add_argument("--fps", type=_from(1), default=30, help="frames a second (30)")
    parser.add_argument("--mode", choices=MODES, default="spherical", help="the way between two latents (spherical)")
    parser.add_argument("--ease", action="store_true", help="slow down at every picture")
    parser.add_argument("--loop", action="store_true", help="go back to the first picture")
    parser.add_argument("--gif", action="store_true", help="also write a .gif beside the .mp4")
    parser.add_argument("--out", type=Path, help="the video (interpolation.mp4 in the first run's folder)")
    parser.add_argument("--show", action="store_true", help="open it when it is done")
    return parser.parse_args(argv)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise UserError(f"interpolate: {message}. Try: vqclip interpolate --help")


def _from(low: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} up")
        return int(text)

    return number


def main(argv: Sequence[str]) -> int:
    """The tool."""
    args = _arguments(argv)
    path = args.out or args.runs[0] / "interpolation.mp4"
    if path.suffix != ".mp4":
        raise UserError(f"--out={path}: not a name of a video. Allowed: a name that ends in .mp4; --gif adds a GIF")
    stops, first = stops_of(args.runs[0])
    for run in args.runs[1:]:
        more, facts = stops_of(run)
        if facts["size"] != first["size"]:
            raise UserError(
                f"{run}: its pictures are of {facts['size']} pixels, those of {args.runs[0]} of {first['size']}. "
                "Allowed: runs of one size"
            )
        if facts["generator"] != first["generator"]:
            raise UserError(
                f"{run}: its latents are of another generator ({facts['name']}, {facts['generator'][:12]}) than those "
                f"of {args.runs[0]} ({first['name']}, {first['generator'][:12]}). Allowed: runs of one generator"
            )
        stops += more
    if len(stops) < 2:
        raise UserError(f"{args.runs[0]}: one picture, and a video goes between two. Try: vqclip interpolate RUN RUN")
    if args.frames < len(stops):
        raise UserError(
            f"--frames={args.frames}: fewer than the {len(stops)} pictures. Allowed: {len(stops)} and more. "
            f"Try: --frames={30 * len(stops)}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    for out in [path, *([path.with_suffix(".gif")] if args.gif else [])]:
        frames = frames_between(stops, args.frames, args.mode, args.loop, args.ease)
        write_video(out, tqdm(frames, desc=out.name, total=args.frames, unit="frame", dynamic_ncols=True), args.fps)
        print(out)
    if args.show:
        show(path)
    return 0


def show(path: Path) -> None:
    """Open a file in the viewer the system has for it; where there is none, say where the file is."""
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform == "win32":
        os.startfile(path)
    elif screen and shutil.which(opener):
        subprocess.Popen([opener, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    else:
        print(f"no viewer here; the video is {path.absolute()}")
