"""Instantiates classes on trial, before a model is loaded, to find values that they refuse.

Only torch's optimizers, Lightning's callbacks and its Trainer are tried, since their constructors have no side effects;
custom classes may do anything.  Nothing is imported if the schema covers every value.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vqclip.classes import find
from vqclip.config.own_classes import parts_on
from vqclip.config.schema import CLASSES
from vqclip.config.schema_trainer import OURS, TRAINER
from vqclip.errors import shown
from vqclip.io.quiet import logging_from
from vqclip.schedules import schedule

__all__ = ["instantiation_errors"]


def instantiation_errors(config: Mapping[str, Any]) -> Iterator[str]:
    """What classes refuse in a config without mistakes, one message each."""
    optimizer = config["optimizer"]
    if _is_foreign(optimizer, "torch.optim."):
        yield from _tried("optimizer", optimizer, lambda: _optimizer(optimizer), " Try: optimizer=default")
    for name, callback in parts_on(config, "callbacks").items():
        if _is_foreign(callback, "pytorch_lightning.callbacks."):
            yield from _tried(
                f"callbacks.{name}",
                callback,
                lambda callback=callback: find(callback["_target_"])(**_arguments(callback)),
            )
        if callback["_target_"].endswith(".LambdaCallback"):
            yield from (
                f"callbacks.{name}.{hook}={shown(value)}: no function. "
                f"Try: 'callbacks.{name}.{hook}={{_target_: mine.function, _partial_: true}}'"
                for hook, value in _arguments(callback).items()
                if not isinstance(value, Mapping)
            )
    trainer = config["trainer"]
    elsewhere = trainer["accelerator"] not in ("auto", "cpu") or trainer["devices"] != 1
    if set(trainer) - set(TRAINER.keys) or elsewhere:
        make = find("pytorch_lightning.Trainer")  # imported first, since importing sets its log level
        yield from _tried("trainer", trainer, lambda: _trainer(make, trainer), " Try: trainer=cpu" if elsewhere else "")


def _is_foreign(value: Mapping[str, Any], prefix: str) -> bool:
    return str(value["_target_"]).startswith(prefix) and value["_target_"] not in CLASSES


def _arguments(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in value.items() if not name.startswith("_")}


def _optimizer(value: Mapping[str, Any]) -> Any:
    """Take two steps on a latent of the real shape: some optimizers refuse dense gradients or 4-D tensors."""
    import torch

    arguments = {**_arguments(value), "lr": schedule(value["lr"])(0.0)}
    arguments.pop("clip", None)
    latent = torch.nn.Parameter(torch.zeros(1, 2, 2, 2))
    made = find(value["_target_"])([latent], **arguments)

    def closure() -> Any:
        made.zero_grad()
        loss = (latent - 1).square().sum()
        loss.backward()
        return loss

    for _ in range(2):
        closure()  # sets the gradients for optimizers without a closure
        made.step(closure)


def _trainer(make: Callable[..., Any], value: Mapping[str, Any]) -> Any:
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    lightning = {name: item for name, item in value.items() if name not in OURS}
    return make(**lightning, **off, max_epochs=-1, max_steps=1)


def _tried(path: str, value: Mapping[str, Any], make: Callable[[], Any], instead: str = "") -> Iterator[str]:
    if any(isinstance(item, Mapping) and "_target_" in item for item in value.values()):
        return  # one of its arguments is an object itself
    try:
        with logging_from(logging.ERROR, "pytorch_lightning"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make()
    except Exception as error:  # classes raise anything for invalid arguments
        reason = " ".join(str(error).split()) or type(error).__name__
        what = value.get("_target_", "Lightning's Trainer")
        yield f"{path}: {what} does not take it here: {reason.rstrip('.!')}.{instead}"
