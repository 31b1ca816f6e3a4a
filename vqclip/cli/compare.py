"""``vqclip compare DIR…``: the contact sheet and page of a sweep, or of any runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vqclip.cli.arguments import ToolParser
from vqclip.compare.write import compare

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """The command line tool."""
    parser = ToolParser(
        prog="vqclip compare", description="Make the contact sheet and page of a sweep, or of any runs."
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="sweeps, runs, or folders that hold some")
    parser.add_argument("--out", type=Path, help="where to write; default the one DIR, or the folder that holds all")
    arguments = parser.parse_args(argv)
    together = Path(os.path.commonpath([folder.absolute() for folder in arguments.folders]))
    out = arguments.out or (arguments.folders[0] if len(arguments.folders) == 1 else together)
    for path in compare(arguments.folders, out):
        print(path)
    return 0
