"""Explains exceptions in custom parts, and ends a run quietly if such a part has pruned it."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vqclip.errors import Diverged, UserError
from vqclip.runs.status import RunError, is_pruned

if TYPE_CHECKING:
    from vqclip.runs.folder import RunFolder
    from vqclip.runs.result import Result

__all__ = ["explain_faults", "in_a_line", "own_line", "result_of"]

R = TypeVar("R", bound="Result | None")


def result_of(work: Callable[[], R], folder: Path, study: bool) -> R | Result:
    """Return ``work()``; if the run was pruned outside of a study, return the run in ``folder``.

    Raises:
        RunError: a custom part raised something, see :func:`explain_faults`.
    """
    try:
        with explain_faults(folder):
            return work()
    except Exception as error:
        if study or not is_pruned(error):
            raise
        from vqclip.runs.result import Result

        return Result(folder)


@contextmanager
def explain_faults(folder: Path) -> Iterator[None]:
    """Turn an exception of a custom part in the run of ``folder`` into one line.

    Raises:
        RunError: that line; the traceback is in the folder.
    """
    try:
        yield
    except (UserError, Diverged):
        raise
    except Exception as error:
        if is_pruned(error):
            raise
        from vqclip.runs.folder import RunFolder

        run = RunFolder(folder)
        where, (trust, parts) = own_line(error), _own_parts(run)
        if not (where or parts):
            raise
        what = in_a_line(error)
        # A custom part with a wrong signature or return value does not occur in the traceback.
        whose = "" if where else f". The run has parts of your own: {', '.join(parts)}"
        raise RunError(
            f"{where and where + ': '}{what}{whose}. The traceback: {run.log_file}. "
            f"Once it is fixed: {trust}{run.resume_command}"
        ) from error


def _own_parts(run: RunFolder) -> tuple[str, list[str]]:
    """How a run's custom parts are trusted, and the classes in its config from other packages than known ones."""
    from vqclip.config.records import trusting
    from vqclip.config.resolve import classes_in

    try:
        config = run.config()
    except UserError:  # config.yaml is not written yet
        return "", []
    theirs = ("vqclip.", "torch.", "pytorch_lightning.")
    return trusting(config), [f"{key}={name}" for key, name in classes_in(config) if not name.startswith(theirs)]


def in_a_line(error: Exception) -> str:
    """The type and message of an error, as part of a sentence."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")


def own_line(error: Exception) -> str:
    """The innermost frame outside of Python, site-packages and vqclip, for a message; empty if there is none.

    Frames without an absolute path belong to compiled extensions, such as PyAV's.
    """
    ours = str(Path(__file__).parents[1])
    installed = (ours, *(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if os.path.isabs(frame.filename)]
    own = [frame for frame in frames if not frame.filename.startswith(installed)]
    return f"{own[-1].filename}, line {own[-1].lineno}, in {own[-1].name}" if own else ""
