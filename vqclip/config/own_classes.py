"""Checks the classes of checkpoint cards before a model is loaded, and what parts need of the generator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vqclip.checkpoints.cards import CARD_KEYS, arguments_of, cards_of, key_of
from vqclip.classes import find, parameters_of
from vqclip.config.plain import mapping
from vqclip.config.signatures import argument_errors, role_errors
from vqclip.errors import UserError

__all__ = ["class_errors", "parts_on", "require_of", "terms_by_key", "weights_of"]


def class_errors(checkpoints: Mapping[str, Any]) -> Iterator[str]:
    """Mistakes in the classes of the cards in a resolved ``checkpoints``, one message each."""
    for kind, name, card in cards_of(checkpoints):
        if "_target_" in card:
            yield from _errors(kind, key_of(kind, name), card)


def _errors(kind: str, key: str, card: Mapping[str, Any]) -> Iterator[str]:
    target = card["_target_"]
    if not isinstance(target, str) or not target:
        yield f"{key}._target_={target!r}: not allowed here. Allowed: a class by its dotted name, package.module.Class"
        return
    try:
        found: Any = find(target)
    except LookupError as error:
        yield f"{key}._target_={target}: {error}"
        return
    has_file = bool(card.get("path") or card.get("urls"))
    arguments = arguments_of(card)
    if has_file and "path" in _parameters(found):  # the class reads the file itself
        arguments |= {"path": card.get("path")}
    reads_shapes = has_file and hasattr(found, "arguments_from")
    if reads_shapes:
        yield from role_errors(found, target, kind, key)
    yield from argument_errors(target, arguments, key, [], group="" if reads_shapes else kind)
    for word in sorted(set(_parameters(found)) & CARD_KEYS - {"path"}):
        yield f"{key}.{word}: the card's own word, which {target} cannot take as an argument. Try: another name for it"


def _parameters(found: Any) -> list[str]:
    try:
        return list(parameters_of(found))
    except (TypeError, ValueError):
        return []


def parts_on(config: Mapping[str, Any], group: str) -> dict[str, Any]:
    """The parts of a group by name, without those that are null."""
    return {name: part for name, part in (config.get(group) or {}).items() if part}


def terms_by_key(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The further terms of a config's objective by dotted key, without those that are null."""
    return {f"loss.terms.{name}": term for name, term in parts_on(config["loss"], "terms").items()}


def weights_of(config: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Every part of a config that may name a weight file by its ``path``.

    Values that are not mappings are skipped, since a record may hold anything.

    Yields:
        The name of its sha256 in run.json and records, its dotted key, and the part.
    """
    checkpoints = mapping(config.get("checkpoints"))
    parts = [(name, f"checkpoints.{name}", checkpoints.get(name)) for name in ("generator", "prior")]
    perceptors = mapping(checkpoints.get("perceptors"))
    parts += [(name, f"checkpoints.perceptors.{name}", card) for name, card in perceptors.items()]
    groups = {"loss.terms": mapping(config.get("loss")).get("terms"), "callbacks": config.get("callbacks")}
    for group, named in groups.items():
        parts += [(f"{group}.{name}", f"{group}.{name}", part) for name, part in mapping(named).items()]
    return ((name, key, part) for name, key, part in parts if isinstance(part, Mapping))


def require_of(generator: Any, config: Mapping[str, Any]) -> None:
    """Refuse an init, a latent or a term that needs what the loaded generator lacks.

    Such a part lists it in ``needs``: ``encode``, ``quantise``, ``codebook``.

    Raises:
        UserError: with the part's key.
    """
    parts = {key: config[key] for key in ("init", "latent")}
    for key, part in (parts | terms_by_key(config)).items():
        lacks = [n for n in getattr(find(part["_target_"]), "needs", ()) if not hasattr(generator, n)]
        if lacks:
            instead = {"init": "init=sine", "latent": "latent=continuous"}.get(key, f"{key}=null")
            raise UserError(
                f"{key}: {part['_target_']} needs the generator's {' and '.join(lacks)}, which "
                f"{config['checkpoints']['generator'].get('name') or 'this one'} does not have. Try: {instead}"
            )
