"""Loads generators and perceptors of the classes that cards name by ``_target_``.

A class is instantiated from the keys of its card.  If the card names a file (``path`` or ``urls``), the file's tensors
are loaded as the module's ``state_dict``, without running any code in the file; a class that takes ``path`` reads the
file itself.  A class may have two static methods:

* ``arguments_from(shapes)``: infers constructor arguments, ``{name: shape}`` → ``{argument: value}``; keys of the card
  take precedence.
* ``tensor_names(names)``: ``{name in the file: name in the module}``; other tensors are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vqclip.checkpoints.architecture import fill
from vqclip.checkpoints.cards import Card
from vqclip.checkpoints.check import weights_sha256
from vqclip.checkpoints.tensors import Weights, digest
from vqclip.classes import import_target, parameters_of
from vqclip.errors import UserError
from vqclip.own_parts import require_whole

__all__ = ["arguments_from_shapes", "build_class", "rename_tensors", "takes_path"]

Shapes = Mapping[str, tuple[int, ...]]

_NEEDED = {
    "generator": ("decode", "latent_shape", "factor"),
    "perceptor": ("encode_text", "encode_image", "input_size"),
}


def arguments_from_shapes(target: str, shapes: Shapes) -> dict[str, Any]:
    """The constructor arguments that the class infers from shapes; empty without ``arguments_from``."""
    reader = getattr(import_target(target), "arguments_from", None)
    try:
        return dict(reader(dict(shapes))) if reader else {}
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        some = ", ".join(list(shapes)[:3])
        raise UserError(
            f"{target}: a file with the tensors {some}, … is not one of its own ({type(error).__name__}: {error})"
        ) from None


def rename_tensors(
    target: str, shapes: Shapes, get: Callable[[str], Tensor]
) -> tuple[dict[str, tuple[int, ...]], Callable]:
    """Rename a file's shapes and tensors to the names of the class's module."""
    rename = getattr(import_target(target), "tensor_names", lambda names: {name: name for name in names})
    names = {new: old for old, new in rename(list(shapes)).items()}
    return {new: shapes[old] for new, old in names.items()}, lambda name: get(names[name])


def build_class(card: Card, target: str, weights: Weights | None) -> Any:
    """Build the model of a card's ``_target_``: float32, eval, frozen, with ``sha256``.

    The class is instantiated under seed 0, so that random weights are the same every time.

    Raises:
        UserError: the file does not fit, or the object lacks what a generator or perceptor must have.
    """
    arguments = {**(weights.architecture if weights else {}), **card.arguments}
    if takes_path(target) and (weights or card.local):
        arguments["path"] = str(weights.path if weights else card.local)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        instance = import_target(target)(**arguments)
    model: Any = instance if isinstance(instance, nn.Module) else Held(instance)
    lacks = [name for name in _NEEDED[card.kind] if not hasattr(model, name)]
    if lacks:
        raise UserError(
            f"{card.key}._target_={card.target}: what it makes has no {', '.join(lacks)}, "
            f"which a {card.kind} must have (vqclip/protocols.py)"
        )
    origin = f"{card.key}: {card.target}"
    model.vqclip_name = origin
    require_whole(model, {"generator": "factor", "perceptor": "input_size"}[card.kind], origin)
    if weights and "path" not in arguments:
        fill(model, card, weights)
    model.float().eval().requires_grad_(False)
    for part in getattr(instance, "__dict__", {}).values():  # networks held by an object that is not a module itself
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(False)
    model.sha256 = weights.sha256 if weights else weights_sha256(card.local) if card.local else _digest(card, model)
    return model


def takes_path(target: str) -> bool:
    """Whether the class takes ``path`` and reads the file itself."""
    return "path" in parameters_of(import_target(target))


def _digest(card: Card, model: nn.Module) -> str:
    """The digest that identifies a model without a file: of its class name, arguments and tensors."""
    return digest(model.state_dict(), {"_target_": str(card.target), "arguments": repr(sorted(card.arguments.items()))})


class Held(nn.Module):
    """Wraps an object that is not a module, so that it can stand where one is expected; ``to`` does not move it."""

    def __init__(self, part: Any):
        super().__init__()
        self.__dict__["part"] = part

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["part"], name)
