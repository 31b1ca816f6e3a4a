"""Checks the folder that a command will write to, before Hydra writes its own record there."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from vqclip.cli.arguments import Command
from vqclip.config.compose import run_dir
from vqclip.errors import UserError
from vqclip.paths import can_name_a_folder
from vqclip.runs.folder import RunFolder
from vqclip.runs.lock import lock_folder
from vqclip.runs.overwrite import refuse_overwrite

__all__ = ["check_output_dir", "check_working_dir"]


def check_working_dir() -> None:
    """Refuse a working folder whose name Hydra would read as a key of the config.

    Raises:
        UserError: it is such a one.
    """
    if "${" in os.getcwd():  # Hydra resolves the path of its log again
        raise UserError(
            f"{os.getcwd()}: Hydra reads ${{ in a folder's name as a key. Allowed: to work in a folder without it. "
            f"Try: cd {shlex.quote(os.getcwd().partition('${')[0].rpartition('/')[0] or '/')}"
        )


def check_output_dir(cfg: DictConfig, command: Command, overwrite: bool) -> None:
    """Refuse a folder that the user named and that cannot be written, is in use, or holds a run.

    Raises:
        UserError: one of these.
    """
    key = "hydra.sweep.dir=" if command.multirun else "hydra.run.dir="
    named = [word.partition("=")[2].strip("\"'") for word in command.overrides if word.lstrip("+").startswith(key)]
    if not named and not command.multirun and (config_dir := command.flags.get("--config-dir")):
        in_file = run_dir(command.overrides, config_dir, command.flags.get("--config-name") or "config")
        named = [] if "${" in in_file else [in_file]
    if not named:
        return
    if "${" in named[-1]:
        _check_names(f"{key}{named[-1]}", cfg)
        return
    if not can_name_a_folder(named[-1]):
        raise UserError(f"{key}{named[-1][:80]}: not a folder name. Allowed: a path. Try: {key}outputs/mine")
    run = RunFolder(named[-1])
    try:
        created = [path for path in [run.path, *run.path.parents] if not path.exists()]
    except OSError as error:
        raise UserError(
            f"{run}: {error.strerror}. Allowed: a folder that can be written. Try: {key}outputs/mine"
        ) from None
    had_lock = (run.path / ".lock").exists()
    try:
        with lock_folder(run.path):
            if not command.multirun:
                refuse_overwrite(run, overwrite)
    finally:
        _remove(run.path, created, had_lock)


def _check_names(line: str, cfg: DictConfig) -> None:
    """Refuse a folder that is named by a key which the config does not have; Hydra's own keys are its business."""
    for name in re.findall(r"\$\{([\w.]+)\}", line):
        if not name.startswith("hydra.") and OmegaConf.select(cfg, name) is None:
            raise UserError(
                f"{line}: there is no key {name}. Allowed: a key of the config. Try: ${{prompts.include.0}}"
            )


def _remove(folder: Path, created: Sequence[Path], had_lock: bool) -> None:
    """Remove what the check created: its lock, and folders that are still empty."""
    if not had_lock and folder.is_dir():
        (folder / ".lock").unlink(missing_ok=True)
    for path in created:
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
