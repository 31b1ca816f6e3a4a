"""Finds W&B's records on disk, and reads their last step and whether they have been uploaded."""

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

#: The LevelDB log format: blocks of this size, with chunks that have a header of checksum, length and type.
_BLOCK, _HEADER = 32768, struct.Struct("<IHB")
#: Chunk types that start a record, and that end one: full, first, last.
_BEGINS, _ENDS = (1, 2), (1, 4)


def records_of(folder: Path, run: str) -> list[Path]:
    """The records of one run in a W&B folder, oldest first: one for each start or resume."""
    return sorted(folder.glob(f"wandb/*run-*-{escape(run)}/run-{escape(run)}.wandb"), key=_when)


def records_in(folders: Sequence[Path]) -> list[Path]:
    """All records of the runs in some folders, at any depth, also if ``WANDB_DIR`` or a key stores them elsewhere."""
    found = [path for folder in folders for path in folder.rglob("wandb/*run-*/*.wandb")]
    by_run = cache(_by_run)  # a W&B folder may have records of thousands of runs
    for folder in folders:
        for name in ("run.json", "sweep.json"):
            found += [path for report in folder.rglob(name) for path in _elsewhere(report, by_run)]
    return sorted({path.resolve(): path for path in found}.values(), key=lambda path: (_when(path), path))


def is_uploaded(record: Path) -> bool:
    """Whether W&B's server has the record: it is marked so, or a later part of the run has been uploaded.

    A run that was killed online has sent its data; so has a run whose later part was uploaded.
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
    """W&B's last step in a record, -1 if it has no rows; an incomplete last row does not count."""
    return max((found.history.step.num for kind, found in _entries(record) if kind == "history"), default=-1)


def files_outside(record: Path, folders: Sequence[Path]) -> list[Path | str]:
    """What uploading a record would send that is not in ``folders``, beside the record, or staged by W&B.

    A record may be untrusted, and W&B uploads any file that it names.

    Returns:
        Files, some of which may not exist, and descriptions of entries that our records never have.
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
    """The files that W&B reads to upload an entry of a record, whose own files are in ``folder``."""
    if kind == "files":
        yield from (folder / item.path for item in found.files.files)
    if kind == "artifact":
        manifest = found.artifact.manifest
        yield from (Path(entry.local_path) for entry in manifest.contents if entry.local_path)
        if manifest.manifest_file_path:
            yield "a manifest in a file of its own"
    if kind in ("request", "tbrecord"):  # our records never have these
        yield f"a {kind} of W&B's"


def _entries(record: Path) -> Iterator[tuple[str, Any]]:
    """The entries of a record with their kinds."""
    from wandb.proto import wandb_internal_pb2

    for data in _pieces(record.read_bytes()):
        # protobuf creates its classes at run time.
        found = wandb_internal_pb2.Record.FromString(data)  # pyright: ignore[reportAttributeAccessIssue]
        yield found.WhichOneof("record_type") or "", found


def _pieces(content: bytes) -> Iterator[bytes]:
    """The complete records of a log, whose first seven bytes are a file header."""
    at, whole = 7, b""
    while at + _HEADER.size <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER.size:  # no room for a header: padding
            at += left
            continue
        _, length, kind = _HEADER.unpack_from(content, at)
        start = at + _HEADER.size
        if not kind or length > left - _HEADER.size:  # skip to the next block, like W&B's reader
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
    """The records in a W&B folder by run id."""
    found: dict[str, list[Path]] = {}
    for path in folder.glob("wandb/*run-*/run-*.wandb"):
        if path.parent.name.endswith(f"-{(run := path.stem.removeprefix('run-'))}"):
            found.setdefault(run, []).append(path)
    return found


def _elsewhere(report: Path, by_run: Callable[[Path], Mapping[str, list[Path]]]) -> list[Path]:
    """Records of a report's run in the folders that the environment or the run's config names for W&B's files."""
    try:
        run = read_json(read_text(report)).get("wandb")
        # A sweep's report has no config of its own, but its jobs' configs.
        configs = [report.parent / "config.yaml", *sorted(report.parent.glob("*/config.yaml"))] if run else []
        known = next((path for path in configs if path.is_file()), None)
        config = read_yaml(read_text(known)) if known else {}
        key = ((config.get("logger") or {}).get("wandb") or {}).get("save_dir")
    except (OSError, ValueError, AttributeError):
        return []
    places = [place for place in (key, os.environ.get("WANDB_DIR")) if isinstance(place, str) and place]
    if not isinstance(run, str):  # an untrusted report
        return []
    return [path for place in places for path in by_run(Path(place)).get(run, [])]


def _when(record: Path) -> str:
    """``20261128_052034`` of ``offline-run-20261128_052034-ID``."""
    return record.parent.name.partition("run-")[2]
