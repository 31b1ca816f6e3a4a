"""Composes the jobs of a sweep: what they share once, what sets them apart for each."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

__all__ = ["SharedLoader"]

#: Configs that a loader keeps for the jobs to come.
KEPT = 32


class SharedLoader:
    """Hydra's loader, which composes a job from an earlier one where only plain values differ.

    Composing reads a score of files and takes a tenth of a second.  An override of a plain value (``seed=3``,
    ``loss.beta=.5``) is the last thing that Hydra applies, so that jobs with the same choices of groups share all
    before it.  The result is what Hydra composes; whatever is not plain, it composes itself.

    Args:
        real: Hydra's loader.
    """

    def __init__(self, real: ConfigLoader):
        self.real = real
        self.groups: set[str] = set()
        self.shared: dict[tuple[int, tuple[str, ...]], bytes] = {}  # pickled: an eighth of a deep copy's time

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # pickle asks before there is a loader
        return getattr(self.real, name)

    def __getstate__(self) -> dict[str, Any]:
        return {"real": self.real, "groups": set(), "shared": {}}  # a worker's process has its own

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The config of one job."""
        parsed = OverridesParser.create().parse_overrides(list(sweep_overrides))
        first, values = self._split(parsed)
        try:
            cfg = pickle.loads(self._shared(master_config, [o.input_line or "" for o in first]))
            for override in values:
                OmegaConf.update(cfg, override.key_or_group, override.value(), merge=True)
            _record(cfg, master_config, parsed)
        except Exception:  # Hydra says better what is wrong
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
    """Hydra's own record of the overrides."""
    by_kind: Mapping[bool, list[str]] = {True: list(master.hydra.overrides.hydra), False: []}
    for override in overrides:
        by_kind[override.is_hydra_override()].append(override.input_line or "")
    cfg.hydra.overrides.hydra, cfg.hydra.overrides.task = by_kind[True], by_kind[False]
    how = cfg.hydra.job.config.override_dirname
    lines = [
        o.input_line or "" for o in overrides if not o.is_hydra_override() and o.key_or_group not in how.exclude_keys
    ]
    cfg.hydra.job.override_dirname = how.item_sep.join(sorted(lines)).replace("=", how.kv_sep)
