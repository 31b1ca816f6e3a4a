"""``vqclip show [PROMPT…] [KEY=VALUE…]``: a config's schedules and cost, before it runs."""

from __future__ import annotations

import argparse
import csv
import logging
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vqclip.cli.arguments import ToolParser, parse_config
from vqclip.config.check import check
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve, time_varying
from vqclip.errors import UserError
from vqclip.runs.cost import TRIAL, Cost, sizes
from vqclip.schedules import AnySchedule, schedule

__all__ = ["main", "measure", "schedules_of", "text_plot"]

#: Numbers that are shown even if they are constant.
ALWAYS = ("loss.alpha", "loss.beta", "loss.anchor", "noise.factor", "optimizer.lr")
_LEVELS = "▁▂▃▄▅▆▇█"
_COLUMNS = 32


def main(argv: Sequence[str]) -> int:
    """The command line tool."""
    arguments, words = _parser().parse_known_args(argv)
    command = parse_config(words, "show")
    if taken := [word for word in command.overrides if word.startswith("resume=")]:
        raise UserError(f"{taken[0]}: not with show, and a run has its own config. Try: vqclip {shlex.quote(taken[0])}")
    config_dir = command.flags.get("--config-dir")
    config = resolve(compose(command.overrides, config_dir))
    check(config)
    lines = dict(schedules_of(config))
    width = max(map(len, lines))
    for name, line in lines.items():
        print(f"  {name:<{width}}  {text_plot(line)}")
    print(f"\n  {sizes(config)}")
    if arguments.png:
        draw(lines, arguments.png)
        print(arguments.png)
    if not arguments.quick:
        print(_cost_line(config, command.overrides, config_dir))
    return 0


def _parser() -> ToolParser:
    parser = ToolParser(
        prog="vqclip show",
        description="Show the schedules of a config and estimate its cost, before it runs.",
        epilog='Prompts and KEY=VALUE as for a run:  vqclip show experiment=from_noise steps=300 "a castle"',
    )
    parser.add_argument("--quick", action="store_true", help="skip the few steps that measure seconds and memory")
    parser.add_argument("--png", type=_png, metavar="FILE.png", help="also plot the schedules into this file")
    return parser


def _png(text: str) -> Path:
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"{text!r}: its name ends in .png")
    return Path(text)


def schedules_of(config: Mapping[str, Any]) -> Iterator[tuple[str, AnySchedule]]:
    """Dotted key → schedule, for :data:`ALWAYS` and every value that changes over the run."""
    groups = ((key, config.get(key.partition(".")[0]) or {}) for key in ALWAYS)
    always = {key: group.get(key.partition(".")[2]) for key, group in groups}
    for key, value in {**always, **dict(time_varying(config))}.items():
        # A custom class may lack a key; stages and overlays are no schedules.
        if value is not None and not (isinstance(value, Mapping) and {"share", "until"} & set(value)):
            yield key, schedule(value)


def text_plot(line: AnySchedule) -> str:
    """A schedule in one line of text: ``3 ████▇▇▆▅▄▃▂▁ 0.1  cosine``."""
    values = [line(i / (_COLUMNS - 1)) for i in range(_COLUMNS)]
    low, high = min(values), max(values)
    if low == high:
        return f"{low:g}"
    bars = "".join(_LEVELS[round((value - low) / (high - low) * (len(_LEVELS) - 1))] for value in values)
    return f"{values[0]:g} {bars} {values[-1]:g}  {line.shape}"


def _cost_line(config: Mapping[str, Any], overrides: Sequence[str], config_dir: str | None) -> str:
    print(f"measuring {TRIAL} steps of the whole batch (without them: --quick)", file=sys.stderr, flush=True)
    try:
        cost = measure(overrides, config_dir)
    except UserError as error:
        return f"  seconds and memory cannot be told: {str(error).splitlines()[0]}"
    return f"  {cost.line(config['steps'])} (measured just now, {TRIAL} steps)"


def measure(overrides: Sequence[str], config_dir: str | None = None) -> Cost:
    """Run the first steps of a config in a temporary folder.

    Raises:
        UserError: it cannot run here; nothing is downloaded for it.
    """
    began = time.perf_counter()
    from vqclip.runs.execute import execute

    few = [f"steps={TRIAL}", f"snapshot_every={TRIAL}"]
    with tempfile.TemporaryDirectory() as name, _offline(), _no_advice():
        config = resolve(compose([*overrides, *few], config_dir, name))
        if "restarts" in (config["search"] or {}):
            config["search"]["restarts"] = None  # trials would not fit into these few steps
        execute(config | {"logger": None, "callbacks": None}, Path(name))
        with open(Path(name) / "timing.csv", encoding="utf-8", newline="") as file:
            clock = [float(row["seconds"]) for row in csv.DictReader(file)]
    took = time.perf_counter() - began
    return Cost.of(clock[1:], start=took - (clock[-1] - clock[1]))


@contextmanager
def _offline() -> Iterator[None]:
    before = os.environ.get("VQCLIP_OFFLINE")
    os.environ["VQCLIP_OFFLINE"] = "1"
    try:
        yield
    finally:
        del os.environ["VQCLIP_OFFLINE"]
        if before is not None:
            os.environ["VQCLIP_OFFLINE"] = before


@contextmanager
def _no_advice() -> Iterator[None]:
    """Suppress the advice to resume an interrupted run, since its folder is temporary."""
    log = logging.getLogger("vqclip.runs.report")
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


def draw(lines: Mapping[str, AnySchedule], path: Path) -> None:
    """Plot the schedules one below the other into a PNG."""
    from PIL import Image, ImageDraw, ImageFont

    width, height, left = 480, 56, 150
    sheet = Image.new("RGB", (width, height * len(lines)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for row, (name, line) in enumerate(lines.items()):
        top, bottom = row * height + 10, (row + 1) * height - 10
        values = [line(i / 99) for i in range(100)]
        low, high = min(*values, 0), max(*values, 1e-9)
        points = [(left + i * 2.6, bottom - (v - low) / (high - low) * (bottom - top)) for i, v in enumerate(values)]
        pen.text((8, top + 8), name, fill="black", font=font)
        pen.line(points, fill=(94, 53, 177), width=2)
        pen.text((left + 268, points[-1][1] - 6), f"{values[-1]:g}", fill="grey", font=font)
    sheet.save(path)
