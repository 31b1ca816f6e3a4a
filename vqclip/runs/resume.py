"""Resumes a run that was stopped.

Random numbers depend only on seed, purpose and step (``vqclip.rng``), so a checkpoint needs only the latents, the
optimizer's state and the counters.  The run folder is rolled back to its state at the checkpoint, and later steps are
repeated, which gives the same bytes as a run that was never stopped.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from vqclip.config.check import check
from vqclip.config.grammar import as_typed
from vqclip.config.overrides import with_overrides
from vqclip.config.own_classes import parts_on
from vqclip.config.plain import mapping
from vqclip.config.records import is_known_input
from vqclip.config.resolve import differences, keys_of_length, leaves, picture_config, resolve
from vqclip.errors import UserError, shown
from vqclip.io.images import read_record
from vqclip.io.regions import SIDES
from vqclip.io.run_files import PictureFolder
from vqclip.io.yaml_text import read_yaml
from vqclip.paths import can_name_a_folder
from vqclip.runs.arguments import as_folder
from vqclip.runs.folder import RunFolder
from vqclip.runs.status import DIVERGED, FINISHED

if TYPE_CHECKING:
    from vqclip.runs.result import Result

__all__ = ["LIMITS", "prepare", "resume", "run_to_resume"]

#: Keys that limit a run before its last step; they may be changed to continue it.
LIMITS = ("trainer.max_time", "trainer.limit_train_batches")

#: Inputs of the init, which may be at another path now, like the files of prompts.
_INPUTS = ("init.path", "init.mask", "init.run")
#: Paths and links of weights; a resumed run compares weights by their sha256 instead.
_WEIGHTS = re.compile(r"checkpoints\..+\.(urls|path)|loss\.terms\.\w+\.path")


def run_to_resume(
    overrides: Sequence[str], folder: str | Path | None = None, config_dir: str | Path | None = None
) -> tuple[Path, list[str]] | None:
    """The run folder and the other overrides, if one of ``overrides`` is ``resume=RUN``; else None.

    Args:
        folder, config_dir: arguments of :func:`vqclip.run`, refused here, since a resumed run has its own.
    """
    runs = [word.partition("=")[2] for word in overrides if word.startswith("resume=")]
    if not runs or runs == ["null"]:
        return None
    rest = [word for word in overrides if not word.startswith("resume=")]
    if len(runs) > 1 or any(word in ("-m", "--multirun") for word in rest):
        raise UserError("resume: one run at a time, and no sweep. Try: vqclip resume=RUN for each of them")
    if flags := [word for word in rest if word.startswith("-")]:
        again = shlex.quote(f"resume={runs[0]}")
        raise UserError(f"{flags[0]}: not with resume. A resumed run has its own config. Try: vqclip {again}")
    if not can_name_a_folder(run := os.path.expanduser(re.sub(r"""(?s)^(["'])(.*)\1$""", r"\2", runs[0]))):
        raise UserError(f"resume={shown(run)}: not a folder name. Allowed: a run folder. Try: vqclip resume=RUN")
    if folder is not None and Path(as_folder("folder", folder)).absolute() != Path(run).absolute():
        raise UserError(f"folder={folder}: not with resume. A run goes on where it is, in {run}. Try: no folder")
    if config_dir is not None:
        raise UserError(f"config_dir={config_dir}: not with resume. A resumed run has its own config. Try: none")
    return Path(run), rest


def resume(folder: Path, overrides: Sequence[str] = (), callbacks: Sequence[Any] = ()) -> Result | None:
    """Resume a run from its last checkpoint; None if there is nothing left to do.

    Args:
        folder: the run folder.
        overrides: ``steps=`` for more steps, and keys that do not affect the picture: logger, callbacks, memory, tags.
        callbacks: Lightning callbacks in addition to those of the config.

    Raises:
        UserError: it is no run folder; an override would change past steps; the folder is in use.
    """
    cfg = prepare(RunFolder(folder), overrides)
    if cfg is None:
        return None
    from vqclip.runs.execute import execute

    return execute(cfg, folder, resume=True, callbacks=callbacks)


def prepare(run: RunFolder, overrides: Sequence[str]) -> DictConfig | None:
    """The config to resume with; None if the run is finished."""
    past, report = run.config(), run.report()
    cfg = with_overrides(past, overrides, str(run.config_file), report)
    now = resolve(cfg)
    _require_same_picture(run, past, now, report.get("inputs", {}))
    _require_unedited(run, past, report.get("inputs", {}))
    if report["status"] == DIVERGED:
        raise UserError(
            f"{run}: this run diverged ({report.get('reason')}); the same steps would end the same way. "
            f"Try: {run.rerun_command} optimizer.lr={_half(now)}"
        )
    if overrides:  # without overrides, a finished run is only reported as finished
        check(now)
    if now["steps"] != past["steps"]:
        _require_possible_steps(run, past, now)
    elif report["status"] == FINISHED:
        return None
    if "wandb" in parts_on(now, "logger"):
        _note_copy(run, report.get("wandb"))
    return cfg


