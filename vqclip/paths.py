"""Paths of the shipped config, the cache and new runs; whether the network may be used."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

__all__ = [
    "cache_dir",
    "can_name_a_folder",
    "common_folder",
    "conf_dir",
    "dated_folder",
    "offline",
    "relative_where_possible",
    "without_our_files",
]

#: What vqclip and W&B write into a folder that holds runs.
_BESIDE_RUNS = {
    *("compare.png", "compare.html", "results.csv", "judge.csv", "battery.csv", "battery.yaml"),
    *("multirun.yaml", "search.png", "sweep.json", "wandb"),
}


def conf_dir() -> Path:
    """The folder of config groups: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def cache_dir() -> Path:
    """The cache folder: ``VQCLIP_HOME``, else ``vqclip`` under ``XDG_CACHE_HOME`` (``~/.cache``)."""
    given = os.environ.get("VQCLIP_HOME")
    if given:
        return Path(os.path.expanduser(given)).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqclip"


def relative_where_possible(path: Path | str, folder: Path | str = ".") -> str:
    """A path relative to ``folder``; absolute if there is none, as between two drives of Windows."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:
        return os.path.abspath(path)


def common_folder(paths: Iterable[Path | str]) -> Path | None:
    """The common parent folder; None if there is none, as of two drives of Windows."""
    try:
        return Path(os.path.commonpath([os.path.abspath(path) for path in paths]))
    except ValueError:
        return None


def offline() -> bool:
    """Whether ``VQCLIP_OFFLINE`` forbids the network."""
    return os.environ.get("VQCLIP_OFFLINE", "").lower() not in ("", "0", "false", "no")


def dated_folder(kind: str) -> str:
    """Where a run (``outputs``) or a sweep (``multirun``) goes by default, to the microsecond."""
    return datetime.now().strftime(f"{kind}/%Y-%m-%d/%H-%M-%S-%f")


def can_name_a_folder(text: str) -> bool:
    """Whether the file system would accept a text as the path of a folder."""
    try:
        name = os.fsencode(text)
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return bool(name.strip()) and b"\0" not in name and len(name) < 4096 and max(map(len, name.split(b"/"))) < 256


def without_our_files(paths: Sequence[Path]) -> list[Path]:
    """Drop files that vqclip itself writes beside runs, which a shell's ``outputs/*/*`` also matches.

    If nothing else is left, return all paths, so that the caller refuses them.
    """

    def has_runs(path: Path) -> bool:
        return (path / "run.json").exists() or any(path.glob("*/run.json"))

    return [path for path in paths if path.name not in _BESIDE_RUNS or has_runs(path)] or list(paths)
