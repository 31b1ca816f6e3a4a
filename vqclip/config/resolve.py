"""Resolves a config to plain data, and selects the part that decides the picture."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from vqclip.config.kinds import Scheduled
from vqclip.config.names import key_at
from vqclip.config.plain import mapping, plain_dict
from vqclip.errors import UserError
from vqclip.prompts import ENTRIES, expand_files

__all__ = [
    "classes_in",
    "differences",
    "flatten",
    "identity",
    "keys_of_length",
    "leaves",
    "now_in_picture",
    "picture_config",
    "resolve",
    "time_varying",
    "without_secrets",
]


def differences(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted keys whose values differ between two plain configs, with both values (None if absent)."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*one, *other]):
            yield from differences(one.get(key), other.get(key), f"{path}.{key}" if path else str(key))
    elif one != other:
        yield path, one, other


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """All values of a plain config by dotted key; lists and empty mappings are values."""
    return dict(leaves(config, inner=Mapping))


def leaves(value: Any, path: str = "", inner: Any = Mapping | list) -> Iterator[tuple[str, Any]]:
    """The leaves of plain data with their dotted keys, empty mappings and lists included.

    Args:
        inner: the types that are descended into.
    """
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        dotted = f"{path}.{key}" if path else str(key)
        if isinstance(item, inner) and item and key != "_target_":
            yield from leaves(item, dotted, inner)
        else:
            yield dotted, item


def classes_in(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The ``_target_``s in a config, with their dotted keys."""
    return ((key, value) for key, value in leaves(config) if key.rpartition(".")[2] == "_target_")


def time_varying(config: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values that change over the run: schedules, coarse stages, overlays that end."""
    if isinstance(config, Mapping):
        if "points" in config or {"size", "share"} <= set(config) or config.get("until", 1) != 1:
            yield path, config
            return
        if {"start", "end"} <= set(config):
            if config["start"] != config["end"] or config.get("warmup"):
                yield path, config
            return
        if "_target_" in config and _takes_schedule(path):
            yield path, config
            return
    items = config.items() if isinstance(config, Mapping) else enumerate(config) if isinstance(config, list) else ()
    for key, value in items:
        yield from time_varying(value, f"{path}.{key}" if path else str(key))


def keys_of_length(config: Mapping[str, Any]) -> list[str]:
    """Keys by which past steps depend on the number of steps: schedules, and a custom noise, which may be one."""
    found = [key for key, _ in time_varying(picture_config(config))]
    noise = mapping(config.get("noise")).get("_target_", "vqclip.")
    return found if str(noise).startswith("vqclip.") else [*found, "noise._target_"]


def _takes_schedule(path: str) -> bool:
    """Whether a class at this key is a schedule; weights of prompts and custom terms are not in the schema."""
    known = key_at(path)
    return isinstance(known.kind, Scheduled) if known else path.endswith(".weight")


#: Top-level keys that do not affect the picture: how a run is monitored, stored and fitted into memory.
NOT_THE_PICTURE = (
    "paths",
    "logger",
    "callbacks",
    "tags",
    "memory",
    "resume",
    "overwrite",
    "sweep",
    "hparams_search",
    "trust",
)


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """Resolve the whole config to plain data, with prompt files replaced by their lines.

    Raises:
        UserError: a value is missing (``???``) or an interpolation fails.
    """
    try:
        config = plain_dict(cfg, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        if "HydraConfig was not set" in str(error):
            raise UserError(
                f"{key}: ${{hydra:…}} is not known before Hydra begins. Allowed: in hydra.run.dir; here keys of the "
                "config, ${oc.env:NAME} and ${now:%H-%M}, which in a sweep may not decide the picture"
            ) from None
        reason = "a value is missing" if isinstance(error, MissingMandatoryValue) else str(error).splitlines()[0]
        known = key_at(key) if key else None
        raise UserError(
            f"{key or 'config'}: {reason}. Try: " + shlex.quote(f"{key or 'KEY'}={known.example if known else 'VALUE'}")
        ) from None
    if isinstance(prompts := config.get("prompts"), dict):
        for key in ENTRIES:
            prompts[key] = expand_files(prompts.get(key))
    return config


def without_secrets(cfg: DictConfig, config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved config for records: values from environment variables are replaced by their names.

    Keys that decide the picture keep their values, since it could not be reproduced otherwise; so do paths, by which a
    moved run folder is recognised.  Links of cards do not: weights are identified by their sha256.
    """
    raw = plain_dict(cfg, resolve=False)
    values = {OmegaConf.select(cfg, key) for key, text in leaves(raw) if _ENVIRONMENT in str(text)}
    values = {str(value) for value in values if value not in (None, "")}
    if not values:
        return {**config}
    hidden = [key for key in NOT_THE_PICTURE if key != "paths" and key in config]
    named = {key: _with_names(raw.get(key), config[key], values) for key in hidden}
    return {**config, **named, "checkpoints": _links_with_names(raw["checkpoints"], config["checkpoints"], values)}


_ENVIRONMENT = "${oc.env:"


def _with_names(raw: Any, value: Any, values: set[str]) -> Any:
    """``value`` with the interpolations of ``raw`` put back where they gave one of ``values``."""
    if isinstance(raw, Mapping) and isinstance(value, Mapping):
        return {key: _with_names(raw.get(key), item, values) for key, item in value.items()}
    if isinstance(raw, list) and isinstance(value, list) and len(raw) == len(value):
        return [_with_names(element, item, values) for element, item in zip(raw, value, strict=True)]
    from_environment = isinstance(raw, str) and "${" in raw and any(one in str(value) for one in values)
    return raw if from_environment else value


def _links_with_names(raw: Any, value: Any, values: set[str]) -> Any:
    """Cards with the interpolations in their links put back, see :func:`_with_names`."""
    if not isinstance(raw, Mapping) or not isinstance(value, Mapping):
        return value
    return {
        key: (_with_names if key == "urls" else _links_with_names)(raw.get(key), item, values)
        for key, item in value.items()
    }


def picture_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved config that decides the picture."""
    return {key: value for key, value in config.items() if key not in NOT_THE_PICTURE}


def now_in_picture(cfg: DictConfig) -> Iterator[str]:
    """Keys that affect the picture and depend on the time (``${now:…}``), with their interpolations."""
    if not (times := OmegaConf.get_cache(cfg).get("now")):  # OmegaConf's cache of Hydra's ${now:…}
        return
    raw, before = (dict(leaves(picture_config(plain_dict(cfg, resolve=resolve)))) for resolve in (False, True))
    # A date that differs from now in every part, from year to microsecond.
    later = datetime.now() + timedelta(days=400, hours=1, minutes=1, seconds=1, microseconds=1)
    now = {**times}
    times |= {words: later.strftime(words[0]) for words in now}
    after = dict(leaves(picture_config(plain_dict(cfg))))
    times |= now
    yield from (f"{key}={raw.get(key, value)}" for key, value in before.items() if after.get(key) != value)


def identity(config: Mapping[str, Any]) -> str:
    """The identity of a job: a hash of the config that decides its picture.  1 and 1.0 are equal."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return hashlib.sha256(json.dumps(plain(picture_config(config)), sort_keys=True).encode()).hexdigest()
