"""Lazy imports: packages whose ``__init__`` runs only when something of it is used.  Nothing here imports torch.

Some packages do far more when they are imported than a run needs (:data:`WAITING` says what and how long): together
more than torch itself, and a command of one step would take two to three times as long.

So their ``__init__`` waits.  :class:`_Finder`, the first in ``sys.meta_path``, finds them as Python does and gives them
the loader :class:`_Waiting`, which makes the module without running it and puts ``Wait.at_once`` into it.  The first
other name that anybody asks for (:class:`_Package`) runs the ``__init__``, in the module itself (:func:`_wake`).  From
then on it is as if it had never waited.  Only the command line does this: a program that imports vqclip keeps Python's
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

__all__ = ["WAITING", "Wait", "collect_as_usual", "collect_rarely", "defer_imports", "is_waiting"]


@dataclass(frozen=True)
class Wait:
    """How a package waits.

    Attributes:
        at_once: names that stand there before the ``__init__`` ran → what makes their value, given the module.
        elsewhere: names that are had without the ``__init__`` → submodules to import in this order, the last has it.
        submodules: whether submodules can be imported without the ``__init__``.
    """

    at_once: Mapping[str, Callable[[ModuleType], Any]] = field(default_factory=dict)
    elsewhere: Mapping[str, Sequence[str]] = field(default_factory=dict)
    submodules: bool = True


def _look_away(dynamo: ModuleType) -> Callable[..., Callable]:
    """``torch._dynamo.disable`` while there is no compiler: the function as it is, asking each time."""

    def disable(function: Callable, *how: Any, **named: Any) -> Callable:
        real: list[Callable] = []

        def call(*args: Any, **kwargs: Any) -> Any:
            if not real and not is_waiting(dynamo.__name__):
                real.append(dynamo.disable(function, *how, **named))
            return (real or [function])[0](*args, **kwargs)

        return call

    return disable


def _in_part(name: str, answers: Callable[..., Any]) -> Callable[[ModuleType], Callable[..., Any]]:
    """A function of a module that waits: its answer where the ``__init__`` is not needed for it, else the real one's.

    Args:
        answers: takes the arguments; None where it cannot say.
    """

    def make(module: ModuleType) -> Callable[..., Any]:
        def function(*args: Any, **kwargs: Any) -> Any:
            found = None if kwargs else answers(*args)
            if found is not None:
                return found
            _wake(module)
            return getattr(module, name)(*args, **kwargs)

        return function

    return make


def _true(condition: Any, *skip: int) -> bool | None:
    """A condition is what it is, where it is no symbol of a compiler."""
    return condition if isinstance(condition, bool) else None


def _equal(one: Any, other: Any) -> bool | None:
    """Sizes are equal or not, where they hold no symbols."""
    both = isinstance(one, tuple) and isinstance(other, tuple) and all(type(n) is int for n in (*one, *other))
    return tuple(one) == tuple(other) if both else None


class _Later(type):
    """The class of a package that waits: nothing is an instance of it before the package has run."""

    home: ModuleType

    def __instancecheck__(cls, instance: Any) -> bool:
        real = vars(cls.home).get(cls.__name__)
        return real is not cls and real is not None and isinstance(instance, real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        real = vars(cls.home).get(cls.__name__)
        return subclass is cls or (real is not cls and real is not None and issubclass(subclass, real))


#: The packages that wait.  Behind each: who imports it, what it brings, and the processor seconds that this takes where
#: all others wait; what takes less than a few hundredths is not worth its place here.
WAITING: dict[str, Wait] = {
    "torchmetrics": Wait(  # Lightning, for two base classes: torchvision, SciPy, matplotlib.  3.0
        at_once={"_logger": lambda module: logging.getLogger("torchmetrics")},
        elsewhere={
            "__version__": ("torchmetrics.__about__",),
            "Metric": ("torchmetrics.utilities", "torchmetrics.metric"),
            "MetricCollection": ("torchmetrics.utilities", "torchmetrics.collections"),
        },
    ),
    "torchmetrics.utilities.plot": Wait(  # those base classes: matplotlib.  .5
        at_once={
            "_AX_TYPE": lambda plot: object,  # as it has them where matplotlib is not installed
            "_PLOT_OUT_TYPE": lambda plot: tuple,
            "plot_single_or_multi_val": _in_part("plot_single_or_multi_val", lambda *how: None),
        }
    ),
    "torch._dynamo": Wait(  # every optimiser, to have a compiler look away: sympy and a thousand modules.  1.8
        at_once={
            "disable": _look_away,
            "graph_break": lambda dynamo: lambda *args, **kwargs: None,
            "OptimizedModule": lambda dynamo: _Later("OptimizedModule", (), {"home": dynamo}),
        },
        submodules=False,
    ),
    "torch.fx.experimental.symbolic_shapes": Wait(  # torch.autograd, for sizes that are symbols: sympy.  .4
        at_once={"expect_true": _in_part("expect_true", _true), "sym_eq": _in_part("sym_eq", _equal)}
    ),
    "torch.utils.flop_counter": Wait(  # Lightning's summary of models: triton.  .1, and 75 MB
        at_once={"FlopCounterMode": _in_part("FlopCounterMode", lambda *how: None)}
    ),
    "clip": Wait(),  # for its model's module: torchvision, for pictures that are read otherwise here.  1.6
    "wandb.sdk.launch": Wait(),  # W&B's agents: all of its public API.  .4
}


def defer_imports() -> None:
    """Make the packages lazy, unless they are imported already.  A second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


