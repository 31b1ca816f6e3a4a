"""Reads tensors from checkpoint files without running any code in them.

A ``.ckpt`` or ``.pt`` is a pickle, and a pickle is a program that may call any function.  This reader knows the few
names that rebuild a tensor; nothing else is imported or called.  What older checkpoints hold besides weights
(optimizer states, callback objects) becomes inert stand-ins.  A file with names that do not belong in a checkpoint
(``os.system``, a call of ``torch.hub.load``) is refused, and the message says which.

Formats: torch's zip (``torch.save`` since 1.6), TorchScript archives (the OpenAI CLIP files), torch's older stream,
safetensors.  Tensors are read one at a time, so that gigabytes of optimiser state are never touched.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqclip.checkpoints.safe_pickle import DTYPES, LARGEST_PICKLE, RefusedPickle, TensorRef, named_tensors, unpickle
from vqclip.errors import UserError
from vqclip.io.files import refuse_endless

__all__ = ["TensorFile", "Unreadable", "Weights", "digest", "open_tensors"]

#: Exceptions that zipfile raises for damaged archives.
_DAMAGE = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error)
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


class Unreadable(UserError):
    """The system does not let us read a file, so its content is unknown."""


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file, by name.

    Attributes:
        shapes: shape of each tensor; knowing it reads no data.
        get: name → a copy of the tensor, in the stored dtype.
        metadata: of a safetensors file; in our own, ``config`` has the constructor arguments.
    """

    shapes: dict[str, tuple[int, ...]]
    get: Callable[[str], Tensor]
    metadata: dict[str, str]


def open_tensors(path: Path) -> TensorFile:
    """Open a checkpoint of any known format without running code in it.

    Raises:
        UserError: no such file, not a checkpoint, damaged, or it contains code.
    """
    try:
        refuse_endless(path)
        with open(path, "rb") as file:
            head = file.read(512)
        if not head:
            raise RefusedPickle("the file is empty")
        if head.startswith(b"PK\x03\x04"):
            return _open_zip(path)
        if head.startswith(_LEGACY_MAGIC):
            return _open_legacy(path)
        if head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 2**27:
            return _open_safetensors(path)
        raise RefusedPickle(_name_format(path, head))
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror or error}") from None
    except RefusedPickle as error:
        raise UserError(f"{path} is refused: {error}") from None


def _name_format(path: Path, head: bytes) -> str:
    """Describe a file of none of the known formats."""
    if head[:1] == b"\x80" or re.match(rb"[c(][\w.]+\n[\w.]+\n", head):
        with open(path, "rb") as file:
            unpickle(file)
        return "it is a plain pickle without tensors, not a torch checkpoint"
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, not a checkpoint: the link that it came from is dead or asks for something"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the checkpoint itself"
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # not just a character cut off at the end of the sample
            return "its format is unknown. Allowed: a torch checkpoint, an OpenAI CLIP file, safetensors"
    return "it is a text file, not a checkpoint"


def _assemble(ref: TensorRef, raw: bytes) -> Tensor:
    """Build a tensor from the bytes of its storage."""
    dtype = DTYPES[ref.dtype]
    elements = len(raw) // dtype.itemsize
    last = ref.offset + sum((n - 1) * s for n, s in zip(ref.shape, ref.stride, strict=True))
    if prod(ref.shape) == 0:
        return torch.empty(ref.shape, dtype=dtype)
    if last >= elements or prod(ref.shape) > elements:
        raise UserError(f"a tensor of {list(ref.shape)} reaches beyond its storage: the file is damaged or forged")
    storage = torch.frombuffer(bytearray(raw), dtype=dtype)
    return storage.as_strided(ref.shape, ref.stride, ref.offset).contiguous()


def _open_zip(path: Path) -> TensorFile:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise RefusedPickle("the archive's directory at its end is missing: the file is truncated") from None
    except _DAMAGE as error:
        raise RefusedPickle(f"the archive's directory at its end is damaged ({error})") from None
    records = _Records(archive, path.stat().st_size)
    if "byteorder" in records and records.read("byteorder") != b"little":
        raise RefusedPickle("it was written on a big-endian machine, which is not supported")
    refs = named_tensors(unpickle(io.BytesIO(records.read("data.pkl")))[0])

    def get(name: str) -> Tensor:
        try:
            return _assemble(refs[name], records.read(f"data/{refs[name].storage}"))
        except (RefusedPickle, UserError) as error:
            raise UserError(f"{path} is refused: {name}: {error}") from None

    return _tensor_file(refs, get)


