"""Configs that runs left behind: read back without running anybody's code, and changed by overrides.

A record may come from a stranger, in a run folder or in a PNG.  So it is plain data: nothing in it is resolved, and
the classes it names must be vqclip's own or torch's optimisers.  What the user types beside it is trusted.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vqclip.config.compose import compose
from vqclip.errors import UserError, closest
from vqclip.paths import conf_dir

__all__ = ["with_overrides"]

_OWN = re.compile(r"vqclip\.([a-z_]+)\.([A-Z]\w*|wandb_logger)")


_OPTIMISER = re.compile(r"torch\.optim\.[A-Z]\w*")


_LOGGER = re.compile(r"pytorch_lightning\.loggers\.[A-Z]\w*")


def with_overrides(config: Mapping[str, Any], overrides: Sequence[str], what: str) -> DictConfig:
    """``config``, plain data from anywhere, changed by overrides that the user typed.

    Args:
        what: where the config came from, for messages.

    Raises:
        UserError: the record names a class that is neither vqclip's nor an optimiser of torch; an override that does
            not parse, sweeps, or names no key.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise UserError(" ".join(str(error).split())) from None
    cfg = OmegaConf.create(_literal(config))
    trusted = set()
    groups_first = sorted(parsed, key=lambda o: not _is_group(o.key_or_group))
    for override in groups_first:
        key, line = override.key_or_group, override.input_line
        if override.is_sweep_override():
            one = line.partition("=")[2].split(",")[0]
            raise UserError(f"{line}: a sweep. Allowed here: one value. Try: {key}={one}")
        if _is_group(key):
            if key in ("experiment", "debug"):
                raise UserError(
                    f"{line}: a preset cannot be laid over a finished config. Try: the keys it sets, one by one"
                )
            dotted = key.replace("/", ".")
            # Its keys with their interpolations, which the rest of the config answers.
            OmegaConf.update(cfg, dotted, OmegaConf.select(compose([line]), dotted), merge=False)
        else:
            dotted = key
            missing = object()
            known = OmegaConf.select(cfg, dotted, default=missing) is not missing
            if not known and not override.is_add():
                raise UserError(
                    f"{dotted}: there is no such key in {what}.{closest(dotted, list(_keys(config)))} "
                    f"All its keys are in config.yaml; +{dotted}=VALUE adds one"
                )
            try:
                if override.is_delete():
                    parent, _, name = dotted.rpartition(".")
                    del (OmegaConf.select(cfg, parent) if parent else cfg)[name]
                else:
                    OmegaConf.update(cfg, dotted, override.value(), merge=False, force_add=True)
            except OmegaConfBaseException as error:
                raise UserError(f"{line}: {str(error).splitlines()[0]}") from None
        trusted.add(dotted)
    foreign = [
        f"{key}={value}: {what} names a class that is not vqclip's. A record may name vqclip's own classes and "
        f"torch.optim's, since it may come from a stranger. If you trust it: {key}={value} on the command line"
        for key, value in _targets(config)
        if not any(key == t or key.startswith(f"{t}.") for t in trusted) and not _is_allowed(value)
    ]
    if foreign:
        raise UserError("\n".join(foreign))
    return cfg


def _is_group(key: str) -> bool:
    return "." not in key and (conf_dir() / key).is_dir()


def _literal(value: Any) -> Any:
    """Plain data in which ``${`` means itself, so that nothing in a record is resolved."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", value)
    if isinstance(value, Mapping):
        return {key: _literal(item) for key, item in value.items()}
    return [_literal(item) for item in value] if isinstance(value, list) else value


def _keys(config: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield f"{path}{key}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{path}{key}.")


def _targets(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every ``_target_`` in plain data, with its key."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        dotted = f"{path}.{key}" if path else str(key)
        if key == "_target_":
            yield dotted, item
        else:
            yield from _targets(item, dotted)


def _is_allowed(target: Any) -> bool:
    """Whether a record may name ``target``.

    Two names deep and public, so that ``vqclip.engine.os.system`` is not reached by way of what a module imports.
    """
    if not isinstance(target, str):
        return False
    if own := _OWN.fullmatch(target):
        try:
            return own[2] in importlib.import_module(f"vqclip.{own[1]}").__all__
        except (ImportError, AttributeError):
            return False
    return bool(_OPTIMISER.fullmatch(target) or _LOGGER.fullmatch(target))
