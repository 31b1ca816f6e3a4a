"""Infers a checkpoint's architecture from its tensors' shapes, and checks that weights fit an architecture."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vqclip.checkpoints.cards import Card, key_of
from vqclip.checkpoints.catalogue import cards
from vqclip.checkpoints.tensors import Weights
from vqclip.errors import UserError
from vqclip.memory import is_out_of_memory

__all__ = [
    "SHAPES",
    "architecture_from_shapes",
    "check_fit",
    "construction",
    "empty_module",
    "fill",
    "vqgan_from_shapes",
]

#: ``Weights.origin`` of an architecture that was inferred.
SHAPES = "the shapes of its tensors"
#: Prefixes of the networks of each kind.  All their tensors must be used, since a network without one of its blocks
#: computes something else.  Other tensors of a file (losses, averages, optimizers, transformers) are ignored.
_NETWORKS = {"generator": ("encoder.", "decoder."), "perceptor": ("visual.", "transformer.")}


def architecture_from_shapes(card: Card, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Infer the constructor arguments of the card's kind of model.

    Args:
        path: of the file, for the message.
        shapes: of the tensors, by their names in taming or in OpenAI's CLIP.

    Raises:
        UserError: they are not of such a model; says what they look like.
    """
    kind, architecture = _describe(shapes)
    if kind != card.kind or architecture is None:
        raise UserError(_not_this_kind(card, path, shapes))
    return architecture


def _describe(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str | None, dict[str, Any] | None]:
    """Infer (kind, architecture) from the shapes; (None, None) if they are of neither kind."""
    for kind, reader in (("generator", vqgan_from_shapes), ("perceptor", _clip_of)):
        try:
            return kind, reader(shapes)
        except (KeyError, IndexError, ValueError, ZeroDivisionError):
            continue
    return None, None


def _count(shapes: Iterable[str], pattern: str) -> int:
    """The number of distinct values of the pattern's group over all names."""
    return len({match[1] for name in shapes if (match := re.match(pattern, name))})


def vqgan_from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Infer the arguments of :class:`~vqclip.models.vqgan.VQGAN` from tensors with taming's names.

    Raises:
        KeyError, IndexError, ValueError, ZeroDivisionError: they are not of a VQGAN.
    """
    gumbel = "quantize.embed.weight" in shapes
    n_embed, embed_dim = shapes["quantize.embed.weight" if gumbel else "quantize.embedding.weight"]
    ch, in_channels = shapes["encoder.conv_in.weight"][:2]
    levels = _count(shapes, r"encoder\.down\.(\d+)\.")
    z_channels = shapes["post_quant_conv.weight"][0]
    # Modules depend only on the ratio of resolution to attn_resolutions; taming trains at 256.
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
        "transformer_heads": max(1, width // 64),  # as in openai-clip's build_model; not visible in the shapes
        "transformer_layers": _count(shapes, r"transformer\.resblocks\.(\d+)\."),
    }


@contextmanager
def construction(card: Card, weights: Weights) -> Iterator[None]:
    """Wrap the construction of a card's model, since its architecture may come from an untrusted file.

    Raises:
        UserError: the architecture is invalid; says where it was read.
        RuntimeError: out of memory.
    """
    try:
        with torch.random.fork_rng(devices=[]):  # initial weights must not advance the global generator
            yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        raise UserError(
            f"{_where(card, weights.path)} the architecture by {weights.origin} makes no {card.kind} "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}). {_other_architecture(card, weights)}"
        ) from None


def _other_architecture(card: Card, weights: Weights) -> str:
    """The advice if an architecture is wrong."""
    if card.architecture:
        return f"Try: vqclip {card.key}.path={card.path or weights.path} {card.key}.architecture=null"
    if weights.origin == SHAPES:
        return f"The file is damaged, or of another family. Try: {card.choice}"
    return f"Try: correct {weights.origin}, or remove it: the shapes of the tensors then tell"


def empty_module(kind: str, architecture: dict[str, Any]) -> nn.Module:
    """A new network of a ``generator`` or ``perceptor``, with random weights."""
    from vqclip.models.clip_fast import CLIP
    from vqclip.models.vqgan import VQGAN

    return VQGAN(**architecture) if kind == "generator" else CLIP(**architecture)


def check_fit(card: Card, weights: Weights, needed: Mapping[str, Tensor]) -> None:
    """Refuse weights whose tensors do not match the architecture, and say what they look like."""
    wrong = [
        f"{name} is {list(weights.shapes[name])} in the file, {list(value.shape)} by the architecture"
        for name, value in needed.items()
        if name in weights.shapes and tuple(weights.shapes[name]) != tuple(value.shape)
    ]
    missing = [name for name in needed if name not in weights.shapes]
    beyond = [name for name in weights.shapes if name.startswith(_NETWORKS[card.kind]) and name not in needed]
    if card.target:  # a custom class may use only part of a network
        beyond = []
    if not wrong and not missing and not beyond:
        return
    if len(missing) == len(needed):
        raise UserError(_not_this_kind(card, weights.path, weights.shapes))
    parts = [_some(wrong)] if wrong else []
    if missing:
        parts.append(f"{len(missing)} of {len(needed)} tensors are missing: {_some(missing, ', ')}")
    if beyond:
        parts.append(f"{len(beyond)} tensors of the file have no place in it: {_some(beyond, ', ')}")
    where, by = _where(card, weights.path), "" if card.architecture else f" by {weights.origin}"
    raise UserError(
        f"{where} does not fit the architecture of {card.name}{by}: {'; '.join(parts)}. {_advice(card, weights)}"
    )


def fill(module: nn.Module, card: Card, weights: Weights) -> None:
    """Copy weights into a module's tensors; refuse those that do not match."""
    needed = module.state_dict()
    check_fit(card, weights, needed)
    learned = {name for name, _ in module.named_parameters()}
    for name, value in needed.items():
        found = weights.get(name)
        if value.is_floating_point() and not found.is_floating_point():
            raise UserError(f"{_where(card, weights.path)} {name} is {found.dtype}. Allowed: {value.dtype}")
        value.copy_(found)
        if name in learned and not value.sum().isfinite():  # the sum propagates NaN and infinity
            raise UserError(f"{_where(card, weights.path)} {name} holds nan or infinity: its training diverged")


def _some(items: list[str], joint: str = "; ") -> str:
    return joint.join(items[:3]) + (f"{joint}and {len(items) - 3} more" if len(items) > 3 else "")


def _where(card: Card, path: Path) -> str:
    return f"{card.key}.path={card.path}:" if card.local is not None else f"{card.key}: {path}"


def _advice(card: Card, weights: Weights) -> str:
    kind, architecture = _describe(weights.shapes)
    if kind != card.kind or card.target:
        return f"The file is damaged, or of another family. Try: {card.choice}"
    if architecture and _same(architecture, weights.architecture):  # already the right one
        return f"The file is damaged, or has blocks that no network of this architecture has. Try: {card.choice}"
    known = [(other, other.architecture) for other in cards() if other.kind == kind]
    alike = [other for other, theirs in known if theirs and architecture and _same(theirs, architecture)]
    if not alike:
        said = f"It looks like none of the known architectures; its shapes say {json.dumps(architecture)}. "
        return said + _other_architecture(card, weights)
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
    wanted = f"of {card.target}" if card.target else what[card.kind]
    message = f"{_where(card, path)} is not {wanted}: its tensors are {_some(list(shapes), ', ')}."
    if kind:
        message += f" It looks like {what[kind]}. Try: {key_of(kind, 'NAME')}.path={card.path or path}"
    return message
