"""Makes command line words and standard streams safe, whatever the shell passes."""

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
    """Restart in Python's UTF-8 mode if the locale is ASCII, which cannot name files with other letters."""
    if sys.getfilesystemencoding() == "ascii" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def as_text(word: str) -> str:
    """Decode a word of the command line as UTF-8 if the locale could not decode it.

    Raises:
        UserError: it is not UTF-8.
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
    """stdout or stderr without exceptions: output to a full disk or a closed pipe is dropped."""

    lost: OSError | None = None  #: why output was dropped, if it was

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            self.lost = error
            return len(data)


def set_up_streams() -> None:
    """Replace closed streams by the null device, escape letters that the encoding lacks, use :class:`_Lenient`."""
    logging.raiseExceptions = False  # no traceback if a log cannot be written
    for log in logging.getLogger().handlers:  # Hydra opens vqclip.log in the locale's encoding
        if isinstance(log, logging.FileHandler) and log.encoding == "locale" and log.stream:
            log.stream.reconfigure(encoding="utf-8")
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        stream = getattr(sys, name)
        if stream is None:  # takes the lowest free number, so that no file opened later becomes stdout
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # not a stream any more
                kind = type(getattr(stream.buffer, "raw", stream.buffer))  # with python -u, the buffer is raw
                if stream.fileno() != number or kind is not io.FileIO:  # Windows' console is not one
                    stream.reconfigure(errors="backslashreplace")
                else:
                    at_once = name == "stderr" or stream.line_buffering or stream.write_through
                    setattr(sys, name, _lenient(stream, line_buffering=at_once))
                    stream.flush()


def _lenient(stream: io.TextIOWrapper, line_buffering: bool) -> io.TextIOWrapper:
    buffer = io.BufferedWriter(_Lenient(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=line_buffering)


def tell_what_was_lost() -> None:
    """Raise the error that made stdout lose output, once the run is over."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Lenient) and raw.lost:
        raise raw.lost
