"""``vqclip film PROMPT… KEY=VALUE…``: a zoom, a story of scenes, or a restyled video, frame by frame."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from vqclip.cli.arguments import Command, ToolParser, parse_config, whole
from vqclip.cli.faults import in_a_line, own_line
from vqclip.errors import UserError
from vqclip.io.yaml_text import read_yaml
from vqclip.paths import dated_folder
from vqclip.runs.status import RunError

__all__ = ["main"]

_MOST = 1_000_000  #: of frames and the like: more is a typing mistake
_OF_A_VIDEO = {"stride": 1, "keep": 0.0}  #: options of --video and their defaults
_ABOUT = """\
Make a film.  Each frame is optimised for a few steps from the previous one,
moved by --zoom, --pan and --turn, or from a frame of --video.  Several prompts
are scenes, one after another.  --zoom, --pan and --turn may be schedules over
the film: --zoom '{start: 1, end: 1.05}'.  The first frame has the config's
steps, every other one (with --video, every one) --each.  The same command with
the same --to continues an interrupted film.

  vqclip film "a castle" --zoom 1.03 --frames 120
  vqclip film "a fox" "an owl" "a cat" --frames 90 --each 4
  vqclip film "a watercolor" --video in.mp4 --keep .3 loss.anchor=.5
"""


def _arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = ToolParser(
        prog="vqclip film",
        usage="vqclip film PROMPT... [KEY=VALUE...] [--config-dir DIR] [options]",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    count = whole(1, _MOST)
    parser.add_argument("--frames", type=count, default=60, help="number of frames (60); at most those of the video")
    parser.add_argument("--each", type=whole(0, _MOST), default=3, help="steps per frame, but for the first (3)")
    parser.add_argument("--zoom", type=_zoom, default=1.0, help="factor per frame, .01 to 100 (1)")
    parser.add_argument(
        "--pan", type=_pair, default=(0.0, 0.0), metavar="X,Y", help="pixels to the right and down, per frame"
    )
    parser.add_argument("--turn", type=_number, default=0.0, help="degrees clockwise per frame (0)")
    parser.add_argument(
        "--border", choices=("reflect", "wrap", "zeros"), default="reflect", help="what fills the border (reflect)"
    )
    parser.add_argument("--video", type=Path, help="a video, or a folder of pictures, to restyle")
    parser.add_argument("--stride", type=count, default=1, help="take every Nth frame of the video (1)")
    parser.add_argument("--keep", type=float, default=0.0, help="share of the previous frame that stays in, 0 to 1 (0)")
    parser.add_argument("--fps", type=whole(1, 240), help="frames per second (those of the video; else 24)")
    parser.add_argument("--to", type=Path, help="the film's folder (outputs/DATE/TIME)")
    args, words = parser.parse_known_args(_joined(argv))
    if not 0 <= args.keep <= 1:
        raise UserError(f"--keep {args.keep}: not allowed here. Allowed: 0 to 1. Try: --keep 0.3")
    if idle := [name for name, usual in _OF_A_VIDEO.items() if args.video is None and getattr(args, name) != usual]:
        raise UserError(f"--{idle[0]}: only with a video to restyle. Try: --video FILE, or no --{idle[0]}")
    if taken := [word for word in words if word.startswith("resume=")]:
        raise UserError(f"{taken[0]}: not allowed here. Allowed: the same command with --to, which goes on by itself")
    return args, words


def _joined(argv: Sequence[str]) -> list[str]:
    """Join ``--pan -2,0`` to ``--pan=-2,0``, since argparse takes a word that starts with a minus for an option."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] == "--pan" and re.match(r"-[\d.]", word):
            word = f"{words.pop()}={word}"
        words.append(word)
    return words


