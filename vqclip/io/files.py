"""Writes files atomically, hashes them, and checks whether files and folders are safe to use."""

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
    """Write ``content`` atomically: at any moment, ``path`` is the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _naming(path):
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with open(temporary, "xb") as file:  # its mode follows the umask or the folder's ACL
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def append(path: Path, text: str) -> None:
    """Append to a file, which is created if missing; a symbolic link is an error and not followed."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    with _naming(path), os.fdopen(handle, "wb") as file:
        file.write(text.encode("utf-8", "backslashreplace"))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add ``path`` to every OSError, since the error of a full disk names no file."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def write_json(path: Path, content: dict) -> None:
    """Write ``content`` atomically as indented JSON."""
    atomic_write(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def takes_files(folder: str | Path) -> bool:
    """Whether a folder can be created, if necessary, and written to."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)  # like open()


def csv_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A CSV table with a column for every key in order of first occurrence; cells of missing keys are empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")  # file names may not be valid UTF-8


#: Bytes of the largest text file that is read; 100,000 prompts or a million steps need less.
_LARGEST = 512 * 2**20


def refuse_endless(path: Path) -> None:
    """Refuse pipes and devices, which might be read forever.

    Raises:
        OSError: it is one.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))


def refuse_large(path: Path) -> None:
    """Refuse a file that is too large; a sparse file takes no room on disk, but does in memory.

    Raises:
        OSError: it is too large.
    """
    if (size := path.stat().st_size) > _LARGEST:
        raise OSError(errno.EINVAL, f"it has {size / 2**20:,.0f} MB, and none may have more than 512", str(path))


def read_text(path: Path) -> str:
    """Read an untrusted text file in UTF-8.

    Raises:
        OSError: it does not exist, is a pipe or a device, or is too large.
        UnicodeDecodeError: it is not UTF-8.
    """
    refuse_endless(path)
    refuse_large(path)
    return path.read_text(encoding="utf-8")


def sha256(path: Path) -> str:
    """Hex sha256 of a file, cached until the file changes."""
    return _sha256(path, *version_of(path))


def version_of(path: Path) -> tuple[int, ...]:
    """What changes whenever a file is replaced or modified, without reading it."""
    now = path.stat()
    return now.st_dev, now.st_ino, now.st_size, now.st_ctime_ns


@lru_cache(maxsize=256)
def _sha256(path: Path, *_version: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
