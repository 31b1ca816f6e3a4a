"""Finds W&B's records on disk, and reads their last step and whether they are uploaded."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from vqclip.io.files import read_text
from vqclip.io.yaml_text import read_json, read_yaml

__all__ = ["is_uploaded", "last_step", "mark_uploaded", "records_in", "records_of"]

#: A log of LevelDB's kind: blocks of this many bytes, in them pieces with a header of checksum, length and kind.
_BLOCK, _HEADER = 32768, struct.Struct("<IHB")
#: Kinds of a piece that end a record: the whole of it, or its last.
_ENDS = (1, 4)


def records_of(folder: Path, run: str) -> list[Path]:
    """The records of one run in a folder of W&B's, oldest first: one for every time it was begun or gone on with."""
    return sorted(folder.glob(f"wandb/*run-*-{run}/run-{run}.wandb"), key=_when)


def records_in(folders: Sequence[Path]) -> list[Path]:
    """Every record of the runs in some folders, at any depth, also where ``WANDB_DIR`` or a key put it elsewhere."""
    found = [path for folder in folders for path in folder.rglob("wandb/*run-*/*.wandb")]
    for folder in folders:
        for report in [*folder.glob("run.json"), *folder.glob("*/run.json"), folder / "sweep.json"]:
            found += _elsewhere(report)
    return sorted({path.resolve(): path for path in found}.values(), key=lambda path: (_when(path), path))


def is_uploaded(record: Path) -> bool:
    """Whether W&B's server has it: marked so, or gone on with by a later part that the server has.

    A run that was online when it was killed has sent what it had; so has one whose later part went up.
    """
    if record.with_suffix(".wandb.synced").exists():
        return True
    run, folder = record.stem.removeprefix("run-"), record.parent.parent.parent
    later = [path for path in records_of(folder, run) if _when(path) > _when(record)]
    online = not record.parent.name.startswith("offline-")
    return online and any(path.with_suffix(".wandb.synced").exists() for path in later)


def mark_uploaded(record: Path) -> None:
    """Mark a record as uploaded, as ``wandb sync`` does."""
    record.with_suffix(".wandb.synced").touch()


def last_step(record: Path) -> int:
    """The last of W&B's own steps in a record, -1 where it has no row; what a crash cut off is not counted."""
    from wandb.proto import wandb_internal_pb2

    last = -1
    for data in _pieces(record.read_bytes()):
        # protobuf makes its classes when they are imported.
        found = wandb_internal_pb2.Record.FromString(data)  # pyright: ignore[reportAttributeAccessIssue]
        if found.WhichOneof("record_type") == "history":
            last = max(last, found.history.step.num)
    return last


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
        if start + length > len(content) or not kind:
            return
        whole += content[start : start + length]
        if kind in _ENDS:
            yield whole
            whole = b""
        at = start + length


def _elsewhere(report: Path) -> list[Path]:
    """Records of the run that a report names, where the environment or the run's config says W&B keeps its files."""
    try:
        run = read_json(read_text(report)).get("wandb")
        config = read_yaml(read_text(report.parent / "config.yaml")) if run else {}
        key = ((config.get("logger") or {}).get("wandb") or {}).get("save_dir")
    except (OSError, ValueError, AttributeError):
        return []
    places = [place for place in (key, os.environ.get("WANDB_DIR")) if isinstance(place, str) and place]
    if not isinstance(run, str) or not re.fullmatch(r"[\w-]+", run):  # W&B's ids, and no pattern of a stranger's
        return []
    return [path for place in places for path in records_of(Path(place), run)]


def _when(record: Path) -> str:
    """``20261128_052034`` of ``offline-run-20261128_052034-ID``."""
    return record.parent.name.partition("run-")[2]
