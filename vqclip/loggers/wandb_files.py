"""Finds W&B's records on disk, and reads their last step and whether they are uploaded."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

from vqclip.io.files import read_text
from vqclip.io.yaml_text import read_json, read_yaml

__all__ = ["files_outside", "is_uploaded", "last_step", "mark_uploaded", "records_in", "records_of"]

#: A log of LevelDB's kind: blocks of this many bytes, in them pieces with a header of checksum, length and kind.
_BLOCK, _HEADER = 32768, struct.Struct("<IHB")
#: Kinds of a piece that begin a record, and that end one: the whole of it, its first, its last.
_BEGINS, _ENDS = (1, 2), (1, 4)


def records_of(folder: Path, run: str) -> list[Path]:
    """The records of one run in a folder of W&B's, oldest first: one for every time it was begun or gone on with."""
    return sorted(folder.glob(f"wandb/*run-*-{escape(run)}/run-{escape(run)}.wandb"), key=_when)


def records_in(folders: Sequence[Path]) -> list[Path]:
    """Every record of the runs in some folders, at any depth, also where ``WANDB_DIR`` or a key put it elsewhere."""
    found = [path for folder in folders for path in folder.rglob("wandb/*run-*/*.wandb")]
    by_run = cache(_by_run)  # of each folder of W&B's, which may hold those of thousands of runs
    for folder in folders:
        for name in ("run.json", "sweep.json"):
            found += [path for report in folder.rglob(name) for path in _elsewhere(report, by_run)]
    return sorted({path.resolve(): path for path in found}.values(), key=lambda path: (_when(path), path))


def is_uploaded(record: Path) -> bool:
    """Whether W&B's server has it: marked so, or gone on with by a later part that the server has.

    A run that was online when it was killed has sent what it had; so has one whose later part went up.
    """
    if record.with_suffix(".wandb.synced").exists():
        return True
    if record.parent.name.startswith("offline-"):
        return False
    run, folder = record.stem.removeprefix("run-"), record.parent.parent.parent
    later = [path for path in records_of(folder, run) if _when(path) > _when(record)]
    return any(path.with_suffix(".wandb.synced").exists() for path in later)


def mark_uploaded(record: Path) -> None:
    """Mark a record as uploaded, as ``wandb sync`` does."""
    record.with_suffix(".wandb.synced").touch()


def last_step(record: Path) -> int:
    """The last of W&B's own steps in a record, -1 where it has no row; what a crash cut off is not counted."""
    return max((found.history.step.num for kind, found in _entries(record) if kind == "history"), default=-1)


def files_outside(record: Path, folders: Sequence[Path]) -> list[Path | str]:
    """What an upload of a record would send that is neither in ``folders``, nor beside it, nor staged by W&B.

    A record may come from a stranger, and W&B sends any file that it names, whatever is in it now.

    Returns:
        Files, of which some may not be there, and in words what ours name none of and is not looked into.
    """
    from google.protobuf.message import DecodeError
    from wandb.env import get_data_dir

    own = [*folders, record.parent.parent.parent, Path(get_data_dir()) / "artifacts"]
    own = [folder.resolve() for folder in own]
    try:
        named = [path for kind, found in _entries(record) for path in _files_of(kind, found, record.parent / "files")]
    except DecodeError as error:
        return [f"{record}: {error}"]
    return [one for one in named if isinstance(one, str) or not any(map(one.resolve().is_relative_to, own))]


def _files_of(kind: str, found: Any, folder: Path) -> Iterator[Path | str]:
    """The files that W&B reads when it uploads an entry of a record whose own are in ``folder``."""
    if kind == "files":
        yield from (folder / item.path for item in found.files.files)
    if kind == "artifact":
        manifest = found.artifact.manifest
        yield from (Path(entry.local_path) for entry in manifest.contents if entry.local_path)
        if manifest.manifest_file_path:
            yield "a manifest in a file of its own"
    if kind in ("request", "tbrecord"):  # of ours no record has one
        yield f"a {kind} of W&B's"


def _entries(record: Path) -> Iterator[tuple[str, Any]]:
    """The entries of a record, each with its kind."""
    from wandb.proto import wandb_internal_pb2

    for data in _pieces(record.read_bytes()):
        # protobuf makes its classes when they are imported.
        found = wandb_internal_pb2.Record.FromString(data)  # pyright: ignore[reportAttributeAccessIssue]
        yield found.WhichOneof("record_type") or "", found


def _pieces(content: bytes) -> Iterator[bytes]:
    """The whole records of a log; its first seven bytes say what it is."""
    at, whole = 7, b""
    while at + _HEADER.size <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER.size:  # no room for a header: padding
            at += left
            continue
        _, length, kind = _HEADER.unpack_from(content, at)
        start = at + _HEADER.size
        if not kind or length > left - _HEADER.size:  # as W&B's own reader, which goes on in the next block
            at, whole = at + left, b""
            continue
        if start + length > len(content):
            return
        whole = content[start : start + length] if kind in _BEGINS else whole + content[start : start + length]
        if kind in _ENDS:
            yield whole
            whole = b""
        at = start + length


def _by_run(folder: Path) -> Mapping[str, list[Path]]:
    """The records in a folder of W&B's, by their run's id."""
    found: dict[str, list[Path]] = {}
    for path in folder.glob("wandb/*run-*/run-*.wandb"):
        if path.parent.name.endswith(f"-{(run := path.stem.removeprefix('run-'))}"):
            found.setdefault(run, []).append(path)
    return found


def _elsewhere(report: Path, by_run: Callable[[Path], Mapping[str, list[Path]]]) -> list[Path]:
    """Records of the run that a report names, where the environment or the run's config says W&B keeps its files."""
    try:
        run = read_json(read_text(report)).get("wandb")
        # That of a sweep's report is its jobs'.
        configs = [report.parent / "config.yaml", *sorted(report.parent.glob("*/config.yaml"))] if run else []
        known = next((path for path in configs if path.is_file()), None)
        config = read_yaml(read_text(known)) if known else {}
        key = ((config.get("logger") or {}).get("wandb") or {}).get("save_dir")
    except (OSError, ValueError, AttributeError):
        return []
    places = [place for place in (key, os.environ.get("WANDB_DIR")) if isinstance(place, str) and place]
    if not isinstance(run, str):  # of a stranger's
        return []
    return [path for place in places for path in by_run(Path(place)).get(run, [])]


def _when(record: Path) -> str:
    """``20261128_052034`` of ``offline-run-20261128_052034-ID``."""
    return record.parent.name.partition("run-")[2]
