"""``vqclip dashboard SWEEP``: a saved W&B workspace for a sweep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vqclip.cli.arguments import ToolParser
from vqclip.compare.dashboard import build, describe, project_of
from vqclip.compare.pictures import find_runs, read_pictures
from vqclip.errors import UserError
from vqclip.paths import without_our_files

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """The command line tool."""
    parser = ToolParser(prog="vqclip dashboard", description="Create a saved W&B workspace for a sweep.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="SWEEP", help="the folder of a sweep, or run folders")
    parser.add_argument("--print", action="store_true", dest="show", help="print it as JSON; needs no account")
    parser.add_argument("--entity", help="user or team; default as the runs have it, else your own")
    parser.add_argument("--project", help="default as the runs have it")
    arguments = parser.parse_args(argv)
    pictures = read_pictures(find_runs(without_our_files(arguments.folders)))
    entity, project = project_of(pictures[0].config)
    entity, project = arguments.entity or entity, arguments.project or project
    if arguments.show:
        print(json.dumps(describe(build(pictures, entity or "ENTITY", project)), indent=2))
        return 0
    import wandb

    from vqclip.io.wandb_server import has_key, known_settings

    if not has_key(known_settings()):
        raise UserError("vqclip dashboard: no W&B key is known. Try: wandb login, or vqclip dashboard --print")
    if not (entity := entity or wandb.Api().default_entity):
        raise UserError("vqclip dashboard: no W&B user or team is known. Try: --entity NAME")
    print(build(pictures, entity, project).save().url)
    return 0
