"""Cards: the facts about a checkpoint, as stated in ``conf/checkpoints``."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from vqclip.io.yaml_text import read_yaml
from vqclip.paths import cache_dir, conf_dir

__all__ = ["CARD_KEYS", "Card", "arguments_of", "cards_of", "key_of", "local_path", "make_card", "shipped_files"]

_PACKAGED = "pkg://vqclip/"


def local_path(path: str) -> Path:
    """The file of a card's ``path``: ``pkg://vqclip/…`` is in the package, ``~`` is the home folder."""
    if path.startswith(_PACKAGED):
        return Path(str(resources.files("vqclip"))) / path.removeprefix(_PACKAGED)
    return Path(os.path.expanduser(path))  # Path.expanduser raises for ~name of no user


@dataclass(frozen=True)
class Card:
    """The facts about a checkpoint; see the comments in ``conf/checkpoints`` for the keys.

    Attributes:
        kind: ``generator`` or ``perceptor``.
        name: as the user types it.
        key: its key in the config, for messages.
        config_dir: the user's config folder that it was found in, for messages.
    """

    kind: str
    name: str
    key: str
    path: str | None = None
    file: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    urls: list[str] = field(default_factory=list)
    licence: str | None = None
    about: str | None = None
    architecture: dict[str, Any] | None = None
    weight: float = 1
    target: str | None = None  #: a custom class, the card's ``_target_``
    arguments: dict[str, Any] = field(default_factory=dict)  #: of its constructor: all other keys of the card
    config_dir: str | None = None

    @property
    def group(self) -> str:
        """The config group of the card."""
        return "checkpoints/generator" if self.kind == "generator" else "checkpoints/perceptors"

    @property
    def choice(self) -> str:
        """The override that chooses the card."""
        return f"{self.group}={self.name if self.kind == 'generator' else f'[{self.name}]'}"

    @property
    def fetch_command(self) -> str:
        """The command that downloads the checkpoint or replaces a damaged file."""
        command = ["vqclip", "models", "fetch", f"{self.group.removeprefix('checkpoints/')}/{self.name}"]
        if self.config_dir or not (conf_dir() / self.group / f"{self.name}.yaml").is_file():
            command += ["--config-dir", self.config_dir or "DIR"]  # a composed config does not know its folder
        return shlex.join(command)

    @property
    def local(self) -> Path | None:
        """The user's own file, if the card has a ``path``."""
        return local_path(self.path) if self.path else None

    @property
    def source(self) -> Path:
        """Where the downloaded file is stored, or put by hand.

        Cards of the user's own get a folder by their sha256 or links, so that an official name only ever holds the
        official file, and cards with equal file names do not find each other's files.
        """
        name = Path(self.file or f"{self.name}.ckpt").name
        official = shipped_files().get(name)
        if official and official["sha256"] == self.sha256 and (self.sha256 or official["urls"] == self.urls):
            return cache_dir() / name
        digest = self.sha256 or hashlib.sha256(json.dumps(self.urls).encode()).hexdigest()
        return cache_dir() / "other" / digest[:16] / name

    @property
    def kept(self) -> Path:
        """Where the converted file is stored: only what a run needs."""
        beside = self.source.with_suffix(".safetensors")
        return beside if beside != self.source else beside.with_suffix(".kept.safetensors")


@cache
def shipped_files() -> dict[str, dict[str, Any]]:
    """The shipped cards' sha256 and links, by file name."""
    found = {}
    for path in sorted((conf_dir() / "checkpoints").glob("*/*.yaml")):
        content = read_yaml(path.read_text(encoding="utf-8"))
        cards = [(path.stem, content)] if path.parent.name == "generator" else content.items()
        for name, card in cards:
            file = card.get("file") or f"{card.get('name', name)}.ckpt"
            found[file] = {"sha256": card.get("sha256"), "urls": card.get("urls") or []}
    return found


#: The keys of a card; with ``_target_``, every other key is an argument of that class.
CARD_KEYS = set(Card.__dataclass_fields__) - {"kind", "key", "target", "arguments", "config_dir"}


def key_of(kind: str, name: str) -> str:
    """A card's key in the config."""
    return "checkpoints.generator" if kind == "generator" else f"checkpoints.perceptors.{name}"


def cards_of(checkpoints: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Kind, name and content of every chosen card in a resolved ``checkpoints``, the generator's first."""
    if generator := checkpoints.get("generator"):
        yield "generator", generator.get("name") or "generator", generator
    for name, card in (checkpoints.get("perceptors") or {}).items():
        if card is not None:
            yield "perceptor", name, card


def make_card(kind: str, name: str, content: Mapping[str, Any]) -> Card:
    """Make the card of a ``kind`` (``generator``, ``perceptor``) from the keys of a checked config."""
    known = {k: v for k, v in content.items() if k in CARD_KEYS and v is not None}
    if target := content.get("_target_"):
        known |= {"target": target, "arguments": arguments_of(content)}
    return Card(**{**known, "kind": kind, "name": name, "key": key_of(kind, name)})


def arguments_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a card with ``_target_`` that are arguments of the class."""
    return {k: v for k, v in content.items() if k not in CARD_KEYS and k != "_target_"}
