"""Lazy imports: packages whose ``__init__`` runs only when something of it is used.  Nothing here imports torch.

Some packages do far more when they are imported than a run needs (:data:`DEFERRED` says what and how long): together
more than torch itself, and a command of one step would take two to three times as long.

How it works: :class:`_Finder`, the first in ``sys.meta_path``, finds these packages as Python does, but gives them
:class:`_DeferringLoader`, which creates the module, puts ``Deferral.stand_ins`` into it and does not run it.  The first
access to any other name (:class:`_DeferredModule`) runs the ``__init__`` in the same module object (:func:`_run_init`),
from then on an ordinary module.  Only the command line does this: a program that imports vqclip keeps Python's
own imports.
"""

from __future__ import annotations

import gc
import importlib
import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = ["DEFERRED", "Deferral", "collect_as_usual", "collect_rarely", "defer_imports", "is_deferred"]


@dataclass(frozen=True)
class Deferral:
    """What of a package can be used before its ``__init__`` runs.

    Attributes:
        stand_ins: names that are there from the beginning → what makes their value, given the module.
        in_submodules: names that a submodule defines → the submodules to import, in this order; the last has the name.
        submodules: whether submodules can be imported without the ``__init__``.
    """

    stand_ins: Mapping[str, Callable[[ModuleType], Any]] = field(default_factory=dict)
    in_submodules: Mapping[str, Sequence[str]] = field(default_factory=dict)
    submodules: bool = True


def _dynamo_disable(dynamo: ModuleType) -> Callable[..., Callable]:
    """A ``torch._dynamo.disable`` that calls the function as it is until the compiler is imported."""

    def disable(function: Callable, *how: Any, **named: Any) -> Callable:
        real: list[Callable] = []

        def call(*args: Any, **kwargs: Any) -> Any:
            if not real and not is_deferred(dynamo.__name__):
                real.append(dynamo.disable(function, *how, **named))
            return (real or [function])[0](*args, **kwargs)

        return call

    return disable


def _unless_answered(name: str, answers: Callable[..., Any]) -> Callable[[ModuleType], Callable[..., Any]]:
    """A stand-in for the function ``name``: ``answers`` of the arguments; where that is None, the real function."""

    def make(module: ModuleType) -> Callable[..., Any]:
        def function(*args: Any, **kwargs: Any) -> Any:
            found = None if kwargs else answers(*args)
            if found is not None:
                return found
            _run_init(module)
            return getattr(module, name)(*args, **kwargs)

        return function

    return make


def _true(condition: Any, *skip: int) -> bool | None:
    """``expect_true`` of a plain bool; None for a symbolic one."""
    return condition if isinstance(condition, bool) else None


def _equal(one: Any, other: Any) -> bool | None:
    """``sym_eq`` of tuples of plain ints; None for others."""
    both = isinstance(one, tuple) and isinstance(other, tuple) and all(type(n) is int for n in (*one, *other))
    return tuple(one) == tuple(other) if both else None


