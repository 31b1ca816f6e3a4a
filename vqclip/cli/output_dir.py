"""Checks the folder that a command will write to, before Hydra writes its own record there."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.plugin import Plugin
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vqclip.config.plain import mapping, plain_dict
from vqclip.errors import UserError, shown
from vqclip.io.run_files import A_PICTURES
from vqclip.paths import can_name_a_folder
from vqclip.runs.folder import RunFolder
from vqclip.runs.lock import lock_folder
from vqclip.runs.overwrite import refuse_overwrite
from vqclip.sweeps.jobs import numbered_folders

__all__ = ["OutputDir", "check_output_dir", "check_working_dir", "output_dir"]


def check_working_dir() -> None:
    """Refuse a working folder whose name Hydra would resolve as an interpolation.

    Raises:
        UserError: its path contains ``${``.
    """
    if "${" in os.getcwd():  # Hydra resolves the path of its log file twice
        raise UserError(
            f"{os.getcwd()}: Hydra reads ${{ in a folder's name as a key. Allowed: to work in a folder without it. "
            f"Try: cd {shlex.quote(os.getcwd().partition('${')[0].rpartition('/')[0] or '/')}"
        )


@dataclass(frozen=True)
class OutputDir:
    """Where a command will write."""

    key: str  #: ``hydra.run.dir=``; for a sweep, ``hydra.sweep.dir=``
    folder: str | None  #: None if it is named by the time, so that it cannot exist
    sweeps: bool
    numbers: bool  #: whether the sweeper numbers jobs from 0 even if there are some already


def output_dir(cfg: DictConfig, multirun: bool) -> OutputDir:
    """Where Hydra will write according to a composed config that includes the ``hydra`` part.

    Raises:
        UserError: the folder's name has an unknown key; Hydra's records would replace the run's files;
            ``hydra.job.chdir``; an unknown sweeper or launcher.
    """
    hydra = plain_dict(cfg.hydra, resolve=False)
    key = "hydra.sweep.dir" if multirun else "hydra.run.dir"
    folder = str(hydra["sweep" if multirun else "run"]["dir"])
    if multirun:
        _check_plugin("sweeper", hydra["sweeper"], Sweeper, "vqclip")
        _check_plugin("launcher", hydra["launcher"], Launcher, "basic")
    numbers = multirun and not str(hydra["sweeper"]["_target_"]).endswith(".VqclipSweeper")
    _check_subdir(hydra["output_subdir"])
    if cfg.hydra.job.chdir:
        raise UserError(
            "hydra.job.chdir=true: paths in the config are of the folder where the command is typed, also for resume "
            "and rerun. Allowed: false; what a run writes goes to its folder in any case. Try: hydra.job.chdir=false"
        )
    if "${" in folder:
        _check_names(f"{key}={folder}", cfg)
        return OutputDir(f"{key}=", None if "${now:" in folder else _named(cfg, key), multirun, numbers)
    return OutputDir(f"{key}=", folder, multirun, numbers)


def _check_plugin(part: str, config: Any, kind: type[Plugin], ours: str) -> None:
    """Refuse a plugin that Hydra did not find, for which it would print a traceback."""
    target = mapping(config).get("_target_")
    if target not in [f"{found.__module__}.{found.__name__}" for found in Plugins.instance().discover(kind)]:
        key = f"hydra.{part}" if config is None else f"hydra.{part}._target_"
        raise UserError(
            f"{key}={shown(target)}: no {part} of Hydra's that is installed. Allowed: the class of one, or its name in "
            f"hydra/{part}. Try: hydra/{part}={ours}, without this key"
        )


def _named(cfg: DictConfig, key: str) -> str | None:
    """A folder's name with its interpolations resolved, also ``${hydra:…}``; None if only Hydra can resolve them."""
    hydra: Any = HydraConfig.instance()
    before, hydra.cfg = hydra.cfg, cfg
    try:
        return str(OmegaConf.select(cfg, key))
    except OmegaConfBaseException:
        return None
    finally:
        hydra.cfg = before


def _check_subdir(name: str | None) -> None:
    """Refuse a folder for Hydra's records where they would replace files of the run."""
    first = Path(os.path.normpath(name)).parts[:1] if name is not None else ()
    if name is not None and (not first or first[0] in ("/", "..", *RunFolder("").names) or A_PICTURES.match(first[0])):
        raise UserError(
            f"hydra.output_subdir={shlex.quote(name)}: where files of the run lie, and Hydra's would replace them. "
            "Allowed: a folder's name that is none of a run's, or null. Try: hydra.output_subdir=.hydra"
        )


def check_output_dir(place: OutputDir, overwrite: bool) -> None:
    """Refuse a named folder that cannot be written, is in use, or holds a run.

    Raises:
        UserError: it is one of these.
    """
    if place.folder is None:
        return
    if not can_name_a_folder(place.folder):
        raise UserError(
            f"{place.key}{place.folder[:80]}: not a folder name. Allowed: a path. Try: {place.key}outputs/mine"
        )
    run = RunFolder(place.folder)
    try:
        created = [path for path in [run.path, *run.path.parents] if not path.exists()]
    except OSError as error:
        raise UserError(
            f"{run}: {error.strerror}. Allowed: a folder that can be written. Try: {place.key}outputs/mine"
        ) from None
    had_lock = (run.path / ".lock").exists()
    try:
        with lock_folder(run.path):
            if place.sweeps:
                _check_sweep(run, place, overwrite)
            else:
                refuse_overwrite(run, overwrite)
    finally:
        _remove(run.path, created, had_lock)


def _check_sweep(run: RunFolder, place: OutputDir, overwrite: bool) -> None:
    """Refuse a run's folder, and a sweeper that would overwrite jobs; with overwrite, note that finished jobs stay."""
    if run.report_file.exists():
        raise UserError(
            f"{run}: a run's folder, and the comparison of the sweep would have that run in it. Allowed: another. "
            f"Try: {place.key}FOLDER"
        )
    jobs = numbered_folders(run.path)
    for job in jobs if place.numbers else []:
        refuse_overwrite(RunFolder(job), overwrite)
    if jobs and overwrite and not place.numbers:
        print(
            f"note: overwrite=true: jobs that are done in {place.folder} stay. To make them anew, another folder: "
            f"{place.key}FOLDER",
            file=sys.stderr,
        )


def _check_names(line: str, cfg: DictConfig) -> None:
    """Refuse a folder name with a key that the config lacks; Hydra checks its own keys."""
    for name in re.findall(r"\$\{([\w.]+)\}", line):
        if not name.startswith("hydra.") and OmegaConf.select(cfg, name) is None:
            raise UserError(
                f"{line}: there is no key {name}. Allowed: a key of the config. Try: ${{prompts.include.0}}"
            )


def _remove(folder: Path, created: Sequence[Path], had_lock: bool) -> None:
    """Remove the lock and the empty folders that the check created."""
    if not had_lock and folder.is_dir():
        (folder / ".lock").unlink(missing_ok=True)
    for path in created:
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
