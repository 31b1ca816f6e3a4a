"""The folder of a run: its names, its lock, its records, and how it is brought back to an earlier step."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save

from vqclip.errors import UserError
from vqclip.io.files import atomic_write

if TYPE_CHECKING:
    pass

__all__ = ["command", "lock_folder", "picture_folder", "read_checkpoint", "read_config", "rollback"]


def read_config(run: Path) -> dict[str, Any]:
    """The resolved config of a run folder, as plain data; what lay in the folder then lies where it is now.

    Raises:
        UserError: not a run folder, or its config.yaml is not a config.
    """
    path = run / "config.yaml"
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        was = config["paths"]["output_dir"]
    except FileNotFoundError:
        raise UserError(
            f"{run}: not a run folder, it has no config.yaml. Allowed: a folder that vqclip wrote, such as "
            "outputs/DATE/TIME or multirun/DATE/TIME/0"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError):
        raise UserError(f"{path}: not a config that vqclip wrote; it cannot be read back") from None
    return _moved(config, str(was), str(run))


def _moved(value: Any, was: str, now: str) -> Any:
    """Paths at or in the folder ``was``, at or in ``now``."""
    if isinstance(value, Mapping):
        return {key: _moved(item, was, now) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, was, now) for item in value]
    inside = isinstance(value, str) and (value == was or value.startswith(f"{was}/"))
    return now + value[len(was) :] if inside else value


def picture_folder(run: Path, index: int) -> Path:
    """The folder of picture ``index`` (prompt by prompt, seed by seed) of a run."""
    return run / f"picture-{index:02d}"


#: What a run writes at the top of its folder besides the pictures' folders.
_TOP = ("config.yaml", "run.json", "metrics.csv", "timing.csv", "last.ckpt", "interpolation.mp4")


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


def rollback(run: Path, step: int = -1, best: Sequence[int] = ()) -> None:
    """Bring a run folder back to where it was when the checkpoint of ``step`` had been written; -1: to nothing.

    Args:
        best: step of each picture's best snapshot so far.
    """

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
        atomic_write(folder / "latents.safetensors", save({k: v for k, v in latents.items() if int(k) <= step}))
        atomic_write(folder / "final.png", max(folder.glob("steps/*.png")).read_bytes())
        atomic_write(folder / "best.png", (folder / "steps" / f"{best_step:06d}.png").read_bytes())
        (folder / "timelapse.mp4").unlink(missing_ok=True)
    for name in ("metrics.csv", "timing.csv"):
        header, *rows = (run / name).read_bytes().splitlines(keepends=True)
        kept = [row for row in rows if row.endswith(b"\n") and int(row.split(b",")[0]) <= step]
        atomic_write(run / name, b"".join([header, *kept]))


@contextmanager
def lock_folder(run: Path) -> Iterator[None]:
    """Hold a run folder, so that no second process writes into it; the system lets go of it when the process ends."""
    run.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run / ".lock", timeout=0):
            yield
    except Timeout:
        raise UserError(
            f"{run}: another vqclip process is at work in this folder. Wait until it ends, or stop it"
        ) from None
