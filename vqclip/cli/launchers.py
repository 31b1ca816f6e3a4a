"""Keeps Hydra from importing its launcher plugins where none is used: a fifth of ``--cfg job``."""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress

__all__ = ["bring_back", "hold_back"]

#: Packages of our extras → the module that tells Hydra their choices of ``hydra/launcher``.
_LAUNCHERS = {
    "hydra_plugins.hydra_joblib_launcher": "config",
    "hydra_plugins.hydra_ray_launcher": "_config",
    "hydra_plugins.hydra_submitit_launcher": "config",
}


def hold_back() -> None:
    """Keep the launcher plugins from being imported: ``sys.modules[name] = None``, which Hydra skips."""
    for name in _LAUNCHERS:
        sys.modules.setdefault(name, None)  # pyright: ignore[reportArgumentType]


def bring_back() -> bool:
    """Import the launcher plugins after all, for a config that names one.

    Returns:
        whether any was held back.
    """
    held = [name for name in _LAUNCHERS if name in sys.modules and sys.modules[name] is None]
    for name in held:
        del sys.modules[name]
        with suppress(ImportError):  # it is not installed
            importlib.import_module(f"{name}.{_LAUNCHERS[name]}")
    return bool(held)
