"""sha256 of the files that a config names, known before any model is loaded.

Nothing here imports torch: a sweep asks whether what its finished jobs read is still the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqclip.checkpoints.cards import local_path
from vqclip.checkpoints.check import weights_sha256
from vqclip.config.own_classes import weights_of
from vqclip.io.files import sha256
from vqclip.io.latents import digest
from vqclip.prompts import ENTRIES, parse_prompts

__all__ = ["callback_weights", "digests", "inputs", "own_weights", "packaged_weights"]


def own_weights(config: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of the weight files of the user's own that a config names."""
    return digests(_weights(config))


def packaged_weights(config: Mapping[str, Any]) -> dict[str, str]:
    """The same of those that come with vqclip: another version may have others."""
    packaged = {name: path for name, path in _weights(config).items() if _is_packaged(path)}
    return {name: weights_sha256(local_path(path)) for name, path in packaged.items()}


def _weights(config: Mapping[str, Any]) -> dict[str, Any]:
    """Paths of the weights that decide the picture, by the names that these have in run.json."""
    return {name: part.get("path") for name, key, part in weights_of(config) if not key.startswith("callbacks.")}


def callback_weights(config: Mapping[str, Any]) -> dict[str, str]:
    """The same of callbacks of ours, which do not decide the picture: in run.json, and in no picture's record."""
    parts = [(name, part) for name, key, part in weights_of(config) if key.startswith("callbacks.")]
    return digests({n: part.get("path") for n, part in parts if str(part.get("_target_")).startswith("vqclip.")})


def digests(paths: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of those of the files that are there and not of the package; what asks for one says that it is missing."""
    own = {name: local_path(path) for name, path in paths.items() if _is_own(path)}
    return {name: weights_sha256(path) for name, path in own.items() if path.is_file()}


def _is_own(path: Any) -> bool:
    return isinstance(path, str) and path != "" and not _is_packaged(path)


def _is_packaged(path: Any) -> bool:
    return isinstance(path, str) and path.startswith("pkg://")


def inputs(config: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of every picture and latent a config reads, by path."""
    paths = [config["init"].get("path"), config["init"].get("mask")]
    for key in ENTRIES:
        paths += [path for prompt in parse_prompts(config["prompts"][key]) for path in prompt.files]
    found = {path: sha256(Path(path)) for path in dict.fromkeys(paths) if path}
    if config["init"]["_target_"] == "vqclip.init.Run":
        found[config["init"]["run"]] = digest(config["init"])
    return found
