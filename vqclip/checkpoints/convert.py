"""Converts published checkpoints to safetensors files with only the weights that a run needs.

The architecture comes from the card, else from the file's metadata, else from the shapes of its tensors.  A converted
file has the architecture and the source's hash as metadata; tensors keep their dtype and bits (OpenAI's files are
mostly fp16, taming's fp32).
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqclip.checkpoints.architecture import SHAPES, architecture_from_shapes, check_fit, construction, empty_module
from vqclip.checkpoints.cards import Card, key_of
from vqclip.checkpoints.catalogue import cards
from vqclip.checkpoints.check import architecture_in, missing_help, weights_sha256
from vqclip.checkpoints.classes import arguments_from_shapes, rename_tensors
from vqclip.checkpoints.download import disk_full, fetch, lock_file
from vqclip.checkpoints.tensors import TensorFile, Unreadable, Weights, digest, open_tensors
from vqclip.errors import UserError
from vqclip.io.files import atomic_write
from vqclip.io.files import sha256 as sha256_of
from vqclip.paths import cache_dir, offline

__all__ = ["convert", "ensure_weights", "integrity_error"]

#: Prefix of the VQGAN in transformer checkpoints (faceshq, sflckr, the full coco).
_FIRST_STAGE = "first_stage_model."


def ensure_weights(card: Card, anew: bool = False) -> Weights:
    """The weights of a card: from its ``path``, else the converted file, else the cached source, else downloaded.

    Args:
        anew: replace a damaged converted file, which stays in place until there is another.

    Raises:
        UserError: missing and offline, every mirror failed, not the file of the card's hash, or it does not fit.
    """
    if card.local is not None:
        return _own(card, card.local)
    if anew or not _is_kept(card):  # checked without the lock, since the cache may be read-only
        with lock_file(card.kept):
            if _is_damaged(card) if anew else not _is_kept(card):  # another process may have made it meanwhile
                _keep(card)
    return _read(card, card.kept)


def _keep(card: Card) -> None:
    if card.source.is_file():  # put there by hand: never deleted
        return convert(card, card.source, card.kept)
    if offline():
        raise UserError(missing_help(card))
    fetch(card, lambda: convert(card, card.source, card.kept))
    card.source.unlink()


def _is_kept(card: Card) -> bool:
    if not card.kept.is_file():
        return False
    with _fixed_by(card.fetch_command):
        return card.sha256 in (None, open_tensors(card.kept).metadata.get("source_sha256"))


def _is_damaged(card: Card) -> bool:
    return not card.kept.is_file() or integrity_error(card.kept, card) is not None


@contextmanager
def _fixed_by(advice: str) -> Iterator[None]:
    """Add advice to a UserError about one of our own files."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}. Try: {advice}") from None


def _own(card: Card, path: Path) -> Weights:
    """The weights of the user's own file; a pickle is converted once, and found again by its hash."""
    if not path.is_file():
        raise UserError(f"{card.key}.path={card.path}: no such file")
    with open(path, "rb") as file:
        if file.read(9)[8:] == b"{":  # safetensors need no conversion
            return _read(card, path)
    kind = "class" if card.target else card.kind
    given = None if card.target else card.architecture
    if given:  # the stated architecture decides which tensors are kept
        kind += f".{hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:8]}"
    kept = cache_dir() / "own" / f"{sha256_of(path)}.{kind}.safetensors"
    if not kept.is_file():
        with lock_file(kept):
            if not kept.is_file():
                convert(card, path, kept)
    with _fixed_by("remove that file, it is converted again from your own"):
        open_tensors(kept)
    return _read(card, kept)


def convert(card: Card, source: Path, kept: Path) -> None:
    """Write the weights of ``source`` that synthesis needs to ``kept``, and print what that saves.

    Raises:
        UserError: not the file of the card's hash, not a checkpoint, or it does not fit the architecture.
    """
    from safetensors.torch import save

    source_hash = sha256_of(source)
    if card.local is None and card.sha256 not in (None, source_hash):
        raise UserError(
            f"{source} is not the file that the card of {card.name} names: "
            f"its sha256 is {source_hash}, not {card.sha256}. Remove it to fetch the right one, "
            f"or use it as your own: {card.key}.path={source}"
        )
    architecture, tensors = _kept_of(card, source, source_hash)
    metadata = {
        "format": "pt",
        "config": json.dumps(architecture),
        "source_file": source.name,
        "source_bytes": str(source.stat().st_size),
        "source_sha256": source_hash,
    }
    metadata["digest"] = digest(tensors, metadata)
    with disk_full(kept):
        atomic_write(kept, save(tensors, metadata))
    before, after = source.stat().st_size, kept.stat().st_size
    print(f"{card.name}: {before / 1e6:,.0f} MB converted to {after / 1e6:,.0f} MB of safetensors in {kept}")
    if card.local is None and card.sha256 is None:
        seen = "its class looks at it when a run loads it" if card.target else "only its shapes were checked"
        print(f"{card.name}: no hash is known of it, {seen}; this file has sha256 {source_hash}")


