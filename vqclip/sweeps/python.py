"""Runs a sweep from Python."""

from __future__ import annotations

import base64
import html
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

from vqclip.config.grammar import quote
from vqclip.errors import UserError
from vqclip.paths import dated_folder
from vqclip.runs.arguments import as_folder, as_overrides
from vqclip.runs.folder import RunFolder
from vqclip.runs.result import Result
from vqclip.runs.status import WITH_PICTURES
from vqclip.sweeps.jobs import numbered_folders

__all__ = ["Sweep", "run_sweep"]

#: Seconds that an interrupted sweep gets to end by itself before it is sent SIGINT.
PATIENCE = 20


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep.  A notebook displays it as its contact sheet."""

    folder: Path
    unfinished: dict[Path, str]  #: jobs without pictures, and why

    @cached_property
    def runs(self) -> list[Result]:
        """The runs that have pictures, in the order of the jobs."""
        return [Result(path) for path in numbered_folders(self.folder) if path not in self.unfinished]

    @property
    def best(self) -> Result:
        """The run with the highest score.  If alpha or beta is swept, scores of different runs have different scales.

        Raises:
            UserError: no job has finished.
        """
        if not self.runs:
            why = "; ".join(f"{path}: {reason}" for path, reason in self.unfinished.items()) or "it has no jobs"
            raise UserError(f"{self.folder}: no job of this sweep has pictures ({why})")
        return max(self.runs, key=lambda run: run.score)

    @property
    def sheet(self) -> Path:
        """Path of ``compare.png``, the labelled contact sheet."""
        return self.folder / "compare.png"

    @property
    def page(self) -> Path:
        """Path of ``compare.html``, the page that sorts, filters and compares the pictures."""
        return self.folder / "compare.html"

    @property
    def table(self) -> Path:
        """Path of ``results.csv``, one row per picture."""
        return self.folder / "results.csv"

    def _repr_html_(self) -> str:
        sheet = base64.b64encode(self.sheet.read_bytes()).decode() if self.sheet.is_file() else ""
        where = html.escape(str(self.folder))
        return f'<div><img src="data:image/png;base64,{sheet}"><br>{len(self.runs)} runs, <code>{where}</code></div>'


def _said_by(process: subprocess.Popen[str]) -> str:
    """Wait for a sweep's process and return its stderr; an interrupt lets it finish its step, as with ``-m``."""
    with ThreadPoolExecutor(1) as reader:  # an interrupted ``communicate`` loses what it has read
        said = reader.submit(cast("IO[str]", process.stderr).read)
        try:
            process.wait()
        except KeyboardInterrupt:
            try:
                process.wait(PATIENCE)  # a terminal or a notebook has sent it SIGINT too
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
                process.wait()
            print(said.result(), end="", file=sys.stderr)
            raise
        finally:
            process.kill()  # a second interrupt, or no end within PATIENCE
        return said.result()


def run_sweep(
    prompt: str | Sequence[str] | None,
    overrides: Sequence[str] | Mapping[str, Any],
    folder: str | Path | None,
    config_dir: str | Path | None,
    keys: Mapping[str, Any],
) -> Sweep:
    """See :func:`vqclip.sweep`."""
    folder = as_folder("folder", dated_folder("multirun") if folder is None else folder)
    directory = [] if config_dir is None else ["--config-dir", str(as_folder("config_dir", config_dir, there=True))]
    objects = keys.get("callbacks")  # choices of the group are strings
    if isinstance(objects, list | tuple) and not (objects and all(isinstance(one, str) for one in objects)):
        raise UserError(
            "callbacks: an argument of run alone, since a sweep is a process of its own. Allowed: callbacks that the "
            "config names. Try: overrides=['+callbacks.NAME._target_=CLASS']"
        )
    words = [*as_overrides(prompt, overrides, keys, swept=True), f"hydra.sweep.dir={quote(str(folder))}"]
    # -P: without it, python -m would also import from the working folder, which may be untrusted.
    command = [sys.executable, "-P", "-m", "vqclip", "-m", *directory, *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(place for place in sys.path if isinstance(place, str))}
    try:
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace")
    except (OSError, ValueError) as error:  # too long, or not valid on a command line
        raise UserError(
            f"sweep: {error}. Allowed: texts without \\0, long ones in a file: {{'file': 'prompts.txt'}}"
        ) from None
    with process:
        said = _said_by(process)
    if process.returncode not in (0, 1) or not folder.is_dir():
        raise UserError(said.strip().removeprefix("vqclip: ") or f"the sweep ended with {process.returncode}")
    print(said, end="", file=sys.stderr)
    reports = {path: RunFolder(path).try_report() for path in numbered_folders(folder)}
    unfinished = {
        path: report.get("reason") or report.get("error") or report["status"]
        for path, report in reports.items()
        if report["status"] not in WITH_PICTURES
    }
    return Sweep(folder, unfinished)
