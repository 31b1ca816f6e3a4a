"""Turns configs into plain data, and registers the one resolver of ours: ``${vqclip.div:4.38,${steps}}``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

__all__ = ["mapping", "plain_dict"]


def _divided(number: Any, steps: Any, restarts: Any = None) -> Any:
    """A number divided by the steps of one start's way: of several starts, those of the others do not count.

    Where that is no number, the first as it is: what is wrong is told of the key that has it.
    """
    if isinstance(restarts, DictConfig):
        with suppress(TypeError):
            steps -= (restarts.get("count") - 1) * restarts.get("steps")
    return number / steps if isinstance(steps, int | float) and steps > 0 else number


OmegaConf.register_new_resolver("vqclip.div", _divided, replace=True)


def plain_dict(config: DictConfig, *, resolve: bool = True, throw_on_missing: bool = False) -> dict[str, Any]:
    """A mapping's config as a dict of plain data, with OmegaConf's own arguments and errors."""
    plain = OmegaConf.to_container(config, resolve=resolve, throw_on_missing=throw_on_missing)
    return cast("dict[str, Any]", plain)  # OmegaConf's annotation is of every config, also those of lists


def mapping(value: Any) -> Mapping[str, Any]:
    """What a record has in the place of a mapping; an empty one where it is none."""
    return value if isinstance(value, Mapping) else {}