def _note_copy(run: RunFolder, id: str | None) -> None:
    """Print a note if a copied run logs to its original's W&B run.  The recorded path is untrusted: it is not read."""
    was = Path(read_yaml(run.read(run.config_file).decode())["paths"]["output_dir"])
    if id and (was / "run.json").exists() and was.resolve() != run.path.resolve():
        print(
            f"note: {was} is still there; if {run} is a copy of it, both are one run in W&B, {id}. "
            f"For one of its own: {run.rerun_command} logger=wandb",
            file=sys.stderr,
        )


def _require_same_picture(
    run: RunFolder, past: Mapping[str, Any], now: Mapping[str, Any], inputs: Mapping[str, str]
) -> None:
    for key, before, after in differences(picture_config(past), picture_config(now)):
        if moved := _moved(key, before, after):
            if lost := [was for was, path in moved if not is_known_input(key, path, now["init"], inputs.get(was))]:
                raise UserError(
                    f"{key}={after}: not what the run began with, {lost[0]}, by its sha256 in run.json. Allowed with "
                    f"resume: the same at another place. Try: {run.rerun_command} {as_typed(key, after)}"
                )
            continue
        if not _may_change(key):
            raise UserError(
                f"{key}={after}: would change steps that are done; the run began with {before}. Allowed with resume: "
                f"steps, and what is not the picture's (logger, callbacks, memory, tags). "
                f"Try: {run.rerun_command} {as_typed(key, after)}"
            )


def _moved(key: str, before: Any, after: Any) -> list[tuple[str, str]]:
    """The (old, new) paths, if two values of a key differ only in paths; else empty."""
    if key in _INPUTS:
        changed = [("image", before, after)]
    elif key.startswith("prompts."):  # lists of entries that may name pictures and masks
        changed = list(differences(dict(leaves([before])), dict(leaves([after]))))
    else:
        return []

    def is_path(value: Any) -> bool:
        return isinstance(value, str) and value not in SIDES

    if all(at.endswith(("image", "region")) and is_path(was) and is_path(path) for at, was, path in changed):
        return [(was, path) for _, was, path in changed]
    return []


def _may_change(key: str) -> bool:
    """Whether a key limits the run's length, or is a path of weights, which are compared by their sha256."""
    return key == "steps" or key.startswith(LIMITS) or bool(_WEIGHTS.fullmatch(key))


def _require_unedited(run: RunFolder, past: Mapping[str, Any], inputs: Mapping[str, str]) -> None:
    """Refuse an edited config.yaml, which does not match the config in the records of the pictures."""
    if not (record := _newest_record(run.picture(0))):
        return
    made, made_with = record["config"], mapping(record.get("made_with"))
    # With a schedule, past steps depend on the total number of steps.
    more_steps = not keys_of_length(past)

    def is_same_file(key: str, was: str, path: str) -> bool:
        digest = mapping(made_with.get("inputs")).get(was)
        # If the process was killed, run.json may not have the hash yet.
        return digest in (None, inputs.get(path)) or (
            path not in inputs and is_known_input(key, path, past["init"], digest)
        )

    for key, before, after in differences(made, picture_config(past)):
        # Keys that only one of them has come from another version; paths in the folder may have moved with it.
        same = not (_has(made, key) and _has(past, key)) or str(after).startswith(str(run))
        free = more_steps if key == "steps" else _may_change(key)
        moved = _moved(key, before, after)
        moved_only = bool(moved) and all(is_same_file(key, *paths) for paths in moved)
        if not same and not free and not moved_only:
            what = f"{key} is {shown(after)}, and the pictures were made with {shown(before)}"
            raise run.damaged(run.config_file, f"{what}: it was changed, or belongs to another run")


def _newest_record(picture: PictureFolder) -> dict[str, Any] | None:
    """The record of the final picture, else of the newest snapshot that can be read, else of the best picture."""
    snapshots = sorted(picture.snapshots(), key=lambda path: (len(path.name), path.name), reverse=True)
    for path in (picture.final, *snapshots, picture.best):
        with suppress(UserError, OSError, ValueError):  # damaged files are reported when they are needed
            record = read_record(path)
            if isinstance(record.get("config"), Mapping):
                return record
    return None


def _has(config: Mapping[str, Any], key: str) -> bool:
    """Whether a config has a dotted key; also if the key, or a parent of it, is null."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping):
            return True
        if part not in value:
            return False
        value = value[part]
    return True


def _require_possible_steps(run: RunFolder, past: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    from vqclip.runs.checkpoint import read_checkpoint

    steps = now["steps"]
    checkpoint = read_checkpoint(run)
    done = checkpoint["global_step"] if checkpoint else 0
    if steps < done:
        raise UserError(f"steps={steps}: {done} steps are done. Allowed: {done} and more. Try: steps={2 * done}")
    if moving := keys_of_length(now):
        change = "changes over the whole run, so its" if len(moving) == 1 else "change over the whole run, so their"
        raise UserError(
            f"steps={steps}: {', '.join(moving)} {change} past values depend on the "
            f"number of steps ({past['steps']}). Allowed: steps={past['steps']}. Try: {run.rerun_command} steps={steps}"
        )


def _half(config: Mapping[str, Any]) -> str:
    """Half the learning rate, if it is a number."""
    lr = (config.get("optimizer") or {}).get("lr")
    return f"{lr / 2:g}" if isinstance(lr, int | float) else "SMALLER"
