"""Checks records, which may contain only plain data, known classes, files of known hash, and known cards.

A record is a config from a run folder or a PNG and may be untrusted.  It never decides where something is written,
downloaded or read: links and paths are the user's own or verified by their sha256.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from vqclip.checkpoints.cards import local_path, shipped_files
from vqclip.checkpoints.check import weights_sha256
from vqclip.config.compose import compose
from vqclip.config.grammar import as_typed, without_interpolations
from vqclip.config.own_classes import weights_of
from vqclip.config.plain import mapping, plain_dict
from vqclip.config.resolve import classes_in, leaves
from vqclip.errors import UserError, printable
from vqclip.io.files import sha256
from vqclip.io.latents import digest as latents_digest
from vqclip.io.regions import SIDES
from vqclip.paths import conf_dir
from vqclip.prompts import ENTRIES, SEVERAL

__all__ = [
    "as_data",
    "escape_interpolations",
    "is_known_input",
    "own_loggers",
    "record_errors",
    "trusting",
    "with_trusted",
]

#: Modules whose public classes a record may name: parts of a picture, and callbacks that write into the run folder.
_OWN = (
    *("augmentations", "callbacks", "init", "latent", "loss", "noise", "optimizer", "schedules", "search", "terms"),
    *("models.canvas", "models.llamagen", "models.open_clip", "models.taesd"),
)

#: Other classes that a record may name: they only compute, and do not write, download or start anything.
ALLOWED = frozenset(
    [f"torch.optim.{name}" for name in (
        "ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "NAdam", "RAdam", "RMSprop",
        "Rprop", "SGD",
    )]
    + [f"{package}.callbacks.{name}" for package in ("pytorch_lightning", "lightning.pytorch") for name in (
        "DeviceStatsMonitor", "EarlyStopping", "LearningRateMonitor", "ModelSummary", "RichProgressBar",
        "TQDMProgressBar", "Timer",
    )]
)  # fmt: skip

#: Keys of a logger that describe a run, but not where it writes or sends.
_LOGGER_WORDS = ("project", "name", "group", "job_type", "notes")

#: Where the user confirms a file, for messages.
_TYPED = "on the command line of rerun or resume"


def as_data(config: Mapping[str, Any]) -> dict[str, Any]:
    """A record's config without ``hydra``, ``trust``, and paths other than ``output_dir``."""
    kept = {key: value for key, value in config.items() if key not in ("hydra", "trust")}
    paths = kept.get("paths")
    if isinstance(paths, Mapping):
        kept["paths"] = {key: value for key, value in paths.items() if key == "output_dir"}
    return kept


def escape_interpolations(value: Any) -> Any:
    """Escape ``${`` in plain data, so that nothing in a record is resolved."""
    if isinstance(value, str):
        return without_interpolations(value)
    if isinstance(value, Mapping):
        return {key: escape_interpolations(item) for key, item in value.items()}
    return [escape_interpolations(item) for item in value] if isinstance(value, list) else value


def own_loggers(loggers: Any) -> dict[str, Any]:
    """The user's own loggers with the names in a record, and with the record's description of the run.

    A logger class of a package that the user trusts stays as the record has it.
    """
    found: dict[str, Any] = {}
    for name, logger in loggers.items() if isinstance(loggers, Mapping) else ():
        if not isinstance(logger, Mapping):
            continue
        if _is_trusted(logger.get("_target_")):
            found[name] = escape_interpolations(logger)
        elif configured := _configured_logger(name):
            words = {key: logger[key] for key in _LOGGER_WORDS if isinstance(logger.get(key), str)}
            if logger.get("mode") in ("offline", "disabled"):
                words["mode"] = logger["mode"]
            found[name] = {**configured, **escape_interpolations(words)}
        else:
            left_out = printable(f"logger.{name}")
            print(f"note: {left_out} of the record is left out: it is not one of yours", file=sys.stderr)
    return found


