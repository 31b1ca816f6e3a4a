"""Checkpoints: cards that say where weights are, and the models that come of them.

A card is a mapping under ``checkpoints.generator`` or ``checkpoints.perceptors.<name>`` (``conf/checkpoints``).  It
names a file of one's own (``path``) or an official one (``file``, ``urls``, ``sha256``), which is fetched on first
use and kept in the cache folder as safetensors that hold just what synthesis needs.

Nothing here imports torch before a model is loaded: the config check and ``vqclip models`` must answer at once.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from vqclip.config import conf_dir
from vqclip.errors import UserError
from vqclip.files import sha256 as sha256_of

if TYPE_CHECKING:
    from vqclip.generators import VQGAN
    from vqclip.perceptors import CLIPPerceptor
    from vqclip.prior import Prior

__all__ = [
    "Card",
    "cards",
    "factor_of",
    "home",
    "load_generator",
    "load_perceptor",
    "load_prior",
    "offline",
    "pairs",
    "validate_cards",
]

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
_PACKAGED = "pkg://vqclip/"


def home() -> Path:
    """The cache folder: ``VQCLIP_HOME``, else ``vqclip`` under ``XDG_CACHE_HOME`` (``~/.cache``)."""
    given = os.environ.get("VQCLIP_HOME")
    if given:
        return Path(given).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqclip"


def offline() -> bool:
    """Whether ``VQCLIP_OFFLINE`` forbids the network."""
    return os.environ.get("VQCLIP_OFFLINE", "").lower() not in ("", "0", "false", "no")


@dataclass(frozen=True)
class Card:
    """What is known of one checkpoint; see the comments in ``conf/checkpoints`` for the keys.

    Attributes:
        kind: ``generator`` or ``perceptor``.
        name: as the user types it.
        key: its place in the config, for messages.
    """

    kind: str
    name: str
    key: str
    path: str | None = None
    file: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    status: str | None = None
    urls: list[str] = field(default_factory=list)
    licence: str | None = None
    about: str | None = None
    architecture: dict[str, Any] | None = None
    weight: float = 1

    @property
    def group(self) -> str:
        """The config group that it is chosen by."""
        return "checkpoints/generator" if self.kind == "generator" else "checkpoints/perceptors"

    @property
    def choice(self) -> str:
        """The override that chooses it."""
        return f"{self.group}={self.name if self.kind == 'generator' else f'[{self.name}]'}"

    @property
    def fetch_command(self) -> str:
        """What brings it here, or mends it."""
        return f"vqclip models fetch {self.group.removeprefix('checkpoints/')}/{self.name}"

    @property
    def local(self) -> Path | None:
        """The file of one's own that ``path`` names."""
        if not self.path:
            return None
        if self.path.startswith(_PACKAGED):
            return Path(str(resources.files("vqclip"))) / self.path.removeprefix(_PACKAGED)
        return Path(self.path).expanduser()

    @property
    def source(self) -> Path:
        """Where the file is put, by hand or by fetching."""
        return home() / (self.file or f"{self.name}.ckpt")

    @property
    def kept(self) -> Path:
        """What is kept of it for use."""
        return self.source.with_suffix(".safetensors")


_KEYS = set(Card.__dataclass_fields__) - {"kind", "key"}


def _card(kind: str, name: str, content: Mapping[str, Any]) -> Card:
    key = "checkpoints.generator" if kind == "generator" else f"checkpoints.perceptors.{name}"
    if OmegaConf.is_config(content):
        content = OmegaConf.to_container(content, resolve=True)
    known = {k: v for k, v in content.items() if k in _KEYS and v is not None}
    return Card(**{**known, "kind": kind, "name": name, "key": key})


def cards(config_dir: str | None = None) -> list[Card]:
    """Every card of the shipped config and of a config folder of the user's own, generators first.

    Raises:
        UserError: a card's YAML cannot be read, or holds mistakes.
    """
    found: dict[tuple[str, str], Card] = {}
    for folder in _folders(config_dir):
        for path in sorted((folder / "generator").glob("*.yaml")):
            content = _read_yaml(path)
            name = content.get("name") or path.stem
            found["generator", name] = _checked(path, "generator", name, content)
        for path in sorted((folder / "perceptors").glob("*.yaml")):
            for name, content in _read_yaml(path).items():
                found["perceptor", name] = _checked(path, "perceptor", name, content)
    return sorted(found.values(), key=lambda card: card.kind)