class _ClassStandIn(type):
    """The metaclass of a class stand-in: it has no instances until its module is run, then those of the real class."""

    home: ModuleType

    def __instancecheck__(cls, instance: Any) -> bool:
        real = vars(cls.home).get(cls.__name__)
        return real is not cls and real is not None and isinstance(instance, real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        real = vars(cls.home).get(cls.__name__)
        return subclass is cls or (real is not cls and real is not None and issubclass(subclass, real))


#: The deferred packages.  Behind each: who imports it, what it brings, and the processor seconds that this takes where
#: all others are deferred; what takes less than a few hundredths is not worth its place here.
DEFERRED: dict[str, Deferral] = {
    "torchmetrics": Deferral(  # Lightning, for two base classes: torchvision, SciPy, matplotlib.  3.0
        stand_ins={"_logger": lambda module: logging.getLogger("torchmetrics")},
        in_submodules={
            "__version__": ("torchmetrics.__about__",),
            "Metric": ("torchmetrics.utilities", "torchmetrics.metric"),
            "MetricCollection": ("torchmetrics.utilities", "torchmetrics.collections"),
        },
    ),
    "torchmetrics.utilities.plot": Deferral(  # those base classes: matplotlib.  .5
        stand_ins={
            "_AX_TYPE": lambda plot: object,  # as it has them where matplotlib is not installed
            "_PLOT_OUT_TYPE": lambda plot: tuple,
            "plot_single_or_multi_val": _unless_answered("plot_single_or_multi_val", lambda *how: None),
        }
    ),
    "torch._dynamo": Deferral(  # every optimiser, to have a compiler look away: sympy and a thousand modules.  1.8
        stand_ins={
            "disable": _dynamo_disable,
            "graph_break": lambda dynamo: lambda *args, **kwargs: None,
            "OptimizedModule": lambda dynamo: _ClassStandIn("OptimizedModule", (), {"home": dynamo}),
        },
        submodules=False,
    ),
    "torch.fx.experimental.symbolic_shapes": Deferral(  # torch.autograd, for sizes that are symbols: sympy.  .4
        stand_ins={"expect_true": _unless_answered("expect_true", _true), "sym_eq": _unless_answered("sym_eq", _equal)}
    ),
    "torch.utils.flop_counter": Deferral(  # Lightning's summary of models: triton.  .1, and 75 MB
        stand_ins={"FlopCounterMode": _unless_answered("FlopCounterMode", lambda *how: None)}
    ),
    "clip": Deferral(),  # for its model's module: torchvision, for pictures that are read otherwise here.  1.6
    "wandb.sdk.launch": Deferral(),  # W&B's agents: all of its public API.  .4
}


def defer_imports() -> None:
    """Defer the packages that nothing has imported yet.  A second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


#: Python's own thresholds, which differ between versions.
_USUAL = gc.get_threshold()


@cache
def collect_rarely() -> None:
    """Run Python's garbage collector less often: imports make a million objects, all of which stay."""
    gc.set_threshold(50_000)


@cache
def collect_as_usual() -> None:
    """Run it as often as Python does, without the objects that exist now.  Once a process."""
    gc.freeze()
    gc.set_threshold(*_USUAL)


def is_deferred(name: str) -> bool:
    """Whether a package is imported and its ``__init__`` has not run."""
    return isinstance(sys.modules.get(name), _DeferredModule)


class _DeferredModule(ModuleType):
    """A package whose ``__init__`` has not run."""

    def __getattr__(self, name: str) -> Any:
        deferral: Deferral = self.__dict__["_vqclip_deferral"]
        if name in deferral.in_submodules:
            return getattr([importlib.import_module(part) for part in deferral.in_submodules[name]][-1], name)
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)  # warnings and inspect ask every module for these
        _run_init(self)
        return getattr(self, name)


_LOCK = threading.RLock()


def _spec_of(module: ModuleType) -> Any:
    """Its spec, which every module has that was imported."""
    return module.__spec__


def _run_init(module: ModuleType) -> None:
    """Run the ``__init__`` of a deferred package."""
    with _LOCK:
        if not isinstance(module, _DeferredModule):
            return
        deferral = module.__dict__.pop("_vqclip_deferral")
        for name in deferral.stand_ins:
            del module.__dict__[name]
        module.__class__ = ModuleType  # pyright: ignore[reportAttributeAccessIssue]  # Python allows a base there
        _spec_of(module).loader.exec_module(module)


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        parent = sys.modules.get(name.rpartition(".")[0])
        if isinstance(parent, _DeferredModule) and not parent.__dict__["_vqclip_deferral"].submodules:
            _run_init(parent)
            if name in sys.modules:
                return ModuleSpec(name, _ImportedLoader(sys.modules[name]))
        if name not in DEFERRED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        spec.loader = _DeferringLoader(spec.loader, DEFERRED[name])
        return spec


class _DeferringLoader(Loader):
    """Creates a module by the real loader and does not run it; other attributes are the real loader's."""

    def __init__(self, real: Loader, deferral: Deferral):
        self.real, self.deferral = real, deferral

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["real"], name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = _spec_of(module).loader = self.real
        for name, make in self.deferral.stand_ins.items():
            setattr(module, name, make(module))
        module.__dict__["_vqclip_deferral"] = self.deferral
        module.__class__ = _DeferredModule


class _ImportedLoader(Loader):
    """The loader of a submodule that its package's ``__init__`` has imported meanwhile."""

    def __init__(self, module: ModuleType):
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec
