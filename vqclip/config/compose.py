"""Composing the config without running Hydra's application: for the check before a run, and for Python."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vqclip.errors import UserError, closest
from vqclip.paths import conf_dir

__all__ = ["compose", "compose_all"]


def compose(overrides: Sequence[str] = (), config_dir: str | None = None, output_dir: str = ".") -> DictConfig:
    """The config of one job.

    Args:
        overrides: as on the command line.
        config_dir: a folder of config groups of the user's own, searched after ours.
        output_dir: the run folder that ``paths.output_dir`` names.

    Raises:
        UserError: an override that names no key or choice, with the nearest ones.
    """
    path = [f"hydra.searchpath=[file://{Path(config_dir).absolute()}]"] if config_dir else []
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            cfg = hydra_compose("config", overrides=[*path, *overrides])
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain(error)) from None
    OmegaConf.update(cfg, "paths.output_dir", output_dir)
    return cfg


def compose_all(overrides: Sequence[str], config_dir: str | None = None) -> Iterator[DictConfig]:
    """The configs that reach every value of a sweep: the first of every key, then each other value in turn."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise UserError(_explain(error)) from None
    first, others = [], []
    for override in parsed:
        if not override.is_sweep_override():
            first.append(override.input_line)
            continue
        ends = override.value()
        reached = [ends.start, ends.end] if isinstance(ends, IntervalSweep) else override.sweep_string_iterator()
        values = [f"{override.get_key_element()}={value}" for value in reached]
        others += [(len(first), value) for value in values[1:]]
        first.append(values[0])
    yield compose(first, config_dir)
    for place, value in others:
        yield compose([*first[:place], value, *first[place + 1 :]], config_dir)


def _explain(error: Exception) -> str:
    """Hydra's message, with the nearest key or choice in place of the advice to add what does not exist."""
    text = str(error)
    if isinstance(error, MissingConfigException):
        # A choice that stands alone comes with its options, one in a list without.
        found = re.search(r"Could not load '([^']+)'", text)
        group, _, choice = (error.missing_cfg_file or (found[1] if found else "")).rpartition("/")
        options = sorted(error.options or (path.stem for path in (conf_dir() / group).glob("*.yaml")))
        near = closest(choice, options)
        best = near[14:-1] or (options or [""])[0]
        return (
            f"{group}={choice}: there is no such choice.{near} Allowed: {', '.join(options)}. "
            f"Try: {group}={f'[{best}]' if found else best}"
        )
    if found := re.search(r"Could not (?:override|find|append to|delete)[^']*'([^']+)'", text):
        key = found[1]
        near = closest(key, _known_keys())
        return f"{key}: there is no such key.{near} All keys with their values: vqclip --cfg job"
    return " ".join(text.split())


def _known_keys() -> list[str]:
    """Every key and group of the default config, dotted."""
    groups = [str(p.relative_to(conf_dir())) for p in conf_dir().rglob("*") if p.is_dir()]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        cfg = hydra_compose("config")

    def keys(node: DictConfig, path: str) -> Iterator[str]:
        for key, value in node.items_ex(resolve=False):
            yield f"{path}{key}"
            if isinstance(value, DictConfig) and not value._is_none():
                yield from keys(value, f"{path}{key}.")

    return [*groups, *keys(cfg, "")]