def _number(text: str, low: float = -1e6, high: float = 1e6) -> Any:
    """Parse a number or a schedule."""
    from vqclip.config.kinds import Scheduled

    try:
        value = float(text) if re.fullmatch(r"[-+]?\.\d+", text) else read_yaml(text)  # .5 is a string in YAML
        Scheduled(low, high).check(value)
    except ValueError:
        allowed = f"a number nor a schedule {{start: 1, end: 2}} from {low:g} to {high:g}"
        raise argparse.ArgumentTypeError(f"{text!r} is neither {allowed}") from None
    return value


def _zoom(text: str) -> Any:
    return _number(text, 0.01, 100.0)


def _pair(text: str) -> tuple[Any, Any]:
    try:
        x, y = read_yaml(f"[{text}]")
    except (ValueError, TypeError):
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y") from None
    return _number(str(x)), _number(str(y))


def main(argv: Sequence[str]) -> int:
    """The command line tool."""
    args, words = _arguments(argv)
    command = parse_config(words, "film")
    scenes, recorded = _scenes(command)
    from vqclip.io.progress import bar
    from vqclip.io.video import frame_rate
    from vqclip.runs.film import Camera, Film

    if args.fps is None:
        rate = frame_rate(args.video) if args.video else None
        # As an exact fraction within the encoder's limits, so that the film is as long as its video.
        args.fps = max(Fraction(1, 1000), (rate / args.stride).limit_denominator(1001)) if rate else 24
    args.frames = _frames(args, len(scenes))
    folder = args.to or Path(dated_folder("outputs"))
    options = {key: getattr(args, key) for key in ("frames", "each", "video", "stride", "keep", "fps")}
    camera = Camera(args.zoom, args.pan, args.turn, args.border)
    film = Film(folder, scenes, camera=camera, recorded=recorded, **options)
    to = f"--to {shlex.quote(str(folder))}"
    try:
        for _ in bar(film.run(), desc="frames", total=args.frames, initial=len(film.paths())):
            pass
    except UserError:
        raise
    except KeyboardInterrupt:
        print(f"stopped. To continue: the same command with {to}", file=sys.stderr)
        raise
    except Exception as error:
        if not (where := own_line(error)):
            raise
        raise RunError(
            f"{where}: {in_a_line(error)}. Its frames until then are kept. Once it is fixed: the same command with {to}"
        ) from error
    print(folder / "film.mp4")
    return 0


def _frames(args: argparse.Namespace, scenes: int) -> int:
    """The number of frames, over which scenes and schedules are spread.

    Raises:
        UserError: there are fewer frames than scenes.
    """
    from vqclip.io.video import count_frames

    if args.frames < scenes:
        raise UserError(
            f"--frames {args.frames}: fewer than the {scenes} scenes. Allowed: {scenes} and more. "
            f"Try: --frames {30 * scenes}"
        )
    if not args.video:
        return args.frames
    there = count_frames(args.video, args.stride)
    if 0 < there < scenes:  # a video without frames is refused where it is read
        denser = count_frames(args.video) // scenes
        raise UserError(
            f"--video {args.video}: {there} of its frames are taken, fewer than the {scenes} scenes. Allowed: a longer "
            "video, or fewer prompts" + (f". Try: --stride {denser}" if denser else "")
        )
    return min(args.frames, there)


def _scenes(command: Command) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The checked config of each scene, one per entry of ``prompts.include``; and the same as recorded."""
    from vqclip.config.check import check
    from vqclip.config.compose import compose
    from vqclip.config.resolve import resolve, without_secrets

    cfg = compose(command.overrides, command.flags.get("--config-dir"))
    config = resolve(cfg)
    neither = {"logger": None, "callbacks": None}  # a film has neither, but setting them is no mistake
    recorded = without_secrets(cfg, config) | neither
    config |= neither
    check(config)
    return _each_alone(config), _each_alone(recorded)


def _each_alone(config: dict[str, Any]) -> list[dict[str, Any]]:
    prompts = config["prompts"]
    if not isinstance(prompts["include"], list) or len(prompts["include"]) < 2:
        return [config]
    return [config | {"prompts": prompts | {"include": [entry]}} for entry in prompts["include"]]
