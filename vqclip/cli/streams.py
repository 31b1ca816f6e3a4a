"""Makes the command's words and the three standard streams safe to use, whatever the shell hands over."""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import suppress
from typing import Any

from vqclip.errors import UserError

__all__ = ["as_text", "read_in_utf_8", "set_up_streams", "tell_what_was_lost"]


def read_in_utf_8() -> None:
    """Begin again in Python's UTF-8 mode where the locale is ASCII, which can name no file of other letters."""
    if sys.getfilesystemencoding() == "ascii" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def as_text(word: str) -> str:
    """A word of the command line; its bytes are read as UTF-8 where the system's locale could not read them.

    Raises:
        UserError: they are no UTF-8.
    """
    try:
        word.encode()
        return word
    except UnicodeEncodeError:
        try:
            return os.fsencode(word).decode()
        except UnicodeError:
            text = word.encode(errors="backslashreplace").decode()
            raise UserError(f"{text}: not in UTF-8. Allowed: words and prompts in UTF-8. Try: LC_ALL=C.UTF-8") from None


class _Lenient(io.FileIO):
    """stdout or stderr, whose errors end nothing: what is written to a full disk or a closed pipe is dropped."""

    lost: OSError | None = None  #: why something was

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            self.lost = error
            return len(data)


def set_up_streams() -> None:
    """The null device for a closed stream; backslash escapes where the encoding lacks a letter; :class:`_Lenient`."""
    logging.raiseExceptions = False  # a log that nobody reads on, or that finds no room, is no traceback
    for log in logging.getLogger().handlers:  # Hydra opens vqclip.log as the system writes, which may lack letters
        if isinstance(log, logging.FileHandler) and log.encoding == "locale" and log.stream:
            log.stream.reconfigure(encoding="utf-8")
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        stream = getattr(sys, name)
        if stream is None:  # the lowest free number is its own: no file that is opened later gets what is printed
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # what is no stream any more cannot be set up
                kind = type(getattr(stream.buffer, "raw", stream.buffer))  # the buffer is raw itself with python -u
                if stream.fileno() != number or kind is not io.FileIO:  # Windows' console is none, which takes UTF-16
                    stream.reconfigure(errors="backslashreplace")
                else:
                    at_once = name == "stderr" or stream.line_buffering or stream.write_through
                    setattr(sys, name, _lenient(stream, line_buffering=at_once))
                    stream.flush()


def _lenient(stream: io.TextIOWrapper, line_buffering: bool) -> io.TextIOWrapper:
    buffer = io.BufferedWriter(_Lenient(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=line_buffering)


def tell_what_was_lost() -> None:
    """Raise the error for which something that was printed on stdout did not arrive; it ended no run."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Lenient) and raw.lost:
        raise raw.lost