def pairs(config_dir: str | None = None) -> dict[str, list[tuple[str, str]]]:
    """Pairs by name, as the (kind, name) of their halves."""
    found = {}
    for folder in _folders(config_dir):
        for path in sorted(folder.glob("*.yaml")):
            defaults = {}
            for entry in _read_yaml(path).get("defaults", []):
                defaults.update(entry if isinstance(entry, dict) else {})
            eyes = defaults.get("perceptors") or []
            halves = [("generator", defaults["generator"])] if defaults.get("generator") else []
            found[path.stem] = halves + [("perceptor", eye) for eye in ([eyes] if isinstance(eyes, str) else eyes)]
    return found


def _folders(config_dir: str | None) -> list[Path]:
    if config_dir is not None and not Path(config_dir).is_dir():
        raise UserError(f"--config-dir {config_dir}: no such folder. Allowed: one that holds checkpoints/…/*.yaml")
    return [conf_dir() / "checkpoints"] + ([Path(config_dir) / "checkpoints"] if config_dir else [])


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a card is a mapping of keys, this is {type(content).__name__}")
    return content


def _checked(path: Path, kind: str, name: str, content: Any) -> Card:
    errors = _card_errors(kind, name, content)
    if errors:
        raise UserError(f"{path}:\n" + "\n".join(errors))
    return _card(kind, name, content)


# Mistakes that can be found before any model is loaded.


def validate_cards(checkpoints: Mapping[str, Any]) -> list[str]:
    """Every mistake in a resolved ``checkpoints`` mapping, each as one message; loads and fetches nothing."""
    errors = []
    generator, perceptors = checkpoints.get("generator"), checkpoints.get("perceptors")
    if not generator:
        errors.append("checkpoints.generator: none chosen. Try: checkpoints/generator=embedded")
    if not perceptors:
        errors.append("checkpoints.perceptors: none chosen. Try: checkpoints/perceptors=[embedded]")
    chosen = [("generator", (generator or {}).get("name") or "generator", generator)] if generator else []
    chosen += [("perceptor", name, card) for name, card in (perceptors or {}).items() if card is not None]
    for kind, name, content in chosen:
        found = _card_errors(kind, name, content)
        errors += found or _presence_errors(_card(kind, name, content))
    prior = (checkpoints.get("prior") or {}).get("path")
    if prior and not Card("prior", "prior", "checkpoints.prior", path=prior).local.is_file():
        errors.append(f"checkpoints.prior.path={prior}: no such file. Try: checkpoints.prior=null init=sine")
    return errors


def _card_errors(kind: str, name: str, card: Any) -> list[str]:
    key = "checkpoints.generator" if kind == "generator" else f"checkpoints.perceptors.{name}"
    if not isinstance(card, Mapping):
        return [f"{key}={card}: a card is a mapping of keys. Allowed: {', '.join(sorted(_KEYS))}"]
    keys = _KEYS - ({"weight"} if kind == "generator" else set())
    errors = [_unknown(f"{key}.{word}", word, keys) for word in card if word not in keys]
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
    if not card.get("path") and not card.get("urls"):
        errors.append(f"{key}: neither path nor urls. Try: {key}.path=FILE")
    architecture = card.get("architecture")
    if isinstance(architecture, Mapping):
        required = _ARCHITECTURE[kind]["required"]
        allowed = required | _ARCHITECTURE[kind]["optional"]
        errors += [f"{key}.architecture.{word}: missing" for word in sorted(required - set(architecture))]
        errors += [_unknown(f"{key}.architecture.{word}", word, allowed) for word in set(architecture) - allowed]
    return errors


def _unknown(key: str, word: str, known: set[str]) -> str:
    near = difflib.get_close_matches(str(word), known, n=1)
    return f"{key}: no such key. Allowed: {', '.join(sorted(known))}." + (f" Did you mean {near[0]}?" if near else "")


