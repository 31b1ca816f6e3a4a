"""The exceptions for a user's mistake and for a diverged run, and helpers for messages."""

from __future__ import annotations

import difflib
import errno
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = [
    "NO_ROOM",
    "Diverged",
    "UserError",
    "closest",
    "explain_refusals",
    "is_text",
    "message_of",
    "printable",
    "shown",
]

#: errno of a full disk, an exceeded quota and an exceeded file size limit.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class UserError(Exception):
    """A mistake that the user can fix.

    The message says what failed, the full key, what was given, what is allowed and the command that fixes it.  The
    command line prints it without a traceback and exits with its ``exit_status``.
    """

    exit_status = 2  #: 1 if a run had started and could not go on

    def __str__(self) -> str:
        return printable(super().__str__())


class Diverged(Exception):
    """The loss or the latent is NaN or infinite.  The message says at which step and which key to change."""


def printable(text: str) -> str:
    """Escape control and bidirectional characters of a text, since a name or a prompt may come from an untrusted file.

    Newlines and tabs stay, and the joiners U+200C and U+200D, which some scripts and emoji need.
    """
    return _STEERING.sub(lambda found: repr(found[0])[1:-1], text)


def is_text(value: str) -> bool:
    """Whether UTF-8 can encode it: JSON and YAML can spell a lone surrogate (``\\ud800``), UTF-8 cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def explain_refusals() -> Iterator[None]:
    """Turn an OSError about a file (no permission, a loop of links, a full disk) into a :class:`UserError`."""
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, str):
            raise
        command, place = "ls -ld", error.filename
        if error.errno in NO_ROOM:
            command, place = "df -h", os.path.dirname(error.filename) or "."
        raise UserError(f"{error.filename}: {error.strerror}. Try: {command} {shlex.quote(place)}") from error


def message_of(error: BaseException) -> str:
    """The message of an error; for errors other than :class:`UserError` with the type."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def closest(word: str, known: Iterable[str]) -> str:
    """`` Did you mean …?`` or nothing."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""


def shown(value: Any) -> str:
    """A value for a message, as one would type it: strings in quotes, shortened to 200 characters."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    try:
        if isinstance(value, Mapping):
            text = f"{{{', '.join(f'{name}: {shown(item)}' for name, item in value.items())}}}"
        elif isinstance(value, list):
            text = f"[{', '.join(map(shown, value))}]"
        else:
            text = repr(value) if isinstance(value, str) else str(value)
    except (RecursionError, ValueError):  # nested too deep; more digits than Python converts
        text = f"a {type(value).__name__} too deep or long to show"
    return text if len(text) <= 200 else f"{text[:199]}…"
