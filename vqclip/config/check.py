"""The config: found, composed, and checked as a whole before anything heavy is loaded.

Nothing here imports torch: ``vqclip --help``, ``--cfg job`` and a mistyped key must answer at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from vqclip.errors import UserError
from vqclip.io.images import open_picture
from vqclip.prompts import parse_prompts
from vqclip.schedules import SHAPES, schedule

__all__ = ["check", "errors_in"]


def _integer(low: int) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"a whole number from {low} up")

    return check


def _number(low: float = -math.inf, high: float = math.inf) -> Callable[[Any], None]:
    allowed = "a number" + (f" from {low:g}" if low > -math.inf else "") + (f" to {high:g}" if high < math.inf else "")

    def check(value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(allowed)

    return check


def _weight(low: float = -math.inf) -> Callable[[Any], None]:
    at_least = f" from {low:g} up" if low > -math.inf else ""

    def check(value: Any) -> None:
        try:
            made = schedule(value)
            if min(made.start, made.end) < low or not all(map(math.isfinite, (made.start, made.end))):
                raise ValueError
        except (TypeError, ValueError):
            raise ValueError(
                f"a number{at_least}, or a schedule {{start: NUMBER, end: NUMBER, shape: {'|'.join(SHAPES)}}}"
            ) from None

    return check


def _one_of(*allowed: Any) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if value not in allowed:
            raise ValueError(f"one of {', '.join(map(str, allowed))}")

    return check


def _size(value: Any) -> None:
    if not isinstance(value, list) or len(value) != 2 or any(type(v) is not int or v < 1 for v in value):
        raise ValueError("[height, width], two whole numbers of pixels from 1 up")


def _include(value: Any) -> None:
    if not parse_prompts(value):
        raise ValueError("a list of one or more texts that are not empty")


def _filled_in_by_a_sweep(value: Any) -> None:
    if value is not None and not (isinstance(value, Mapping) and {"group", "swept"} <= set(value)):
        raise ValueError("null; a sweep fills it in")


def _optional(check: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda value: None if value is None else check(value)


#: key → (check, example).  Keys that a config lacks are not checked: presets may leave out what they turn off.
RULES: dict[str, tuple[Callable[[Any], None], str]] = {
    "seed": (_integer(0), "0"),
    "steps": (_integer(1), "100"),
    "size": (_size, "[128,128]"),
    "batch_size": (_integer(1), "1"),
    "snapshot_every": (_integer(1), "10"),
    "sweep": (_filled_in_by_a_sweep, "null"),
    "prompts.include": (_include, '["a red apple"]'),
    "prompts.exclude": (parse_prompts, "blurry"),
    "prompts.extras": (parse_prompts, '"watercolor paper"'),
    "prompts.include_weight": (_number(), "1"),
    "prompts.extras_weight": (_number(), "1"),
    "loss.alpha": (_weight(), "1"),
    "loss.beta": (_weight(), "0.5"),
    "loss.anchor": (_weight(0), "0"),
    "noise.factor": (_weight(0), "0.22"),
    "noise.num_rands": (_integer(0), "0"),
    "augmentations.pad": (_number(0, 4), "0.5"),
    "augmentations.flip": (_number(0, 1), "0.5"),
    "augmentations.affine.degrees": (_number(0, 180), "30"),
    "augmentations.affine.translate": (_number(0, 1), "0.2"),
    "augmentations.affine.interpolation": (_one_of("nearest", "bilinear"), "bilinear"),
    "augmentations.crops.count": (_integer(1), "32"),
    "augmentations.crops.mean": (_number(), "1.2"),
    "augmentations.crops.std": (_number(0), "0.3"),
    "augmentations.crops.min": (_number(0), "0.43"),
    "augmentations.crops.max": (_number(0), "1.9"),
    "augmentations.crops.antialias": (_one_of(True, False), "true"),
    "init.std": (_number(0), "0.5"),
    "init.jitter": (_number(0), "0"),
    "init.path": (open_picture, "photo.jpg"),
    "init.fit": (_one_of("cut", "pad", "stretch"), "cut"),
    "init.mask": (_optional(open_picture), "mask.png"),
    "init.feather": (_integer(0), "8"),
    "callbacks.timelapse.fps": (_integer(1), "5"),
    "callbacks.interpolation.frames": (_integer(1), "24"),
    "callbacks.interpolation.fps": (_integer(1), "24"),
    "callbacks.interpolation.most": (_integer(2), "16"),
    "callbacks.interpolation.mode": (_one_of("linear", "spherical"), "spherical"),
    "optimizer.lr": (_weight(0), "0.1"),
    "memory.picture_chunk": (_optional(_integer(1)), "1"),
    "memory.crop_chunk": (_optional(_integer(1)), "4"),
    "memory.checkpoint_decoder": (_one_of(True, False), "true"),
}


def errors_in(config: Mapping[str, Any]) -> list[str]:
    """Every mistake in a resolved config, each as one message."""
    from vqclip.checkpoints.check import factor_of, validate_cards

    errors = []
    for key, (rule, example) in RULES.items():
        try:
            value = _at(config, key)
        except KeyError:
            continue
        try:
            rule(value)
        except ValueError as error:
            errors.append(f"{key}={_shown(value)}: not allowed here. Allowed: {error}. Try: {key}={example}")
    errors += _weight_errors(config) + validate_cards(config["checkpoints"])
    if not errors:
        errors += _start_errors(config) + _crop_errors(config["augmentations"])
        factor = factor_of(config["checkpoints"]["generator"])
        if factor and min(config["size"]) < factor:
            errors.append(
                f"size={_shown(config['size'])}: smaller than one code of the generator. Allowed: sides of at least "
                f"{factor} pixels. Try: size=[{factor * 8},{factor * 8}]"
            )
    return errors


def check(config: Mapping[str, Any]) -> None:
    """Raise one UserError with every mistake of a resolved config."""
    errors = errors_in(config)
    if errors:
        raise UserError("\n".join(errors))


def _at(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise KeyError(key)
        value = value[part]
    return value


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def _weight_errors(config: Mapping[str, Any]) -> list[str]:
    """Weights of the loss's further terms and of the perceptors, which have names of their own."""
    named = {f"loss.terms.{n}.weight": v.get("weight") for n, v in (config["loss"].get("terms") or {}).items() if v}
    errors = []
    for name, card in (config["checkpoints"].get("perceptors") or {}).items():
        named[f"checkpoints.perceptors.{name}.weight"] = (card or {}).get("weight", 1)
    for key, value in named.items():
        try:
            (_number(0) if key.startswith("checkpoints") else _weight())(value)
        except ValueError as error:
            errors.append(f"{key}={_shown(value)}: not allowed here. Allowed: {error}. Try: {key}=1")
    return errors