def integrity_error(path: Path, card: Card | None) -> str | None:
    """What is wrong with a file of the cache or the package; None if it is intact.

    Args:
        card: of the file; None for a conversion of the user's own file.

    Raises:
        Unreadable: the system does not let us read it.
    """
    try:
        file = open_tensors(path)
        if "digest" in file.metadata:
            if digest({name: file.get(name) for name in file.shapes}, file.metadata) != file.metadata["digest"]:
                return "its content does not agree with the digest taken when it was made"
            found = file.metadata["source_sha256"]
        else:
            found = sha256_of(path)
    except Unreadable:
        raise
    except UserError as error:
        return str(error)
    if card is not None and card.local is None and card.sha256 not in (None, found):
        return f"its sha256 is {found}, the card's {card.sha256}"
    return None


def _read(card: Card, path: Path, source_hash: str | None = None) -> Weights:
    try:
        file = open_tensors(path)
    except UserError as error:
        raise UserError(f"{card.key}: {error}") from None
    source_hash = source_hash or weights_sha256(path)
    prefix = _FIRST_STAGE if any(name.startswith(_FIRST_STAGE) for name in file.shapes) else ""
    shapes = {name.removeprefix(prefix): shape for name, shape in file.shapes.items() if name.startswith(prefix)}
    if card.target:
        architecture = card.architecture or arguments_from_shapes(card.target, file.shapes)
        shapes, get = rename_tensors(card.target, file.shapes, file.get)
        return Weights(path, shapes, get, dict(architecture), card.target, source_hash)
    architecture, origin = _architecture(card, path, file, shapes)
    if card.kind == "perceptor" and card.local is not None and "config" not in file.metadata:
        _look_whose(card, shapes)
    return Weights(path, shapes, lambda name: file.get(prefix + name), dict(architecture), origin, source_hash)


def _architecture(
    card: Card, path: Path, file: TensorFile, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Any], str]:
    """The architecture and its origin, for messages."""
    if card.architecture:
        return card.architecture, f"{card.key}.architecture"
    if found := architecture_in(card.kind, file.metadata):
        return found, "`config` in its metadata"
    return architecture_from_shapes(card, path, shapes), SHAPES


#: Width → open_clip's name of the ViT, including those whose heads are not 64 wide.
_VITS = {768: "B", 1024: "L", 1280: "H", 1408: "g", 1664: "bigG"}
_OTHER_HEADS = (1280, 1408, 1664)


def _look_whose(card: Card, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Print a note if the weights may be open_clip's: they have OpenAI's names, but may need another activation."""
    if {"input_resolution", "token_ids"} & set(shapes) or "token_embedding.weight" not in shapes:
        return  # OpenAI's archive, our own file, or neither family
    if card.architecture and not any((x.file, x.architecture) == (card.file, card.architecture) for x in cards()):
        return  # the user has stated what it is
    width, _, patch = (*shapes.get("visual.conv1.weight", ()), 0, 0, 0)[:3]
    vit = "visual.proj" in shapes
    model = (f"ViT-{_VITS[width]}-{patch}" if width in _VITS else "ViT-B-32") if vit else "RN50"
    theirs = "laion2b_vit_b_32"
    key = key_of("perceptor", theirs)
    advice = shlex.join([f"checkpoints/perceptors=[{theirs}]", f"{key}.path={card.path}", f"{key}.model={model}"])
    if vit and width in _OTHER_HEADS:
        raise UserError(
            f"{card.key}.path={card.path}: no CLIP of OpenAI's is {width} wide, it is open_clip's. Allowed: a CLIP of "
            f"OpenAI's, or open_clip's weights by the name of their model. Try: {advice}"
        )
    _say_once(f"{card.name}: read as OpenAI's CLIP (QuickGELU). Is it of open_clip's own training: {advice}")


@cache
def _say_once(line: str) -> None:
    print(line)


def _kept_of(card: Card, source: Path, source_hash: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The architecture and the tensors that synthesis needs, after checking that they fit.

    For a custom class all tensors are kept, since what it uses of them may change.
    """
    if card.target:
        file = open_tensors(source)
        return {}, {name: file.get(name) for name in file.shapes}
    weights = _read(card, source, source_hash)
    with torch.device("meta"), construction(card, weights):
        needed = empty_module(card.kind, weights.architecture).state_dict()
    check_fit(card, weights, needed)
    names = [*needed, *(["token_ids"] if "token_ids" in weights.shapes else [])]
    return weights.architecture, {name: weights.get(name) for name in names}
