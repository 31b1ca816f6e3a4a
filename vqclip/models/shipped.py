"""Models that this project trains: a safetensors file whose metadata holds the constructor's arguments.

A matrix may be stored as 8-bit integers, with a factor per row under its name plus ``.scale``.
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
    """Base class of models that are loaded from such a file."""

    key: ClassVar = "path"  #: config key of the file's path, for messages
    advice: ClassVar = ""  #: what is allowed, or what to try

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a model from its file, frozen, in float32.

        Raises:
            UserError: the file is missing or not of such a model.
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
            if value.is_floating_point() and not value.sum(dtype=torch.float32).isfinite():  # the sum propagates NaN
                raise ValueError(f"{name} holds nan or infinity")
        model.load_state_dict(tensors)  # converts the file's half precision to the model's float32
        return model.eval().requires_grad_(False)


def _scaled(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Multiply the 8-bit rows of a file's tensors by their factors; ValueError if some are missing or superfluous."""
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
