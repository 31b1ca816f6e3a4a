"""``vqclip sync SWEEP…``: uploads runs to W&B that are not uploaded yet, or were resumed since."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vqclip.cli.arguments import ToolParser
from vqclip.errors import UserError, printable
from vqclip.paths import without_our_files

__all__ = ["main"]

#: Records per ``wandb sync``: the system limits the length of a command.
_AT_ONCE = 200


def main(argv: Sequence[str]) -> int:
    """The command line tool; returns 1 if something could not be uploaded."""
    parser = ToolParser(
        prog="vqclip sync", description="Upload to W&B the runs, or parts of resumed runs, that it has not got yet."
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="sweeps, run folders, or outputs/")
    parser.add_argument("--dry-run", action="store_true", help="name what would be uploaded; needs no account")
    arguments = parser.parse_args(argv)
    folders = without_our_files(arguments.folders)
    # A shell pattern also matches sweep.json beside the runs: it stands for the sweep's comparison.
    folders += [path.parent for path in arguments.folders if path.name == "sweep.json" and path not in folders]
    records, left = _records(folders)
    for path in left if arguments.dry_run else ():
        print(printable(str(path)))
    print(f"{len(left)} of {len(records)} W&B records to upload")
    if arguments.dry_run or not left:
        return 0
    _refuse_without_server()
    from vqclip.loggers.wandb_files import files_outside, is_uploaded

    sent, refused = [], []
    for path in left:
        if outside := files_outside(path, folders):
            refused.append(_refusal(path, outside, folders))
        else:
            sent.append(path)
    for refusal in dict.fromkeys(refused):  # the same for all jobs of a moved sweep
        print(refusal, file=sys.stderr)
    for first in range(0, len(sent), _AT_ONCE):
        # -P: else Python would import wandb/ from the working folder, which may be untrusted.
        upload = [sys.executable, "-P", "-m", "wandb", "sync", "--include-online"]
        subprocess.run([*upload, *map(str, sent[first : first + _AT_ONCE])], check=False)

    failed = [path for path in left if not is_uploaded(path)]
    for path in failed:
        print(printable(f"vqclip sync: not uploaded: {path}"), file=sys.stderr)
    print(f"{len(left) - len(failed)} uploaded")
    return 1 if failed else 0


def _refusal(record: Path, outside: Sequence[Path | str], folders: Sequence[Path]) -> str:
    """Why a record that names files outside its folder is not uploaded."""
    gone = [path for path in outside if isinstance(path, Path) and not os.path.exists(path)]
    if moved := next(filter(None, (_moved(path, record, folders) for path in gone)), None):
        new, old = moved
        make = "" if old.parent.is_dir() else f"mkdir -p {shlex.quote(str(old.parent))} && "
        told = f"{new}: was moved or copied here, and W&B looks for its files in {old}, which is not there. If it is "
        told += f"yours, link it and sync again. Try: {make}{shlex.join(['ln', '-s', str(new), str(old)])}"
    elif len(gone) == len(outside):  # W&B would skip missing files and mark the record as uploaded
        told = f"{gone[0].parent}: has files of these runs that are not there, and W&B would leave them out for good. "
        told += "Allowed: with a copy of that folder in its place, from the machine where the runs were made"
    else:
        shown, more = next(one for one in outside if one not in gone), len(outside) - len(gone) - 1
        told = f"{record}: would send {shown}{f' and {more} more' if more else ''}, which is not of this run, and a "
        told += f"record may come from a stranger. If it is yours: wandb sync {shlex.quote(str(record))}"
    return printable(f"vqclip sync: {told}")


def _moved(named: Path, record: Path, folders: Sequence[Path]) -> tuple[Path, Path] | None:
    """The topmost moved folder of a record's file: where it is now, and where it was when the record was written."""
    whole = [folder.resolve() for folder in folders]
    for new in (record.resolve().parent.parent.parent, *whole):
        for n in range(1, len(named.parts)):
            old = Path(*named.parts[:n])
            if not os.path.isfile(new.joinpath(*named.parts[n:])) or os.path.lexists(old):
                continue
            while new not in whole and new.name == old.name and not os.path.lexists(old.parent):
                new, old = new.parent, old.parent
            return new, old
    return None


def _records(folders: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """All W&B records in the folders, and those not uploaded yet.

    Raises:
        UserError: a folder does not exist, or there is no record.
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
    copies: dict[tuple[str, str], list[Path]] = {}  # a folder's name consists of start time and run id
    for path in records:
        copies.setdefault((path.parent.name, path.name), []).append(path)
    whole = []  # the largest of copies, since one may have been made during the run
    for paths in copies.values():
        sizes = [path.stat().st_size for path in paths]
        whole.append([path for path, size in zip(paths, sizes, strict=True) if size == max(sizes)])
    return [paths[0] for paths in whole], [paths[0] for paths in whole if not any(map(is_uploaded, paths))]


def _refuse_without_server() -> None:
    from vqclip.io.wandb_server import has_key, is_reachable, known_settings

    settings = known_settings()
    if not has_key(settings):
        raise UserError("vqclip sync: no W&B key is known. Try: wandb login, or vqclip sync --dry-run FOLDER")
    if not is_reachable(settings.base_url, patience=10):
        raise UserError(f"vqclip sync: {settings.base_url} does not answer. Try again when it does; nothing is lost")
