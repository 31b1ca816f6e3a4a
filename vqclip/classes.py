"""Finds classes and functions by their dotted names, and instantiates what a config names by ``_target_``.

Hydra's own ``instantiate`` resolves interpolations a second time, so an escaped interpolation in an untrusted record
would be evaluated there.  Here a config is resolved once and is plain data from then on.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from vqclip.errors import UserError, closest

__all__ = ["find", "import_target", "instantiate", "parameters_of"]


def find(target: str) -> Callable:
    """Import the class or function of a dotted name.

    Raises:
        LookupError: it does not exist; the message says where Python looked.
    """
    parts = target.split(".")
    if not all(part.isidentifier() for part in parts) or len(parts) < 2:
        raise LookupError("not a dotted name of a class. Allowed: package.module.Class")
    module, rest = _import_longest(parts)
    found: Any = module
    for i, name in enumerate(rest):
        if not hasattr(found, name):
            where = ".".join(parts[: len(parts) - len(rest) + i])
            near = closest(name, [word for word in vars(found) if not word.startswith("_")])
            raise LookupError(f"there is no {name} in {where}.{near}")
        found = getattr(found, name)
    if not callable(found):
        raise LookupError(f"{target} is a {type(found).__name__}, not a class or function")
    return found


def instantiate(value: Any) -> Any:
    """Instantiate every mapping with ``_target_`` in plain data, at any depth.

    Args:
        value: with Hydra's keys ``_target_``, ``_args_``, ``_partial_`` and ``_recursive_``.

    Raises:
        UserError: what ``_target_`` names does not exist.
    """
    if isinstance(value, list | tuple):
        return [instantiate(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "_target_" not in value:
        return {key: instantiate(item) for key, item in value.items()}
    keys = {"_target_", "_args_", "_partial_", "_recursive_", "_convert_"}
    inner = instantiate if value.get("_recursive_", True) else lambda item: item
    arguments = [inner(item) for item in value.get("_args_") or ()]
    keywords = {key: inner(item) for key, item in value.items() if key not in keys}
    target = import_target(value["_target_"])
    return partial(target, *arguments, **keywords) if value.get("_partial_") else target(*arguments, **keywords)


def import_target(target: Any) -> Any:
    """Import what a config's ``_target_`` names; return a class or function unchanged.

    Raises:
        UserError: it does not exist.
    """
    if callable(target):
        return target
    try:
        return find(target)
    except LookupError as error:
        raise UserError(f"_target_={target}: {error}") from None


def parameters_of(part: Callable) -> Mapping[str, inspect.Parameter]:
    """The parameters of a class or function by name; names in annotations need not exist.

    Raises:
        TypeError, ValueError: it is built in and has no signature.
    """
    if sys.version_info >= (3, 14):  # evaluates annotations here, also those imported under TYPE_CHECKING
        from annotationlib import Format

        return inspect.signature(part, annotation_format=Format.FORWARDREF).parameters
    return inspect.signature(part).parameters


def _import_longest(parts: Sequence[str]) -> tuple[Any, Sequence[str]]:
    """Import the deepest module that ``parts`` begin with; return it and the remaining parts."""
    module = None
    for depth in range(1, len(parts)):
        name = ".".join(parts[:depth])
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                raise LookupError(
                    f"{name} needs {error.name}, which is not installed. Try: pip install {error.name}"
                ) from None
            if module is None:
                raise LookupError(_not_found(name)) from None
            return module, parts[depth - 1 :]
        except (Exception, SystemExit) as error:  # a user's module may raise anything on import
            raise LookupError(
                f"importing {name} failed: {type(error).__name__}: {error}. Try: python -c 'import {name}'"
            ) from None
    return module, parts[-1:]


def _not_found(name: str) -> str:
    folders = [folder or "." for folder in sys.path if "site-packages" not in folder and not folder.endswith(".zip")]
    return (
        f"there is no package or file {name}. Python looked in {', '.join(folders[:3])} and among what is installed. "
        f"A folder of your own: PYTHONPATH=FOLDER vqclip …, or pip install -e FOLDER"
    )
