"""Finds runs and reads their pictures."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vqclip.compare.command import choices_of, command_of
from vqclip.config.own_classes import weights_of
from vqclip.config.plain import mapping
from vqclip.config.resolve import flatten, picture_config
from vqclip.errors import UserError
from vqclip.io.progress import counted
from vqclip.io.run_files import PictureFolder
from vqclip.runs.folder import RunFolder
from vqclip.runs.status import FAILED, WITH_PICTURES

__all__ = ["Picture", "find_runs", "name_links", "read_pictures", "runs_in"]


@dataclass(frozen=True)
class Picture:
    """One picture of a run, finished or not."""

    run: Path
    index: int
    config: dict[str, Any]  #: of the run, resolved
    report: dict[str, Any]  #: run.json
    command: str  #: reproduces the run

    @property
    def entry(self) -> dict[str, Any]:
        """Its entry in run.json: prompt, seed and scores; empty if there is none."""
        pictures = self.report.get("pictures")
        entry = pictures[self.index] if isinstance(pictures, list) and self.index < len(pictures) else {}
        return entry if isinstance(entry, dict) else {}

    @cached_property
    def place(self) -> PictureFolder:
        return RunFolder(self.run).picture(self.index)

    @cached_property
    def flaw(self) -> str | None:
        """Why the best snapshot of a finished run cannot be shown, or None."""
        return self._flaw_of(self.place.best)

    def _flaw_of(self, path: Path) -> str | None:
        try:
            self.place.require_picture(path)
        except UserError as error:
            return str(error)
        return None

    @property
    def file(self) -> Path | None:
        """Its best snapshot, if the run is finished and the file can be shown."""
        finished = self.report.get("status") in WITH_PICTURES
        return self.place.best if finished and not self.flaw else None

    @property
    def final(self) -> Path | None:
        """Its last snapshot, if the run is finished and the file can be shown."""
        path = self.place.final
        return path if self.report.get("status") in WITH_PICTURES and not self._flaw_of(path) else None

    @property
    def video(self) -> Path | None:
        """Its timelapse, if there is one."""
        path = self.place.timelapse
        return path if self.place.run.holds(path) else None

    @property
    def scores(self) -> dict[str, float]:
        best = self.entry.get("best")
        best = best if isinstance(best, Mapping) else {}
        judge = self.entry.get("judge")
        return {"judge": judge, **best} if judge is not None else dict(best)

    def value(self, key: str) -> Any:
        """The value of a config key; for a config group, its choice: swept, typed or default."""
        if key in ("prompt", "picture seed"):
            return self.entry.get(key.removeprefix("picture "))
        if key in self.digests:
            return self.digests[key]
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part, ...) if isinstance(value, Mapping) else ...
        if value is None or value is ... or isinstance(value, Mapping):
            known = self.swept.get(key) or self._typed.get(key) or self._choices.get(key)
            return known or ("null" if value is None else None)
        return value

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The dotted config keys that affect the picture, with their values."""
        return flatten(picture_config(self.config))

    @cached_property
    def digests(self) -> dict[str, str]:
        """The first digits of the sha256 of each file that the run read, by ``weights.NAME`` and ``inputs.PATH``."""
        known = {kind: mapping(self.report.get(kind)) for kind in ("weights", "inputs")}
        found = {f"{kind}.{name}": str(sha)[:12] for kind, files in known.items() for name, sha in files.items()}
        return {key: sha for key, sha in found.items() if not key.startswith("weights.callbacks.")}

    @cached_property
    def weights(self) -> dict[str, str]:
        """The path or checkpoint name of each weight file in the config, by ``weights.NAME``."""
        parts = weights_of(self.config)
        return {f"weights.{name}": str(part.get("path") or part.get("name")) for name, _, part in parts}

    @property
    def swept(self) -> dict[str, str]:
        return (self.config.get("sweep") or {}).get("swept") or {}

    @cached_property
    def _typed(self) -> dict[str, str]:
        """The values typed in its command; a config holds a group's content, not the choice."""
        words = (word.lstrip("+").partition("=") for word in shlex.split(self.command))
        return {key: value for key, sign, value in words if sign}

    @cached_property
    def _choices(self) -> dict[str, str]:
        return choices_of(self.run)


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Run folders among and below ``folders``; prints a note about links that are not followed.

    Raises:
        UserError: a folder has no runs.
    """
    found: dict[Path, None] = {}
    links: list[Path] = []
    for folder in folders:
        here, led = runs_in(folder)
        found |= dict.fromkeys(here)
        links += led
    name_links(links, found)
    return list(found)


def runs_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """The run folders in a folder (or itself), sorted by number; and the symbolic links in it that lead to runs.

    Links are not followed, since they may lead anywhere.

    Raises:
        UserError: there is no run in it.
    """
    here = [folder] if folder.is_dir() and _is_run({*os.listdir(folder)}) else []
    links: list[Path] = []
    for path, names, files in os.walk(folder):
        if Path(path) != folder and _is_run({*files, *names}):
            here.append(Path(path))
            names.clear()
        links += (link for name in sorted(names) if _leads_to_run(link := Path(path, name)))
    if not here:
        places = [name for name in ("outputs", "multirun") if Path(name).is_dir() and Path(name) != folder]
        such = f", such as {places[0]}" if places else ""
        led = f"; links are followed only where they are named, as by {shlex.quote(str(folder))}/*" if links else ""
        raise UserError(f"{folder}: no run in it{led}. Allowed: run folders, and folders that hold some{such}")
    return sorted(here, key=lambda p: [(len(x), x) if x.isdigit() else (0, x) for x in p.parts]), links


def name_links(links: Sequence[Path], runs: Iterable[Path]) -> None:
    """Print a note about those of ``links`` that lead to none of ``runs``."""
    there = {run.resolve() for run in runs} if links else {}
    if missing := [str(link) for link in links if link.resolve() not in there]:
        print(f"note: links are followed only where they are named: {', '.join(missing)}", file=sys.stderr)


def _leads_to_run(link: Path) -> bool:
    try:
        return link.is_symlink() and _is_run({*os.listdir(link)})
    except OSError:  # broken or unreadable
        return False


def _is_run(names: Set[str]) -> bool:
    """Whether a folder with these entries is a run folder, even if it lost its report or config."""
    return "run.json" in names or {"config.yaml", "picture-00"} <= names


def read_pictures(runs: Sequence[Path]) -> list[Picture]:
    """Every picture of ``runs``; for a run that failed before it had any, those that its config asks for."""
    pictures = []
    for run in counted(runs, len(runs), "reading"):
        config, report = _read(RunFolder(run))
        count = len(report.get("pictures") or [None])
        command = command_of(run, config if report.get("resumed") else {})
        pictures += [Picture(run, i, config, report, command) for i in range(count)]
    return pictures


def _read(run: RunFolder) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run's config and report; if one is damaged, an empty config and a report that says so."""
    try:
        return run.config(), run.try_report()
    except UserError as error:
        return {}, {"status": FAILED, "error": str(error)}
