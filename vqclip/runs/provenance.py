"""Provenance: the versions, machine, weights and input files that a picture depends on."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from vqclip.checkpoints.cards import local_path
from vqclip.checkpoints.check import weights_sha256
from vqclip.checkpoints.load import load_prior
from vqclip.config.own_classes import terms_by_key
from vqclip.config.resolve import differences
from vqclip.errors import UserError, printable
from vqclip.module import LatentOptimisation
from vqclip.runs.digests import digests, inputs
from vqclip.runs.folder import RunFolder

__all__ = ["Provenance", "machine", "versions"]

_log = logging.getLogger(__name__)

#: Packages whose version may change a picture.
VERSIONED = ("vqclip", "torch", "torchvision", "openai-clip", "taming-transformers", "pytorch-lightning")

_version = cache(metadata.version)  # parsing a package's metadata is slow


def versions() -> dict[str, str]:
    """The versions of everything that may change a picture."""
    return {name: _version(name) for name in VERSIONED} | {"python": platform.python_version()}


def machine(device: torch.device | None = None) -> dict[str, Any]:
    """What the last digits depend on: number of threads, processor, and device if known."""
    found = {
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cpu": _cpu(),
    }
    if device is None:
        return found
    return found | {"device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type}


@cache
def _cpu() -> str:
    """The processor's vendor, family and model, by which libraries choose kernels."""
    try:
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()]
    except OSError:  # not on Linux
        return platform.processor() or platform.machine()
    known = {key.strip(): value.strip() for key, _, value in lines}
    told = [known[key] for key in ("vendor_id", "cpu family", "model") if key in known]
    return " ".join(told) or platform.machine()


@dataclass(frozen=True)
class Provenance:
    """The provenance of a run: versions, processor, device, weights, inputs."""

    versions: dict[str, str]
    machine: dict[str, Any]
    weights: dict[str, str]  #: sha256 of every weight file, by name
    inputs: dict[str, str]  #: sha256 of every picture that the config reads, by path

    @classmethod
    def of(cls, module: LatentOptimisation, config: Mapping[str, Any], device: torch.device) -> Provenance:
        return cls(versions(), machine(device), _weights(module, config), inputs(config))

    def require_same(self, run: RunFolder, past: Mapping[str, Any]) -> None:
        """Refuse to resume with other weights or input pictures; print a note about other versions.

        Args:
            past: ``run.json`` before the resume.

        Raises:
            UserError: weights or inputs differ.
        """
        for kind, now in (("weights", self.weights), ("inputs", self.inputs)):
            before = {name: known for name, known in past.get(kind, {}).items() if not name.startswith("callbacks.")}
            # An input may be at another path now (see vqclip.runs.resume), but its content must be the same.
            moved = kind == "inputs" and set(before.values()) == set(now.values())
            moved &= all(before.get(name, found) == found for name, found in now.items())
            if not moved and (other := [name for name, *_ in differences(before, now)]):
                raise UserError(
                    f"{run.resume_command}: {kind} changed since the run began: {', '.join(other)}. Allowed: the files "
                    f"it began with (their sha256 is in run.json). Try: {run.rerun_command}"
                )
        for changed in differences(past["versions"], self.versions):
            name, before, now = (printable(str(part)) for part in changed)
            _log.warning("%s was %s and is %s: the rest may differ from an uninterrupted run", name, before, now)


def _weights(module: LatentOptimisation, config: Mapping[str, Any]) -> dict[str, str]:
    found = {"generator": module.generator.sha256}
    found |= {name: guide.perceptor.sha256 for name, guide in module.guides.items()}
    if config["init"]["_target_"] == "vqclip.init.Prior" and config["checkpoints"].get("prior"):
        found["prior"] = load_prior(config["checkpoints"]["prior"]["path"]).sha256
    elif card := config["checkpoints"].get("prior"):
        found |= digests({"prior": card["path"]})  # also if the run does not use it: records need its sha256
    return found | {name: weights_sha256(local_path(path)) for name, path in _of_terms(config).items()}


def _of_terms(config: Mapping[str, Any]) -> dict[str, str]:
    """Paths of the weights of the objective's terms, by the term's key."""
    return {key: term["path"] for key, term in terms_by_key(config).items() if isinstance(term.get("path"), str)}