def _configured_logger(name: Any) -> dict[str, Any]:
    """The user's own logger of that name; empty if there is none, as for ``csv``, whose choice adds no logger."""
    if not isinstance(name, str) or not (conf_dir() / "logger" / f"{name}.yaml").is_file():
        return {}
    return plain_dict(compose([f"logger={name}"]).logger, resolve=False).get(name, {})


def record_errors(config: Mapping[str, Any], typed: Set[str], what: str, made_with: Mapping[str, Any]) -> list[str]:
    """Everything that a record must not contain, one message each.

    Args:
        typed: dotted keys that the user has overridden.
        made_with: ``weights`` and ``inputs`` with their sha256.
    """

    def left(found: Iterator[tuple[str, str]]) -> list[str]:
        return [m for key, m in found if not any(key == word or key.startswith(f"{word}.") for word in typed)]

    return left(_class_errors(config, what)) or [
        *left(_interpolation_errors(config, what)),
        *left(_input_errors(config, what, made_with.get("inputs"))),
        *left(_card_errors(config, what, made_with.get("weights"))),
    ]


def trusting(config: Mapping[str, Any]) -> str:
    """The prefix of a command that resumes the user's own run, by which its packages are trusted."""
    packages = [package for *_, package in _not_trusted(config) if package]
    return f"VQCLIP_TRUST={','.join(with_trusted(packages))} " if packages else ""


def with_trusted(packages: Sequence[Any]) -> list[Any]:
    """The packages in VQCLIP_TRUST followed by ``packages``, without duplicates."""
    before = [package for package in os.environ.get("VQCLIP_TRUST", "").split(",") if package]
    return list(dict.fromkeys([*before, *packages]))


