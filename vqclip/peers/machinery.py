"""Converts other programs' settings of models, objective, optimizer and device.

Each function takes the value and all given settings, and returns config lines ``key=value``; lines that start with
``note: `` are printed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vqclip.peers.pictures import aspect
from vqclip.peers.values import Given, NoEqual, number, value_of

_TOWERS = {
    "ViT-B/32": "vit_b_32", "ViT-B/16": "vit_b_16", "ViT-L/14": "vit_l_14", "ViT-L/14@336px": "vit_l_14_336",
    "RN50": "rn50", "RN101": "rn101", "RN50x4": "rn50x4", "RN50x16": "rn50x16", "RN50x64": "rn50x64",
}  # fmt: skip
#: The same names as keys (ViTL14_336px), and pytti's own.
_PYTTI_TOWERS = {name.translate(str.maketrans("@", "_", "-/")): card for name, card in _TOWERS.items()} | {
    "FARE4ViTB32": "fare4_vit_b_32", "FARE2ViTL14": "fare4_vit_l_14", "SigLIP2B16": "siglip2_b_16",
    "SigLIP2SO400M": "siglip2_so400m_14",
}  # fmt: skip


def towers(value: str, given: Given) -> list[str]:
    names = [name.strip() for name in str(value).split(",")]
    if unknown := [name for name in names if name not in _TOWERS]:
        raise NoEqual(f"{', '.join(unknown)}: no card of ours. Allowed: {', '.join(_TOWERS)}")
    return [f"checkpoints/perceptors=[{','.join(_TOWERS[name] for name in names)}]"]


def tower(value: bool, given: Given) -> list[str]:
    """All of pytti's towers, each of which has a Boolean key."""
    chosen = [card for key, card in _PYTTI_TOWERS.items() if given.get(key, key == "ViTB32")]
    return [f"checkpoints/perceptors=[{','.join(chosen)}]"] if chosen else []


def mmc_models(value: Any, given: Given) -> list[str]:
    """Perceptors by architecture, publisher and id; OpenAI's have equivalents."""
    names = [str(item.get("id", "")).split("--")[0] for item in value if isinstance(item, dict)]
    return towers(",".join(names), given) if names else []


def perceptors(value: str, given: Given) -> list[str]:
    if value == "clip":
        return []
    raise NoEqual("SLIP has no card of ours. Try: checkpoints/perceptors=[vit_b_16,rn50]")


#: Common names of the published weights' files, without ``vqgan_`` and suffix.
_GENERATORS = {
    "imagenet_f16_16384": r"imagenet|imagenet(_f16)?_16384m?", "imagenet_f16_1024": r"imagenet(_f16)?_1024|f16_1024",
    "openimages_f8_8192": r"(openimages|gumbel)(_f\d+)?(_8192)?", "wikiart_f16_1024": r"wikiart(_f16)?_1024m?",
    "wikiart_f16_16384": r"wikiart(_f16)?(_16384)?(_\d{7})?m?2?", "sflckr": r"s?fli?ckr", "faceshq": "faceshq",
    "coco": "coco",
}  # fmt: skip


def generator(value: str, given: Given) -> list[str]:
    if {given.get("image_model"), given.get("drawer")} & {*_CANVASES, "LlamaGen"}:
        return []
    stem = re.sub(r"^vqgan_|\.(ckpt|pt|pth)$", "", Path(str(value)).name.lower())
    for card, pattern in _GENERATORS.items():
        if re.fullmatch(pattern, stem):
            return [f"checkpoints/generator={card}"]
    return [f"checkpoints.generator.path={value_of(value)}"]


#: Drawers without a network → our canvases.
_CANVASES = {"Unlimited Palette": "pixels", "pixel": "pixels", "fft": "multi_resolution"}


def image_model(value: str, given: Given) -> list[str]:
    if value == "LlamaGen":
        return [] if "llamagen_model" in given else ["checkpoints/generator=llamagen_f16"]
    return drawer(value, given)


def drawer(value: str, given: Given) -> list[str]:
    if value.lower() == "vqgan":
        return []
    if value in _CANVASES:
        start = [] if given.get("init_image") else ["init=sine"]
        return [f"checkpoints/generator={_CANVASES[value]}", *start, "latent=continuous"]
    raise NoEqual(f"{value!r} is another kind of picture. Here a VQGAN draws, or a generator of your own")


_OPTIMISERS = ("Adam", "AdamW", "Adagrad", "Adamax", "RAdam", "NAdam", "RMSprop", "SGD", "Adadelta")


def optimiser(value: str, given: Given) -> list[str]:
    found = {name.lower(): name for name in _OPTIMISERS}.get(str(value).lower())
    if not found:
        raise NoEqual(f"{value} is not torch's. Try: optimizer._target_=torch.optim.RAdam, or a class of your own")
    return [f"optimizer._target_=torch.optim.{found}"]


def device(value: Any, given: Given) -> list[str]:
    if value == "auto":
        return []
    kind, _, index = str(value).partition(":")
    line = {"cuda": "auto", "cpu": "cpu", "mps": "mps"}.get(kind)
    if not line:
        raise NoEqual(f"no device {value!r}")
    return [f"trainer.accelerator={line}", *([f"trainer.devices=[{index}]"] if index not in ("", "0") else [])]


def backend(value: str, given: Given) -> list[str]:
    if value == "torch":
        return []
    raise NoEqual(f"{value} is Apple's. Try: trainer.accelerator=mps")


