"""``vqclip evaluate RUN…``: scores pictures with two judges that did not guide the runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vqclip.cli.arguments import ToolParser
from vqclip.compare.pictures import name_links, runs_in
from vqclip.compare.write import refuse_others
from vqclip.errors import UserError, printable
from vqclip.io.files import atomic_write, csv_bytes, read_text, takes_files
from vqclip.io.progress import counted
from vqclip.io.run_files import PictureFolder
from vqclip.io.yaml_text import read_yaml
from vqclip.paths import without_our_files
from vqclip.runs.evaluate import Verdict, judge_scored, scored_pictures

__all__ = ["main"]


_BATTERY = """the frozen prompts instead: --battery FOLDER key=value… draws them by that config into FOLDER, or what is
    missing there; --battery FOLDER FOLDER… compares what was drawn"""


def main(argv: Sequence[str]) -> int:
    """The command line tool."""
    parser = ToolParser(prog="vqclip evaluate", description="Score pictures by two judges that did not guide the runs.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs, sweeps, or folders that hold some")
    parser.add_argument("--final", action="store_true", help="judge the last picture instead of the best")
    parser.add_argument("--battery", action="store_true", help=_BATTERY)
    parser.add_argument("--seeds", help="of the battery: 0,1,2 (default 0)")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.battery:
        return _battery(arguments.runs, arguments.seeds)
    folders = without_our_files([Path(word) for word in arguments.runs])
    file = "final.png" if arguments.final else "best.png"
    runs, pictures = _judged(folders, file)
    several_in = folders[0] if len(folders) == 1 and runs != folders else None
    if several_in:
        refuse_others(several_in, ["judge.csv"])
        if not takes_files(several_in):  # runs named one by one get no table
            again = f"vqclip evaluate {shlex.quote(str(several_in))}/*"
            raise UserError(f"{several_in}: no folder that can be written. Allowed: its runs by name. Try: {again}")
    verdicts = list(counted(judge_scored(pictures, file), len(pictures), "judging"))
    _print(verdicts)
    if several_in:
        path = several_in / "judge.csv"
        atomic_write(path, csv_bytes([_row(verdict, several_in) for verdict in verdicts]))
        print(printable(str(path)))
    return 0


def _print(verdicts: Sequence[Verdict]) -> None:
    """Print one line per picture, and one per judge."""
    several = len({verdict.prompt for verdict in verdicts}) > 1
    for v in verdicts:
        scores = "  ".join(
            f"{_spoken(name)} {opinion.similarity:.3f}" + (f" rank {opinion.rank}" if several else "")
            for name, opinion in v.opinions.items()
        )
        print(f"{scores}  guide {v.guide:.3f}  {printable(f'{v.prompt}  {v.picture}')}")
    for name in verdicts[0].opinions:
        opinions = [verdict.opinions[name] for verdict in verdicts]
        mean = sum(opinion.similarity for opinion in opinions) / len(opinions)
        first = sum(opinion.rank == 1 for opinion in opinions)
        ranked = f", {first} of {len(opinions)} rank their own prompt first" if several else ""
        print(f"mean {_spoken(name)} {mean:.3f}{ranked}")


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _row(v: Verdict, folder: Path) -> dict[str, Any]:
    """A picture's row of ``judge.csv``."""
    place = v.picture.parent
    number = int(place.name.removeprefix("picture-"))  # run and picture are named as in results.csv
    row = {"run": place.parent.relative_to(folder), "picture": number, "prompt": v.prompt, "guide": v.guide}
    for name, opinion in v.opinions.items():
        row |= {name: opinion.similarity, f"{name}_rank": opinion.rank}
    return row


def _battery(words: Sequence[str], seeds: str | None) -> int:
    """Draw a battery, or what is missing of it, and judge it; or compare several batteries."""
    from vqclip.compare.battery import judge_battery, trend

    folders = [Path(word) for word in words if "=" not in word]
    overrides = [word for word in words if "=" in word]
    if not folders or (overrides and len(folders) > 1):
        raise UserError(
            "--battery: allowed are one folder with overrides, or folders alone. "
            "Try: vqclip evaluate --battery outputs/battery steps=40"
        )
    if len(folders) == 1:
        _draw_battery(folders[0], overrides, seeds)
        judge_battery(folders[0])
    print(trend(folders))
    return 0


def _draw_battery(folder: Path, overrides: Sequence[str], seeds: str | None) -> None:
    """Run a battery's sweep, or what is missing of it.  A folder keeps the settings that it began with."""
    from vqclip.cli.main import main as vqclip
    from vqclip.compare.battery import battery
    from vqclip.config.grammar import quote

    if taken := [word for word in overrides if word.lstrip("+").startswith("seed=")]:
        raise UserError(f"{taken[0]}: not with --battery. Try: --seeds {taken[0].partition('=')[2]}")
    settings = folder / "battery.yaml"
    first = _first_settings(settings) if settings.is_file() else []
    seed = f"seed={seeds}" if seeds else (first or ["seed=0"])[-1]
    asked = [*(overrides or first[:-1]), seed]
    if first and asked != first:
        another = f"{folder}-2"
        while Path(another).exists():
            another += "-2"
        again = shlex.join(["vqclip", "evaluate", "--battery", another, *asked[:-1], "--seeds", seed[len("seed=") :]])
        raise UserError(f"{folder}: drawn with {' '.join(first)}. Allowed: the same, or neither. Try: {again}")
    atomic_write(settings, yaml.safe_dump(asked).encode())
    prompts = ",".join(f"[{quote(prompt)}]" for prompt in battery()["prompts"])
    try:
        vqclip(["-m", *asked, f"prompts.include={prompts}", f"hydra.sweep.dir={quote(str(folder))}"])
    except SystemExit:
        if not (folder / "multirun.yaml").exists():  # refused: no job has used these settings
            settings.unlink()
        raise


def _first_settings(settings: Path) -> list[str]:
    """The overrides that a battery's folder began with."""
    try:
        found = read_yaml(read_text(settings))
    except (OSError, ValueError) as error:
        found, what = None, str(error)
    else:
        what = "no list of overrides"
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise UserError(f"{settings}: {what}. Allowed: what vqclip wrote. Try: rm {shlex.quote(str(settings))}")
    return found


def _judged(folders: Sequence[Path], file: str) -> tuple[list[Path], list[tuple[PictureFolder, str, float]]]:
    """The runs among and in ``folders`` that can be judged, and their pictures; notes on the others are printed."""
    runs, pictures, left_out, named, links = [], [], [], [], []
    for folder in folders:
        try:
            found, led = runs_in(folder)
        except UserError as error:
            left_out.append(error)
            continue
        named += found
        links += led
    for run in counted(named, len(named), "reading"):
        try:
            pictures += scored_pictures(run, file)
            runs.append(run)
        except UserError as error:
            left_out.append(error)
    name_links(links, named)
    if not runs and len(left_out) == 1:
        raise left_out[0]
    for error in left_out:
        print(f"left out: {error}", file=sys.stderr)
    if not runs:
        asked = " ".join(map(str, folders))
        raise UserError(f"{asked}: nothing to judge, for the reasons above. Allowed: finished runs")
    return runs, pictures