def _start_errors(config: Mapping[str, Any]) -> list[str]:
    init = config["init"]
    pictures = [prompt.image for prompt in parse_prompts(config["prompts"]["include"]) if prompt.image]
    if init["_target_"] == "vqclip.init.Prior" and config["checkpoints"].get("prior") and pictures:
        return [
            "init=prior: predicts the start from words, and prompts.include has a picture. Allowed with it: init=sine, "
            f"codebook or image. Try: init=sine, or init=image init.path={pictures[0]}"
        ]
    if not init.get("mask"):
        return []
    picture, mask = open_picture(init["path"]), open_picture(init["mask"])
    errors = []
    if abs(picture.width / picture.height / (mask.width / mask.height) - 1) > 0.02:
        errors.append(
            f"init.mask={init['mask']!r}: {mask.width}×{mask.height} pixels, and the picture is "
            f"{picture.width}×{picture.height}: of another shape. Allowed: a mask of the picture's proportions"
        )
    if not any(grey and alpha for _, (grey, alpha) in mask.convert("LA").getcolors(65536)):
        errors.append(f"init.mask={init['mask']!r}: black all over, so nothing may change. Allowed: white where it may")
    return errors


def _crop_errors(augmentations: Mapping[str, Any]) -> list[str]:
    crops, whole = augmentations["crops"], 1 + 2 * augmentations["pad"]
    errors = []
    if crops["min"] > crops["max"]:
        errors.append(
            f"augmentations.crops.min={crops['min']}: larger than augmentations.crops.max={crops['max']}. "
            f"Try: augmentations.crops.min={crops['max']}"
        )
    if crops["max"] > whole:
        errors.append(
            f"augmentations.crops.max={crops['max']}: larger than the padded picture, "
            f"which is {whole:g} pictures wide. Allowed: up to {whole:g}. Try: augmentations.crops.max={whole:g} or "
            f"augmentations.pad={(crops['max'] - 1) / 2:g}"
        )
    return errors
