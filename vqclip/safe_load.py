"""Tensors out of checkpoint files, without running what else the files hold.

A ``.ckpt`` or ``.pt`` is a pickle, and a pickle is a program: it may call any function it names.  The reader here
knows the handful of names that rebuild a tensor; nothing else is ever imported or called.  What a checkpoint of
2020 holds besides its weights (optimiser states, callback objects) becomes inert stand-ins.  A file that names what
has no business in a checkpoint (``os.system``, a call of ``torch.hub.load``) is refused with that name.

Formats: torch's zip (``torch.save`` since 1.6), TorchScript archives (the OpenAI CLIP files), torch's older stream,
safetensors.  Tensors are read one at a time, so that gigabytes of optimiser state are never touched.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from vqclip.errors import UserError

__all__ = ["TensorFile", "open_tensors"]

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

#: Names of the standard library that checkpoints hold and that are harmless as stand-ins.
_HARMLESS = re.compile(
    r"(collections|datetime|pathlib|enum|typing|decimal|fractions|uuid)\..*|argparse\.Namespace|_codecs\.encode|functools\.partial"
    r"|copyreg\._reconstructor|builtins\.(object|int|float|bool|complex|str|bytes|bytearray|list|tuple|dict|set|frozenset|slice|range)"
)
#: Of packages whose functions can load or run things, the names that a checkpoint's pickle does call.
_CALLED = re.compile(
    r"numpy\.(dtype|ndarray|(core|_core)\.multiarray\.(scalar|_reconstruct))|torch\.(device|Size)|torch\.jit\._pickle\.\w+"
)
_ABLE_TO_RUN = ("torch", "numpy", "pip", "setuptools", "pkg_resources")

_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LARGEST_PICKLE = 256 * 2**20  # the pickles of the largest known checkpoints have 1 MB: the tensors lie outside


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file, by name.

    Attributes:
        shapes: shape of each tensor; knowing it reads no data.
        get: name → tensor as stored (dtype kept), in memory of its own.
        config: the constructor arguments that a safetensors file of ours carries, else None.
        metadata: all of a safetensors file's metadata.
    """

    shapes: dict[str, tuple[int, ...]]
    get: Callable[[str], Tensor]
    config: dict[str, Any] | None
    metadata: dict[str, str]


class _Refused(Exception):
    """The file is not one to read; the message is the cause."""


@dataclass(frozen=True, slots=True)
class _Ref:
    """Where a tensor lies: which storage, and which part of it (units: elements)."""

    storage: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def open_tensors(path: Path) -> TensorFile:
    """Look into a checkpoint of any known format; nothing in it is run.

    Raises:
        UserError: no such file, not a checkpoint, damaged, or it holds code.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(512)
        if not head:
            raise _Refused("the file is empty")
        if head.startswith(b"PK\x03\x04"):
            return _open_zip(path)
        if head.startswith(_LEGACY_MAGIC):
            return _open_legacy(path)
        if head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 2**27:
            return _open_safetensors(path)
        raise _Refused(_name_format(path, head))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except _Refused as error:
        raise UserError(f"{path} is refused: {error}") from None


def _name_format(path: Path, head: bytes) -> str:
    """What a file is that is none of the known formats."""
    if head[:1] == b"\x80" or re.match(rb"[c(][\w.]+\n[\w.]+\n", head):
        with open(path, "rb") as file:
            _unpickle(file)
        return "it is a plain pickle without tensors, not a torch checkpoint"
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, not a checkpoint: the link that it came from is dead or asks for something"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the checkpoint itself"
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # a character may be cut at the end of the sample
            return "its format is unknown. Allowed: a torch checkpoint, an OpenAI CLIP file, safetensors"
    return "it is a text file, not a checkpoint"


# The pickle reader.


class _Inert(type):
    """Classes of stand-ins.  A call of one makes another stand-in, or is refused."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if not cls.callable:
            raise _Refused(f"its pickle calls {cls.origin}, which has no place in a checkpoint; it was not run")
        return cls.__new__(cls)


class _StandIn(metaclass=_Inert):
    """In the place of an object of a class that is not imported: takes any content, does nothing with it."""

    callable = False
    origin = ""
    state: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> _StandIn:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def ignore(self, *args: Any) -> None:
        pass

    __setitem__ = append = extend = add = ignore


