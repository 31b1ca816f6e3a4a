"""Converts configs to plain data, and registers our only resolver, ``${vqclip.div:4.38,${steps}}``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

__all__ = ["mapping", "plain_dict"]


def _divided(number: Any, steps: Any, restarts: Any = None) -> Any:
    """Divide a number by the steps of one trial: with restarts, steps of the other trials do not count.

    If steps is not a number, return the first argument: the mistake is reported for the key ``steps``.
    """
    if isinstance(restarts, DictConfig):
        with suppress(TypeError):
            steps -= (restarts.get("count") - 1) * restarts.get("steps")
    return number / steps if isinstance(steps, int | float) and steps > 0 else number


OmegaConf.register_new_resolver("vqclip.div", _divided, replace=True)


def plain_dict(config: DictConfig, *, resolve: bool = True, throw_on_missing: bool = False) -> dict[str, Any]:
    """Convert a config to a dict of plain data, with OmegaConf's arguments and errors."""
    plain = OmegaConf.to_container(config, resolve=resolve, throw_on_missing=throw_on_missing)
    return cast("dict[str, Any]", plain)  # OmegaConf's annotation includes lists


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a value of a record if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}