@cache
def collect_rarely() -> None:
    """Imports make a million objects that stay: let Python's collector not look for garbage among them meanwhile."""
    gc.set_threshold(50_000)


@cache
def collect_as_usual() -> None:
    """Turn the collector on again, never for what was imported until now.  Once per process."""
    gc.freeze()
    gc.set_threshold(700)


def is_waiting(name: str) -> bool:
    """Whether a package is imported lazily and its ``__init__`` has not run yet."""
    return isinstance(sys.modules.get(name), _Package)


class _Package(ModuleType):
    """A package whose ``__init__`` waits."""

    def __getattr__(self, name: str) -> Any:
        wait: Wait = self.__dict__["_vqclip_wait"]
        if name in wait.elsewhere:
            return getattr([importlib.import_module(part) for part in wait.elsewhere[name]][-1], name)
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)  # what looks through all modules, as warnings and inspect do, wakes nobody
        _wake(self)
        return getattr(self, name)


_LOCK = threading.RLock()


def _spec_of(module: ModuleType) -> Any:
    """Its spec, which every module has that was imported."""
    return module.__spec__


def _wake(module: ModuleType) -> None:
    """Run the ``__init__`` that waits."""
    with _LOCK:
        if not isinstance(module, _Package):
            return
        wait = module.__dict__.pop("_vqclip_wait")
        for name in wait.at_once:
            del module.__dict__[name]
        module.__class__ = ModuleType  # pyright: ignore[reportAttributeAccessIssue]  # Python allows a base there
        _spec_of(module).loader.exec_module(module)


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        parent = sys.modules.get(name.rpartition(".")[0])
        if isinstance(parent, _Package) and not parent.__dict__["_vqclip_wait"].submodules:
            _wake(parent)
            if name in sys.modules:
                return ModuleSpec(name, _There(sys.modules[name]))
        if name not in WAITING:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        spec.loader = _Waiting(spec.loader, WAITING[name])
        return spec


class _Waiting(Loader):
    """A loader around the real one, to which all other attributes are delegated."""

    def __init__(self, real: Loader, wait: Wait):
        self.real, self.wait = real, wait

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["real"], name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = _spec_of(module).loader = self.real
        for name, make in self.wait.at_once.items():
            setattr(module, name, make(module))
        module.__dict__["_vqclip_wait"] = self.wait
        module.__class__ = _Package


class _There(Loader):
    """Of a submodule that its package's ``__init__`` has imported meanwhile."""

    def __init__(self, module: ModuleType):
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec
