"""The sweeper as Hydra finds plugins: in its namespace package ``hydra_plugins``, which an installed vqclip adds to.

Hydra imports every such module at its start, so that nothing here may be slow to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from hydra.core.config_loader import ConfigLoader
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

__all__ = ["VqclipSweeper"]


class VqclipSweeper(Sweeper):
    """``hydra/sweeper=vqclip``: every combination, or what a search proposes, less the jobs that are done already.

    Args:
        max_batch_size: jobs handed to the launcher in one go; None for all.
        params: overrides from the config, before those of the command line.
    """

    def __init__(self, max_batch_size: int | None, params: Mapping[str, str] | None = None):
        self.max_batch_size, self.params = max_batch_size, params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        from vqclip.sweeps.loader import SharedLoader
        from vqclip.sweeps.sweeper import SweepRunner

        # It has all of a ConfigLoader, by way of Hydra's own that it holds.
        loader = cast("ConfigLoader", SharedLoader(hydra_context.config_loader))
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(loader, hydra_context.callbacks), task_function=task_function, config=config
        )
        self.runner = SweepRunner(config, loader, launcher, self.max_batch_size, self.params)

    def sweep(self, arguments: list[str]) -> None:
        """Run what is left of the sweep, then write the comparison; exit with 1 where a job did not finish."""
        self.runner.run(arguments)