def _not_trusted(config: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Classes that a record must not name, with their keys and the packages that could be trusted."""
    known = {*sys.stdlib_module_names, "torch", "vqclip", "hydra", "omegaconf"}
    for key, value in classes_in({name: part for name, part in config.items() if name != "logger"}):
        if not _is_allowed(value) and not _is_trusted(value):
            package = value.partition(".")[0] if isinstance(value, str) else ""
            yield key, value, "" if package in known else package


def _class_errors(config: Mapping[str, Any], what: str) -> Iterator[tuple[str, str]]:
    for key, value, package in _not_trusted(config):
        yield (
            key,
            f"{key}={value}: {what} names a class that is not vqclip's. A record may name vqclip's own classes and "
            f"torch.optim's, since it may come from a stranger. If you trust it: {key}={value} on the command line"
            + (f", or once and for all VQCLIP_TRUST={package}" if package else ""),
        )


def _trusted_packages() -> list[str]:
    """Packages that the user trusts: in ``VQCLIP_TRUST`` and in the key ``trust`` of the user's own config."""
    named = compose([]).get("trust") or []
    named = [named] if isinstance(named, str) else list(named)
    return [word.strip() for word in [*named, *os.environ.get("VQCLIP_TRUST", "").split(",")] if word.strip()]


def _is_trusted(target: Any) -> bool:
    return isinstance(target, str) and any(target.startswith(f"{package}.") for package in _trusted_packages())


def _is_allowed(target: Any) -> bool:
    """Whether a record may name ``target``: a class that is public in its module."""
    if not isinstance(target, str):
        return False
    module, _, name = target.rpartition(".")
    if module.removeprefix("vqclip.") in _OWN and module.startswith("vqclip."):
        found = importlib.import_module(module)
        return name in found.__all__ and isinstance(getattr(found, name), type)
    return target in ALLOWED


def _interpolation_errors(config: Mapping[str, Any], what: str) -> Iterator[tuple[str, str]]:
    for key, value in leaves(config):
        group, _, rest = key.partition(".")
        if group == "prompts" and rest.partition(".")[0] in ENTRIES:
            continue  # prompts are plain strings and may contain anything
        if isinstance(value, str) and "${" in value and group not in ("logger", "callbacks", "tags", "sweep"):
            yield key, f"{key}={value}: {what} asks for a value from outside, which a record may not. Try: {key}=VALUE"


def _input_errors(config: Mapping[str, Any], what: str, known: Any) -> Iterator[tuple[str, str]]:
    """Files on the user's disk that a record names without their hash."""
    known = mapping(known)
    init = mapping(config.get("init"))
    named = [(f"init.{word}", init.get(word)) for word in ("path", "mask", "run")]
    prompts = mapping(config.get("prompts"))
    for word in ENTRIES:
        entries = prompts.get(word)
        for entry in entries if isinstance(entries, list) else [entries]:
            if isinstance(entry, Mapping) and "file" in entry:
                yield (
                    f"prompts.{word}",
                    f"prompts.{word}: {what} names the file {entry['file']}, and prompt files of a record are not "
                    f"read. If it is yours: {as_typed(f'prompts.{word}', entries)} {_TYPED}",
                )
            elif isinstance(entry, Mapping):
                named += [(f"prompts.{word}", path) for path in _files_of(entry)]
    for key, path in named:
        if isinstance(path, str) and not is_known_input(key, path, init, known.get(path)):
            typed = as_typed(key, path if key.startswith("init") else prompts[key.removeprefix("prompts.")])
            yield (
                key,
                f"{key}: {what} names the file {path}, which is not here as that run read it (its sha256 is in the "
                f"record), and a record may come from a stranger. If it is yours: {typed} {_TYPED}",
            )


def is_known_input(key: str, path: str, init: Mapping[str, Any], digest: Any) -> bool:
    """Whether a config's file, or the run at ``init.run``, exists with this digest."""
    if key != "init.run":
        return _is_known(path, digest)
    try:
        return digest == latents_digest(init)
    except UserError:
        return False


def _files_of(entry: Mapping[str, Any]) -> Iterator[Any]:
    """Paths in a prompt entry, also invalid ones: pictures, masks, those of its parts."""
    region = entry.get("region")
    yield from (entry.get("image"), None if isinstance(region, str) and region in SIDES else region)
    for parts in map(entry.get, SEVERAL):
        for part in parts if isinstance(parts, list) else []:
            yield from _files_of(part) if isinstance(part, Mapping) else ()


def _is_known(path: str, digest: Any, read: Callable[[Path], str] = sha256) -> bool:
    """Whether the file exists with this sha256; devices and pipes are not read."""
    file = Path(path)
    return isinstance(digest, str) and file.is_file() and read(file) == digest


def _card_errors(config: Mapping[str, Any], what: str, known: Any) -> Iterator[tuple[str, str]]:
    known = mapping(known)
    for name, key, card in weights_of(config):
        if key.startswith("callbacks.") and _is_trusted(card.get("_target_")):
            continue  # classes of trusted packages may have paths to write to
        path = card.get("path")
        if isinstance(path, str) and path:
            if not _is_packaged(path) and not _is_known(str(local_path(path)), known.get(name), weights_sha256):
                yield (
                    f"{key}.path",
                    f"{key}.path={path}: {what} names this file, which is not here as that run read it (its sha256 is "
                    "in the record), and a record may come from a stranger. If it is yours: "
                    f"{key}.path={path} {_TYPED}",
                )
        elif card.get("urls") and not _is_ours(name, card):
            yield (
                f"{key}.urls",
                f"{key}.urls: {what} names links of its own to fetch {card.get('name', name)} from, which a record may "
                f"not. Allowed: the cards that come with vqclip. Try: {key}.path=FILE",
            )


def _is_packaged(path: str) -> bool:
    return bool(re.fullmatch(r"pkg://vqclip/embedded/[\w-]+\.safetensors", path))


def _is_ours(name: str, card: Mapping[str, Any]) -> bool:
    """Whether a record's card has the file, hash and links of a shipped card."""
    file = str(card.get("file") or f"{card.get('name', name)}.ckpt")
    return shipped_files().get(file) == {"sha256": card.get("sha256"), "urls": card.get("urls")}
