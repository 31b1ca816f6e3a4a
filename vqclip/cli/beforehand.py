"""Checks a command before it is passed to Hydra, and runs what Hydra only shows."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable

from vqclip.cli.arguments import Command
from vqclip.cli.launchers import restore_launchers
from vqclip.config.names import unknown_overrides
from vqclip.errors import UserError

__all__ = ["check_before_hydra", "check_shown", "show_config"]


def check_shown(command: Command) -> None:
    """Refuse for ``--cfg`` and the like what a run would refuse, of a sweep in its first job."""
    folder = command.flags.get("--config-dir")
    if "--cfg" in command.flags and command.flags.pop("--multirun", "") is None:
        _keep_first(command)
    if ("--cfg" in command.flags and folder) or unknown_overrides(command.overrides):
        from vqclip.config.compose import compose

        compose(command.overrides, folder, config_name=command.flags.get("--config-name") or "config")


def _keep_first(command: Command) -> None:
    """Keep only the first value of every swept key, since ``--cfg`` shows one config."""
    from vqclip.config.compose import first_of_sweep
    from vqclip.config.shorthand import expand_shorthand

    first, jobs = first_of_sweep(command.overrides, command.flags.get("--config-dir"))
    command.overrides = expand_shorthand(first)
    if jobs > 1:
        print(f"note: the first of {jobs} jobs", file=sys.stderr)


def check_before_hydra(command: Command) -> None:
    """Compose and check what will run, so that a mistake is answered before Hydra makes a folder."""
    from hydra.core.utils import env_override
    from hydra.types import RunMode
    from omegaconf import open_dict

    from vqclip.cli.output_dir import check_output_dir, check_working_dir, output_dir
    from vqclip.config.check import check
    from vqclip.config.compose import compose, compose_all, first_of_sweep, job_environment, refuse_sweeps
    from vqclip.config.resolve import resolve

    check_working_dir()
    config_dir, name = command.flags.get("--config-dir"), command.flags.get("--config-name") or "config"
    first, _ = first_of_sweep(command.overrides, config_dir)
    cfg = compose(first, config_dir, config_name=name, with_hydra=True)
    multirun = "--multirun" in command.flags or cfg.hydra.mode == RunMode.MULTIRUN
    if not multirun:
        refuse_sweeps(command.overrides)
    place, search = output_dir(cfg, multirun), cfg.get("hparams_search")
    # Our sweeper checks all jobs before any runs; others do not.
    others = any(word.lstrip("+~").startswith(("hydra/sweeper", "hparams_search")) for word in command.overrides)
    jobs = compose_all(command.overrides, config_dir, name, with_hydra=True) if multirun and others else [cfg]
    for job in jobs:
        with env_override(job_environment(job, command.overrides)), open_dict(job):
            del job["hydra"]
            check(resolve(job))
    if search:
        _check_search(command, multirun, by_another=place.numbers)
    check_output_dir(place, bool(cfg.get("overwrite")))


def _check_search(command: Command, multirun: bool, by_another: bool) -> None:
    """Refuse a search without -m, or with a sweeper that does not search."""
    if not multirun:
        again = shlex.join(["vqclip", "-m", *command.words])
        raise UserError(f"hparams_search: a search runs many jobs. Try: {again}")
    if by_another:
        raise UserError(
            "hparams_search: another sweeper than vqclip's runs all values and searches nothing. Allowed: "
            "hydra/sweeper=vqclip, or hparams_search=null. Try: hydra/sweeper=vqclip"
        )


def show_config(command: Command, run: Callable[[], None]) -> None:
    """Let Hydra show a config; errors while composing it are the user's mistakes."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException

    from vqclip.config.compose import COMPOSING
    from vqclip.config.hydra_errors import explain

    try:
        try:
            run()
        except COMPOSING:
            if not restore_launchers():
                raise
            run()
    except COMPOSING as error:
        if isinstance(error, OSError) and not (error.filename or isinstance(error, HydraException)):
            raise  # an error of stdout, which :func:`main` handles
        raise UserError(explain(error, command.flags.get("--config-dir"), command.overrides)) from None
    except SystemExit as end:
        sys.exit(2 if end.code else 0)
    finally:
        HydraConfig.instance().cfg = None  # Hydra leaves it set for whatever comes next in this process
