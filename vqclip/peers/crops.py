"""Converts other programs' settings of crops and their augmentations.

Each function takes the value and all given settings, and returns config lines ``key=value``; lines that start with
``note: `` are printed.
"""

from __future__ import annotations

import re
from typing import Any

from vqclip.peers.films import BORDERS
from vqclip.peers.values import Given, NoEqual


def pixray_cuts(value: int, given: Given) -> list[str]:
    count, batches = int(given.get("num_cuts") or 48), int(given.get("batches") or 1)
    lines = [f"augmentations.crops.count={count * batches}"]
    return lines + ([f"memory.crop_chunk={count}"] if batches > 1 else [])


def accumulation(value: int, given: Given) -> list[str]:
    count = int(given.get("cutouts", 40))
    return [f"memory.crop_chunk={max(1, count // max(1, int(value)))}"] if int(value) > 1 else []


def cut_power(value: float, given: Given) -> list[str]:
    """There, a crop's side is ``u^power`` of the way from smallest to largest, u uniform: compute mean and std."""
    power = float(value)
    if power < 0:
        raise ValueError(power)
    mean, low = 1 / (1 + power), 0.4
    spread = (1 / (1 + 2 * power) - mean**2) ** 0.5
    return [
        f"augmentations.crops.mean={low + (1 - low) * mean:.3g}",
        f"augmentations.crops.std={(1 - low) * spread:.3g}",
    ]


#: No augmentations.  A strength of 0 draws nothing; affine has keys instead of null, so that further keys can follow.
_PLAIN = [
    "augmentations.flip=0", "augmentations.affine.degrees=0", "augmentations.affine.translate=0",
    *(f"augmentations.effects.{name}=0" for name in ("perspective", "jitter", "sharpness", "erase")),
]  # fmt: skip
#: Augmentations of some cutting methods; the others follow the option ``augments``.
_OF_METHODS = {
    "original": ["noise.factor=0"],
    "sg3": ["noise.factor=0"],
    "updated": [
        "augmentations.flip=0.5", "augmentations.affine.degrees=30", "augmentations.affine.translate=0.1",
        "augmentations.effects.jitter=0.01", "augmentations.effects.sharpness=0.3",
        "augmentations.effects.perspective=0.2",
    ],
}  # fmt: skip
_OF_METHODS["kornia"] = _OF_METHODS["updated"]


def cut_method(value: str, given: Given) -> list[str]:
    if value in ("latest", "updatedpooling"):
        return ["augmentations.crops.mean=1", "augmentations.crops.std=0"]
    lines = ["augmentations.crops.mean=0.7", "augmentations.crops.std=0.2"]
    return lines + _laid_over(_OF_METHODS[value]) if value in _OF_METHODS else lines


def _laid_over(lines: list[str]) -> list[str]:
    """No augmentations except those in ``lines``."""
    return [f"{key}={value}" for key, value in dict(line.split("=") for line in [*_PLAIN, *lines]).items()]


#: Two-letter codes of augmentations → our lines, with their strengths there.
_AUGMENTS = {
    "Ji": ["augmentations.effects.jitter=0.1"],
    "Sh": ["augmentations.effects.sharpness=0.3"],
    "Pe": ["augmentations.effects.perspective=0.7"],
    "Er": ["augmentations.effects.erase=0.4"],
    "Af": ["augmentations.affine.degrees=15", "augmentations.affine.translate=0.1"],
    "Ro": ["augmentations.affine.degrees=15"],
    "Hf": ["augmentations.flip=0.5"],
    "Gn": ["noise.factor=0.1"],
    "Cr": ["augmentations.crops.mean=0.8", "augmentations.crops.std=0.2"],
    "Re": ["augmentations.crops.mean=0.8", "augmentations.crops.std=0.2"],
}


def augments(value: Any, given: Given) -> list[str]:
    """Augmentations by two-letter codes."""
    method = given.get("cut_method")
    if method in (*_OF_METHODS, "updatedpooling"):
        return [f"note: cut_method {method} has augmentations of its own"]
    codes = value if isinstance(value, list) else re.findall(r"[A-Z][a-z]", str(value))
    codes = [code for group in codes for code in (group if isinstance(group, list) else [group])]
    lines = _laid_over([line for code in codes for line in _AUGMENTS.get(code, [])])
    if other := [code for code in codes if code not in _AUGMENTS]:
        lines.append(f"note: of the augmentations, {', '.join(other)} have no equal here (perspective is the nearest)")
    return lines


def cutout_sampler(value: str, given: Given) -> list[str]:
    if value == "full":
        return ["augmentations.crops.whole=1"]
    return ["augmentations.crops.whole=0.25", "augmentations.crops.stratified=true"] if value == "smart" else []


def border_mode(value: str, given: Given) -> list[str]:
    found = {**BORDERS, "clamp": "reflect"}.get(value)
    if not found:
        raise NoEqual(f"no border {value!r}. Allowed here: zeros, reflect, wrap")
    return [f"augmentations.border={found}"]
