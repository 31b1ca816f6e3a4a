"""Stop a run and go on with it.

Random numbers are named by seed, purpose and step (``vqclip.rng``), so a checkpoint holds the latent, the optimiser
and the counters, and nothing else is needed.  To go on, the run folder is cut back to what it was when the checkpoint
was written, and the steps after it are made again: the same bytes as a run that was never stopped.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from vqclip.config import picture_config, resolved
from vqclip.errors import UserError
from vqclip.files import sha256, write_whole
from vqclip.prompts import entries
from vqclip.records import changed, differences, read_config, with_overrides

if TYPE_CHECKING:
    from vqclip.engine import Result

__all__ = [
    "Signals",
    "Stopped",
    "asked",
    "command",
    "cut_back",
    "inputs",
    "locked",
    "prepare",
    "read_checkpoint",
    "resume",
    "same_inputs",
]

#: What a run writes at the top of its folder besides the pictures' folders.
_TOP = ("config.yaml", "run.json", "metrics.csv", "timing.csv", "last.ckpt", "interpolation.mp4")


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
    from vqclip.engine import execute

    cfg = prepare(run, overrides)
    if cfg is None:
        print(f"{run} is finished. More steps: {command(run)} steps=N")
        return None
    return execute(cfg, run, resume=True)


def prepare(run: Path, overrides: Sequence[str]) -> DictConfig | None:
    """The config to go on with; None where the run is finished."""
    import json

    past = read_config(run)
    cfg = with_overrides(past, overrides, f"{run}/config.yaml")
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
        if moving := list(changed(picture_config(now))):
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


def command(run: Path) -> str:
    """The command that goes on with ``run``."""
    return f"vqclip resume={shlex.quote(str(run))}"


def read_checkpoint(run: Path) -> dict[str, Any] | None:
    """The last whole checkpoint of a run, tensors and plain data only; None where it has none yet.

    Raises:
        UserError: the file holds anything else.
    """
    import pickle

    import torch

    try:
        return torch.load(run / "last.ckpt", map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise UserError(
            f"{run}/last.ckpt: not a checkpoint of vqclip ({str(error).splitlines()[0]}). "
            f"Try: vqclip rerun {shlex.quote(str(run))}"
        ) from None


def inputs(config: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of every picture a config reads, by path."""
    paths = [config["init"].get("path"), config["init"].get("mask")]
    for key in ("include", "exclude", "extras"):
        paths += [prompt.image for prompt in entries(config["prompts"][key])]
    return {path: sha256(Path(path)) for path in dict.fromkeys(paths) if path}


def same_inputs(run: Path, past: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with other weights or other input pictures; tell where versions differ.

    Args:
        past, now: ``run.json`` as it was and as it will be.
    """
    for kind in ("weights", "inputs"):
        if other := [name for name, before, after in _pairs(past.get(kind, {}), now[kind]) if before != after]:
            raise UserError(
                f"{command(run)}: {kind} changed since the run began: {', '.join(other)}. Allowed: the files it began "
                f"with (their sha256 is in run.json). Try: vqclip rerun {shlex.quote(str(run))}"
            )
    for name, before, after in _pairs(past["versions"], now["versions"]):
        if before != after:
            print(f"note: {name} was {before} and is {after}: what follows may differ from a run that was not stopped")


def _pairs(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys([*one, *other]):
        yield name, one.get(name), other.get(name)


def cut_back(run: Path, step: int = -1, best: Sequence[int] = ()) -> None:
    """Bring a run folder back to where it was when the checkpoint of ``step`` had been written; -1: to nothing.

    Args:
        best: step of each picture's best snapshot so far.
    """
    from safetensors.torch import load_file, save

    for name in _TOP:
        for half_written in [run / f".{name}", *run.glob(f".{name}.*")]:
            half_written.unlink(missing_ok=True)
    (run / "interpolation.mp4").unlink(missing_ok=True)
    pictures = [path for path in run.glob("picture-*") if re.fullmatch(r"picture-\d+", path.name)]
    pictures.sort(key=lambda path: int(path.name.split("-")[1]))  # 100 comes after 11
    if step < 0:
        for folder in pictures:
            shutil.rmtree(folder)
        for name in ("metrics.csv", "timing.csv", "last.ckpt"):
            (run / name).unlink(missing_ok=True)
        return
    for folder, best_step in zip(pictures, best, strict=True):
        for path in [*folder.glob(".*"), *folder.glob("*/.*")]:
            path.unlink()
        for path in [*folder.glob("steps/*.png"), *folder.glob("crops/*.png")]:
            if int(path.stem) > step:
                path.unlink()
        latents = load_file(folder / "latents.safetensors")
        write_whole(folder / "latents.safetensors", save({k: v for k, v in latents.items() if int(k) <= step}))
        write_whole(folder / "final.png", max(folder.glob("steps/*.png")).read_bytes())
        write_whole(folder / "best.png", (folder / "steps" / f"{best_step:06d}.png").read_bytes())
        (folder / "timelapse.mp4").unlink(missing_ok=True)
    for name in ("metrics.csv", "timing.csv"):
        header, *rows = (run / name).read_bytes().splitlines(keepends=True)
        kept = [row for row in rows if row.endswith(b"\n") and int(row.split(b",")[0]) <= step]
        write_whole(run / name, b"".join([header, *kept]))


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold a run folder, so that no second process writes into it; the system lets go of it when the process ends."""
    run.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run / ".lock", timeout=0):
            yield
    except Timeout:
        raise UserError(
            f"{run}: another vqclip process is at work in this folder. Wait until it ends, or stop it"
        ) from None


class Stopped(SystemExit):
    """A signal ended the run; the exit status says which, as a shell expects."""

    def __init__(self, signum: int):
        super().__init__(128 + signum)


class Signals:
    """Ctrl-C and SIGTERM: while steps are made, the step at hand is finished first; a second one ends at once."""

    def __init__(self) -> None:
        self.received = 0  #: the signal that waits for the step to end
        self.stepping = False  #: whether to wait
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
            self.listen()
        return self

    def __exit__(self, *_) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def listen(self) -> None:
        """Take the signals, also back from whoever took them meanwhile (Lightning does when it starts)."""
        for signum in self._before:
            signal.signal(signum, self._handle)

    def _handle(self, signum: int, _: Any) -> None:
        if self.received or not self.stepping:
            raise Stopped(signum)
        self.received = signum
        os.write(2, b"\nfinishing the step; once more ends at once\n")  # print is not safe in a handler