class _Records:
    """The records of a torch archive, by their names in its only folder.

    torch stores records uncompressed; compressed or overlapping ones make a zip bomb and are refused.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int):
        self.archive, self.size = archive, size
        self.entries = {info.filename: info for info in archive.infolist()}
        names = list(self.entries)
        pickles = [name for name in names if name.split("/")[1:] == ["data.pkl"] or name == "data.pkl"]
        if len(pickles) != 1:
            raise RefusedPickle(
                f"it is a zip archive of other things ({', '.join(names[:3])}), not a torch checkpoint; unpack it first"
            )
        self.root = pickles[0].removesuffix("data.pkl")
        stored = sum(info.file_size for info in self.entries.values() if info.compress_type == zipfile.ZIP_STORED)
        if stored > size:
            raise RefusedPickle(f"its records overlap: {stored:,} bytes claimed in a file of {size:,}, a zip bomb")
        if self.entries[pickles[0]].file_size > LARGEST_PICKLE:
            raise RefusedPickle(
                f"its pickle claims {self.entries[pickles[0]].file_size:,} bytes: it looks like a zip bomb"
            )

    def __contains__(self, name: str) -> bool:
        return self.root + name in self.entries

    def read(self, name: str) -> bytes:
        info = self.entries.get(self.root + name)
        if info is None:
            raise RefusedPickle(f"the archive lacks {self.root + name}: the file is damaged")
        stored = info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size
        if not stored or info.file_size > self.size:
            raise RefusedPickle(
                f"{info.filename} is compressed ({info.compress_size:,} bytes that claim to be {info.file_size:,}), "
                "which torch never does: it looks like a zip bomb"
            )
        try:
            return self.archive.read(info)
        except _DAMAGE as error:
            raise RefusedPickle(f"{info.filename} is damaged ({error})") from None


def _open_legacy(path: Path) -> TensorFile:
    """Open the stream format before torch 1.6: magic, version, system, object, storage keys, storages."""
    with open(path, "rb") as file:
        for _ in range(3):
            unpickle(file)
        content, kinds = unpickle(file)
        keys, _ = unpickle(file)
        if not isinstance(keys, list) or not all(isinstance(key, str | int) for key in keys):
            raise RefusedPickle("its list of storages is none: the file is damaged or forged")
        places, size = {}, path.stat().st_size
        for key in keys:  # each storage: the number of elements, then the elements
            count, start = struct.unpack("<q", file.read(8).ljust(8, b"\xff"))[0], file.tell()
            end = start + count * DTYPES[kinds.get(str(key), "DoubleStorage")].itemsize
            if count < 0 or end > size:
                raise RefusedPickle("it ends before its tensors do: the file is truncated")
            places[str(key)] = (start, end - start)
            file.seek(end)
    refs = named_tensors(content)

    def get(name: str) -> Tensor:
        start, count = places[refs[name].storage]
        with open(path, "rb") as file:
            file.seek(start)
            return _assemble(refs[name], file.read(count))

    return _tensor_file(refs, get)


def _tensor_file(refs: dict[str, TensorRef], get: Callable[[str], Tensor]) -> TensorFile:
    if not refs:
        raise RefusedPickle("it holds no tensors by name. Allowed: a state dict, or a checkpoint with a `state_dict`")
    return TensorFile({name: ref.shape for name, ref in refs.items()}, get, {})


def _open_safetensors(path: Path) -> TensorFile:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise RefusedPickle(
            f"its safetensors header and content disagree, it is truncated or damaged ({error})"
        ) from None

    def get(name: str) -> Tensor:
        with safe_open(path, "pt") as file:
            return file.get_tensor(name).clone()

    return TensorFile(shapes, get, metadata)


@dataclass(frozen=True)
class Weights:
    """The weights and architecture that a model is built from.

    Attributes:
        path: the file, for messages.
        shapes, get: its tensors by name (see :class:`TensorFile`).
        architecture: constructor arguments.
        origin: where the architecture was read, for messages.
        sha256: of the original file of the weights.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    get: Callable[[str], Tensor]
    architecture: dict[str, Any]
    origin: str
    sha256: str


def digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """sha256 of the metadata and the names, dtypes, shapes and bytes of tensors; ``models verify`` compares it."""
    total = hashlib.sha256(json.dumps({k: v for k, v in metadata.items() if k != "digest"}, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().data if tensor.numel() else b"")
    return total.hexdigest()
