"""Checks cards before any model is loaded."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from vqclip.checkpoints.cards import CARD_KEYS, Card, cards_of, key_of, local_path, make_card
from vqclip.errors import closest
from vqclip.io.files import refuse_endless, sha256, version_of
from vqclip.paths import cache_dir, offline

__all__ = ["architecture_in", "card_errors", "factor_of", "missing_help", "validate_cards", "weights_sha256"]

_ARCHITECTURE = {
    "generator": {"required": {"ddconfig", "n_embed", "embed_dim"}, "optional": {"gumbel", "norm_groups"}},
    "perceptor": {
        "required": {
            "embed_dim", "image_resolution", "vision_layers", "vision_width", "vision_patch_size",
            "context_length", "vocab_size", "transformer_width", "transformer_heads", "transformer_layers",
        },
        "optional": set(),
    },
}  # fmt: skip


def validate_cards(checkpoints: Mapping[str, Any]) -> list[str]:
    """Every mistake in a resolved ``checkpoints`` mapping, one message each; loads and downloads nothing."""
    chosen, errors = list(cards_of(checkpoints)), []
    if not checkpoints.get("generator"):
        errors.append("checkpoints.generator: none chosen. Try: checkpoints/generator=embedded")
    perceptors = [card for kind, _, card in chosen if kind == "perceptor"]
    if not any(not isinstance(card, Mapping) or card.get("weight", 1) for card in perceptors):
        what = "all have weight 0, so that nothing guides" if perceptors else "none chosen"
        errors.append(f"checkpoints.perceptors: {what}. Try: 'checkpoints/perceptors=[embedded]'")
    for kind, name, content in chosen:
        found = card_errors(kind, name, content)
        errors += found or _presence_errors(make_card(kind, name, content))
    prior = (checkpoints.get("prior") or {}).get("path")
    if prior and not local_path(prior).is_file():
        errors.append(f"checkpoints.prior.path={prior}: no such file. Try: checkpoints.prior=null init=sine")
    return errors


def card_errors(kind: str, name: str, card: Any) -> list[str]:
    """Every mistake in a card as it is in a config, one message each.

    Args:
        kind: ``generator`` or ``perceptor``.
    """
    key = key_of(kind, name)
    if not isinstance(card, Mapping):
        return [f"{key}={card}: a card is a mapping of keys. Allowed: {', '.join(sorted(CARD_KEYS))}"]
    keys = CARD_KEYS - ({"weight"} if kind == "generator" else set())
    known = keys | {"status"}  # an obsolete key in older records
    has_class = "_target_" in card  # vqclip.config.own_classes checks its other keys
    errors = [] if has_class else [_unknown(f"{key}.{word}", word, keys) for word in card if word not in known]
    for word, kinds, allowed in (
        ("path", str, "a path, in quotes where it is a number"),
        ("file", str, "a file name"),
        ("bytes", int, "a whole number"),
        ("sha256", str, "64 hex digits"),
        ("urls", list, "a list of links"),
        ("architecture", Mapping, "a mapping, or null to read it from the file"),
    ):
        value = card.get(word)
        if value is not None and not isinstance(value, kinds):
            errors.append(f"{key}.{word}={value!r}: not allowed here. Allowed: {allowed}")
    if isinstance(card.get("sha256"), str) and not re.fullmatch(r"[0-9a-f]{64}", card["sha256"]):
        errors.append(f"{key}.sha256={card['sha256']}: not allowed here. Allowed: 64 hex digits in lower case, or null")
    if isinstance(card.get("file"), str) and Path(card["file"]).name != card["file"]:
        errors.append(f"{key}.file={card['file']}: not allowed here. Allowed: a file name; a path goes in {key}.path")
    for url in card["urls"] if isinstance(card.get("urls"), list) else []:
        if not re.match(r"https?://", str(url)):
            errors.append(f"{key}.urls: {url} is not a web link. Allowed: http(s)://…; a file goes in {key}.path")
    if not has_class and not card.get("path") and not card.get("urls"):
        errors.append(f"{key}: neither path nor urls. Try: {key}.path=FILE")
    architecture = card.get("architecture")
    if isinstance(architecture, Mapping) and not has_class:
        required = _ARCHITECTURE[kind]["required"]
        allowed = required | _ARCHITECTURE[kind]["optional"]
        errors += [f"{key}.architecture.{word}: missing" for word in sorted(required - set(architecture))]
        errors += [_unknown(f"{key}.architecture.{word}", word, allowed) for word in sorted({*architecture} - allowed)]
    return errors


def architecture_in(kind: str, metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """The architecture in a safetensors file's metadata, if any; other programs may have written anything there."""
    try:
        found = json.loads(metadata["config"])
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) and _ARCHITECTURE[kind]["required"] <= set(found) else None


