"""The exceptions for a user's mistake and for a run that diverged, and how errors are told."""

from __future__ import annotations

import difflib
import errno
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["NO_ROOM", "Diverged", "UserError", "closest", "explain_refusals", "is_text", "printable", "shown", "told"]

#: What a full disk, a quota and a limit of a file's size are told by.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class UserError(Exception):
    """A mistake that the user can fix.

    The message says what failed, the full key, what was given, what is allowed and the command that fixes it.  The
    command line prints it without a traceback and exits with its ``exit_status``.
    """

    exit_status = 2  #: a mistake; 1 where a run began and could not go on

    def __str__(self) -> str:
        return printable(super().__str__())


class Diverged(Exception):
    """The loss or the latent is NaN or infinite: at which step, and the likely cause with the key to change."""


def printable(text: str) -> str:
    """A text as a terminal may have it: what would steer the terminal, or turn its letters round, is escaped.

    Lines and tabs stay, and the joiners U+200C and U+200D, which scripts and emoji need.
    A name or a prompt may be a stranger's.
    """
    return _STEERING.sub(lambda found: repr(found[0])[1:-1], text)


def is_text(value: str) -> bool:
    """Whether a file can hold it: JSON and YAML can spell half a character (``\\ud800``), UTF-8 cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def explain_refusals() -> Iterator[None]:
    """What the system refuses about a file, as a :class:`UserError`: no permission, a loop of links, no room."""
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, str):
            raise
        command, place = "ls -ld", error.filename
        if error.errno in NO_ROOM:
            command, place = "df -h", os.path.dirname(error.filename) or "."
        raise UserError(f"{error.filename}: {error.strerror}. Try: {command} {shlex.quote(place)}") from error


def told(error: BaseException) -> str:
    """What an error says; of one that is no :class:`UserError` its type too."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def closest(word: str, known: Iterable[str]) -> str:
    """`` Did you mean …?`` or nothing."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""


def shown(value: Any) -> str:
    """A value for a message, as it is typed: texts in quotes, and none of it long."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    try:
        if isinstance(value, Mapping):
            text = f"{{{', '.join(f'{name}: {shown(item)}' for name, item in value.items())}}}"
        elif isinstance(value, list):
            text = f"[{', '.join(map(shown, value))}]"
        else:
            text = repr(value) if isinstance(value, str) else str(value)
    except (RecursionError, ValueError):  # a list in a list in a list …; a number of more digits than Python writes
        text = f"a {type(value).__name__} too deep or long to show"
    return text if len(text) <= 200 else f"{text[:199]}…"
