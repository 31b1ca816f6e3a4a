"""Models that this project trains: a safetensors file, its metadata holding the constructor's arguments.

A matrix may lie there as 8-bit integers, with a factor for every row under its name and ``.scale``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from vqclip.errors import UserError

__all__ = ["Shipped"]


class Shipped(nn.Module):
    """A model that is loaded from such a file."""

    key: ClassVar = "path"  #: of the config that has the file's path, for messages
    advice: ClassVar = ""  #: what is allowed, or what to try

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """A model from its file, frozen, in float32.

        Raises:
            UserError: it is missing, or another.
        """
        try:
            return cls._load(path)
        except (SafetensorError, OSError, TypeError, KeyError, ValueError, RuntimeError) as error:
            why = " ".join(str(error).split())[:200]
            message = f"{cls.key}={path}: no {cls.__name__.lower()} of vqclip's ({why}). {cls.advice}"
            raise UserError(message.rstrip()) from None

    @classmethod
    def _load(cls, path: str | Path) -> Self:
        with safe_open(path, "pt") as file:
            if "config" not in (metadata := file.metadata() or {}):
                raise ValueError("no config in its metadata")
        with torch.random.fork_rng(devices=[]):
            model = cls(**json.loads(metadata["config"]))
        tensors, needed = _scaled(load_file(path)), model.state_dict()
        for name, value in tensors.items():
            if name in needed and value.is_floating_point() != needed[name].is_floating_point():
                raise ValueError(f"{name} is {value.dtype}, expected {needed[name].dtype}")
            if value.is_floating_point() and not value.sum(dtype=torch.float32).isfinite():  # one nan makes it one
                raise ValueError(f"{name} holds nan or infinity")
        model.load_state_dict(tensors)  # copies the file's half precision into the model's float32
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
