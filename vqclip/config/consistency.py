"""Finds values that are valid alone but contradict each other, and runs that are too large for the machine."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from vqclip import machine
from vqclip.config.own_classes import parts_on
from vqclip.config.resolve import flatten
from vqclip.errors import UserError, shown
from vqclip.prompts import as_list, parse_prompts
from vqclip.schedules import ever_nonzero, is_number

__all__ = ["contradictions", "steps_within"]

#: Names that a further term must not have: built-in terms and columns of metrics.csv.
BUILT_IN = ("include", "exclude", "anchor", "alpha", "beta", "loss", "lr")


def contradictions(config: Mapping[str, Any]) -> Iterator[str]:
    """All contradictions in a config without mistakes, one message each."""
    yield from _resumed(config)
    yield from _size(config)
    yield from _memory(config)
    yield from _prompts(config)
    yield from _terms(config["loss"])
    yield from _start(config)
    yield from _crops(config["augmentations"])
    yield from _search(config)
    yield from _devices(config["trainer"])
    yield from _limit(config)
    yield from _monitors(config)


def _resumed(config: Mapping[str, Any]) -> Iterator[str]:
    """A message about a ``resume`` within the config, which would start a new run."""
    if run := config.get("resume"):
        again = shlex.quote(f"resume={run}")
        yield f"resume={run}: in a file, or behind +, it resumes nothing. Allowed: as a word. Try: vqclip {again}"


def _size(config: Mapping[str, Any]) -> Iterator[str]:
    from vqclip.checkpoints.check import factor_of
    from vqclip.io.run_files import LARGEST_PICTURE

    factor, size = factor_of(config["checkpoints"]["generator"]), config["size"]
    if size[0] * size[1] > LARGEST_PICTURE:
        yield (
            f"size={size}: more pixels than are read of a picture in a run's folder. Allowed: up to {LARGEST_PICTURE}, "
            "as of 8192×8192. Try: 'size=[8192,8192]'"
        )
    if factor and min(size) < factor:
        yield (
            f"size={size}: smaller than one code of the generator. Allowed: sides of at least {factor} pixels. "
            f"Try: 'size=[{factor * 8},{factor * 8}]'"
        )


def _memory(config: Mapping[str, Any]) -> Iterator[str]:
    """Messages about a run that needs more memory than the machine has."""
    have = machine.memory()
    pixels = config["size"][0] * config["size"][1]
    pictures = config["batch_size"] * len(as_list(config["prompts"]["include"]))
    crops = (config["augmentations"].get("crops") or {}).get("count", 1)
    # Floats of 4 bytes.  Per picture: the latent and Adam's two moments, the last and the best picture.  For one
    # picture: the decoder's widest layers.  Per crop: the crop, its noise and their gradient.
    needs = {
        "size": pixels * 64 * 4 * 4,
        "batch_size": pictures * pixels * 3 * 4 * 3 if pixels * 64 * 4 * 4 <= have else 0,
        "augmentations.crops.count": crops * 3 * 64 * 64 * 4 * 3,
    }
    for key, need in needs.items():
        if need > have:
            value = flatten(config)[key]
            yield (
                f"{key}={value}: needs at least {need / 1e9:,.0f} GB at once; this machine has {have / 1e9:.0f} GB. "
                f"Try: {shlex.quote(f'{key}={_fitting(key, value, have / need)}')}"
            )


def _fitting(key: str, value: Any, share: float) -> str:
    """A smaller value that fits comfortably into memory."""
    if key == "size":
        side = max(64, int(min(value) * (share / 8) ** 0.5) // 64 * 64)
        return f"[{min(side, 1024)},{min(side, 1024)}]"
    return str(max(1, min(64, int(value * share / 8))))


def _prompts(config: Mapping[str, Any]) -> Iterator[str]:
    prompts = config["prompts"]
    if prompts["include_weight"] == 0 and not (prompts["extras_weight"] and parse_prompts(prompts["extras"])):
        yield (
            "prompts.include_weight=0: the pictures would have no target. Allowed: 0 only beside prompts.extras. "
            'Try: prompts.include_weight=1, or prompts.extras="watercolor paper"'
        )


def _terms(loss: Mapping[str, Any]) -> Iterator[str]:
    for name in loss.get("terms") or {}:
        if name in BUILT_IN:
            yield (
                f"loss.terms.{name}: the objective has a term or column of that name. Allowed: any other name. "
                f"Try: +loss.terms.my_{name}=…"
            )


def _start(config: Mapping[str, Any]) -> Iterator[str]:
    init = config["init"]
    pictures = [prompt.label for prompt in parse_prompts(config["prompts"]["include"]) if not prompt.text]
    if init["_target_"] == "vqclip.init.Prior" and config["checkpoints"].get("prior") and pictures:
        yield (
            "init=prior: predicts the start from words, and prompts.include has a picture. Allowed with it: init=sine, "
            f"codebook or image. Try: init=sine, or init=image init.path={shlex.quote(pictures[0])}"
        )
    if init["_target_"] == "vqclip.init.Run":
        yield from _run(config)
    if init.get("mask") and init.get("path"):
        yield from _mask(init["path"], init["mask"])


def _run(config: Mapping[str, Any]) -> Iterator[str]:
    from vqclip.checkpoints.check import factor_of
    from vqclip.io.latents import saved_latents

    init, size = config["init"], config["size"]
    count = config["batch_size"] * len(parse_prompts(config["prompts"]["include"]))
    try:
        saved = saved_latents(init["run"], init["picture"], init["step"], count)[0]
    except UserError as error:
        yield str(error)
        return
    factor = factor_of(config["checkpoints"]["generator"])
    if init["via"] == "latent" and factor and saved.shape[1:] != tuple(side // factor for side in size):
        theirs = [side * factor for side in saved.shape[1:]]
        yield (
            f"init.run={init['run']}: its pictures are of {theirs[0]}×{theirs[1]} pixels, and size={size} is asked "
            f"for. Allowed: the same size, or by way of the picture. Try: 'size=[{theirs[0]},{theirs[1]}]', or "
            "init.via=picture"
        )


def _mask(path: str, mask_path: str) -> Iterator[str]:
    import numpy as np

    from vqclip.io.images import open_picture

    picture, mask = open_picture(path), open_picture(mask_path)
    if abs(picture.width / picture.height / (mask.width / mask.height) - 1) > 0.02:
        yield (
            f"init.mask={mask_path!r}: {mask.width}×{mask.height} pixels, and the picture is "
            f"{picture.width}×{picture.height}: of another shape. Allowed: a mask of the picture's proportions"
        )
    if not np.asarray(mask.convert("LA")).all(axis=-1).any():
        yield f"init.mask={mask_path!r}: black all over, so nothing may change. Allowed: white where it may"


def _crops(augmentations: Mapping[str, Any]) -> Iterator[str]:
    if not {"crops", "pad"} <= set(augmentations):  # a custom class
        return
    crops, whole = augmentations["crops"], 1 + 2 * augmentations["pad"]
    if crops["min"] > crops["max"]:
        yield (
            f"augmentations.crops.min={crops['min']}: larger than augmentations.crops.max={crops['max']}. "
            f"Try: augmentations.crops.min={crops['max']}"
        )
    count = crops["count"]
    if crops.get("whole_weight", 1) == 0 and round(crops.get("whole", 0) * count) == count:
        yield (
            f"augmentations.crops.whole_weight=0: all {count} crops are of the whole picture, so none would count. "
            "Allowed: more than 0, or a smaller augmentations.crops.whole. Try: augmentations.crops.whole_weight=1"
        )
    if augmentations.get("border", "zeros") != "zeros" and augmentations["pad"] >= 1:
        yield (
            f"augmentations.pad={augmentations['pad']}: a border of {augmentations['border']} has one picture to fill "
            f"up with. Allowed: less than 1. Try: augmentations.pad=0.9, or augmentations.border=zeros"
        )
    if crops["max"] > whole:
        yield (
            f"augmentations.crops.max={crops['max']}: larger than the padded picture, "
            f"which is {whole:g} pictures wide. Allowed: up to {whole:g}. Try: augmentations.crops.max={whole:g} or "
            f"augmentations.pad={(crops['max'] - 1) / 2:g}"
        )


def _search(config: Mapping[str, Any]) -> Iterator[str]:
    from vqclip.checkpoints.check import factor_of

    search = config.get("search") or {}
    restarts, steps, stages = search.get("restarts"), config["steps"], search.get("stages") or []
    limit = config["trainer"].get("limit_train_batches")
    tried = restarts["count"] * restarts["steps"] if restarts else 0
    if restarts and tried >= (steps_within(limit, steps) if is_number(limit) else steps):
        key, more = ("steps", 2 * tried) if tried >= steps else ("trainer.limit_train_batches", "null")
        yield (
            f"search.restarts={shown(restarts)}: {restarts['count']} starts of {restarts['steps']} steps leave none of "
            f"{key}={flatten(config)[key]}. Try: {key}={more}, or fewer of either"
        )
    factor = factor_of(config["checkpoints"]["generator"])
    for stage in stages:
        if factor and min(stage["size"]) < factor:
            yield (
                f"search.stages: a stage of {stage['size']} is smaller than one code of the generator. Allowed: sides "
                f"of at least {factor} pixels"
            )
        if any(side > most for side, most in zip(stage["size"], config["size"], strict=True)):
            yield (
                f"search.stages: a stage of {stage['size']} is larger than the picture, size={config['size']}. "
                "Allowed: coarse stages; the full size comes by itself after them"
            )


def _devices(trainer: Mapping[str, Any]) -> Iterator[str]:
    devices = trainer["devices"]
    one = devices in (1, "1", "auto") and devices is not True
    if not one and not (isinstance(devices, list) and len(devices) == 1 and type(devices[0]) is int):
        yield (
            f"trainer.devices={shown(devices)}: a job uses one device. Allowed: 1, auto, or [1] for the second GPU. "
            "Try: trainer.devices=[0], and other jobs by a command of their own with trainer.devices=[1]"
        )


def _limit(config: Mapping[str, Any]) -> Iterator[str]:
    limit, steps = config["trainer"].get("limit_train_batches"), config["steps"]
    if limit is None:
        return
    if not is_number(limit) or steps_within(limit, steps) < 1:
        yield (
            f"trainer.limit_train_batches={shown(limit)}: of steps={steps} it leaves none. Allowed: a number of "
            f"steps from 1, or a part of them as 0.5. Try: steps={steps}"
        )


def steps_within(limit: float | None, steps: int) -> int:
    """The steps within ``trainer.limit_train_batches``, which is a number or a fraction, as in Lightning."""
    return steps if limit is None else min(steps, int(limit * steps) if isinstance(limit, float) else limit)


def _monitors(config: Mapping[str, Any]) -> Iterator[str]:
    """Messages about Lightning callbacks that monitor metrics that runs do not have."""
    callbacks = parts_on(config, "callbacks")
    if any(
        "monitor" not in callback and not callback["_target_"].startswith("vqclip.") for callback in callbacks.values()
    ):
        return  # a custom callback may log further metrics
    loss = config["loss"]
    known = ["loss", "score", "include", "lr", "noise", "grad_norm", "latent_norm"]
    known += ["exclude"] if parse_prompts(config["prompts"]["exclude"]) else []
    known += ["anchor"] if ever_nonzero(loss.get("anchor") or 0) else []
    known += parts_on(loss, "terms")
    for name, callback in callbacks.items():
        watched = callback.get("monitor")
        if isinstance(watched, str) and watched not in (*known, "step", "epoch"):
            yield (
                f"callbacks.{name}.monitor={watched!r}: this run has no such number. Allowed: one of "
                f"{', '.join(known)}. Try: callbacks.{name}.monitor=loss"
            )
