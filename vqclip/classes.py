"""Finds classes and functions by their dotted names, and instantiates what a config names by ``_target_``.

Hydra's own ``instantiate`` resolves what it is given once more, so that a text of a stranger's record which was
escaped to mean itself comes to life there.  Here a config is resolved once, becomes plain data, and stays that.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from vqclip.errors import UserError, closest

__all__ = ["find", "instantiate", "named", "parameters_of"]


def find(target: str) -> Callable:
    """The class or function of a dotted name.

    Raises:
        LookupError: there is none, with where Python looked.
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
    """The object of plain data with ``_target_``; other mappings and lists as they are, objects in them made.

    Args:
        value: with Hydra's keys ``_target_``, ``_args_``, ``_partial_`` and ``_recursive_``.

    Raises:
        UserError: what ``_target_`` names is not there.
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
    target = named(value["_target_"])
    return partial(target, *arguments, **keywords) if value.get("_partial_") else target(*arguments, **keywords)


def named(target: Any) -> Any:
    """What a config's ``_target_`` names; a class or function as it is.

    Raises:
        UserError: there is none.
    """
    if callable(target):
        return target
    try:
        return find(target)
    except LookupError as error:
        raise UserError(f"_target_={target}: {error}") from None


def parameters_of(part: Callable) -> Mapping[str, inspect.Parameter]:
    """The parameters of a class or function by name; what their annotations name need not be there.

    Raises:
        TypeError, ValueError: it is built in and has no signature.
    """
    if sys.version_info >= (3, 14):  # which looks them up only now, also what is imported for type checkers alone
        from annotationlib import Format

        return inspect.signature(part, annotation_format=Format.FORWARDREF).parameters
    return inspect.signature(part).parameters


def _import_longest(parts: Sequence[str]) -> tuple[Any, Sequence[str]]:
    """The deepest module that ``parts`` begin with, and what is left of them."""
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
        except (Exception, SystemExit) as error:  # whatever a module of the user's own does when it is imported
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