def losses(value: str, given: Given) -> list[str]:
    known = {name: name for name in ("symmetry", "saturation", "palette")} | {"smoothness": "tv", "edge": "edges"}
    names = [word.partition(":") for word in re.split(r"\s*,\s*", value)]
    found = [known[name] for name, _, _ in names if name in known]
    lines = [f"loss/terms=[{','.join(found)}]"] if found else []
    lines += [f"loss.terms.{known[name]}.weight={number(w)}" for name, _, w in names if name in known and w]
    if (other := [name for name, _, _ in names if name not in known]) and not found:
        raise NoEqual(f"{', '.join(other)}: no such term. Allowed: {', '.join(known)}, or a class of your own")
    return lines + [f"note: no term {name} here; a class of your own: docs/your_own_parts.md" for name in other]


def palette(value: str, given: Given) -> list[str]:
    from PIL import ImageColor

    colours = []
    for word in re.split(r"\s*[;|]\s*", value.strip("[]")):
        try:
            ImageColor.getcolor(word, "RGB")
        except ValueError:
            raise NoEqual(f"{word!r} is no colour by its CSS name or #rrggbb. Try: +loss/terms=[palette]") from None
        colours.append(word)
    return ["loss/terms=[palette]", f"loss.terms.palette.colours={value_of(colours)}"]


_QUALITY = {  # steps, CLIPs, crops per batch, batches
    "draft": (200, ["vit_b_16"], 32, 1), "normal": (250, ["vit_b_32", "vit_b_16"], 48, 1),
    "better": (300, ["rn50", "vit_b_32", "vit_b_16"], 32, 2), "best": (350, ["rn50x4", "vit_b_32", "vit_b_16"], 10, 8),
    "supreme": (400, ["rn50x4", "rn101", "vit_b_32", "vit_b_16"], 8, 12),
}  # fmt: skip


def quality(value: str, given: Given) -> list[str]:
    if value not in _QUALITY:
        raise NoEqual(f"no quality {value!r}. Allowed: {', '.join(_QUALITY)}")
    steps, clips, cuts, batches = _QUALITY[value]
    lines = [] if "iterations" in given else [f"steps={steps}"]
    lines += [] if "clip_models" in given else [f"checkpoints/perceptors=[{','.join(clips)}]"]
    lines += [] if {"num_cuts", "batches"} & set(given) else [f"augmentations.crops.count={cuts * batches}"]
    lines += [f"memory.crop_chunk={cuts}"] if batches > 1 and not {"num_cuts", "batches"} & set(given) else []
    return lines + aspect(None, given)


def drops(value: Any, given: Given) -> list[str]:
    """The learning rate falls to a tenth at these fractions of the run."""
    shares = sorted(
        float(share) / 100 for share in (value if isinstance(value, list) else [value]) if share is not None
    )
    lr = float(given.get("learning_rate") or 0.2)
    points = [[0, lr], *[[share, lr / 10 ** (i + 1)] for i, share in enumerate(shares) if 0 < share < 1]]
    return [f"optimizer.lr={value_of({'points': points, 'shape': 'steps'}) if len(points) > 1 else lr}"]


def learning_rate(value: float, given: Given) -> list[str]:
    return drops(given.get("learning_rate_drops"), {**given, "learning_rate": value})


def auto_stop(value: Any, given: Given) -> list[str]:
    """Theirs is a relative decrease within a window; ours an absolute one between windows, for a loss near 0.3."""
    if not given.get("auto_stop"):
        return []
    window = max(1, int(given.get("auto_stop_window") or 50) // 2)
    threshold = 0.3 * float(given.get("auto_stop_threshold", 0.002))
    callback = {"_target_": "vqclip.callbacks.AutoStop", "window": window, "threshold": round(threshold, 6)}
    return [f"callbacks.auto_stop={value_of(callback)}"]


def hdr_weight(value: Any, given: Given) -> list[str]:
    """There, only pictures with a palette have it."""
    if given.get("image_model") != "Limited Palette":
        return []
    return ["loss/terms=[contrast]", f"loss.terms.contrast.weight={number(value)}"]


def pixel_size(value: int, given: Given) -> list[str]:
    if int(value) == 1:
        return []
    raise NoEqual("a VQGAN's smallest part is a code of 8 or 16 pixels")


def filters(value: str, given: Given) -> list[str]:
    names = [word.partition(":")[0].strip() for word in str(value).split(",")]
    if set(names) <= {"wallpaper", "tiler"}:
        return ["augmentations.border=wrap", "loss/terms=[tiling]"]
    raise NoEqual(f"{', '.join(names)}: no filter here. Try: a term of the objective, +loss/terms=[palette,tiling]")


def coarse_to_fine(value: Any, given: Given) -> list[str]:
    if not value or not given.get("coarse_to_fine"):
        return []
    count = int(given.get("coarse_stages") or 2)
    height, width = (int(given.get(side) or 512) for side in ("height", "width"))
    shares = {2: [0.4], 3: [0.25, 0.25], 4: [0.15, 0.2, 0.25]}.get(count)
    if not shares:
        raise NoEqual(f"{count} stages. Try: search.stages=[{{size: [128,128], share: .4}}]")
    sizes = [[height >> (count - 1 - i), width >> (count - 1 - i)] for i in range(count - 1)]
    stages = [{"size": size, "share": share} for size, share in zip(sizes, shares, strict=True)]
    return [f"search.stages={value_of(stages)}"]


def llamagen(value: str, given: Given) -> list[str]:
    if given.get("image_model", "LlamaGen") != "LlamaGen":
        return []
    return [f"checkpoints/generator={'llamagen_f8' if value == 'ds8' else 'llamagen_f16'}"]