def _unknown(key: str, word: str, known: set[str]) -> str:
    return f"{key}: no such key. Allowed: {', '.join(sorted(known))}.{closest(str(word), known)}"


def _presence_errors(card: Card) -> list[str]:
    if card.local is not None:
        if card.local.is_file() and os.access(
            card.local, os.R_OK, effective_ids=os.access in os.supports_effective_ids
        ):
            return []
        cause = "cannot be read" if card.local.is_file() else "is a folder" if card.local.is_dir() else "no such file"
        allowed = "a .ckpt, .pt or .safetensors file" + (", or null for the official one" if card.urls else "")
        return [f"{card.key}.path={card.path}: {cause}. Allowed: {allowed}"]
    if card.urls and offline() and not card.kept.is_file() and not card.source.is_file():
        return [missing_help(card)]
    return []


def missing_help(card: Card) -> str:
    """The message about a checkpoint that is missing and cannot be downloaded offline."""
    facts = ", ".join(
        ([f"{card.bytes:,} bytes"] if card.bytes else []) + ([f"sha256 {card.sha256}"] if card.sha256 else [])
    )
    return (
        f"{card.key}: {card.name} is not here, and VQCLIP_OFFLINE is set.\n"
        f"  put it at    {card.source}" + (f"   ({facts})" if facts else "") + "\n"
        f"  or fetch it  VQCLIP_OFFLINE=0 {card.fetch_command}"
    )


def factor_of(card: Mapping[str, Any]) -> int | None:
    """Pixels per latent position along a side, if the card or the file's header says so, else None."""
    chosen = make_card("generator", card.get("name") or "generator", card)
    architecture = chosen.architecture
    if architecture is None and chosen.local is not None:
        architecture = architecture_in("generator", _metadata(chosen.local))
    try:
        return 2 ** (len(architecture["ddconfig"]["ch_mult"]) - 1) if architecture else None
    except (KeyError, TypeError):
        return None


def weights_sha256(path: Path) -> str:
    """The sha256 that identifies a weight file: for a converted file, its source's, from the metadata.

    Outside of the cache the metadata is believed only if its digest is that of the tensors: a program that changes
    weights may copy it.

    Raises:
        OSError: the file cannot be read.
    """
    source = _metadata(path).get("source_sha256")
    if not isinstance(source, str) or not source:
        return sha256(path)
    ours = path.absolute().is_relative_to(cache_dir().absolute()) or _is_as_converted(path, *version_of(path))
    return source if ours else sha256(path)


#: Names of dtypes in safetensors files → torch's.
_DTYPES = {
    **{f"F{bits}": f"torch.float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"torch.int{bits}" for bits in (8, 16, 32, 64)},
    **{"BF16": "torch.bfloat16", "U8": "torch.uint8", "BOOL": "torch.bool"},
}


@lru_cache(maxsize=256)
def _is_as_converted(path: Path, *_version: int) -> bool:
    """Whether the tensors have the digest in the metadata; :func:`vqclip.checkpoints.tensors.digest` without torch."""
    try:
        with open(path, "rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(length))
            metadata = header.pop("__metadata__")
            told = {key: value for key, value in metadata.items() if key != "digest"}
            total = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
            for name in sorted(header):
                begin, end = header[name]["data_offsets"]
                total.update(f"{name} {_DTYPES[header[name]['dtype']]} {header[name]['shape']}\n".encode())
                file.seek(8 + length + begin)
                total.update(file.read(end - begin))
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        return False
    return total.hexdigest() == metadata.get("digest")


def _metadata(path: Path) -> Mapping[str, Any]:
    """A safetensors file's metadata, read without a library; empty if there is none or no such file."""
    try:
        return _read_metadata(path, *version_of(path))
    except OSError:
        return {}


@lru_cache(maxsize=256)
def _read_metadata(path: Path, *_version: int) -> Mapping[str, Any]:
    try:
        refuse_endless(path)
        with open(path, "rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(length)) if length < 2**24 else {}
        metadata = header["__metadata__"]
    except (struct.error, ValueError, KeyError, TypeError):
        return {}
    return metadata if isinstance(metadata, Mapping) else {}
