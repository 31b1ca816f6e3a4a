"""Reads a pickle without running it, for :mod:`vqclip.checkpoints.tensors`."""

from __future__ import annotations

import pickle
import re
import reprlib
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

import torch

__all__ = [
    "DTYPES",
    "LARGEST_PICKLE",
    "RefusedPickle",
    "TensorRef",
    "named_tensors",
    "refuse_endless_tuples",
    "unpickle",
]

DTYPES = {
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


#: Standard library names that occur in checkpoints and are harmless as stand-ins.
_HARMLESS = re.compile(
    r"(collections|datetime|pathlib|enum|typing|decimal|fractions|uuid)\..*|argparse\.Namespace|_codecs\.encode|functools\.partial"
    r"|copyreg\._reconstructor|builtins\.(object|int|float|bool|complex|str|bytes|bytearray|list|tuple|dict|set|frozenset|slice|range)"
)


#: Names that checkpoints legitimately call in packages whose other functions can load or run things.
_CALLED = re.compile(
    r"numpy\.(dtype|ndarray|(core|_core)\.multiarray\.(scalar|_reconstruct))|torch\.(device|Size)|torch\.jit\._pickle\.\w+"
)


_ABLE_TO_RUN = ("torch", "numpy", "pip", "setuptools", "pkg_resources")


LARGEST_PICKLE = 256 * 2**20  # known checkpoints need 1 MB: tensors are stored outside


LARGEST_TUPLE = 2**20  # values, nested ones included; vocabularies have some 100,000


class RefusedPickle(Exception):
    """The file must not be read; the message says why."""


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor as a view of a storage; offsets and strides are in elements."""

    storage: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Inert(type):
    """Metaclass of stand-ins: calling one returns another stand-in, or is refused."""

    callable: bool
    origin: str

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if not cls.callable:
            raise RefusedPickle(f"its pickle calls {cls.origin}, which has no place in a checkpoint; it was not run")
        return cls.__new__(cls)  # pyright: ignore[reportCallIssue]: it reads the metaclass's, not the class's own


class _StandIn(metaclass=_Inert):
    """Replaces an object whose class is not imported: accepts any state and ignores it."""

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


class CallableStandIn:
    """A function that the reader knows, without attributes that a pickle's BUILD opcode could set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]):
        object.__setattr__(self, "_function", function)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


def _tensor_v2(storage: Any, offset: int, shape: tuple, stride: tuple, *_: Any) -> TensorRef:
    if not (isinstance(storage, tuple) and storage[:1] == ("storage",)):
        raise RefusedPickle("its pickle builds a tensor without a storage")
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or any(type(n) is not int or not 0 <= n < 2**48 for n in numbers):
        raise RefusedPickle("its pickle gives a tensor an impossible shape")
    return TensorRef(storage[2], storage[1], offset, tuple(shape), tuple(stride))


_KNOWN = {
    "torch._utils._rebuild_tensor_v2": CallableStandIn(_tensor_v2),
    "torch._utils._rebuild_parameter": CallableStandIn(lambda data, *_: data),
    "torch._utils._rebuild_parameter_with_state": CallableStandIn(lambda data, *_: data),
    "collections.OrderedDict": CallableStandIn(lambda items=(): PlainDict(items)),
}


class PlainDict(dict):
    """Replaces OrderedDict: a dict that ignores the ``_metadata`` of state dicts."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


# The Python implementation: its memo is a dict, so a forged memo index cannot exhaust memory.
class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: BinaryIO):
        super().__init__(stream, encoding="latin-1")
        # id of a tuple → its values, nested ones included, and the tuple itself, which keeps the id valid
        self.sizes: dict[int, tuple[int, Any]] = {}
        self.storages: dict[str, str] = {}  # key → kind of every referenced storage

    def find_class(self, module: str, name: str) -> Any:
        # torch pickles with protocol 2, which uses Python 2's names.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        origin = f"{module}.{name}"
        if origin in _KNOWN:
            return _KNOWN[origin]
        if module == "torch" and name in DTYPES:
            return name
        harmless = bool(_HARMLESS.fullmatch(origin))
        top = module.split(".")[0]
        if not harmless and (top in sys.stdlib_module_names):
            raise RefusedPickle(f"its pickle names {origin}, which has no place in a checkpoint; it was not run")
        called = harmless or top not in _ABLE_TO_RUN or bool(_CALLED.fullmatch(origin))
        return _Inert(name, (_StandIn,), {"origin": origin, "callable": called})

    def measure(self, made: Any) -> None:
        """Refuse tuples that contain another twice, and so on: hashing or printing them takes exponential time."""
        size = len(made) + sum(self.sizes[id(item)][0] for item in made if id(item) in self.sizes)
        if size > LARGEST_TUPLE:
            raise RefusedPickle("its pickle nests tuples without end")
        self.sizes[id(made)] = size, made

    def persistent_load(self, pid: Any) -> Any:
        # Match types before values: comparing or printing exponentially nested tuples would never end.
        match pid:
            case ("storage", str(kind), str(key) | int(key), _, _, *_) if kind in DTYPES:
                self.storages[str(key)] = kind
                return ("storage", kind, str(key))
        raise RefusedPickle(f"its pickle refers to an unknown kind of storage: {reprlib.repr(pid)[:80]}")


def _measured(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def measured(self: Any) -> None:
        load(self)
        self.measure(self.stack[-1])

    return measured


for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.FROZENSET):
    _Unpickler.dispatch[_code[0]] = _measured(_Unpickler.dispatch[_code[0]])


class _Measurer(_Unpickler):
    """Checks only the size of tuples; every name becomes a stand-in."""

    def find_class(self, module: str, name: str) -> Any:
        return _Inert(name, (_StandIn,), {"origin": f"{module}.{name}", "callable": True})

    def persistent_load(self, pid: Any) -> Any:
        return None


def refuse_endless_tuples(stream: BinaryIO) -> None:
    """Refuse a pickle whose tuples would keep torch's own reader busy forever; torch checks everything else.

    Raises:
        RefusedPickle: its tuples are nested exponentially.
    """
    try:
        _Measurer(stream).load()
    except RefusedPickle:
        raise
    except Exception:  # malformed; torch reports it
        return


def unpickle(stream: BinaryIO) -> tuple[Any, dict[str, str]]:
    """Read the next pickle of a stream: its content, and the kinds of the storages that it refers to."""
    unpickler = _Unpickler(stream)
    try:
        return unpickler.load(), unpickler.storages
    except RefusedPickle:
        raise
    except EOFError:
        raise RefusedPickle("its pickle ends too soon: the file is truncated") from None
    except Exception as error:
        raise RefusedPickle(f"its pickle is malformed ({type(error).__name__}: {str(error)[:120]})") from None


def named_tensors(content: Any) -> dict[str, TensorRef]:
    """Find the state dict in the content of a pickle."""
    if isinstance(content, dict):
        wrappers = ("state_dict", "model", "params_ema", "params")  # the last two: basicsr's
        inner = [content[key] for key in wrappers if isinstance(content.get(key), dict)]
        state = inner[0] if inner else content
        return {name: value for name, value in state.items() if isinstance(name, str) and isinstance(value, TensorRef)}
    if isinstance(content, _StandIn):
        return _module_tensors(content)
    return {}


def _module_tensors(module: _StandIn) -> dict[str, TensorRef]:
    """Parameters and buffers of a TorchScript module: tensors are attributes, submodules attributes in turn."""
    found, seen, todo = {}, set(), [("", module)]
    while todo:
        prefix, part = todo.pop()
        if id(part) in seen or not isinstance(part.state, dict):
            continue
        seen.add(id(part))
        for name, value in part.state.items():
            if isinstance(value, TensorRef):
                found[f"{prefix}{name}"] = value
            elif isinstance(value, _StandIn):
                todo.append((f"{prefix}{name}.", value))
    return found
