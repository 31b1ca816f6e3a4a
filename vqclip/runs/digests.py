"""sha256 of the files that a config names, before any model is loaded.

Nothing here imports torch: a sweep checks whether the files that its finished jobs read are still the same.
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
    """sha256 of the user's own weight files in a config, by their names in run.json."""
    return digests(_weights(config))


def packaged_weights(config: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of the shipped weight files in a config, which may differ between versions of vqclip."""
    packaged = {name: path for name, path in _weights(config).items() if _is_packaged(path)}
    return {name: weights_sha256(local_path(path)) for name, path in packaged.items()}


def _weights(config: Mapping[str, Any]) -> dict[str, Any]:
    """Paths of the weights that affect the picture, by their names in run.json."""
    return {name: part.get("path") for name, key, part in weights_of(config) if not key.startswith("callbacks.")}


def callback_weights(config: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of the weights of vqclip's own callbacks, which do not affect the picture; only run.json has them."""
    parts = [(name, part) for name, key, part in weights_of(config) if key.startswith("callbacks.")]
    return digests({n: part.get("path") for n, part in parts if str(part.get("_target_")).startswith("vqclip.")})


def digests(paths: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of those files that exist and are not shipped; whoever needs a missing one reports it."""
    own = {name: local_path(path) for name, path in paths.items() if _is_own(path)}
    return {name: weights_sha256(path) for name, path in own.items() if path.is_file()}


def _is_own(path: Any) -> bool:
    return isinstance(path, str) and path != "" and not _is_packaged(path)


def _is_packaged(path: Any) -> bool:
    return isinstance(path, str) and path.startswith("pkg://")


def inputs(config: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of every picture and latent that a config reads, by path."""
    paths = [config["init"].get("path"), config["init"].get("mask")]
    for key in ENTRIES:
        paths += [path for prompt in parse_prompts(config["prompts"][key]) for path in prompt.files]
    found = {path: sha256(Path(path)) for path in dict.fromkeys(paths) if path}
    if config["init"]["_target_"] == "vqclip.init.Run":
        found[config["init"]["run"]] = digest(config["init"])
    return found
