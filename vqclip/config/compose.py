"""Composes configs without running Hydra's application, for checks before a run and for Python."""

from __future__ import annotations

import math
import shlex
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from vqclip.config.choices import choices_of, is_group
from vqclip.config.grammar import as_typed, quote
from vqclip.config.hydra_errors import explain
from vqclip.config.kinds import Listing, Size
from vqclip.config.names import key_at, unknown_overrides
from vqclip.config.nodes import Key
from vqclip.config.own_files import endless_files, misplaced_keys  # also registers the resolver vqclip.div
from vqclip.config.plain import plain_dict
from vqclip.config.shorthand import expand_shorthand
from vqclip.errors import UserError, shown
from vqclip.paths import conf_dir

__all__ = [
    *("COMPOSING", "compose", "compose_all", "first_of_sweep", "job_environment", "line_of", "parse_overrides"),
    *("refuse_sweeps", "refuse_unknown"),
]

#: Exceptions that Hydra and OmegaConf raise, or let through, about files and overrides.
COMPOSING = (
    HydraException,
    OmegaConfBaseException,
    yaml.YAMLError,
    OSError,
    UnicodeDecodeError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    RecursionError,
)

#: The value of ``paths.output_dir``: Hydra's interpolation of the run folder.
_PLACE = "${hydra:runtime.output_dir}"

#: Held by the thread that uses Hydra's global state; see :func:`_hydra_of_ours`.
_LOCK = threading.RLock()

#: Larger sweeps are typing mistakes: their jobs would not fit into memory.
_MOST_JOBS = 100_000


def compose(
    overrides: Sequence[str] = (),
    config_dir: str | None = None,
    output_dir: str = ".",
    config_name: str = "config",
    with_hydra: bool = False,
) -> DictConfig:
    """Compose the config of one job.

    Args:
        overrides: as on the command line.
        config_dir: the user's folder of config groups, searched after the shipped ones.
        output_dir: the run folder, for ``paths.output_dir``.
        with_hydra: keep Hydra's own config under ``hydra``.

    Raises:
        UserError: an override names no key or choice (with the nearest ones); a file of the user cannot be read.
    """
    if config_dir and (errors := list(endless_files(config_dir))):
        raise UserError("\n".join(errors))
    overrides = expand_shorthand(overrides)
    refuse_unknown(overrides, config_dir)
    cfg = _composed(overrides, config_dir, config_name, with_hydra)
    if errors := misplaced_keys(cfg, config_dir, overrides):
        raise UserError("\n".join(errors))
    if OmegaConf.is_dict(cfg.get("paths")):
        # Files may set it, as a run's config.yaml does; typed, it is a mistake.
        if any(word.lstrip("+").startswith("paths.output_dir=") for word in overrides):
            _refuse_place(plain_dict(cfg.paths, resolve=False)["output_dir"])
        OmegaConf.update(cfg, "paths.output_dir", output_dir)
    return cfg


def _refuse_place(given: Any) -> None:
    """Refuse to set ``paths.output_dir``, which would move the loggers' files but not the run."""
    if given != _PLACE:
        raise UserError(
            f"paths.output_dir={shown(given)}: tells other keys where the run goes, and does not move it. Allowed: "
            "hydra.run.dir, of a sweep hydra.sweep.dir, of a film --to, from Python the argument folder. "
            f"Try: {as_typed('hydra.run.dir', given if isinstance(given, str) and '${' not in given else 'out')}"
        )


