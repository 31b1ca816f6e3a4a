"""Locks a folder for one process."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from vqclip.errors import UserError

__all__ = ["lock_folder"]


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, so that no other process writes into it; the system releases it when the process ends.

    Raises:
        UserError: another process holds it, or it cannot be written.
    """
    lock = folder / ".lock"
    if lock.is_symlink():
        raise UserError(f"{lock}: a symbolic link. Allowed: a file of vqclip's own. Try: rm {shlex.quote(str(lock))}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock, timeout=0).acquire()
    except Timeout:
        raise UserError(
            f"{folder}: another vqclip process is running in this folder. Wait until it ends, or stop it"
        ) from None
    except OSError as error:
        raise UserError(
            f"{folder}: no folder that can be written ({os.strerror(error.errno or 0)}). {_way_out(folder)}"
        ) from None
    with held:
        yield


def _way_out(folder: Path) -> str:
    """The advice for a folder that cannot be written; not every command can use another one."""
    if os.path.lexists(folder / "run.json"):
        copy = f"cp -r {shlex.quote(str(folder))} FOLDER && chmod -R u+w FOLDER && vqclip resume=FOLDER"
        return f"Allowed: another folder. To go on with the run in it, try: {copy}"
    if folder.is_absolute():
        return (
            "Try: hydra.run.dir=FOLDER, hydra.sweep.dir=FOLDER for a sweep, --to FOLDER for a film, "
            "or from Python folder=FOLDER"
        )
    return "Try: cd FOLDER, to one that can be written"
