"""A checkpoint as it was published becomes the weights that synthesis needs.

Architecture is read from, in this order: the card, the file's own metadata, a taming ``model.yaml`` beside it, the
shapes of its tensors.  What is kept goes into safetensors with the architecture and the source's hash as metadata;
values are kept bit for bit in the type they had (the OpenAI files are mostly fp16, the taming ones fp32).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from vqclip.checkpoints import Card, absent, cards, home, offline
from vqclip.errors import UserError
from vqclip.fetch import disk_full, fetch, locked
from vqclip.files import sha256 as sha256_of
from vqclip.files import write_whole
from vqclip.safe_load import open_tensors

__all__ = ["Weights", "build", "convert", "digest", "fault", "obtain"]

#: Where transformer checkpoints (faceshq, sflckr, the full coco) keep their VQGAN.
_FIRST_STAGE = "first_stage_model."


@dataclass(frozen=True)
class Weights:
    """What a model is built from.

    Attributes:
        path: the file, for messages.
        shapes, get: its tensors by name (see :class:`~vqclip.safe_load.TensorFile`).
        architecture: constructor arguments.
        sha256: of the file that the weights were published in.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    get: Callable[[str], Tensor]
    architecture: dict[str, Any]
    sha256: str


# Getting hold of the weights.


def obtain(card: Card) -> Weights:
    """The weights of a card: its own file, else what is kept, else what lies in the cache, else fetched.

    Raises:
        UserError: missing and offline, every mirror failed, not the file that the card names, or it does not fit.
    """
    if card.local is not None:
        return _own(card)
    home().mkdir(parents=True, exist_ok=True)
    with locked(card.kept):
        if not _is_kept(card):
            fetched = not card.source.is_file()
            if fetched:
                if offline():
                    raise UserError(absent(card))
                fetch(card)
            convert(card, card.source, card.kept)
            if fetched:  # a file that was put there by hand is left alone
                card.source.unlink()
    return _read(card, card.kept)


def _is_kept(card: Card) -> bool:
    if not card.kept.is_file():
        return False
    with _mended_by(card.fetch_command):
        return card.sha256 in (None, open_tensors(card.kept).metadata.get("source_sha256"))


@contextmanager
def _mended_by(advice: str) -> Iterator[None]:
    """A file of ours that cannot be read: say what makes it again."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}. Mend it: {advice}") from None


def _own(card: Card) -> Weights:
    """A file of the user's own; a pickle is converted once, and found again by its hash."""
    if not card.local.is_file():
        raise UserError(f"{card.key}.path={card.path}: no such file")
    with open(card.local, "rb") as file:
        if file.read(9)[8:] == b"{":  # safetensors: nothing to convert
            return _read(card, card.local)
    kept = home() / "own" / f"{sha256_of(card.local)}.{card.kind}.safetensors"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with locked(kept):
        if not kept.is_file():
            convert(card, card.local, kept)
        with _mended_by("remove that file, it is made again from your own"):
            open_tensors(kept)
    return _read(card, kept)


def convert(card: Card, source: Path, kept: Path) -> None:
    """Write what synthesis needs of ``source`` to ``kept``, and say what that saves.

    Raises:
        UserError: not the file that the card names, not a checkpoint, or it does not fit the architecture.
    """
    from safetensors.torch import save

    source_hash = sha256_of(source)
    if card.local is None and card.sha256 not in (None, source_hash):
        raise UserError(
            f"{source} is not the file that the card of {card.name} names: "
            f"its sha256 is {source_hash}, not {card.sha256}. Remove it to fetch the right one, "
            f"or use it as your own: {card.key}.path={source}"
        )
    weights = _read(card, source, source_hash)
    with torch.device("meta"), _quiet():
        needed = _module(card.kind, weights.architecture).state_dict()
    _check_fit(card, weights, needed)
    tensors = {name: weights.get(name) for name in _kept_names(weights.shapes, needed)}
    metadata = {
        "format": "pt",
        "config": json.dumps(weights.architecture),
        "source_file": source.name,
        "source_bytes": str(source.stat().st_size),
        "source_sha256": source_hash,
    }
    metadata["digest"] = digest(tensors, metadata)
    with disk_full(kept):
        write_whole(kept, save(tensors, metadata))
    before, after = source.stat().st_size, kept.stat().st_size
    print(f"{card.name}: {before / 1e6:,.0f} MB converted to {after / 1e6:,.0f} MB of safetensors in {kept}")
    if card.local is None and card.sha256 is None:
        print(f"{card.name}: no hash is known of it, only its shapes were checked; this file has sha256 {source_hash}")


def digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """sha256 over the metadata and the names, types, shapes and bytes of tensors: what `verify` compares."""
    total = hashlib.sha256(json.dumps({k: v for k, v in metadata.items() if k != "digest"}, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy() if tensor.numel() else b"")
    return total.hexdigest()


def fault(path: Path, card: Card | None) -> str | None:
    """What is wrong with a file that lies in the cache or came with the package; None where it is whole.

    Args:
        card: what it should be; None for a converted file of the user's own.
    """
    try:
        file = open_tensors(path)
        if "digest" in file.metadata:
            if digest({name: file.get(name) for name in file.shapes}, file.metadata) != file.metadata["digest"]:
                return "its content does not agree with the digest taken when it was made"
            found = file.metadata["source_sha256"]
        else:
            found = sha256_of(path)
    except UserError as error:
        return str(error)
    if card is not None and card.local is None and card.sha256 not in (None, found):
        return f"its sha256 is {found}, the card's {card.sha256}"
    return None


# Reading.


def _read(card: Card, path: Path, source_hash: str | None = None) -> Weights:
    try:
        file = open_tensors(path)
    except UserError as error:
        raise UserError(f"{card.key}: {error}") from None
    source_hash = source_hash or file.metadata.get("source_sha256") or sha256_of(path)
    prefix = _FIRST_STAGE if any(name.startswith(_FIRST_STAGE) for name in file.shapes) else ""
    shapes = {name.removeprefix(prefix): shape for name, shape in file.shapes.items() if name.startswith(prefix)}
    architecture = card.architecture or file.config or _beside(card, path) or _from_shapes(card, path, shapes)
    return Weights(path, shapes, lambda name: file.get(prefix + name), dict(architecture), source_hash)


def _beside(card: Card, path: Path) -> dict[str, Any] | None:
    """The architecture in the taming YAML that lies beside a checkpoint: ``model.yaml`` or one of the same name."""
    for beside in (path.with_suffix(".yaml"), path.with_name("model.yaml")):
        if card.kind != "generator" or not beside.is_file():
            continue
        try:
            model = yaml.safe_load(beside.read_text())["model"]
            model = model["params"].get("first_stage_config", model)
            params = model["params"]
            return {
                "ddconfig": params["ddconfig"],
                "n_embed": params["n_embed"],
                "embed_dim": params["embed_dim"],
                "gumbel": "gumbel" in str(model.get("target", "")).lower(),
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
            raise UserError(
                f"{beside}, beside {path.name}, is not a taming config ({type(error).__name__}: {error}). "
                "Allowed: model.params with ddconfig, n_embed and embed_dim. Without the file the tensors' shapes tell"
            ) from None
    return None


def _from_shapes(card: Card, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    architecture = _describe(shapes)[1] if _describe(shapes)[0] == card.kind else None
    if architecture is None:
        raise UserError(_not_this_kind(card, path, shapes))
    return architecture


def _describe(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str | None, dict[str, Any] | None]:
    """(kind, architecture) that tensors of these shapes are of; None where they tell nothing."""
    for kind, reader in (("generator", _vqgan_of), ("perceptor", _clip_of)):
        try:
            return kind, reader(shapes)
        except (KeyError, IndexError, ValueError, ZeroDivisionError):
            continue
    return None, None


def _count(shapes: Iterable[str], pattern: str) -> int:
    """How many numbers stand in the one group of a pattern, over all names."""
    return len({match[1] for name in shapes if (match := re.match(pattern, name))})


def _vqgan_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    gumbel = "quantize.embed.weight" in shapes
    n_embed, embed_dim = shapes["quantize.embed.weight" if gumbel else "quantize.embedding.weight"]
    ch, in_channels = shapes["encoder.conv_in.weight"][:2]
    levels = _count(shapes, r"encoder\.down\.(\d+)\.")
    z_channels = shapes["post_quant_conv.weight"][0]
    # Only the ratio of resolution to attn_resolutions reaches the modules; 256 is what taming trains at.
    resolution = 256
    attended = [i for i in range(levels) if f"encoder.down.{i}.attn.0.q.weight" in shapes]
    return {
        "ddconfig": {
            "double_z": shapes["encoder.conv_out.weight"][0] == 2 * z_channels,
            "z_channels": z_channels,
            "resolution": resolution,
            "in_channels": in_channels,
            "out_ch": shapes["decoder.conv_out.weight"][0],
            "ch": ch,
            "ch_mult": [shapes[f"encoder.down.{i}.block.0.conv2.weight"][0] // ch for i in range(levels)],
            "num_res_blocks": _count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
            "attn_resolutions": [resolution // 2**i for i in attended],
            "dropout": 0.0,
        },
        "n_embed": n_embed,
        "embed_dim": embed_dim,
        "gumbel": gumbel,
    }


def _clip_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    width, embed_dim = shapes["text_projection"]
    context_length = shapes["positional_embedding"][0]
    vocab_size = shapes["token_embedding.weight"][0]
    if "visual.proj" in shapes:
        vision_width, _, patch, _ = shapes["visual.conv1.weight"]
        grid = round((shapes["visual.positional_embedding"][0] - 1) ** 0.5)
        layers: int | list[int] = _count(shapes, r"visual\.transformer\.resblocks\.(\d+)\.")
        resolution = patch * grid
    else:
        vision_width, patch = shapes["visual.layer1.0.conv1.weight"][0], None
        grid = round((shapes["visual.attnpool.positional_embedding"][0] - 1) ** 0.5)
        layers = [_count(shapes, rf"visual\.layer{i}\.(\d+)\.") for i in (1, 2, 3, 4)]
        resolution = grid * 32
    return {
        "embed_dim": embed_dim,
        "image_resolution": resolution,
        "vision_layers": layers,
        "vision_width": vision_width,
        "vision_patch_size": patch,
        "context_length": context_length,
        "vocab_size": vocab_size,
        "transformer_width": width,
        "transformer_heads": max(1, width // 64),  # as openai-clip's build_model: the shapes do not tell
        "transformer_layers": _count(shapes, r"transformer\.resblocks\.(\d+)\."),
    }


# Building.


def build(card: Card, weights: Weights) -> nn.Module:
    """The model of a card's kind with these weights: float32, eval, frozen; ``sha256`` says where they came from."""
    from vqclip.generators import VQGAN
    from vqclip.perceptors import CLIPPerceptor

    with _quiet():
        if card.kind == "generator":
            model = target = VQGAN(**weights.architecture)
        else:
            ids = weights.get("token_ids") if "token_ids" in weights.shapes else None
            model = CLIPPerceptor(weights.architecture, ids)
            target = model.model
    needed = target.state_dict()
    _check_fit(card, weights, needed)
    for name, value in needed.items():
        value.copy_(weights.get(name))
    model.sha256 = weights.sha256
    model.float().eval().requires_grad_(False)
    if card.kind == "perceptor":
        model.speed_up()
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Around a constructor: taming prints its latent's shape, and random weights would use up the process's numbers."""
    with redirect_stdout(None), torch.random.fork_rng(devices=[]):
        yield


def _module(kind: str, architecture: dict[str, Any]) -> nn.Module:
    from vqclip.generators import VQGAN
    from vqclip.perceptors import build_clip

    return VQGAN(**architecture) if kind == "generator" else build_clip(architecture)


def _kept_names(shapes: Iterable[str], needed: Iterable[str]) -> list[str]:
    return [*needed, *(["token_ids"] if "token_ids" in shapes else [])]


def _check_fit(card: Card, weights: Weights, needed: Mapping[str, Tensor]) -> None:
    """Refuse weights whose tensors are not those of the architecture, and say what they look like."""
    wrong = [
        f"{name} is {list(weights.shapes[name])} in the file, {list(value.shape)} by the architecture"
        for name, value in needed.items()
        if name in weights.shapes and tuple(weights.shapes[name]) != tuple(value.shape)
    ]
    missing = [name for name in needed if name not in weights.shapes]
    if not wrong and not missing:
        return
    if len(missing) == len(needed):
        raise UserError(_not_this_kind(card, weights.path, weights.shapes))
    parts = [_some(wrong)] if wrong else []
    if missing:
        parts.append(f"{len(missing)} of {len(needed)} tensors are missing: {_some(missing, ', ')}")
    where = _where(card, weights.path)
    raise UserError(
        f"{where} does not fit the architecture of {card.name}: {'; '.join(parts)}. {_advice(card, weights)}"
    )


def _some(items: list[str], joint: str = "; ") -> str:
    return joint.join(items[:3]) + (f"{joint}and {len(items) - 3} more" if len(items) > 3 else "")


def _where(card: Card, path: Path) -> str:
    return f"{card.key}.path={card.path}:" if card.local is not None else f"{card.key}: {path}"


def _advice(card: Card, weights: Weights) -> str:
    kind, architecture = _describe(weights.shapes)
    given = f"{card.key}.path={card.path or weights.path}"
    if kind != card.kind:
        return f"The file is damaged, or of another family. Try: {card.choice}"
    known = [other for other in cards() if other.kind == kind and other.architecture]
    alike = [other for other in known if _same(other.architecture, architecture)]
    if not alike:
        return (
            f"It looks like none of the known architectures; its shapes say {json.dumps(architecture)}. "
            f"Try: vqclip {given} {card.key}.architecture=null"
        )
    also = f" (or {', '.join(other.name for other in alike[1:])}, built alike)" if alike[1:] else ""
    best = alike[0]
    given = f"{best.key}.path={card.path or weights.path}"
    return f"It looks like {best.name}{also}. Try: vqclip {best.choice} {given}"


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    plain = [json.dumps({"gumbel": False, **x} if "ddconfig" in x else dict(x), sort_keys=True) for x in (a, b)]
    return plain[0] == plain[1]


def _not_this_kind(card: Card, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> str:
    kind = _describe(shapes)[0]
    what = {"generator": "a VQGAN in taming's names", "perceptor": "an OpenAI CLIP"}
    message = f"{_where(card, path)} is not {what[card.kind]}: its tensors are {_some(list(shapes), ', ')}."
    if kind:
        place = "checkpoints.generator" if kind == "generator" else "checkpoints.perceptors.NAME"
        message += f" It looks like {what[kind]}. Try: {place}.path={card.path or path}"
    return message
