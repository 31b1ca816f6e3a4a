"""Instantiates what a config names by ``_target_``.

Hydra's own ``instantiate`` resolves what it is given once more, so that a text of a stranger's record which was
escaped to mean itself comes to life there.  Here a config is resolved once, becomes plain data, and stays that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from vqclip.classes import make
from vqclip.io.plain import plain_dict

__all__ = ["instantiate"]


def instantiate(config: Mapping[str, Any] | DictConfig) -> Any:
    """What :func:`vqclip.classes.make` makes of a config.

    Raises:
        UserError: what ``_target_`` names is not there.
    """
    return make(plain_dict(config) if isinstance(config, DictConfig) else config)