def _composed(overrides: Sequence[str], config_dir: str | None, config_name: str, with_hydra: bool) -> DictConfig:
    try:
        with _hydra_of_ours(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a missing search path is reported in our own words
            if config_dir:
                _search_too(config_dir)
            return hydra_compose(config_name, overrides=list(overrides), return_hydra_config=with_hydra)
    except COMPOSING as error:
        raise UserError(explain(error, config_dir, overrides)) from None


def refuse_unknown(overrides: Sequence[str], config_dir: str | None = None) -> None:
    """Raise UserError if some of ``overrides`` name no key; the message also says what is wrong with the others.

    With a config folder of the user (or hydra.searchpath) nothing is refused, since the key may be defined there.
    """
    searched = any(word.lstrip("+").startswith("hydra.searchpath=") for word in overrides)
    own = config_dir or searched or (conf_dir() / "local").is_dir()
    unknown = {} if own else unknown_overrides(overrides)
    if not unknown:
        return
    errors = [error for found in unknown.values() for error in found]
    rest = [override for override in overrides if override not in unknown]
    if any(not override.startswith("prompts.include=") for override in rest):
        from vqclip.config.check import errors_in
        from vqclip.config.resolve import resolve

        try:
            errors += errors_in(resolve(compose(first_of_sweep(rest)[0])))
        except UserError as error:
            errors.append(str(error))
    raise UserError("\n".join(errors))


@contextmanager
def _hydra_of_ours() -> Iterator[None]:
    """Use Hydra's global state for ourselves, and restore that of a surrounding Hydra application afterwards."""
    with _LOCK:
        theirs, name = GlobalHydra.instance().hydra, JobRuntime.instance().get("name")
        base = VersionBase.instance().version_base  # decides whether that application's jobs change the working folder
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
                yield
        finally:
            GlobalHydra.instance().hydra = theirs
            JobRuntime.instance().set("name", name)
            VersionBase.instance().version_base = base


def _search_too(config_dir: str) -> None:
    """Add a folder to Hydra's search path like ``--config-dir``; ``--config-name`` is found there too."""
    path = create_config_search_path(str(conf_dir()))
    path.prepend("command-line", f"file://{Path(config_dir).absolute()}", "schema")
    GlobalHydra.instance().clear()
    Hydra.create_main_hydra2(task_name="app", config_search_path=path)


def compose_all(
    overrides: Sequence[str], config_dir: str | None = None, config_name: str = "config", with_hydra: bool = False
) -> Iterator[DictConfig]:
    """Configs that together contain every value of a sweep: the first job, then one for each other value of a key."""
    first, others = [], []
    for override in parse_overrides(expand_shorthand(overrides)):
        values = _values(override, config_dir)
        others += [(len(first), value) for value in values[1:]]
        first.append(values[0])
    for words in [first, *([*first[:place], value, *first[place + 1 :]] for place, value in others)]:
        yield compose(words, config_dir, config_name=config_name, with_hydra=with_hydra)


def job_environment(cfg: DictConfig, overrides: Sequence[str]) -> dict[str, str]:
    """The variables that Hydra sets for a job by ``hydra.job.env_set``, without those that depend on its number.

    Raises:
        UserError: a value cannot be resolved.
    """
    found = {}
    for name in cfg.hydra.job.env_set:
        try:
            found[str(name)] = str(cfg.hydra.job.env_set[name])
        except InterpolationToMissingValueError:  # ${hydra.job.num}, which only a job has
            continue
        except COMPOSING as error:
            if "HydraConfig was not set" not in str(error):  # ${hydra:job.num}
                raise UserError(f"hydra.job.env_set.{name}: {explain(error, overrides=overrides)}") from None
    return found


def refuse_sweeps(overrides: Sequence[str]) -> None:
    """Raise UserError if a command without ``-m`` gives a key several values."""
    for override in parse_overrides(expand_shorthand(overrides)):
        if override.is_sweep_override():
            meant = _as_meant(override)
            allowed = "one; in a sweep all of them" if meant.startswith("vqclip -m") else "one"
            raise UserError(f"{line_of(override)}: several values. Allowed: {allowed}. Try: {meant}")


def _as_meant(override: Override) -> str:
    """What to type instead of several bare values: a list, -m or a quoted string, depending on the key."""
    line = line_of(override)
    typed, _, value = line.partition("=")
    key = typed.lstrip("+")
    known, listed, text = key_at(key), f"{typed}=[{value}]", f"{typed}={quote(value)}"
    if (key != typed and is_group(key)) or (known and isinstance(known.kind, Listing | Size) and _fits(known, listed)):
        return shlex.quote(listed)
    one_text = shlex.quote(text)
    if key.startswith("hydra."):  # fixed when a sweep starts
        return one_text
    if known and not _fits(known, _values(override, None)[0]):
        return one_text if _fits(known, text) else shlex.quote(f"{typed}={known.example}")
    sweep = f"vqclip -m {shlex.quote(line)}"
    may_be_a_text = _fits(known, text) if known else not choices_of(key)
    return f"{sweep}, or as one text: {one_text}" if may_be_a_text else sweep


def _fits(key: Key, line: str) -> bool:
    """Whether an override's value is of the key's kind."""
    try:
        key.kind.check(OverridesParser.create().parse_override(line).value())
    except (ValueError, HydraException):
        return False
    return True


def first_of_sweep(overrides: Sequence[str], config_dir: str | None = None) -> tuple[list[str], int]:
    """The overrides of a sweep's first job, and the number of jobs."""
    values = [_values(override, config_dir) for override in parse_overrides(expand_shorthand(overrides))]
    jobs = math.prod(map(len, values))
    _refuse_too_many(jobs, "-m")
    return [choices[0] for choices in values], jobs


def _refuse_too_many(jobs: int, what: str) -> None:
    if jobs > _MOST_JOBS:
        raise UserError(
            f"{what}: more than {_MOST_JOBS:,} jobs. Allowed: fewer, or a search. Try: hparams_search=optuna"
        )


def parse_overrides(overrides: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Parse overrides with Hydra's grammar.

    Args:
        loader: provides the choices for a sweep over ``glob(*)``.

    Raises:
        UserError: an override cannot be parsed.
    """
    try:
        return OverridesParser.create(loader).parse_overrides(list(overrides))
    except COMPOSING as error:
        raise UserError(explain(error, overrides=overrides)) from None


def line_of(override: Override) -> str:
    """An override as it was typed; Hydra's parser always sets it, though its type is optional."""
    return str(override.input_line)


def _values(override: Override, config_dir: str | None) -> list[str]:
    """One override per value of a swept one; for an interval to search, its ends."""
    if not override.is_sweep_override():
        return [line_of(override)]
    ends, key = override.value(), override.get_key_element()
    if isinstance(ends, IntervalSweep):
        found = [str(ends.start), str(ends.end)]
    elif isinstance(ends, Glob):
        folders = [conf_dir(), *([Path(config_dir)] if config_dir else [])]
        names = sorted({path.stem for folder in folders for path in (folder / override.key_or_group).glob("*.yaml")})
        found = ends.filter(names)
    else:
        try:
            found = list(islice(override.sweep_string_iterator(), _MOST_JOBS + 1))
        except (ValueError, TypeError, OverflowError) as error:  # such as range(1,5,0)
            raise UserError(f"{line_of(override)}: {error}. Allowed: values to sweep. Try: {key}=1,2,3") from None
    if not found:
        example = f"'{key}=glob(*)'" if is_group(str(key)) else f"{key}=1,2"
        raise UserError(f"{override.input_line}: matches nothing. Try: {example}")
    _refuse_too_many(len(found), line_of(override))
    return [f"{key}={value}" for value in found]
