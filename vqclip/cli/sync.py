"""``vqclip sync SWEEP…``: upload to W&B what is not up yet: runs of a sweep or single ones, also resumed ones."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vqclip.cli.arguments import ToolParser
from vqclip.errors import UserError, printable
from vqclip.paths import without_our_files

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """The command line tool; 1 where something could not be uploaded."""
    parser = ToolParser(
        prog="vqclip sync", description="Upload to W&B the runs, or parts of resumed runs, that it has not got yet."
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="sweeps, run folders, or outputs/")
    parser.add_argument("--dry-run", action="store_true", help="name what would be uploaded; needs no account")
    arguments = parser.parse_args(argv)
    folders = without_our_files(arguments.folders)
    records, left = _records(folders)
    for path in left if arguments.dry_run else ():
        print(path)
    print(f"{len(left)} of {len(records)} W&B records to upload")
    if arguments.dry_run or not left:
        return 0
    _refuse_without_server()
    from vqclip.loggers.wandb_files import files_outside, is_uploaded

    sent = []
    for path in left:
        if outside := files_outside(path, folders):
            print(_refusal(path, outside), file=sys.stderr)
        else:
            sent.append(path)
    if sent:
        subprocess.run([sys.executable, "-m", "wandb", "sync", "--include-online", *map(str, sent)], check=False)

    failed = [path for path in left if not is_uploaded(path)]
    for path in failed:
        print(f"vqclip sync: not uploaded: {path}", file=sys.stderr)
    print(f"{len(left) - len(failed)} uploaded")
    return 1 if failed else 0


def _refusal(record: Path, outside: Sequence[str]) -> str:
    """Why a record is not uploaded that would send files from elsewhere."""
    more = f" and {len(outside) - 1} more" if len(outside) > 1 else ""
    return printable(
        f"vqclip sync: {record}: would send {outside[0]}{more}, which is not of this run, and a record may come from a "
        f"stranger. If it is yours: wandb sync {shlex.quote(str(record))}"
    )


def _records(folders: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """All W&B records in the folders, and those not uploaded yet.

    Raises:
        UserError: a folder that is not there, or no record at all.
    """
    from vqclip.loggers.wandb_files import is_uploaded, records_in

    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder. Allowed: a sweep, a run, or a folder of them")
    records = records_in(folders)
    if not records:
        shown = ", ".join(map(str, folders))
        raise UserError(
            f"{shown}: no W&B record in it. Allowed: runs made with logger=wandb, the default. Where WANDB_DIR put the "
            "records elsewhere: WANDB_DIR=FOLDER vqclip sync RUN"
        )
    return records, [path for path in records if not is_uploaded(path)]


def _refuse_without_server() -> None:
    from vqclip.io.wandb_server import has_key, is_reachable, known_settings

    settings = known_settings()
    if not has_key(settings):
        raise UserError("vqclip sync: no W&B key is known. Try: wandb login, or vqclip sync --dry-run FOLDER")
    if not is_reachable(settings.base_url, patience=10):
        raise UserError(f"vqclip sync: {settings.base_url} does not answer. Try again when it does; nothing is lost")
