"""Finds out why a run ended before its last step: a callback or limit stopped it, or it diverged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, Timer

from vqclip.module import LatentOptimisation
from vqclip.runs.trainer import callbacks_of

__all__ = ["divergence", "early_reason"]

#: Limit for the growth of the latent's norm, the noise factor and weights: beyond it they explain a divergence.
FAR = 1e3
#: Keys of the weights of the built-in terms; others are under ``loss.terms``.
_KEYS = {"include": "loss.alpha", "exclude": "loss.beta", "anchor": "loss.anchor"}


def early_reason(trainer: pl.Trainer, steps: int) -> str | None:
    """What ended the run before its last step, or None."""
    if trainer.global_step >= steps:
        return None
    done = f"after step {trainer.global_step} of {steps}"
    if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
        return f"trainer.limit_train_batches {done}"
    for callback in callbacks_of(trainer):
        # EarlyStopping clears its message if it changes its mind.
        if isinstance(callback, EarlyStopping) and trainer.should_stop and callback.stopping_reason_message:
            return f"EarlyStopping {done}: {callback.stopping_reason_message}"
        if trainer.should_stop and (reason := getattr(callback, "ended_because", "")):  # vqclip.callbacks.AutoStop's
            return f"{type(callback).__name__} {done}: {reason}"
        if isinstance(callback, Timer) and (left := callback.time_remaining()) is not None and left <= 0:
            return f"trainer.max_time, or a Timer, {done}: {callback.time_elapsed():.0f} s are over"
    return f"a callback asked for it {done}"


def divergence(module: LatentOptimisation, step: int, numbers: Mapping[str, float]) -> str | None:
    """Which number is not finite after ``step``, the likely cause, and what to change; None if all are finite.

    Args:
        numbers: of the step, as in ``metrics.csv``.
    """
    bad = [name for name, value in numbers.items() if not math.isfinite(value)]
    if not bad:
        return None
    shown = ", ".join(f"{name} is {numbers[name]}" for name in bad[:3])
    return f"after step {step} {shown}. {_cause(module, numbers)}"


def _cause(module: LatentOptimisation, numbers: Mapping[str, float]) -> str:
    t, noise = module.progress(module.global_step - 1), numbers.get("noise", 0)
    if not abs(noise) < FAR:
        return f"Likely cause: the noise. Try: noise.factor=0.1 (it is {noise:g})"
    own: Mapping[str, Any] = getattr(module.objective, "weights", {})  # a custom objective may have none
    weights: dict[str, Any] = {name: weight(t) for name, weight in own.items()}
    largest = max(weights, key=lambda name: abs(weights[name]), default=None)
    if largest and not abs(weights[largest]) < FAR:
        key = _KEYS.get(largest, f"loss.terms.{largest}.weight")
        return f"Likely cause: a weight. Try: {key}=1 (it is {abs(weights[largest]):g})"
    fine = [name for name in weights if math.isfinite(numbers.get(name, math.nan))]
    broken = [name for name in weights if name in numbers and name not in fine]
    if fine and broken and _KEYS.keys().isdisjoint(broken):
        return f"Likely cause: the term {', '.join(broken)}. Try: '~loss.terms.{broken[0]}'"
    precision = str(module.trainer.precision)
    if fine and broken and "16" in precision:
        return f"Likely cause: the precision. Try: trainer.precision=32-true (it is {precision})"
    lr = numbers.get("lr", math.nan)
    return f"Likely cause: the rate. Try: optimizer.lr={lr / 10:g} (it is {lr:g}), or optimizer.clip=1"
