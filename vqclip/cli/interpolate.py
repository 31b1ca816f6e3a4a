"""``vqclip interpolate RUN…``: a video from picture to picture through interpolated latents."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vqclip.checkpoints.check import card_errors
from vqclip.checkpoints.load import load_generator
from vqclip.classes import instantiate
from vqclip.cli.arguments import ToolParser, whole
from vqclip.config.check import mistakes
from vqclip.config.overrides import with_overrides
from vqclip.config.own_classes import class_errors
from vqclip.config.resolve import resolve
from vqclip.config.schema import ROOT
from vqclip.errors import UserError, printable
from vqclip.io.interpolation import MODES, Keyframe, frames_between
from vqclip.io.masks import MaskComposite
from vqclip.io.progress import bar
from vqclip.io.video import write_video
from vqclip.memory import move_to
from vqclip.models.vqgan import VQGAN
from vqclip.paths import without_our_files
from vqclip.protocols import InitContext
from vqclip.rng import StepRandom
from vqclip.runs.build import start_of
from vqclip.runs.folder import RunFolder

__all__ = ["main"]

_GIF_FPS = 50  #: GIF delays are in hundredths of a second, and players slow down delays below two


@dataclass(frozen=True)
class Decoder:
    """Decodes latents like a finished run.  Runs that decode alike have equal decoders."""

    generator: VQGAN
    latent: Mapping[str, Any]  #: config of the latent group, with ``_target_``
    keep: MaskComposite | None

    def __call__(self, z: Tensor) -> Tensor:
        image = self.generator.decode(instantiate(self.latent)(z, self.generator))
        return self.keep(image) if self.keep else image


def stops_of(folder: Path) -> tuple[list[Keyframe], dict]:
    """The best picture of each prompt and seed of a run, and the facts in which runs must agree.

    Raises:
        UserError: it is no run folder, is damaged, or is not finished.
    """
    run = RunFolder(folder)
    config, report = run.config(), run.finished_report()
    config = resolve(with_overrides(_read_of(config), [], str(run.config_file), report))
    if errors := _errors_in(config):
        raise UserError("\n".join(f"{run.config_file}: {error}" for error in errors))
    latents = [run.picture(i).latent(picture["best"]["step"]) for i, picture in enumerate(report["pictures"])]
    # An earlier run in this process may have left it on a GPU.
    generator = move_to(load_generator(config["checkpoints"]["generator"]), "cpu")
    height, width = config["size"]
    for i in range(len(latents)):
        run.picture(i).require_shape(generator.latent_shape(height, width))
    init: Any = start_of(config)[0] if "init" in config else None
    start = InitContext(generator, generator.latent_shape(height, width), [""], StepRandom([config["seed"]], 0), None)
    keep = init.keep(start) if hasattr(init, "keep") else None

    decode = Decoder(generator, config["latent"], keep)
    size = tuple(side * generator.factor for side in latents[0].shape[1:])
    name = config["checkpoints"]["generator"].get("name") or "generator"
    facts = {"size": f"{size[0]}×{size[1]}", "generator": generator.sha256, "name": name}
    return [Keyframe(latent, decode) for latent in latents], facts


def _read_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that decoding needs; files that only the steps read may be missing."""
    init = config["init"]
    keeps = any(init.get(key) is not None for key in ("mask", "ground"))
    keeps |= not str(init.get("_target_")).startswith("vqclip.")  # a custom init may always keep something
    wanted = {key: config.get(key) for key in ("size", "seed", "latent", *(["init"] if keeps else []))}
    return {**wanted, "checkpoints": {"generator": config["checkpoints"]["generator"], "perceptors": {}}}


def _errors_in(config: Mapping[str, Any]) -> list[str]:
    """Mistakes in the part of a config from :func:`_read_of`, which may have been edited."""
    checkpoints = config["checkpoints"]
    generator = checkpoints["generator"]
    return [error for key, part in config.items() for error in mistakes(part, ROOT.keys[key], key)] or [
        *card_errors("generator", "generator", generator),
        *class_errors(checkpoints),
    ]


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = ToolParser(
        prog="vqclip interpolate", description="Make a video that interpolates between the latents of pictures."
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, in the order of the video")
    parser.add_argument("--frames", type=whole(2), default=120, help="length of the whole video (120)")
    parser.add_argument("--fps", type=whole(1, 240), default=30, help="frames a second (30)")
    parser.add_argument("--mode", choices=MODES, default="spherical", help="the way between two latents (spherical)")
    parser.add_argument("--ease", action="store_true", help="slow down at every picture")
    parser.add_argument("--loop", action="store_true", help="go back to the first picture")
    parser.add_argument("--gif", action="store_true", help="also write a .gif beside the .mp4")
    parser.add_argument("--out", type=Path, help="the video (in the first run's folder, beside the run's own)")
    parser.add_argument("--show", action="store_true", help="open it when it is done")
    args = parser.parse_args(argv)
    args.runs = without_our_files(args.runs)
    if args.gif and args.fps > _GIF_FPS:
        raise UserError(f"--fps {args.fps}: too many for a GIF. Allowed: 1 to {_GIF_FPS}. Try: --fps {_GIF_FPS}")
    return args


def main(argv: Sequence[str]) -> int:
    """The command line tool."""
    args = _arguments(argv)
    path = args.out or args.runs[0] / "interpolate.mp4"
    if path.suffix != ".mp4":
        raise UserError(f"--out={path}: not a video name. Allowed: a name that ends in .mp4; --gif adds a GIF")
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
        raise UserError(f"{args.runs[0]}: one picture; a video needs two. Try: vqclip interpolate RUN RUN")
    if args.frames < len(stops):
        raise UserError(
            f"--frames={args.frames}: fewer than the {len(stops)} pictures. Allowed: {len(stops)} and more. "
            f"Try: --frames={30 * len(stops)}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    for out in [path, *([path.with_suffix(".gif")] if args.gif else [])]:
        frames = frames_between(stops, args.frames, args.mode, args.loop, args.ease)
        write_video(out, bar(frames, desc=out.name, total=args.frames, unit="frame"), args.fps)
        print(printable(str(out)))
    if args.show:
        show(path)
    return 0


def show(path: Path) -> None:
    """Open a file in the system's viewer; if there is none, print its path."""
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform == "win32":
        os.startfile(path)
    elif screen and shutil.which(opener):
        subprocess.Popen([opener, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    else:
        print(f"no viewer here; the video is {path.absolute()}")
