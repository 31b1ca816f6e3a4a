"""Configs as plain data."""

from __future__ import annotations

from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

__all__ = ["plain_dict"]


def plain_dict(config: DictConfig, *, resolve: bool = True, throw_on_missing: bool = False) -> dict[str, Any]:
    """A mapping's config as a dict of plain data, with OmegaConf's own arguments and errors."""
    plain = OmegaConf.to_container(config, resolve=resolve, throw_on_missing=throw_on_missing)
    return cast("dict[str, Any]", plain)  # OmegaConf's annotation is of every config, also those of lists
