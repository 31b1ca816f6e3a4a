"""Names the files of a run folder, and reads them without following links."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vqclip.errors import UserError
from vqclip.io.files import refuse_endless, refuse_large
from vqclip.io.images import PictureError, open_picture, open_undecoded, why_not

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile
    from torch import Tensor

_Latent = TypeVar("_Latent")

__all__ = ["A_PICTURES", "LARGEST_PICTURE", "PictureFolder", "RunFiles", "whole_name"]

#: Names of picture folders.
A_PICTURES = re.compile(r"picture-\d+")

#: Names of files with a single snapshot's latent.
_A_LATENT = re.compile(r"[0-9]{6,}\.safetensors")

#: Temporary names of files that are being written, by ``atomic_write`` and ``write_video``.
_HALF_WRITTEN = re.compile(r"\.(?:(.+)\.[a-z0-9_]{8}|(.+\.mp4))")


#: Pixels: 8192², which is 2048² enlarged fourfold; a larger ``size`` is refused.
LARGEST_PICTURE = 2**26


class RunFiles:
    """A run folder and the names of its files.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path | str):
        self.path = path = Path(path)
        self.config_file, self.report_file = path / "config.yaml", path / "run.json"
        self.metrics_file, self.timing_file = path / "metrics.csv", path / "timing.csv"
        self.checkpoint_file, self.log_file = path / "last.ckpt", path / "vqclip.log"
        self.interpolation = path / "interpolation.mp4"

    def __str__(self) -> str:
        return str(self.path)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its files, not those of picture folders."""
        paths = (self.config_file, self.report_file, self.metrics_file, self.timing_file, self.checkpoint_file)
        return tuple(path.name for path in (*paths, self.log_file, self.interpolation))

    def picture(self, index: int) -> PictureFolder:
        return PictureFolder(self, index)

    @property
    def resume_command(self) -> str:
        return f"vqclip resume={shlex.quote(str(self.path))}"

    @property
    def rerun_command(self) -> str:
        return f"vqclip rerun {shlex.quote(str(self.path))}"

    def damaged(self, path: Path, what: str) -> UserError:
        """The error for a file that cannot be used."""
        return UserError(f"{path}: damaged: {' '.join(what.split())}. Try: {self._without(path)}")

    def missing(self, path: Path) -> UserError:
        """The error for a file that does not exist."""
        return UserError(f"{path}: missing. Try: {self._without(path)}")

    def _without(self, path: Path) -> str:
        """The command that reproduces the run without one of its files; PNGs contain config and provenance."""
        if path in (self.config_file, self.report_file):
            return f"vqclip rerun {shlex.quote(str(self.picture(0).final))}"
        return self.rerun_command

    def read(self, path: Path) -> bytes:
        """Read one of its files.

        Raises:
            UserError: it does not exist, cannot be read, or is behind a symbolic link.
        """
        self.refuse_link(path)
        try:
            refuse_endless(path)
            if path.suffix not in (".ckpt", ".safetensors"):  # which may be large
                refuse_large(path)
            return path.read_bytes()
        except FileNotFoundError:
            if path in (self.config_file, self.report_file) and not self.config_file.is_file():
                # Except Hydra's record of a job that ended before its run began.
                inside = [file for file in self.path.glob(f"*/**/{path.name}") if ".hydra" not in file.parts]
                inside.sort(key=lambda file: file.stat().st_mtime)
                helps = f". Try: {inside[-1].parent}" if inside else ""
                raise UserError(
                    f"{self}: not a run folder, it has no {path.name}. Allowed: a folder that vqclip wrote, such as "
                    f"outputs/DATE/TIME or multirun/DATE/TIME/0{helps}"
                ) from None
            raise self.missing(path) from None
        except (OSError, ValueError, MemoryError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error) or "it does not fit into memory"
            raise UserError(f"{path}: cannot be read: {reason}. Try: ls -l {shlex.quote(str(path))}") from None

    def refuse_link(self, path: Path) -> None:
        """Refuse a file that is a symbolic link, or whose folder within the run is one."""
        below = path.relative_to(self.path)
        for part in [below, *below.parents][:-1]:
            if (self.path / part).is_symlink():
                raise UserError(
                    f"{self.path / part}: a symbolic link, and nothing in a run folder is followed to elsewhere. "
                    f"Allowed: the file itself. Try: rm {shlex.quote(str(self.path / part))}"
                )

    def holds(self, path: Path) -> bool:
        """Whether one of its files exists and is not behind a link."""
        try:
            self.refuse_link(path)
        except (UserError, ValueError):  # ValueError: outside of the folder
            return False
        return path.is_file()


class PictureFolder:
    """The folder of one picture of a run."""

    def __init__(self, run: RunFiles, index: int):
        self.run, self.index = run, index
        self.path = run.path / f"picture-{index:02d}"
        self.best, self.final = self.path / "best.png", self.path / "final.png"
        self.steps, self.crops = self.path / "steps", self.path / "crops"  #: folders of snapshots, 000100.png
        self.latents_file = self.path / "latents.safetensors"
        #: folder with one file per snapshot during a run, 000100.safetensors; joined at the end
        self.new_latents = self.path / "latents"
        self.timelapse, self.upscaled = self.path / "timelapse.mp4", self.path / "upscaled.png"

    def snapshot(self, step: int) -> Path:
        return self.steps / f"{step:06d}.png"

    def snapshots(self) -> Iterator[Path]:
        """The existing snapshots."""
        return self.steps.glob("[0-9]*.png")

    def crop(self, step: int) -> Path:
        return self.crops / f"{step:06d}.png"

    def new_latent(self, step: int) -> Path:
        return self.new_latents / f"{step:06d}.safetensors"

    def new_latent_files(self) -> list[Path]:
        """The existing files with single latents, by step."""
        try:  # the end of the run may remove the folder meanwhile
            names = sorted(os.listdir(self.new_latents))
        except OSError:
            return []
        return [self.new_latents / name for name in names if _A_LATENT.fullmatch(name)]

    def latents_by(self, read: Callable[[Path], Mapping[str, _Latent]]) -> dict[str, tuple[Path, _Latent]]:
        """The file of each latent, and what ``read`` finds in it, by step (``000100``).

        The joined file has precedence; single files are opened for steps that it lacks.

        Raises:
            UserError: a single file has no latent of its step; or what ``read`` raises.
        """
        # Listed before reading: files that are removed meanwhile are in the joined file.
        new = self.new_latent_files()
        joined = os.path.lexists(self.latents_file) or not new
        found = {name: (self.latents_file, one) for name, one in read(self.latents_file).items()} if joined else {}
        for path in new:
            if path.stem in found:
                continue
            try:
                content = read(path)
            except (UserError, OSError):
                if os.path.lexists(path):
                    raise
                return self.latents_by(read)  # joined meanwhile
            if path.stem not in content:
                raise self.run.damaged(path, f"it has no latent of step {int(path.stem)}")
            found[path.stem] = path, content[path.stem]
        return found

    def no_latent(self, step: int) -> UserError:
        """The error for a step without a latent."""
        if not os.path.lexists(self.latents_file):
            return self.run.missing(self.new_latent(step))
        return self.run.damaged(self.latents_file, f"it has no latent of step {step}")

    def own_files(self) -> list[Path]:
        """Its files, temporary ones included; other files in the folder are not the run's."""
        fixed = (self.best, self.final, self.latents_file, self.timelapse, self.upscaled)
        patterns = {self.path: "|".join(re.escape(path.name) for path in fixed)}
        patterns |= {self.steps: r"[0-9]{6,}\.png", self.crops: r"[0-9]{6,}\.png"}
        patterns |= {self.new_latents: _A_LATENT.pattern}
        return [
            path
            for folder, pattern in patterns.items()
            for path in folder.glob("*")
            if re.fullmatch(pattern, whole_name(path))
        ]

    @contextmanager
    def _looked_at(self, path: Path) -> Iterator[ImageFile]:
        """Open one of its picture files without decoding it; errors become that of a damaged file."""
        self.run.read(path)
        try:
            with open_undecoded(path) as file:
                if file.width * file.height > LARGEST_PICTURE:
                    raise PictureError(path, f"it has {file.width}×{file.height} pixels, more than a run makes")
                yield file
        except PictureError as error:
            raise self.run.damaged(path, error.reason) from None
        except Exception as error:
            raise self.run.damaged(path, why_not(error)) from None

    def require_picture(self, path: Path) -> None:
        """Refuse a picture file that is missing or cannot be read to the end."""
        with self._looked_at(path):
            open_picture(path)  # reads all that :meth:`image` reads, without torch

    def image(self, path: Path) -> Tensor:
        """Read a picture file as [1,3,H,W] in [0,1].

        Raises:
            UserError: it is missing or damaged.
        """
        from vqclip.io.pixels import read_image

        with self._looked_at(path):
            return read_image(path)

    def latents(self) -> dict[str, Tensor]:
        """The latents [C,h,w] of its snapshots, by step (``000100``).

        Raises:
            UserError: a file is missing or damaged.
        """
        return {name: z for name, (_, z) in self.latents_by(self._loaded).items()}

    def _loaded(self, path: Path) -> dict[str, Tensor]:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load

        content = self.run.read(path)
        try:
            found = load(content)
        except (SafetensorError, ValueError, KeyError) as error:
            raise self.run.damaged(path, str(error)) from None
        self.require_latents(path, {name: (z.dtype, z.shape) for name, z in found.items()}, torch.float32)
        return found

    def require_latents(self, path: Path, kinds: Mapping[str, tuple[Any, Sequence[int]]], single: Any) -> None:
        """Refuse a file whose tensors are not latents [C,h,w] of a step in single precision.

        Args:
            path: the file.
            kinds: type and shape of each tensor in it, by name.
            single: the name of single precision among those types.
        """
        if not kinds:
            raise self.run.damaged(path, "it has no latent")
        for name, (kind, shape) in kinds.items():
            if not re.fullmatch("[0-9]{6,9}", name) or kind != single or len(shape) != 3:
                what = f"{name[:40]!r}, {kind} of {list(shape)}, is no latent of a step"
                raise self.run.damaged(path, what)

    def require_shape(self, shape: Sequence[int]) -> None:
        """Refuse latents whose shape is not ``shape``, (C, h, w)."""
        for name, (path, z) in self.latents_by(self._loaded).items():
            if tuple(z.shape) != tuple(shape):
                raise self.run.damaged(path, f"{name} is {tuple(z.shape)}, not {tuple(shape)}")

    def latent(self, step: int) -> Tensor:
        """The latent [C,h,w] of the snapshot of ``step``."""
        try:
            return self.latents()[f"{step:06d}"]
        except KeyError:
            raise self.no_latent(step) from None


def whole_name(path: Path) -> str:
    """The name of a file; for a temporary file, the name that it would have got."""
    found = _HALF_WRITTEN.fullmatch(path.name)
    return found[found.lastindex or 0] if found else path.name
