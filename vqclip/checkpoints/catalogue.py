"""Lists all cards and pairs of the shipped config and of the user's config folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vqclip.checkpoints.cards import Card, make_card
from vqclip.checkpoints.check import card_errors
from vqclip.errors import UserError, shown
from vqclip.io.files import read_text
from vqclip.io.yaml_text import read_yaml
from vqclip.paths import conf_dir

__all__ = ["cards", "pairs"]


def cards(config_dir: str | None = None) -> list[Card]:
    """All cards of the shipped config and of the user's config folder, generators first.

    Raises:
        UserError: a card's YAML cannot be read or has mistakes.
    """
    found: dict[tuple[str, str], Card] = {}
    for folder, own in zip(_folders(config_dir), (None, config_dir), strict=False):
        for path in sorted((folder / "generator").glob("*.yaml")):
            content = _composed(path, config_dir)
            name = content.get("name") or path.stem
            found["generator", name] = replace(_checked(path, "generator", name, content), config_dir=own)
        for path in sorted((folder / "perceptors").glob("*.yaml")):
            for name, content in _composed(path, config_dir).items():
                found["perceptor", name] = replace(_checked(path, "perceptor", name, content), config_dir=own)
    return sorted(found.values(), key=lambda card: card.kind)


def pairs(config_dir: str | None = None) -> dict[str, list[tuple[str, str]]]:
    """All pairs by name, each as the (kind, name) of the cards in its file.

    Raises:
        UserError: a pair's YAML cannot be read, or its ``defaults`` name no cards.
    """
    return {path.stem: list(_halves(path)) for folder in _folders(config_dir) for path in sorted(folder.glob("*.yaml"))}


def _halves(path: Path) -> Iterator[tuple[str, str]]:
    chosen = {}
    for entry in _defaults(path, _read_yaml(path)):
        chosen |= entry if isinstance(entry, dict) else {}
    for kind, group in (("generator", "generator"), ("perceptor", "perceptors")):
        names = chosen.get(group) or []
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            allowed = "NAME, or [NAME] for several"
            raise UserError(f"{path}: defaults: {group}: {shown(names)}: names no card. Allowed: {allowed}")
        yield from ((kind, name) for name in names)


def _defaults(path: Path, content: dict[str, Any]) -> list[Any]:
    """Remove the ``defaults`` from a file's content and return them."""
    entries = content.pop("defaults", None) or []
    if not isinstance(entries, list):
        raise UserError(f"{path}: defaults: {shown(entries)}: no list. Allowed: lines that begin with -, or [NAME, …]")
    return entries


def _folders(config_dir: str | None) -> list[Path]:
    if config_dir is not None and not Path(config_dir).is_dir():
        raise UserError(f"--config-dir {config_dir}: no such folder. Allowed: one that holds checkpoints/…/*.yaml")
    return [conf_dir() / "checkpoints"] + ([Path(config_dir) / "checkpoints"] if config_dir else [])


def _composed(path: Path, config_dir: str | None, within: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Merge a card with the cards of its ``defaults``, as Hydra composes them.

    Args:
        within: the chain of cards whose ``defaults`` led here.
    """
    within += (path,)
    content, made = _read_yaml(path), {}
    entries = _defaults(path, content)
    for entry in entries if "_self_" in entries else [*entries, "_self_"]:
        if entry == "_self_":
            made = _merged(made, content)
            continue
        places = [folder / path.parent.name / f"{entry}.yaml" for folder in _folders(config_dir)]
        found = [place for place in places if place.is_file() and place not in within]
        if not found:
            why = "it leads back to itself" if set(places) & set(within[:-1]) else "no card of that name beside it"
            raise UserError(f"{path}: defaults: {entry}: {why}. Allowed: NAME, _self_")
        made = _merged(made, _composed(found[-1], config_dir, within))
    return made


def _merged(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    both = [key for key in two if isinstance(one.get(key), dict) and isinstance(two[key], dict)]
    return one | two | {key: _merged(one[key], two[key]) for key in both}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(read_text(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a card is a mapping of keys, this is {type(content).__name__}")
    return content


def _checked(path: Path, kind: str, name: str, content: Any) -> Card:
    errors = card_errors(kind, name, content)
    if errors:
        raise UserError(f"{path}:\n" + "\n".join(errors))
    return make_card(kind, name, content)
