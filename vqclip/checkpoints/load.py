"""Loads the models that cards describe; equal cards share one object per process.

A card is a mapping under ``checkpoints.generator`` or ``checkpoints.perceptors.<name>`` (``conf/checkpoints``).  It
names the user's own file (``path``) or an official one (``file``, ``urls``, ``sha256``), which is downloaded on first
use and cached as a safetensors file with only what synthesis needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqclip.checkpoints.architecture import construction, fill
from vqclip.checkpoints.cards import Card, local_path, make_card
from vqclip.checkpoints.check import weights_sha256
from vqclip.checkpoints.classes import build_class, takes_path
from vqclip.checkpoints.tensors import Weights
from vqclip.classes import import_target
from vqclip.errors import UserError
from vqclip.io.files import version_of
from vqclip.paths import cache_dir

if TYPE_CHECKING:
    from vqclip.models.clip import CLIPPerceptor
    from vqclip.models.prior import Prior
    from vqclip.models.vqgan import VQGAN

__all__ = ["build", "load_generator", "load_perceptor", "load_prior"]


def build(card: Card, weights: Weights) -> VQGAN | CLIPPerceptor:
    """Build the model of a card with these weights: float32, eval, frozen, with the ``sha256`` of their source."""
    from vqclip.models.clip import CLIPPerceptor
    from vqclip.models.vqgan import VQGAN

    with construction(card, weights):
        if card.kind == "generator":
            model = target = VQGAN(**weights.architecture)
        else:
            ids = weights.get("token_ids") if "token_ids" in weights.shapes else None
            model = CLIPPerceptor(weights.architecture, ids)
            target = model.model
            words = weights.architecture["vocab_size"]
            if len(model.tokenize) != words:
                raise UserError(
                    f"{card.key}.path={weights.path}: it has {words:,} tokens, and {len(model.tokenize):,} are known. "
                    "Allowed: OpenAI's 49,408, or a safetensors file whose `token_ids` say which of them it has"
                )
    fill(target, card, weights)
    model.sha256 = weights.sha256
    model.float().eval().requires_grad_(False)
    if isinstance(model, CLIPPerceptor):
        model.fuse_for_inference()
    return model


def load_generator(card: Mapping[str, Any]) -> VQGAN:
    """Load the generator of a card: float32, eval, frozen, on the CPU; equal cards share one object.

    Its ``sha256`` is that of the file that the weights came from.

    Raises:
        UserError: the file is missing, cannot be downloaded, is not a checkpoint, or does not fit.
    """
    return _load(make_card("generator", card.get("name") or "generator", card))


def load_perceptor(name: str, card: Mapping[str, Any]) -> CLIPPerceptor:
    """Load the perceptor of a card, like :func:`load_generator`."""
    return _load(make_card("perceptor", name, card))


def load_prior(path: str) -> Prior:
    """Load the prior of a pair, with the ``sha256`` of its file."""
    local = local_path(path)
    return _once(f"prior {local}", local, lambda: _prior(local))


#: Models loaded in this process, by key: (version of the file and class, model).
_LOADED: dict[str, tuple[Any, Any]] = {}


def _once(key: str, path: Path | None, load: Callable[[], Any], of: Any = None) -> Any:
    """Return ``load()``, cached until the file or the class ``of`` changes, as they may in a notebook."""
    version = version_of(path) if path and path.exists() else (), of
    if key in _LOADED and _LOADED[key][0] != version:
        del _LOADED[key]  # frees its memory before the next one is loaded
    if key not in _LOADED:
        _LOADED[key] = version, load()
    return _LOADED[key][1]


def _prior(path: Path) -> Prior:
    from vqclip.models.prior import Prior

    prior = Prior.load(str(path))
    prior.sha256 = weights_sha256(path)
    return prior


def _load(card: Card) -> Any:
    """Load the VQGAN, CLIPPerceptor or custom model of a card."""
    # Cards that differ only in their weight in the objective share a model.
    key = json.dumps({**card.__dict__, "weight": 1, "home": str(cache_dir())}, sort_keys=True)
    return _once(key, card.local, lambda: _read(card), import_target(card.target) if card.target else None)


def _read(card: Card) -> Any:
    from vqclip.checkpoints.convert import ensure_weights

    if card.target:
        reads_itself = takes_path(card.target) and card.local is not None
        return build_class(
            card, card.target, ensure_weights(card) if (card.path or card.urls) and not reads_itself else None
        )
    return build(card, ensure_weights(card))
