"""``vqclip compare DIR…``: the contact sheet and page of a sweep, or of any runs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from vqclip.cli.arguments import ToolParser
from vqclip.compare.pictures import runs_in
from vqclip.compare.write import compare
from vqclip.errors import UserError, printable
from vqclip.paths import common_folder, without_our_files

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """The command line tool."""
    parser = ToolParser(
        prog="vqclip compare", description="Make the contact sheet and page of a sweep, or of any runs."
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="sweeps, runs, or folders that hold some")
    parser.add_argument("--out", type=Path, help="where to write; default the one DIR, or the folder that holds all")
    arguments = parser.parse_args(argv)
    folders = without_our_files(arguments.folders)
    for path in compare(folders, arguments.out or _place(folders)):
        print(printable(str(path)))
    return 0


def _runs(folders: Sequence[Path]) -> set[Path]:
    return {run for folder in folders for run in runs_in(folder)[0]}


def _place(folders: Sequence[Path]) -> Path:
    """The default place to write: the only folder, or the common parent folder.

    Raises:
        UserError: there is none; it is the root; or it is a sweep, whose own comparison is of all its runs, while only
            some are compared.
    """
    if len(folders) == 1:
        return folders[0]
    paths = [Path(os.path.abspath(folder)) for folder in folders]
    together = common_folder(paths)
    if together is None:
        why = "no folder holds all of these"
    elif together == together.parent:
        why = f"{together} holds all of these and is no place to write"
    elif (together / "multirun.yaml").exists() and _runs([together]) - _runs(paths):
        why = f"{together} is a sweep with runs beside these, and has its own comparison"
    else:
        return together
    words = shlex.join(map(str, folders))
    raise UserError(f"--out: missing; {why}. Allowed: a folder. Try: vqclip compare {words} --out compared")
