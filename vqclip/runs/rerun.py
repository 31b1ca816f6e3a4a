"""``vqclip rerun RUN|PNG [overrides]``: reproduces a run from its record, and says whether the bytes agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqclip.config.compose import compose
from vqclip.config.overrides import with_overrides
from vqclip.config.records import as_data
from vqclip.config.resolve import differences, picture_config, resolve
from vqclip.errors import UserError
from vqclip.io.files import refuse_endless
from vqclip.io.images import open_undecoded, read_record
from vqclip.paths import dated_folder
from vqclip.runs.folder import RunFolder
from vqclip.runs.resume import LIMITS
from vqclip.runs.schema import problem_in, refuse_newer

__all__ = ["rerun"]

_NOT_REPRODUCED, _DIFFERS = "not reproduced", "differs"
#: The text for latents that agree in all steps that both files have.
_OTHER_STEPS = "the same latents, of other steps"
#: Keys of a record that limit the length of a run.
_LENGTH = {f"config.{key}" for key in ("steps", *LIMITS)}


@dataclass(frozen=True)
class _Difference:
    """How a file differs from the one reproduced."""

    name: str  #: of the file, in the run folder
    text: str
    record: tuple[str, ...] = ()  #: keys in which records differ, for a picture with equal pixels


def rerun(source: Path, overrides: Sequence[str] = (), folder: Path | None = None) -> tuple[list[str], bool]:
    """Reproduce a run folder or a PNG from its record, and compare.

    Args:
        folder: of the new run; default ``outputs/<date>/<time>``.

    Returns:
        The lines to print, and whether every byte agrees; False for a run without pictures.

    Raises:
        UserError: it does not exist, has no record, or its record is not trusted.
    """
    from vqclip.runs.execute import execute, threads

    folder = folder or Path(dated_folder("outputs"))
    config, made_with, record_format = _source(source, folder)
    cfg = with_overrides(config, overrides, str(source), made_with)
    running = resolve(cfg)
    asked = list(differences(as_data(config), as_data(running)))
    with threads(made_with.get("machine", {}).get("threads")):
        execute(cfg, folder, callbacks=_early_end(source, asked, running), record_format=record_format)
    now = RunFolder(folder).report()
    return _verdict(source, folder, made_with, now, asked)


def _early_end(source: Path, asked: Sequence[tuple], config: Mapping[str, Any]) -> list[Any]:
    """A callback that stops the run at the picture's step, if that is not a step of a regular snapshot.

    A callback may have stopped the picture's run there, and callbacks are not in its record.

    Args:
        config: of the new run; the record may lack keys.
    """
    if source.is_dir() or {"steps", "snapshot_every"} & {key for key, *_ in asked}:
        return []
    from pytorch_lightning.callbacks import LambdaCallback

    step = read_record(source)["step"]

    def stop(trainer: Any, *_: Any) -> None:
        if trainer.global_step == step and step % config["snapshot_every"]:
            trainer.should_stop = True

    return [LambdaCallback(on_train_batch_end=stop)]


def _source(source: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """The config of a run or PNG, its provenance, and the format of its records."""
    if source.is_dir():
        run = RunFolder(source)
        config, report = run.config(), run.report()
        config |= {"logger": {}, "overwrite": False, "paths": {"output_dir": str(folder)}}
        return config, report, report.get("format", 0)
    if source.is_file():
        return _config_of_picture(source, folder)
    raise UserError(
        f"{source}: there is no such file or folder. Allowed: a run folder, or a PNG that vqclip made. "
        "Try: vqclip rerun outputs/DATE/TIME"
    )


def _verdict(
    source: Path, folder: Path, made_with: Mapping[str, Any], now: Mapping[str, Any], asked: Sequence[tuple]
) -> tuple[list[str], bool]:
    """The lines that say what differs between the runs and why, and whether all bytes agree."""
    pairs = [*_pairs(source, folder)]
    found = [difference for pair in pairs if (difference := _compare(*pair))]
    lost = [_Difference(name, "in run.json, but not in the folder any more") for name in _lost(source, made_with)]
    lines = [f"reproduced in {folder}", *(f"  {one.name}: {one.text}" for one in found + lost)]
    if not found and not lost and not any(one.suffix == ".png" for _, one, _ in pairs):
        return [*lines, f"nothing to compare it with: {source} has no picture"], False
    if not found and not lost:
        return [*lines, "same bytes"], True
    lines += [f"  asked for: {key} {_short(before)} → {_short(after)}" for key, before, after in asked]
    causes = [
        f"  {kind}: {name} {_short(before)} → {_short(after)}"
        for kind in ("versions", "machine", "weights", "inputs")
        if kind in made_with
        for name, before, after in differences(made_with[kind], now[kind])
    ]
    ends = made_with.get("resumed", ())
    if not causes and not asked and not lost and all(_is_of_more_steps(one, ends) for one in found):
        causes = ["  all pixels agree: the run was given more steps after these pictures"]
    elif not causes and not asked:
        causes = ["  versions, machine, weights and inputs agree; the difference is not in the record"]
    # A file at another path changes its key in the record and the name of its sha256.
    told = {f"config.{key}" for key, *_ in asked} | {
        f"made_with.inputs.{path}" for _, *paths in asked for path in paths
    }
    pixels = not lost and all(one.record and told.issuperset(one.record) for one in found)
    return [
        *lines,
        *causes,
        "same pixels, what was asked for is in the record" if pixels else "not the same bytes",
    ], False


def _is_of_more_steps(difference: _Difference, ends: Sequence[int]) -> bool:
    """Whether a file differs only because its run was continued beyond its original length.

    Args:
        ends: the steps at which the run had ended, where it took snapshots that a run in one go does not take.
    """
    if difference.record:
        return _LENGTH.issuperset(difference.record)
    path, text = Path(difference.name), difference.text
    if text == _NOT_REPRODUCED:
        return path.suffix == ".png" and path.stem.isdecimal() and int(path.stem) in ends
    return bool(ends) and (text == _OTHER_STEPS or (text == _DIFFERS and path.name == "timelapse.mp4"))


def _config_of_picture(path: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """A PNG's config, completed with current defaults for what its record omits; its provenance; its format."""
    record = read_record(path)
    refuse_newer(record, path)
    if isinstance(record.get("film"), Mapping):
        raise UserError(
            f"{path}: frame {record.get('frame')} of a film, which is made from the frame before it. Allowed: pictures "
            "of a run. Try: vqclip film … --to ANOTHER_FOLDER, as it was made; its settings are in film.json"
        )
    if problem := problem_in(record, "record"):
        raise UserError(f"{path}: its vqclip record is damaged: {problem}. The run folder's config.yaml has it too")
    base = resolve(compose(["logger=none"], output_dir=str(folder)))
    base["callbacks"] = {"progress": base["callbacks"].get("progress")}
    config = {**base, **picture_config(record["config"]), "paths": base["paths"], "overwrite": False}
    if problem := problem_in(config, "config"):
        raise UserError(f"{path}: its vqclip record is damaged: {problem}. The run folder's config.yaml has it too")
    return config, record.get("made_with", {}), record.get("format", 0)