class _Callable:
    """A name the reader knows.  No attributes: a pickle's BUILD opcode can set none."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]):
        object.__setattr__(self, "_function", function)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


def _tensor_v2(storage: Any, offset: int, shape: tuple, stride: tuple, *_: Any) -> _Ref:
    if not (isinstance(storage, tuple) and storage[:1] == ("storage",)):
        raise _Refused("its pickle builds a tensor without a storage")
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or any(type(n) is not int or not 0 <= n < 2**48 for n in numbers):
        raise _Refused("its pickle gives a tensor an impossible shape")
    return _Ref(storage[2], storage[1], offset, tuple(shape), tuple(stride))


_KNOWN = {
    "torch._utils._rebuild_tensor_v2": _Callable(_tensor_v2),
    "torch._utils._rebuild_parameter": _Callable(lambda data, *_: data),
    "torch._utils._rebuild_parameter_with_state": _Callable(lambda data, *_: data),
    "collections.OrderedDict": _Callable(lambda items=(): _Dict(items)),
}


class _Dict(dict):
    """Stands for OrderedDict: a dict that takes, and drops, the ``_metadata`` that state dicts carry."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


# The Python one, not the C one: its memo is a dict, so a forged memo index costs nothing.
class _Unpickler(pickle._Unpickler):
    def __init__(self, stream: BinaryIO):
        super().__init__(stream, encoding="latin-1")
        self.storages: dict[str, str] = {}  # key → kind, of every storage that is referred to

    def find_class(self, module: str, name: str) -> Any:
        # torch pickles with protocol 2, which spells names as Python 2 did.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        origin = f"{module}.{name}"
        if origin in _KNOWN:
            return _KNOWN[origin]
        if module == "torch" and name in _DTYPES:
            return name
        harmless = bool(_HARMLESS.fullmatch(origin))
        top = module.split(".")[0]
        if not harmless and (top in sys.stdlib_module_names):
            raise _Refused(f"its pickle names {origin}, which has no place in a checkpoint; it was not run")
        called = harmless or top not in _ABLE_TO_RUN or bool(_CALLED.fullmatch(origin))
        return _Inert(name, (_StandIn,), {"origin": origin, "callable": called})

    def persistent_load(self, pid: Any) -> Any:
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and pid[1] in _DTYPES):
            raise _Refused(f"its pickle refers to an unknown kind of storage: {str(pid)[:80]}")
        self.storages[str(pid[2])] = pid[1]
        return ("storage", pid[1], str(pid[2]))


def _unpickle(stream: BinaryIO) -> tuple[Any, dict[str, str]]:
    """The next pickle of a stream → its content, and the kinds of the storages it refers to."""
    unpickler = _Unpickler(stream)
    try:
        return unpickler.load(), unpickler.storages
    except _Refused:
        raise
    except EOFError:
        raise _Refused("its pickle ends too soon: the file is truncated") from None
    except Exception as error:
        raise _Refused(f"its pickle is malformed ({type(error).__name__}: {str(error)[:120]})") from None


def _named_tensors(content: Any) -> dict[str, _Ref]:
    """The state dict in what a pickle held."""
    if isinstance(content, dict):
        state = content["state_dict"] if isinstance(content.get("state_dict"), dict) else content
        return {name: value for name, value in state.items() if isinstance(name, str) and isinstance(value, _Ref)}
    if isinstance(content, _StandIn):
        return _module_tensors(content)
    return {}


def _module_tensors(module: _StandIn) -> dict[str, _Ref]:
    """Parameters and buffers of a TorchScript module: tensors are attributes, submodules attributes in turn."""
    found, seen, todo = {}, set(), [("", module)]
    while todo:
        prefix, part = todo.pop()
        if id(part) in seen or not isinstance(part.state, dict):
            continue
        seen.add(id(part))
        for name, value in part.state.items():
            if isinstance(value, _Ref):
                found[f"{prefix}{name}"] = value
            elif isinstance(value, _StandIn):
                todo.append((f"{prefix}{name}.", value))
    return found


