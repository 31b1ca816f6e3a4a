"""Models that this project trains: a safetensors file, its metadata holding the constructor's arguments.

A matrix may lie there as 8-bit integers, with a factor for every row under its name and ``.scale``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from vqclip.errors import UserError

__all__ = ["load_shipped", "load_shipped_of"]

M = TypeVar("M", bound=nn.Module)


def load_shipped(make: Callable[..., M], path: str | Path) -> M:
    """A model from its file, frozen, in float32."""
    with safe_open(path, "pt") as file:
        if "config" not in (notes := file.metadata() or {}):
            raise ValueError("no config in its metadata")
        with torch.random.fork_rng(devices=[]):
            model = make(**json.loads(notes["config"]))
    tensors = _scaled(load_file(path))
    _check(tensors, model.state_dict())
    model.load_state_dict(tensors)  # copies the file's half precision into the model's float32
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.sum().isfinite():  # one nan or infinity makes the sum one
            raise ValueError(f"{name} holds nan or infinity")
    return model.eval().requires_grad_(False)


def _scaled(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a file by name, 8-bit rows times their factors; a ValueError where those are missing or too many."""
    made = {name: value for name, value in tensors.items() if not name.endswith(".scale")}
    for name, value in made.items():
        factors = tensors.get(f"{name}.scale")
        if (value.dtype == torch.int8) != (factors is not None):
            raise ValueError(
                f"{name} is {value.dtype}, and {name}.scale is {'missing' if factors is None else 'there'}"
            )
        if factors is not None:
            made[name] = value.float() * factors.float()
    return made


def _check(tensors: dict[str, Tensor], model: dict[str, Tensor]) -> None:
    """A ValueError where a copy would go through and be no weights: another type of number."""
    for name in tensors.keys() & model.keys():
        value = tensors[name]
        if value.is_floating_point() != model[name].is_floating_point():
            raise ValueError(f"{name} is {value.dtype}, expected {model[name].dtype}")


def load_shipped_of(make: Callable[..., M], path: str | Path, key: str, what: str, advice: str) -> M:
    """The same of a file that a config names.

    Args:
        key: of the config that has the path.
        what: the file should be, for the message.
        advice: what is allowed, and what to try.

    Raises:
        UserError: it is missing, or another.
    """
    try:
        return load_shipped(make, path)
    except (SafetensorError, OSError, TypeError, KeyError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{key}={path}: no {what} of vqclip's ({why}). {advice}") from None
