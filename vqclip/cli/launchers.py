"""Keeps Hydra from importing launcher plugins that are not used, which take a fifth of ``--cfg job``'s time."""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress

__all__ = ["hide_launchers", "restore_launchers"]

#: Packages of our extras → the module that registers their choices of ``hydra/launcher``.
_LAUNCHERS = {
    "hydra_plugins.hydra_joblib_launcher": "config",
    "hydra_plugins.hydra_ray_launcher": "_config",
    "hydra_plugins.hydra_submitit_launcher": "config",
}


def hide_launchers() -> None:
    """Prevent the import of launcher plugins by ``sys.modules[name] = None``, which Hydra skips."""
    for name in _LAUNCHERS:
        sys.modules.setdefault(name, None)  # pyright: ignore[reportArgumentType]


def restore_launchers() -> bool:
    """Import the launcher plugins after all, for a config that names one.

    Returns:
        Whether any had been held back.
    """
    held = [name for name in _LAUNCHERS if name in sys.modules and sys.modules[name] is None]
    for name in held:
        del sys.modules[name]
        with suppress(ImportError):  # not installed
            importlib.import_module(f"{name}.{_LAUNCHERS[name]}")
    return bool(held)
