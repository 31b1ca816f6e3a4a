"""Composes the jobs of a sweep, with their common part only once."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

__all__ = ["SharedLoader"]

#: Number of composed configs that a loader keeps.
KEPT = 32


class SharedLoader:
    """Wraps Hydra's loader, and composes a job from an earlier one if only plain values differ.

    Composing reads some twenty files and takes a tenth of a second.  Hydra applies overrides of plain values
    (``seed=3``, ``loss.beta=.5``) last, so jobs with the same choices of groups share everything before.  The result
    equals Hydra's; all other overrides are left to Hydra.

    Args:
        real: Hydra's loader.
    """

    def __init__(self, real: ConfigLoader):
        self.real = real
        self.groups: set[str] = set()
        self.shared: dict[tuple[int, tuple[str, ...]], bytes] = {}  # pickled: faster than a deep copy

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # pickle asks before ``real`` is set
        return getattr(self.real, name)

    def __getstate__(self) -> dict[str, Any]:
        return {"real": self.real, "groups": set(), "shared": {}}  # a worker process has its own cache

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Compose the config of one job."""
        parsed = OverridesParser.create().parse_overrides(list(sweep_overrides))
        first, values = self._split(parsed)
        try:
            cfg = pickle.loads(self._shared(master_config, [o.input_line or "" for o in first]))
            for override in values:
                OmegaConf.update(cfg, override.key_or_group, override.value(), merge=True)
            _record(cfg, master_config, parsed)
        except Exception:  # let Hydra compose it and report the error
            return self.real.load_sweep_config(master_config, list(sweep_overrides))
        OmegaConf.copy_cache(from_config=master_config, to_config=cfg)
        return cfg

    def _split(self, overrides: Sequence[Override]) -> tuple[list[Override], list[Override]]:
        """Split overrides into those up to the last one that may choose config files, and the plain values after it."""
        self.groups = self.groups or set(self.real.list_groups(""))
        plain = [self._is_plain(override) for override in overrides]
        odd = [i for i, o in enumerate(overrides) if not plain[i] and not self._is_group(o)]
        start = odd[-1] + 1 if odd else 0
        values = [o for i, o in enumerate(overrides) if i >= start and plain[i]]
        return [o for o in overrides if o not in values], values

    def _is_group(self, override: Override) -> bool:
        name = override.key_or_group
        return "/" in name or override.package is not None or name in self.groups

    def _is_plain(self, override: Override) -> bool:
        """Whether an override only gives a plain value to an existing key."""
        adds = override.is_add() or override.is_force_add() or override.is_delete()
        return not (adds or self._is_group(override) or override.key_or_group == "hydra.searchpath")

    def _shared(self, master: DictConfig, overrides: list[str]) -> bytes:
        key = (id(master), tuple(overrides))
        if key not in self.shared:
            while len(self.shared) >= KEPT:
                del self.shared[next(iter(self.shared))]
            self.shared[key] = pickle.dumps(self.real.load_sweep_config(master, overrides))
        return self.shared[key]


def _record(cfg: DictConfig, master: DictConfig, overrides: Sequence[Override]) -> None:
    """Set Hydra's record of the overrides."""
    by_kind: Mapping[bool, list[str]] = {True: list(master.hydra.overrides.hydra), False: []}
    for override in overrides:
        by_kind[override.is_hydra_override()].append(override.input_line or "")
    cfg.hydra.overrides.hydra, cfg.hydra.overrides.task = by_kind[True], by_kind[False]
    how = cfg.hydra.job.config.override_dirname
    lines = [
        o.input_line or "" for o in overrides if not o.is_hydra_override() and o.key_or_group not in how.exclude_keys
    ]
    cfg.hydra.job.override_dirname = how.item_sep.join(sorted(lines)).replace("=", how.kv_sep)
