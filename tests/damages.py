"""Ways to damage a run folder, each by name: what a disk, an editor, a sync program or a stranger may do to it."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from safetensors.torch import save

from vqclip.runs.checkpoint import RECORDER

Damage = Callable[[Path, Path], None]  #: takes the run folder and a folder outside of it


def _put(name: str, content: bytes) -> Damage:
    return lambda run, outside: (run / name).write_bytes(content) and None


def _remove(name: str) -> Damage:
    def damage(run: Path, outside: Path) -> None:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def _as_folder(name: str) -> Damage:
    def damage(run: Path, outside: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return damage


def _as_pipe(name: str) -> Damage:
    """A pipe that nobody writes into: who reads it waits for ever."""

    def damage(run: Path, outside: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return damage


def _loop(name: str) -> Damage:
    """A link to itself."""

    def damage(run: Path, outside: Path) -> None:
        (run / name).unlink()
        (run / name).symlink_to(name.rpartition("/")[2])

    return damage


def _link(name: str) -> Damage:
    """Move it outside, and a link to it in its place."""

    def damage(run: Path, outside: Path) -> None:
        target = outside / Path(name).name
        shutil.move(run / name, target)
        (run / name).symlink_to(target)

    return damage


def _cut(name: str, share: float) -> Damage:
    def damage(run: Path, outside: Path) -> None:
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[: int(len(content) * share)])

    return damage


def _json(*path: str | int, value: Any) -> Damage:
    return lambda run, outside: _change(run / "run.json", path, value, json.loads, json.dumps)


def _yaml(*path: str | int, value: Any) -> Damage:
    return lambda run, outside: _change(run / "config.yaml", path, value, yaml.safe_load, yaml.safe_dump)


GONE = object()


def _change(file: Path, path: tuple, value: Any, load: Callable, dump: Callable) -> None:
    content = inner = load(file.read_text())
    for part in path[:-1]:
        inner = inner[part]
    if value is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    file.write_text(dump(content))


def _checkpoint(change: Callable[[dict], Any]) -> Damage:
    def damage(run: Path, outside: Path) -> None:
        content = torch.load(run / "last.ckpt", weights_only=True)
        content = change(content) or content
        torch.save(content, run / "last.ckpt")

    return damage


def _png(size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size).save(out, "PNG")
    return out.getvalue()


def _bomb() -> bytes:
    """A PNG whose header claims 100,000 × 100,000 pixels."""
    import struct
    import zlib

    head = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    whole = _png((8, 8))
    return whole[:8] + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + whole[33:]


def _recorded(**parts: Any) -> Damage:
    return _checkpoint(lambda c: c["callbacks"][RECORDER].update(parts))


def _latent(change: Callable[[torch.Tensor], torch.Tensor]) -> Damage:
    return _checkpoint(lambda c: c["state_dict"].update(latent=change(c["state_dict"]["latent"])))


def _packed(run: Path, outside: Path) -> None:
    """A zip bomb: records that expand to a thousand times their size."""
    with zipfile.ZipFile(run / "last.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("last/data.pkl", bytes(10**6))


DEEP = b"[" * 100_000
_PICTURE = "picture-00/"
_LATENTS = _PICTURE + "latents.safetensors"
_NOISE = bytes(range(256)) * 8

#: run.json cannot be used.
REPORT: dict[str, Damage] = {
    "report missing": _remove("run.json"),
    "report empty": _put("run.json", b""),
    "report cut": _cut("run.json", 0.5),
    "report {": _put("run.json", b"{"),
    "report []": _put("run.json", b"[]"),
    "report null": _put("run.json", b"null"),
    "report a number": _put("run.json", b"3"),
    "report {}": _put("run.json", b"{}"),
    "report bytes": _put("run.json", _NOISE),
    "report deep": _put("run.json", DEEP),
    "report a folder": _as_folder("run.json"),
    "report a link": _link("run.json"),
    "report a pipe": _as_pipe("run.json"),
    "report a loop": _loop("run.json"),
    "report newer": _json("format", value=99),
    "report format text": _json("format", value="one"),
    "report status": _json("status", value="splendid"),
    "report status null": _json("status", value=None),
    "report status list": _json("status", value=["finished"]),
    "report no status": _json("status", value=GONE),
    "report pictures text": _json("pictures", value="two"),
    "report no pictures": _json("pictures", value=[]),
    "report pictures of numbers": _json("pictures", value=[1, 2]),
    "report prompt a number": _json("pictures", 0, "prompt", value=5),
    "report best a text": _json("pictures", 0, "best", value="good"),
    "report no score": _json("pictures", 0, "best", value={"step": 0}),
    "report score a text": _json("pictures", 0, "best", "score", value="high"),
    "report machine null": _json("machine", value=None),
    "report threads": _json("machine", "threads", value=10**9),
    "report threads negative": _json("machine", "threads", value=-1),
    "report versions a list": _json("versions", value=[1]),
    "report sha256 a list": _json("sha256", value=["a"]),
    "report seed true": _json("seed", value=True),
    "report huge number": _put("run.json", b"9" * 10_000),
    "report score no float holds": _json("pictures", 0, "best", "score", value=10**400),
    "report half a character": _json("pictures", 0, "prompt", value="\ud800"),
    "report of many levels": _json("tags", value=json.loads("[" * 60 + "]" * 60)),
}

#: config.yaml cannot be used.
CONFIG: dict[str, Damage] = {
    "config missing": _remove("config.yaml"),
    "config empty": _put("config.yaml", b""),
    "config {": _put("config.yaml", b"{"),
    "config []": _put("config.yaml", b"[]"),
    "config text": _put("config.yaml", b"hello"),
    "config bytes": _put("config.yaml", _NOISE),
    "config deep": _put("config.yaml", DEEP),
    "config a tag": _put("config.yaml", b"a: !!python/object/apply:os.system [true]"),
    "config a folder": _as_folder("config.yaml"),
    "config a link": _link("config.yaml"),
    "config a pipe": _as_pipe("config.yaml"),
    "config a loop": _loop("config.yaml"),
    "config newer": _yaml("format", value=99),
    "config no optimiser": _yaml("optimizer", value=GONE),
    "config null size": _yaml("size", value=None),
    "config size text": _yaml("size", 0, value="wide"),
    "config prompts list": _yaml("prompts", value=["a fox"]),
    "config no paths": _yaml("paths", value={}),
    "config no checkpoints": _yaml("checkpoints", value={}),
    "config perceptor a number": _yaml("checkpoints", "perceptors", "embedded", value=4),
    "config seed text": _yaml("seed", value="zero"),
    "config one side": _yaml("size", value=[32]),
    "config no side": _yaml("size", value=[0, 0]),
    "config half a character": _put("config.yaml", b'prompts: "\\ud800"'),
    "config of many levels": _yaml("prompts", "include", value=json.loads("[" * 60 + "]" * 60)),
    "config laughs": _put(
        "config.yaml",
        b"a: &a [x, x, x, x, x, x, x, x, x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b", ".join([b"*%c" % (97 + i)] * 9)) for i in range(12)),
    ),
}

#: last.ckpt cannot be used.
CHECKPOINT: dict[str, Damage] = {
    "checkpoint missing": _remove("last.ckpt"),
    "checkpoint empty": _put("last.ckpt", b""),
    "checkpoint text": _put("last.ckpt", b"hello"),
    "checkpoint bytes": _put("last.ckpt", _NOISE),
    "checkpoint cut": _cut("last.ckpt", 0.7),
    "checkpoint a folder": _as_folder("last.ckpt"),
    "checkpoint a link": _link("last.ckpt"),
    "checkpoint a pipe": _as_pipe("last.ckpt"),
    "checkpoint a loop": _loop("last.ckpt"),
    "checkpoint of another": lambda run, outside: torch.save({"model": torch.zeros(3)}, run / "last.ckpt"),
    "checkpoint a list": lambda run, outside: torch.save([1, 2], run / "last.ckpt"),
    "checkpoint of another run": _checkpoint(
        lambda c: c["callbacks"][RECORDER].update(digests=dict.fromkeys(c["callbacks"][RECORDER]["digests"], "0" * 64))
    ),
    "checkpoint other size": _checkpoint(lambda c: c["state_dict"].update(latent=torch.zeros(1, 2, 3, 3))),
    "checkpoint latent a text": _checkpoint(lambda c: c["state_dict"].update(latent="fox")),
    "checkpoint no recorder": _checkpoint(lambda c: c.update(callbacks={})),
    "checkpoint recorder a text": _checkpoint(lambda c: c.update(callbacks=dict.fromkeys(c["callbacks"], "x"))),
    "checkpoint no optimiser": _checkpoint(lambda c: c.update(optimizer_states=[])),
    "checkpoint optimiser a text": _checkpoint(lambda c: c.update(optimizer_states=["x"])),
    "checkpoint no loops": _checkpoint(lambda c: c.pop("loops") and None),
    "checkpoint step negative": _checkpoint(lambda c: c.update(global_step=-5)),
    "checkpoint step huge": _checkpoint(lambda c: c.update(global_step=10**12)),
    "checkpoint no version": _checkpoint(lambda c: c.pop("pytorch-lightning_version") and None),
}

CHECKPOINT |= {
    "checkpoint packed": _packed,
    "checkpoint version text": _checkpoint(lambda c: c.update({"pytorch-lightning_version": "x"})),
    "checkpoint best a text": _recorded(best=["x", "y"]),
    "checkpoint best of a text": _recorded(best=[{"step": "x", "score": 1.0}] * 2),
    "checkpoint best of one": _recorded(best=[{"step": 0, "score": 1.0}]),
    "checkpoint last a tensor": _recorded(last=[{"step": 0, "score": torch.ones(3)}] * 2),
    "checkpoint digest outside": _recorded(digests={"../outside/steps/000000.png": "0" * 64}),
    "checkpoint digest absolute": _recorded(digests={"/etc/steps/000000.png": "0" * 64}),
    "checkpoint digest a number": _recorded(digests={5: "0" * 64}),
    "checkpoint latent sparse": _latent(torch.Tensor.to_sparse),
    "checkpoint latent of whole numbers": _latent(torch.Tensor.long),
    "checkpoint more than a latent": _checkpoint(lambda c: c["state_dict"].update(other=torch.zeros(3))),
    "checkpoint loops of text": _checkpoint(lambda c: c["loops"]["fit_loop"].update(epoch_progress="x")),
    "checkpoint loops empty": _checkpoint(lambda c: c["loops"]["fit_loop"].clear()),
    "checkpoint optimiser of no groups": _checkpoint(lambda c: c["optimizer_states"][0].update(param_groups=[])),
}

#: The latents cannot be used.
LATENTS: dict[str, Damage] = {
    "latents missing": _remove(_LATENTS),
    "latents empty": _put(_LATENTS, b""),
    "latents text": _put(_LATENTS, b"hello"),
    "latents cut": _cut(_LATENTS, 0.6),
    "latents a folder": _as_folder(_LATENTS),
    "latents a link": _link(_LATENTS),
    "latents a pipe": _as_pipe(_LATENTS),
    "latents a loop": _loop(_LATENTS),
    "latents of another": _put(_LATENTS, save({"weight": torch.zeros(2)})),
    "latents of another size": _put(_LATENTS, save({f"{i:06d}": torch.zeros(1, 1, 1) for i in range(9)})),
    "latents of whole numbers": _put(_LATENTS, save({f"{i:06d}": torch.zeros(8, 8, 8).long() for i in range(9)})),
    "latents of one axis": _put(_LATENTS, save({f"{i:06d}": torch.zeros(8) for i in range(9)})),
    "latents a long header": _put(_LATENTS, b"\xff" * 7 + b"\x7f" + b"{}"),
    "picture folder missing": _remove(_PICTURE[:-1]),
    "picture folder a link": _link(_PICTURE[:-1]),
}

#: A picture cannot be used.
PICTURE: dict[str, Damage] = {
    f"{name} {kind}": damage(f"{_PICTURE}{name}.png")
    for name in ("best", "final", "steps/000002")
    for kind, damage in {
        "missing": _remove,
        "empty": lambda name: _put(name, b""),
        "text": lambda name: _put(name, b"hello"),
        "cut": lambda name: _cut(name, 0.5),
        "a folder": _as_folder,
        "a link": _link,
        "a pipe": _as_pipe,
        "a loop": _loop,
        "a bomb": lambda name: _put(name, _bomb()),
    }.items()
}

#: The tables cannot be used.
METRICS: dict[str, Damage] = {
    "metrics missing": _remove("metrics.csv"),
    "metrics empty": _put("metrics.csv", b""),
    "metrics bytes": _put("metrics.csv", _NOISE),
    "metrics text": _put("metrics.csv", b"step,loss\nzero,much\n"),
    "metrics cut in a line": _cut("metrics.csv", 0.8),
    "metrics too long": _put("metrics.csv", b"step,loss\n0,1,2,3\n"),
    "metrics a folder": _as_folder("metrics.csv"),
    "metrics a link": _link("metrics.csv"),
    "metrics a pipe": _as_pipe("metrics.csv"),
    "metrics a loop": _loop("metrics.csv"),
    "timing missing": _remove("timing.csv"),
    "timing a folder": _as_folder("timing.csv"),
    "timing a link": _link("timing.csv"),
    "timing a pipe": _as_pipe("timing.csv"),
    "timing a loop": _loop("timing.csv"),
}

#: Whole files that are of another run.
SWAPPED: dict[str, Damage] = {
    "report of another prompt": _json("pictures", 0, "prompt", value="a bear"),
    "report of another seed": _json("pictures", 0, "seed", value=7),
    "report of one picture": _json("pictures", 1, value=GONE),
    "config of another seed": _yaml("seed", value=7),
    "config of another prompt": _yaml("prompts", "include", value=["a bear", "an owl"]),
}
#: What a text editor makes of config.yaml, with the tools that need it.
EDITED: dict[tuple[str, str], Damage] = {
    ("evaluate", "one picture"): _yaml("prompts", "include", value="a fox"),
    ("evaluate", "no prompts"): _yaml("prompts", value={}),
    ("evaluate", "prompts a number"): _yaml("prompts", "include", value=[{"parts": 5}, "an owl"]),
    ("evaluate", "no batch"): _yaml("batch_size", value=GONE),
    ("interpolate", "architecture"): _yaml("checkpoints", "generator", "architecture", value="x"),
    ("interpolate", "path"): _yaml("checkpoints", "generator", "path", value={"x": 1}),
    ("interpolate", "class"): _yaml(
        "checkpoints", "generator", value={"_target_": "vqclip.models.canvas.MultiResolutionCanvas", "x": 1}
    ),
    ("interpolate", "init"): _yaml("init", value={"x": 1}),
    ("interpolate", "no latent"): _yaml("latent", value=GONE),
}
ALL = REPORT | CONFIG | CHECKPOINT | LATENTS | PICTURE | METRICS
