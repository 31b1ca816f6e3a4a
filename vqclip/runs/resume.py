"""Stop a run and go on with it.

Random numbers are named by seed, purpose and step (``vqclip.rng``), so a checkpoint holds the latent, the optimiser
and the counters, and nothing else is needed.  To go on, the run folder is cut back to what it was when the checkpoint
was written, and the steps after it are made again: the same bytes as a run that was never stopped.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from vqclip.config.overrides import with_overrides
from vqclip.config.resolve import differences, picture_config, resolved, time_varying
from vqclip.errors import UserError
from vqclip.runs.folder import command, read_checkpoint, read_config

if TYPE_CHECKING:
    from vqclip.runs.execute import Result

__all__ = ["asked", "prepare", "resume"]


def asked(overrides: Sequence[str]) -> tuple[Path, list[str]] | None:
    """The run folder and the other overrides, where one of ``overrides`` is ``resume=RUN``; else None."""
    runs = [word.partition("=")[2] for word in overrides if word.startswith("resume=")]
    if not runs or runs == ["null"]:
        return None
    rest = [word for word in overrides if not word.startswith("resume=")]
    if len(runs) > 1 or any(word in ("-m", "--multirun") for word in rest):
        raise UserError("resume: one run at a time, and no sweep. Try: vqclip resume=RUN for each of them")
    if flags := [word for word in rest if word.startswith("-")]:
        raise UserError(f"{flags[0]}: not with resume. A resumed run has its own config. Try: vqclip resume={runs[0]}")
    return Path(runs[0].strip("\"'")), rest


def resume(run: Path, overrides: Sequence[str] = ()) -> Result | None:
    """Go on with a run from its last whole checkpoint; None where it had nothing left to do.

    Args:
        run: the run folder.
        overrides: ``steps=`` for more steps, and what is not the picture's: logger, callbacks, memory, tags.

    Raises:
        UserError: not a run folder; an override that would change the past; the folder is in use.
    """
    from vqclip.runs.execute import execute

    cfg = prepare(run, overrides)
    if cfg is None:
        print(f"{run} is finished. More steps: {command(run)} steps=N")
        return None
    return execute(cfg, run, resume=True)


def prepare(run: Path, overrides: Sequence[str]) -> DictConfig | None:
    """The config to go on with; None where the run is finished."""
    import json

    past = read_config(run)
    cfg = with_overrides(past, overrides, f"{run}/config.yaml", _made_with(run))
    now = resolved(cfg)
    for key, before, after in differences(picture_config(past), picture_config(now)):
        if key != "steps":
            raise UserError(
                f"{key}={after}: would change what is past; the run began with {before}. Allowed with resume: steps, "
                f"and what is not the picture's (logger, callbacks, memory, tags). "
                f"Try: vqclip rerun {shlex.quote(str(run))} {key}={after}"
            )
    if isinstance(now["steps"], int) and now["steps"] != past["steps"]:
        done = (read_checkpoint(run) or {"global_step": 0})["global_step"]
        if now["steps"] < done:
            raise UserError(
                f"steps={now['steps']}: {done} steps are done. Allowed: {done} and more. Try: steps={2 * done}"
            )
        if moving := list(time_varying(picture_config(now))):
            raise UserError(
                f"steps={now['steps']}: {', '.join(moving)} changes over the whole run, so its past values hang on the "
                f"number of steps ({past['steps']}). Allowed: steps={past['steps']}. "
                f"Try: vqclip rerun {shlex.quote(str(run))} steps={now['steps']}"
            )
        return cfg
    try:
        status = json.loads((run / "run.json").read_text())["status"]
    except (OSError, ValueError, KeyError):
        status = "running"
    return None if status == "finished" else cfg


def _made_with(run: Path) -> dict:
    """sha256 of the files that the run read, as run.json has them."""
    import json

    try:
        report = json.loads((run / "run.json").read_text())
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}
