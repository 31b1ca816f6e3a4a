"""The folder of a run: reading, writing and locking it.  The names of its files are in vqclip.io.run_files.

For missing and damaged files, every tool raises a :class:`vqclip.UserError` that names the file, what is wrong with it
and the command that helps.  ``try_report`` is for tools that show many runs and must not fail because of one.

Symbolic links below the folder are not followed, written through or deleted, since a folder may be untrusted.  The
folder itself may be a link.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vqclip.errors import UserError
from vqclip.io.files import append, atomic_write, write_json
from vqclip.io.run_files import A_PICTURES, PictureFolder, RunFiles
from vqclip.io.yaml_text import read_json, read_yaml
from vqclip.prompts import ENTRIES, SEVERAL
from vqclip.runs.lock import lock_folder
from vqclip.runs.schema import FORMAT, problem_in, refuse_newer
from vqclip.runs.status import DIVERGED, FAILED, RUNNING, WITH_PICTURES

__all__ = ["RunFolder"]

#: Keys whose strings are never paths.
_TEXTS = (*ENTRIES, *SEVERAL, "text", "templates", "tags")
#: Keys that may name a folder.
_A_FOLDER = re.compile("dir|folder|path|^run$")


class RunFolder(RunFiles):
    """A run folder, existing or new.

    Args:
        path: the folder.
    """

    _identity: tuple[int, int] | None = None  #: device and inode of the opened folder

    def pictures(self) -> list[PictureFolder]:
        """The existing folders of pictures."""
        names = [path.name for path in self.path.glob("picture-*") if A_PICTURES.fullmatch(path.name)]
        return [self.picture(i) for i in sorted(int(name.partition("-")[2]) for name in names)]  # 100 comes after 11

    # Reading

    def report(self) -> dict[str, Any]:
        """run.json.

        Raises:
            UserError: missing or damaged.
        """
        content = self.read(self.report_file)
        try:
            found = read_json(content)
        except ValueError as error:
            raise self.damaged(self.report_file, str(error) if content else "it is empty") from None
        refuse_newer(found, self.report_file)
        if problem := problem_in(found, "run"):
            raise self.damaged(self.report_file, problem)
        return found

    def try_report(self) -> dict[str, Any]:
        """run.json; if it cannot be used, a report that says so."""
        try:
            return self.report()
        except UserError as error:
            return {"status": FAILED, "error": str(error)}

    def finished_report(self) -> dict[str, Any]:
        """The report of a run that has pictures with scores.

        Raises:
            UserError: it has none, or none yet.
        """
        report = self.report()
        if report["status"] not in WITH_PICTURES:
            helps = self.resume_command if report["status"] != DIVERGED else self.rerun_command
            raise UserError(f"{self}: this run is {report['status']}. Allowed: finished runs. Try: {helps}")
        for i, picture in enumerate(report["pictures"]):
            if missing := [kind for kind in ("best", "final") if kind not in picture]:
                raise self.damaged(self.report_file, f"pictures[{i}].{missing[0]} is missing")
        return report

    def require_count(self, report: Mapping[str, Any], count: int) -> None:
        """Refuse a report that does not have ``count`` pictures, the number in config.yaml."""
        if (found := len(report["pictures"])) != count:
            what = f"its pictures are {found}, and those of config.yaml {count}"
            raise self.damaged(self.report_file, f"{what}: one belongs to another run")

    def config(self) -> dict[str, Any]:
        """The resolved config as plain data; paths into the folder are adjusted if it was moved.

        Raises:
            UserError: it is no run folder, or its config.yaml is not a config.
        """
        content = self.read(self.config_file)
        try:
            config = read_yaml(content.decode(), own=True)
        except ValueError as error:
            what = f"no YAML ({error})" if isinstance(error, UnicodeDecodeError) else str(error)
            raise self.damaged(self.config_file, what) from None
        if config is None:
            raise self.damaged(self.config_file, "it is empty")
        refuse_newer(config, self.config_file)
        if problem := problem_in(config, "config"):
            raise self.damaged(self.config_file, problem)
        config.pop("format", None)
        return _moved(config, str(config["paths"]["output_dir"]), str(self.path))

    def history(self) -> list[dict[str, float]]:
        """The rows of metrics.csv."""
        content = self.read(self.metrics_file)
        try:
            rows = csv.DictReader(content.decode().splitlines())
            return [{name: float(value) for name, value in row.items() if value} for row in rows]
        except (ValueError, TypeError, csv.Error) as error:
            raise self.damaged(self.metrics_file, str(error)) from None

    # Writing

    @contextmanager
    def open(self) -> Iterator[RunFolder]:
        """Lock the folder, so that no other process writes into it; create it if it does not exist.

        Raises:
            UserError: another process holds it; it cannot be written; one of its files is a symbolic link.
        """
        with lock_folder(self.path):
            self.refuse_links()
            self._refuse_no_files()
            self._identity = self._where()
            yield self

    def refuse_links(self) -> None:
        """Refuse symbolic links in place of the run's files, and of folders that loggers write into."""
        holds_run = self.config_file.exists()
        for path in [*self.path.glob("*"), *self.path.glob(".*")]:
            if path.name.removeprefix(".").startswith(self.names) or (holds_run and path.is_dir()):
                self.refuse_link(path)
            if A_PICTURES.fullmatch(path.name):
                for inside in [path, *path.rglob("*")]:
                    self.refuse_link(inside)

    def _refuse_no_files(self) -> None:
        """Refuse a folder or a pipe in place of one of the run's files."""
        ours = [self.path / name for name in self.names]
        ours += [path for picture in self.pictures() for path in picture.own_files()]
        for path in ours:
            if path.exists() and not path.is_file():
                what = "a folder" if path.is_dir() else "a pipe or a device"
                away = shlex.join(["mv", str(path), f"{path}.mine"])
                raise UserError(f"{path}: {what}, where a file of the run should be. Try: {away}")

    def _where(self) -> tuple[int, int]:
        found = os.stat(self.path)
        return found.st_dev, found.st_ino

    def is_there(self) -> bool:
        """Whether the opened folder is still at its path."""
        try:
            return self._where() == self._identity
        except OSError:
            return False

    def write_config(self, config: Mapping[str, Any]) -> None:
        import yaml

        content = yaml.safe_dump({**config, "format": FORMAT}, sort_keys=False, allow_unicode=True)
        atomic_write(self.config_file, content.encode())

    def write_report(self, report: Mapping[str, Any]) -> None:
        write_json(self.report_file, {"format": FORMAT, **report})

    def mark_failed(self) -> None:
        """Change the status from running to failed in place, without growing the file, since the disk may be full."""
        running, failed = (f'"status": "{status}"'.encode() for status in (RUNNING, FAILED))
        with open(self.report_file, "r+b") as file:
            at = file.read().find(running)
            if at >= 0:
                file.seek(at)
                file.write(failed.ljust(len(running)))

    def append_row(self, path: Path, row: Mapping[str, Any]) -> None:
        """Append a row to a table, with the table's own columns; a new table starts with the row's columns.

        So a run that an older version began keeps its columns.
        """
        columns = list(row)
        if path.exists():
            with open(path, encoding="utf-8", newline="") as file:
                columns = next(csv.reader(file), columns)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
        if not path.exists():
            writer.writeheader()
        writer.writerow(row)
        append(path, text.getvalue())

    def log(self, text: str) -> None:
        """Append to vqclip.log."""
        append(self.log_file, text)


def _moved(value: Any, was: str, now: str, key: str = "") -> Any:
    """Replace paths below the folder ``was`` by paths below ``now``; ``was`` itself only under keys of paths."""
    if isinstance(value, Mapping):
        return {name: _moved(item, was, now, str(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, was, now, key) for item in value]
    if not isinstance(value, str) or key in _TEXTS:
        return value
    inside = value.startswith((f"{was}/", f"{was}{os.sep}")) or (value == was and _A_FOLDER.search(key))
    return now + value[len(was) :] if inside else value
