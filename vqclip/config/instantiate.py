"""From plain data to objects: what ``_target_`` names, called with the keys beside it.

Hydra's own ``instantiate`` resolves what it is given once more, so that a text of a stranger's record which was
escaped to mean itself comes to life there.  Here a config is resolved once, becomes plain data, and stays that.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from omegaconf import DictConfig

from vqclip.classes import find
from vqclip.errors import UserError
from vqclip.io.plain import plain_dict

__all__ = ["instantiate"]


def instantiate(config: Mapping[str, Any] | DictConfig, *, _partial_: bool = False) -> Any:
    """The object of a mapping with ``_target_``; other mappings and lists as plain data, objects in them made.

    Args:
        config: with Hydra's keys ``_target_``, ``_args_``, ``_partial_`` and ``_recursive_``.
        _partial_: return what makes the object.

    Raises:
        UserError: what ``_target_`` names is not there.
    """
    plain = plain_dict(config) if isinstance(config, DictConfig) else config
    if _partial_ and isinstance(plain, Mapping):
        plain = {**plain, "_partial_": True}
    return _made(plain)


def _made(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_made(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "_target_" not in value:
        return {key: _made(item) for key, item in value.items()}
    keys = {"_target_", "_args_", "_partial_", "_recursive_", "_convert_"}
    inner = _made if value.get("_recursive_", True) else lambda item: item
    arguments = [inner(item) for item in value.get("_args_") or ()]
    named = {key: inner(item) for key, item in value.items() if key not in keys}
    target = _found(value["_target_"])
    return partial(target, *arguments, **named) if value.get("_partial_") else target(*arguments, **named)


def _found(target: Any) -> Any:
    if callable(target):
        return target
    try:
        return find(target)
    except LookupError as error:
        raise UserError(f"_target_={target}: {error}") from None
