"""Writes files whole or not at all, and hashes them; whether a folder takes any."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = [
    "append",
    "atomic_write",
    "csv_bytes",
    "read_text",
    "refuse_endless",
    "refuse_large",
    "sha256",
    "takes_files",
    "version_of",
    "write_json",
]


def atomic_write(path: Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` is, at every moment, the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _naming(path):
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with open(temporary, "xb") as file:  # whose mode is the umask's, or the folder's own list's
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def append(path: Path, text: str) -> None:
    """Add to a file, made where it is not there; a symbolic link in its place is an error, not followed."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    with _naming(path), os.fdopen(handle, "wb") as file:
        file.write(text.encode("utf-8", "backslashreplace"))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name ``path`` in every OSError within: the system names no file where the disk is full."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def write_json(path: Path, content: dict) -> None:
    """Write ``content`` as indented JSON, whole."""
    atomic_write(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def takes_files(folder: str | Path) -> bool:
    """Whether a folder is there, made if need be, and may be written."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)  # as open() asks


def csv_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A table with a column for every key, in the order in which they first come; empty where a row lacks one."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")  # names of files may be no UTF-8


#: Bytes of the largest text that is read; the records of 100,000 prompts and a million steps have less.
_LARGEST = 512 * 2**20


def refuse_endless(path: Path) -> None:
    """Refuse what might be read for ever: pipes and devices.

    Raises:
        OSError: it is one.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))


def refuse_large(path: Path) -> None:
    """Refuse a file that is larger than any text: one with a hole in it takes no room on the disk, but in memory.

    Raises:
        OSError: it is.
    """
    if (size := path.stat().st_size) > _LARGEST:
        raise OSError(errno.EINVAL, f"it has {size / 2**20:,.0f} MB, and none may have more than 512", str(path))


def read_text(path: Path) -> str:
    """The content of a file in UTF-8 that anybody may have put there.

    Raises:
        OSError: there is none, it is a pipe or a device, or larger than any text.
        UnicodeDecodeError: it is something else.
    """
    refuse_endless(path)
    refuse_large(path)
    return path.read_text(encoding="utf-8")


def sha256(path: Path) -> str:
    """Hex digest of a file, read again only where it changed: a run asks twice, a sweep each job."""
    return _sha256(path, *version_of(path))


def version_of(path: Path) -> tuple[int, ...]:
    """What tells a file from the one that lay there before it, without reading it."""
    now = path.stat()
    return now.st_dev, now.st_ino, now.st_size, now.st_ctime_ns


@lru_cache(maxsize=256)
def _sha256(path: Path, *_version: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