def _pairs(source: Path, folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """The files of ``source`` and their reproductions."""
    if source.is_file():
        record = read_record(source)
        kind = "steps" if "scores" in record else "crops"
        yield (
            source.name,
            source,
            RunFolder(folder).picture(record["picture"]).path / kind / f"{record['step']:06d}.png",
        )
        return
    # Other files in the folder (comparisons, loggers' files, temporary files) are not part of the run.
    run = RunFolder(source)
    pictures = run.pictures()
    own = [path for picture in pictures for path in picture.own_files() if not path.name.startswith(".")]
    own = [path for path in own if path.suffix != ".safetensors" or path.parent.parent == source]
    own += [run.metrics_file, *([run.interpolation] if len(pictures) > 1 else [])]
    for path in sorted(path for path in own if _is_there(run, path)):
        name = path.relative_to(source)
        yield str(name), path, _snapshot_of(path, folder / name.parent) if path.name == "best.png" else folder / name


def _snapshot_of(best: Path, picture: Path) -> Path:
    """The snapshot in ``picture`` at the step of ``best``.

    Not its best.png: another version, or scores that differ in the last digits, may have another best step.
    """
    try:
        return picture / "steps" / f"{read_record(best)['step']:06d}.png"
    except (UserError, KeyError, TypeError, ValueError):  # damaged; the comparison reports it
        return picture / best.name


def _lost(source: Path, report: Mapping[str, Any]) -> list[str]:
    """Pictures that a run's report names and its folder lacks."""
    run = RunFolder(source)
    return [name for name in report.get("sha256", {}) if not run.holds(source / name)] if source.is_dir() else []


def _is_there(run: RunFolder, path: Path) -> bool:
    """Whether a file exists, without following links."""
    with suppress(UserError):
        run.refuse_link(path)
        return path.exists()
    return False


def _compare(name: str, one: Path, other: Path) -> _Difference | None:
    """How two files differ, or None."""
    try:
        if not other.exists():
            return _Difference(name, _NOT_REPRODUCED)
        refuse_endless(one)
        if one.read_bytes() == other.read_bytes():
            return None
        if one.suffix == ".png":
            return _Difference(name, *_between_pictures(one, other))
        return _Difference(name, _between_latents(one, other) if one.suffix == ".safetensors" else _DIFFERS)
    except Exception as error:  # the old file may be anything
        return _Difference(name, f"damaged, it cannot be compared ({error})")


def _between_pictures(one: Path, other: Path) -> tuple[str, tuple[str, ...]]:
    """What differs between two pictures; if pixels agree, also the keys in which their records differ."""
    import numpy as np

    a, b = (np.asarray(open_undecoded(path).convert("RGB"), dtype=np.int16) for path in (one, other))
    if a.shape != b.shape:
        return f"another size, {a.shape[1]}×{a.shape[0]} → {b.shape[1]}×{b.shape[0]} pixels", ()
    if (a == b).all():
        keys = tuple(key for key, *_ in differences(read_record(one), read_record(other)))
        return f"same pixels, another record ({', '.join(keys)})" if keys else "same pixels, packed differently", keys
    apart = abs(a - b)
    return f"pixels differ by {apart.mean():.3g} on average, {apart.max()} at most, of 255", ()


def _between_latents(one: Path, other: Path) -> str:
    from safetensors.torch import load_file

    a, b = load_file(one), load_file(other)
    apart = [(a[key] - b[key]).abs().max().item() for key in a if key in b and a[key].shape == b[key].shape]
    if not apart:
        return "latents of another size, or of other steps"
    return f"latents differ by {max(apart):.3g} at most" if max(apart) else _OTHER_STEPS


def _short(value: Any) -> str:
    """A value for a message; hashes are shortened."""
    text = str(value)
    return text[:12] if len(text) == 64 else text
