"""``vqclip rerun RUN|PNG [overrides]``: reproduces a run from its record, and says whether the bytes agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vqclip.cli.arguments import parse_arguments
from vqclip.cli.faults import explain_faults
from vqclip.errors import UserError, printable
from vqclip.paths import dated_folder
from vqclip.runs.rerun import rerun

__all__ = ["main"]

_USAGE = """vqclip rerun RUN|PNG [overrides]

Reproduces a run, or the run that a picture came from, from its record, in a new
folder, and compares the pictures.

  vqclip rerun outputs/2026-01-31/12-00-00-000000
  vqclip rerun picture.png
  vqclip rerun picture.png steps=200   with a change: how much does it alter?

A record holds resolved values: where a recipe derives optimizer.lr from steps,
steps=200 does not change it here.  Exit status: 0 same bytes, or changes were
asked for; 1 something differs, or there was nothing to compare; 2 it cannot be
reproduced."""


def main(argv: Sequence[str]) -> int:
    """The command line tool."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if argv else 2
    command = parse_arguments(argv[1:])
    for flag in command.flags:
        raise UserError(f"{flag}: rerun takes overrides (key=value) and prompts, no flags. See vqclip rerun --help")
    folder = Path(dated_folder("outputs"))
    with explain_faults(folder):
        lines, same = rerun(Path(argv[0]), command.overrides, folder)
    print(printable("\n".join(lines)))
    return 0 if same or command.overrides else 1
