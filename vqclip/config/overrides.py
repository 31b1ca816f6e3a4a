"""Applies overrides to recorded configs without running code that a record names.

A record in a run folder or PNG may be untrusted, so it is plain data (``vqclip.config.records``).  What the user types
is trusted.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from vqclip.config.choices import is_group
from vqclip.config.compose import compose, line_of, parse_overrides
from vqclip.config.records import as_data, escape_interpolations, own_loggers, record_errors, with_trusted
from vqclip.errors import UserError, closest

__all__ = ["with_overrides"]


def with_overrides(
    config: Mapping[str, Any],
    overrides: Sequence[str],
    what: str,
    made_with: Mapping[str, Any],
) -> DictConfig:
    """Apply overrides that the user typed to ``config``, untrusted plain data.

    Args:
        what: where the config came from, for messages.
        made_with: sha256 of the weights and inputs that the record's run read (``run.json`` or the PNG's record); a
            file that the record names is read only if it still has that hash.

    Raises:
        UserError: the record names a class, file or link that a record must not name; an override cannot be parsed,
            sweeps, or names no key.
    """
    typed = parse_overrides(overrides)
    config = as_data(config)
    cfg = OmegaConf.create({**escape_interpolations(config), "logger": own_loggers(config.get("logger"))})
    trusted = set()
    for override in sorted(typed, key=lambda o: not is_group(o.key_or_group)):
        trusted.add(_apply(cfg, override, config, what))
    if errors := record_errors(config, trusted, what, made_with):
        raise UserError("\n".join(errors))
    return cfg


def _apply(cfg: DictConfig, override: Override, config: Mapping[str, Any], what: str) -> str:
    """Apply one override to ``cfg``; return the dotted key that it set."""
    key, line = override.key_or_group, line_of(override)
    if override.is_sweep_override():
        one = line.partition("=")[2].split(",")[0]
        raise UserError(f"{line}: a sweep. Allowed here: one value. Try: {key}={one}")
    if key == "trust":
        named = [] if override.is_delete() else override.value() or []
        packages = ",".join(map(str, with_trusted(named if isinstance(named, list) else [named])))
        raise UserError(
            f"{line}: not with resume or rerun. Allowed: the environment variable, or a checkout's conf/local. "
            + (f"Try: export VQCLIP_TRUST={shlex.quote(packages)}" if named else "Try: without it")
        )
    if key == "paths.output_dir" or key.partition(".")[0] == "hydra":
        raise UserError(
            f"{line}: not with resume or rerun. Allowed: a resumed run goes on where it is, and one that is reproduced "
            "has a folder named by the time. Try: without it"
        )
    if is_group(key):
        return _choose(cfg, key, line)
    if not _is_key(cfg, key) and not (override.is_add() or override.is_force_add()):
        raise UserError(
            f"{key}: there is no such key in {what}.{closest(key, list(_keys(config)))} "
            f"All its keys are in config.yaml; +{key}=VALUE adds one"
        )
    try:
        if override.is_delete():
            parent, _, name = key.rpartition(".")
            del (OmegaConf.select(cfg, parent) if parent else cfg)[name]
        else:
            OmegaConf.update(cfg, key, override.value(), merge=False, force_add=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{line}: {str(error).splitlines()[0]}") from None
    return key


def _is_key(cfg: DictConfig, key: str) -> bool:
    missing = object()
    try:
        return OmegaConf.select(cfg, key, default=missing, throw_on_missing=True) is not missing
    except MissingMandatoryValue:  # a required key of a part that was just chosen
        return True


def _choose(cfg: DictConfig, group: str, line: str) -> str:
    if group in ("experiment", "debug"):
        raise UserError(f"{line}: a preset cannot be laid over a finished config. Try: the keys it sets, one by one")
    dotted = group.replace("/", ".")
    # Interpolations stay, to be resolved in the whole config; +loss/terms=[tv] is merged with other terms.
    OmegaConf.update(cfg, dotted, OmegaConf.select(compose([line]), dotted), merge=line.startswith("+"))
    return dotted


def _keys(config: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield f"{path}{key}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{path}{key}.")
