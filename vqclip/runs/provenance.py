"""What had a say in a picture: versions, weights, input files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vqclip.checkpoints.load import load_prior
from vqclip.errors import UserError
from vqclip.io.files import sha256
from vqclip.io.latents import digest
from vqclip.module import LatentOptimisation
from vqclip.prompts import parse_prompts
from vqclip.runs.folder import command

__all__ = ["inputs", "own_weights", "same_inputs", "weight_hashes"]

#: Packages whose version may change a picture.
VERSIONED = ("vqclip", "torch", "torchvision", "openai-clip", "taming-transformers", "pytorch-lightning")


def weight_hashes(module: LatentOptimisation, config: Mapping) -> dict[str, str]:
    """sha256 of every weight file that had a say in the pictures."""
    weights = {"generator": module.generator.sha256}
    weights |= {name: eye.perceptor.sha256 for name, eye in module.eyes.items()}
    if config["init"]["_target_"] == "vqclip.init.Prior" and config["checkpoints"].get("prior"):
        weights["prior"] = load_prior(config["checkpoints"]["prior"]["path"]).sha256
    return weights


def own_weights(config: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of the weight files of the user's own that a config names, known before any model is loaded."""
    checkpoints = config["checkpoints"]
    cards = {"generator": checkpoints["generator"], "prior": checkpoints.get("prior"), **checkpoints["perceptors"]}
    paths = {name: str((card or {}).get("path") or "") for name, card in cards.items()}
    return {
        name: sha256(Path(path).expanduser()) for name, path in paths.items() if path and not path.startswith("pkg://")
    }


def inputs(config: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of every picture and latent a config reads, by path."""
    paths = [config["init"].get("path"), config["init"].get("mask")]
    for key in ("include", "exclude", "extras"):
        paths += [path for prompt in parse_prompts(config["prompts"][key]) for path in prompt.files]
    found = {path: sha256(Path(path)) for path in dict.fromkeys(paths) if path}
    if config["init"]["_target_"] == "vqclip.init.Run":
        found[config["init"]["run"]] = digest(config["init"])
    return found


def same_inputs(run: Path, past: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with other weights or other input pictures; tell where versions differ.

    Args:
        past, now: ``run.json`` as it was and as it will be.
    """
    for kind in ("weights", "inputs"):
        if other := [name for name, before, after in _pairs(past.get(kind, {}), now[kind]) if before != after]:
            raise UserError(
                f"{command(run)}: {kind} changed since the run began: {', '.join(other)}. Allowed: the files it began "
                f"with (their sha256 is in run.json). Try: vqclip rerun {shlex.quote(str(run))}"
            )
    for name, before, after in _pairs(past["versions"], now["versions"]):
        if before != after:
            print(f"note: {name} was {before} and is {after}: what follows may differ from a run that was not stopped")


def _pairs(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys([*one, *other]):
        yield name, one.get(name), other.get(name)
