"""Converts other programs' settings of prompts, pictures, inits and sizes.

Each function takes the value and all given settings, and returns config lines ``key=value``; lines that start with
``note: `` are printed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vqclip.config.grammar import as_typed
from vqclip.peers.films import film
from vqclip.peers.prompts import NOT_READ, Part, entries_of, parts_of, scenes
from vqclip.peers.values import Given, NoEqual, number, value_of


def prompts(value: Any, given: Given) -> list[str]:
    texts = value.values() if isinstance(value, dict) else [value]  # by the step at which each starts
    text = " ^ ".join("|".join(text) if isinstance(text, list) else str(text) for text in texts)
    found = scenes(text, str(given.get("scene_prefix", "")), str(given.get("scene_suffix", "")))
    entries, away = entries_of(found)
    if not entries:
        raise NoEqual("an empty prompt")
    lines = [f"prompts.include={value_of(entries)}"]
    for part in (part for scene in found for part in scene if NOT_READ.search(part.text)):
        lines.append(
            f"note: {part.text!r}: a formula or a mask behind a colon is taken as text. Here: {{text: TEXT, "
            "weight: {points: [[0, 1], [1, 0]]}, region: left or MASK.png}"
        )
    lines += [f"prompts.exclude={value_of(away)}"] if away else []
    if len(entries) > 1 and not film(True, given):  # otherwise they are the scenes of that film
        lines.append(
            f"note: {len(entries)} scenes became {len(entries)} pictures of one run; as a film, each from the last: "
            f"vqclip film {as_typed('prompts.include', entries)}"
        )
    return lines


def around_scenes(value: str, given: Given) -> list[str]:
    """Converted with the scenes, whose notes are printed there."""
    if not given.get("scenes"):
        raise NoEqual("no scenes to stand around. Try: prompts.extras=TEXT")
    return [line for line in prompts(given["scenes"], given) if not line.startswith("note: ")]


def _extras(parts: Sequence[Part], entry: Callable[[Part], Any]) -> list[str]:
    """Parts for every picture: attracting ones as extras, repelling ones as exclude."""
    towards = [entry(part) for part in parts if part.weight > 0]
    away = [entry(part.opposite) for part in parts if part.weight < 0]
    lines = [f"prompts.extras={value_of(towards)}"] if towards else []
    return lines + ([f"prompts.exclude={value_of(away)}"] if away else [])


def target_images(value: Any, given: Given, weight: float = 1.0) -> list[str]:
    parts = [replace(part, weight=part.weight * float(weight)) for part in parts_of(value)]
    return _extras(parts, lambda part: part.mapping("image"))


def image_prompts(value: Any, given: Given) -> list[str]:
    return target_images(value, given, given.get("image_prompt_weight", 1))


def image_labels(value: Any, given: Given) -> list[str]:
    return target_images(value, given, given.get("image_label_weight", 1))


def image_prompt_weight(value: float, given: Given) -> list[str]:
    return [] if given.get("image_prompts") or given.get("image_labels") else [f"prompts.extras_weight={value}"]


def labels(value: str, given: Given) -> list[str]:
    templates = ["a photo of a {}", "a picture of a {}", "a close-up of a {}", "a good photo of a {}"]
    lines = _extras(parts_of(value), lambda part: part.mapping() | {"templates": templates})
    if not lines:
        raise NoEqual("an empty text")
    return lines


def spot(value: Any, given: Given) -> list[str]:
    return _placed(value, given.get("spot_file") or [0.25, 0.25, 0.75, 0.75])


def spot_off(value: Any, given: Given) -> list[str]:
    if not given.get("spot_file"):
        raise NoEqual(
            "what is not the middle is a region by a mask. Try: prompts.extras=[{text: TEXT, region: MASK.png}]"
        )
    note = f"note: {given['spot_file']} is to be white where the spot is not"
    return [*_placed(value, given["spot_file"]), note]


def _placed(value: Any, region: Any) -> list[str]:
    """Weighted texts for a region."""
    parts = parts_of(value)
    if [part for part in parts if part.weight < 0]:
        raise NoEqual("a text to keep away from one region. Try: prompts.exclude=TEXT loss.beta=1")
    return _extras(parts, lambda part: part.mapping() | {"region": region})


def spot_file(value: str, given: Given) -> list[str]:
    if not given.get("spot") and not given.get("spot_off"):
        raise NoEqual("a mask without a text. Try: prompts.extras=[{text: TEXT, region: MASK.png}]")
    return []


def vector_prompts(value: str, given: Given) -> list[str]:
    if str(value).lower() in ("none", "0", ""):
        return []
    if "textoff" in str(value):
        return ['prompts.exclude=["text:0.15","letters:0.15"]']
    raise NoEqual(f"vectors of a file ({value}). Try: a text, or prompts.extras=[{{image: PATH}}]")


def size(value: Any, given: Given) -> list[str]:
    width, height = (int(side) for side in (value if isinstance(value, list | tuple) else re.findall(r"\d+", value)))
    return [f"size=[{height},{width}]"]


def width_height(value: int, given: Given) -> list[str]:
    width, height = given.get("width") or 512, given.get("height") or 512
    return [f"size=[{height},{width}]"]


_SHAPES = {"square": (144, 144), "portrait": (128, 160), "widescreen": (192, 108)}


def aspect(value: Any, given: Given) -> list[str]:
    if "size" in given:
        return []
    quality = {"draft": 1, "normal": 2, "better": 3, "best": 4, "supreme": 5}[given.get("quality", "normal")]
    scale = given.get("scale") or {"small": 1, "medium": 2, "large": 4}.get(given.get("ezsize", ""), quality)
    width, height = _SHAPES.get(given.get("aspect", "widescreen"), _SHAPES["square"])
    return [f"size=[{int(height * scale)},{int(width * scale)}]"]


def init_noise(value: str, given: Given, starts: Mapping[str, str] | None = None) -> list[str]:
    if given.get("init_image"):
        return []
    starts = starts or {"pixels": "pixels", "gradient": "gradient"}
    if str(value).lower() in ("none", ""):
        return ["init=codebook"]
    if value not in starts:
        raise NoEqual(f"no start {value!r}. Allowed: {', '.join(starts)}")
    return [f"init={starts[value]}"]


def pixray_noise(value: str, given: Given) -> list[str]:
    """Its ``pixels`` is noise of all scales."""
    return init_noise(value, given, {"pixels": "fractal", "gradient": "gradient", "snow": "pixels"})


def init_spectrum(value: str, given: Given) -> list[str]:
    if given.get("init_image"):
        return []
    lines = {"white": ["init=pixels"], "pink": ["init=fractal"], "fractal": ["init=fractal"]}
    return lines.get(value) or ["init=blank", "init.colour=grey", "init.noise=0.05", "init.spot=10"]


def init_falloff(value: float, given: Given) -> list[str]:
    return [] if given.get("init_image") else ["init=fractal", f"init.slope={float(value)}"]


def random_palette(value: bool, given: Given) -> list[str]:
    return ["init=gradient"] if value and not given.get("init_image") else []


def init_weight(value: float, given: Given) -> list[str]:
    return [f"loss.anchor={float(value)}"] if float(value) else []


def init_image_alpha(value: int, given: Given) -> list[str]:
    if int(value) >= 255:
        return []
    raise NoEqual("the picture is the start, not half of it. Try: more noise later, optimizer.lr, loss.anchor=0.05")


def semantic_init_weight(value: Any, given: Given) -> list[str]:
    if not given.get("init_image"):
        raise NoEqual("needs a picture. Try: prompts.extras=[{image: PATH, weight: .5}]")
    return [f"prompts.extras={value_of([{'image': given['init_image'], 'weight': number(value)}])}"]


def direct_image_prompts(value: Any, given: Given) -> list[str]:
    if value == []:
        return []
    if given.get("init_image"):
        raise NoEqual("a start and another goal. Try: prompts.extras=[{image: PATH, weight: .5}]")
    first, *others = parts_of(value)
    lines = ["init=image", f"init.path={value_of(first.text)}", "init.fit=stretch", "loss/terms=[pixels]"]
    more = [f"note: {part.text}: one picture's pixels are the goal; here {first.text}" for part in others]
    return [*lines, f"loss.terms.pixels.weight={first.weight:g}", *more]


def output(value: str, given: Given) -> list[str]:
    return [f"hydra.run.dir={value_of(str(Path(str(value)).with_suffix('')))}"]


def seed(value: Any, given: Given) -> list[str]:
    if str(value).isdecimal():
        return [f"seed={int(value)}"]
    if "${" in str(value) or str(value).startswith("-"):
        return ["note: another seed every time. Here a run without one has seed 0; for several: vqclip -m seed=0,1,2"]
    import hashlib

    number = int(hashlib.sha256(str(value).encode()).hexdigest()[:8], 16)
    return [f"seed={number}", f"note: a seed is a number here: {value!r} became {number}"]


def video_length(value: float, given: Given) -> list[str]:
    frames = int(given.get("iterations", 500)) // max(1, int(given.get("save_every", 50)))
    return [f"callbacks.timelapse.fps={max(1, round(frames / float(value)))}"]


def interpolation_steps(value: int, given: Given) -> list[str]:
    if int(value):
        raise NoEqual("scenes passing into each other. Try: weight={points: [[0, 1], [.5, 0]]} of an entry")
    return []


def overlay(value: Any, given: Given) -> list[str]:
    """There, a picture is laid over the result every few steps; here it is the initial picture."""
    laid, every = given.get("overlay_image"), int(given.get("overlay_every", 10))
    if not laid or every <= 0:
        return []
    if laid != given.get("init_image"):
        raise NoEqual("another picture than the start's. Try: init=image init.path=PATH search.overlay={every: 10}")
    if int(given.get("overlay_offset") or 0):
        raise NoEqual("overlays begin with the run. Try: search.overlay={every: 10, until: 0.5}")
    steps = int(given.get("iterations", 250))
    until = int(given.get("overlay_until", steps))
    if until <= 0:
        return []
    overlaid = {
        "every": every,
        "strength": round(int(given.get("overlay_alpha") or 255) / 255, 3),  # there, 0 means opaque
        "until": round(min(1.0, until / steps), 3),
    }
    return [f"search.overlay={value_of(overlaid)}"]