def _presence_errors(card: Card) -> list[str]:
    if card.local is not None:
        if card.local.is_file() and os.access(card.local, os.R_OK):
            return []
        cause = "cannot be read" if card.local.is_file() else "is a folder" if card.local.is_dir() else "no such file"
        allowed = "a .ckpt, .pt or .safetensors file" + (", or null for the official one" if card.urls else "")
        return [f"{card.key}.path={card.path}: {cause}. Allowed: {allowed}"]
    if offline() and not card.kept.is_file() and not card.source.is_file():
        return [absent(card)]
    return []


def absent(card: Card) -> str:
    """What to do about a checkpoint that is not here and cannot be fetched."""
    facts = ", ".join(
        ([f"{card.bytes:,} bytes"] if card.bytes else []) + ([f"sha256 {card.sha256}"] if card.sha256 else [])
    )
    return (
        f"{card.key}: {card.name} is not here, and VQCLIP_OFFLINE is set.\n"
        f"  put it at    {card.source}" + (f"   ({facts})" if facts else "") + "\n"
        f"  or fetch it  VQCLIP_OFFLINE=0 {card.fetch_command}"
    )


def factor_of(card: Mapping[str, Any]) -> int | None:
    """Pixels a side of one code, where the card or its file's header tells; None otherwise."""
    chosen = _card("generator", card.get("name") or "generator", card)
    architecture = chosen.architecture
    if architecture is None and chosen.local is not None:
        architecture = _header_config(chosen.local)
    try:
        return 2 ** (len(architecture["ddconfig"]["ch_mult"]) - 1)
    except (KeyError, TypeError):
        return None


def _header_config(path: Path) -> dict[str, Any] | None:
    """The constructor arguments in a safetensors file's metadata, read without any library."""
    try:
        with open(path, "rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(length)) if length < 2**24 else {}
        return json.loads(header["__metadata__"]["config"])
    except (OSError, struct.error, ValueError, KeyError, TypeError):
        return None


# Models.


def load_generator(card: Mapping[str, Any]) -> VQGAN:
    """The generator of a card: float32, eval, frozen, on the CPU; one object a process for equal cards.

    Its ``sha256`` is that of the file the weights came from.

    Raises:
        UserError: the file is missing, cannot be had, is not a checkpoint, or does not fit.
    """
    return _load(_key(_card("generator", card.get("name") or "generator", card)))


def load_perceptor(name: str, card: Mapping[str, Any]) -> CLIPPerceptor:
    """The perceptor of a card, as :func:`load_generator`."""
    return _load(_key(_card("perceptor", name, card)))


def load_prior(path: str) -> Prior:
    """The prior of a pair, with ``tokenize`` (texts → its token ids) and ``sha256``.

    A prior reads the words of its pair's perceptor: the vocabulary is that of ``perceptor.safetensors`` beside it.
    """
    return _load_prior(str(Card("prior", "prior", "checkpoints.prior", path=path).local))


@cache
def _load_prior(path: str) -> Prior:
    import torch

    from vqclip.prior import Prior
    from vqclip.safe_load import open_tensors
    from vqclip.tokens import CompactTokenizer

    with torch.random.fork_rng(devices=[]):
        prior = Prior.load(path)
    eye = open_tensors(Path(path).with_name("perceptor.safetensors"))
    ids = eye.get("token_ids") if "token_ids" in eye.shapes else None
    prior.tokenize = CompactTokenizer(ids, eye.shapes["positional_embedding"][0])
    prior.sha256 = sha256_of(Path(path))
    return prior


def _key(card: Card) -> str:
    # The weight is the objective's business: cards that differ in it share a model.
    return json.dumps({**card.__dict__, "weight": 1, "home": str(home())}, sort_keys=True)


@cache
def _load(key: str) -> VQGAN | CLIPPerceptor:
    from vqclip import convert

    known = json.loads(key)
    known.pop("home")
    card = Card(**known)
    return convert.build(card, convert.obtain(card))