def _assemble(ref: _Ref, raw: bytes) -> Tensor:
    """A tensor from the bytes of its storage."""
    dtype = _DTYPES[ref.dtype]
    elements = len(raw) // dtype.itemsize
    last = ref.offset + sum((n - 1) * s for n, s in zip(ref.shape, ref.stride, strict=True))
    if prod(ref.shape) == 0:
        return torch.empty(ref.shape, dtype=dtype)
    if last >= elements or prod(ref.shape) > elements:
        raise UserError(f"a tensor of {list(ref.shape)} reaches beyond its storage: the file is damaged or forged")
    storage = torch.frombuffer(bytearray(raw), dtype=dtype)
    return storage.as_strided(ref.shape, ref.stride, ref.offset).contiguous()


# The formats.


def _open_zip(path: Path) -> TensorFile:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise _Refused("the archive's directory at its end is missing: the file is truncated") from None
    entries = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in entries if name.split("/")[1:] == ["data.pkl"] or name == "data.pkl"]
    if len(pickles) != 1:
        shown = ", ".join(list(entries)[:3])
        raise _Refused(f"it is a zip archive of other things ({shown}), not a torch checkpoint; unpack it first")
    root = pickles[0].removesuffix("data.pkl")
    size = path.stat().st_size

    def record(name: str) -> bytes:
        info = entries.get(root + name)
        if info is None:
            raise _Refused(f"the archive lacks {root + name}: the file is damaged")
        # torch stores its records uncompressed; whatever expands, or overlaps, is a bomb.
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.file_size > size:
            raise _Refused(
                f"{info.filename} is compressed ({info.compress_size:,} bytes that claim to be {info.file_size:,}), "
                "which torch never does: it looks like a zip bomb"
            )
        try:
            return archive.read(info)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise _Refused(f"{info.filename} is damaged ({error})") from None

    stored = sum(info.file_size for info in entries.values() if info.compress_type == zipfile.ZIP_STORED)
    if stored > size:
        raise _Refused(f"its records overlap: {stored:,} bytes claimed in a file of {size:,}, a zip bomb")
    if entries[pickles[0]].file_size > _LARGEST_PICKLE:
        raise _Refused(f"its pickle claims {entries[pickles[0]].file_size:,} bytes: it looks like a zip bomb")
    if root + "byteorder" in entries and record("byteorder") != b"little":
        raise _Refused("it was written on a big-endian machine, which is not supported")
    refs = _named_tensors(_unpickle(io.BytesIO(record("data.pkl")))[0])

    def get(name: str) -> Tensor:
        try:
            return _assemble(refs[name], record(f"data/{refs[name].storage}"))
        except (_Refused, UserError) as error:
            raise UserError(f"{path} is refused: {name}: {error}") from None

    return _tensor_file(refs, get)


def _open_legacy(path: Path) -> TensorFile:
    """torch's stream of before 1.6: magic, version, system, the object, the storages' keys, the storages."""
    with open(path, "rb") as file:
        for _ in range(3):
            _unpickle(file)
        content, kinds = _unpickle(file)
        keys, _ = _unpickle(file)
        places, size = {}, path.stat().st_size
        for key in keys if isinstance(keys, list) else []:  # a storage: the number of its elements, the elements
            count, start = struct.unpack("<q", file.read(8).ljust(8, b"\xff"))[0], file.tell()
            end = start + count * _DTYPES[kinds.get(str(key), "DoubleStorage")].itemsize
            if count < 0 or end > size:
                raise _Refused("it ends before its tensors do: the file is truncated")
            places[str(key)] = (start, end - start)
            file.seek(end)
    refs = _named_tensors(content)

    def get(name: str) -> Tensor:
        start, count = places[refs[name].storage]
        with open(path, "rb") as file:
            file.seek(start)
            return _assemble(refs[name], file.read(count))

    return _tensor_file(refs, get)


def _tensor_file(refs: dict[str, _Ref], get: Callable[[str], Tensor]) -> TensorFile:
    if not refs:
        raise _Refused("it holds no tensors by name. Allowed: a state dict, or a checkpoint with a `state_dict`")
    return TensorFile({name: ref.shape for name, ref in refs.items()}, get, None, {})


def _open_safetensors(path: Path) -> TensorFile:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise _Refused(f"its safetensors header and content disagree, it is truncated or damaged ({error})") from None
    try:
        config = json.loads(metadata["config"]) if "config" in metadata else None
    except json.JSONDecodeError as error:
        raise _Refused(f"its metadata `config` is not JSON ({error})") from None

    def get(name: str) -> Tensor:
        with safe_open(path, "pt") as file:
            return file.get_tensor(name).clone()

    return TensorFile(shapes, get, config, metadata)
