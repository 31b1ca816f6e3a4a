"""``vqclip models``: lists, downloads and verifies checkpoints."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

from vqclip.checkpoints.cards import Card
from vqclip.checkpoints.catalogue import cards, pairs
from vqclip.cli.arguments import ToolParser
from vqclip.errors import UserError, closest
from vqclip.paths import cache_dir

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """The command line tool.

    Returns:
        Exit status: 0, or 1 if ``verify`` found a damaged file.

    Raises:
        UserError: a name is unknown, or a file cannot be downloaded.
    """
    parser = ToolParser(
        prog="vqclip models",
        description="List, fetch and verify checkpoints. Without a command: list.",
    )
    common = ToolParser(add_help=False)
    common.add_argument(
        "--config-dir", metavar="FOLDER", help="cards of your own: FOLDER/checkpoints/generator/NAME.yaml"
    )
    commands = parser.add_subparsers(dest="command", metavar="{list,fetch,verify}")
    commands.add_parser("list", parents=[common], help="all checkpoints, and which files are on this machine")
    fetch = commands.add_parser("fetch", parents=[common], help="download checkpoints, and replace damaged files")
    fetch.add_argument("names", nargs="+", metavar="NAME", help="a pair, or NAME, generator/NAME, perceptors/NAME")
    fetch.add_argument(
        "--offline", action="store_true", help="use no network: convert files that you have put there by hand"
    )
    verify = commands.add_parser(
        "verify", parents=[common], help="check the files on this machine against their hashes"
    )
    verify.add_argument("names", nargs="*", metavar="NAME", help="as for fetch; default: all that is here")
    options = parser.parse_args([*argv] or ["list"])

    known = cards(options.config_dir)
    if options.command == "list":
        return _list(known, list(pairs(options.config_dir)))
    chosen = _choose(options.names, known, options.config_dir)
    if options.command == "verify":
        return _verify(chosen, own=not options.names)
    if options.offline:
        os.environ["VQCLIP_OFFLINE"] = "1"
    return _fetch(chosen)


def _choose(names: Sequence[str], known: list[Card], config_dir: str | None) -> list[Card]:
    """The cards with the names that a user typed; without names, all cards."""
    if not names:
        return known
    by_name = {f"{card.group.split('/')[1]}/{card.name}": [card] for card in known}
    for card in known:
        by_name.setdefault(card.name, []).append(card)
    both = pairs(config_dir)
    by_name |= {name: [card for card in known if (card.kind, card.name) in both[name]] for name in both}
    chosen: dict[str, Card] = {}
    for name in names:
        if name not in by_name:
            raise UserError(f"{name}: no such checkpoint.{closest(name, by_name)} All names: vqclip models list")
        halves = [half for _, half in both.get(name, [])]
        kinds = {card.kind for card in by_name[name]}
        if name in both and (len(by_name[name]) < len(halves) or kinds != {"generator", "perceptor"}):
            raise UserError(
                f"{name}: a pair whose file names {', '.join(halves) or 'nothing'}, of which there is no card for all. "
                "Allowed: defaults with `generator: NAME` and `perceptors: [NAME]`. "
                "Try: vqclip models fetch generator/NAME perceptors/NAME"
            )
        chosen |= {card.key + card.name: card for card in by_name[name]}
    return list(chosen.values())


def _list(known: list[Card], both: list[str]) -> int:
    here = sum(path.stat().st_size for path in cache_dir().rglob("*") if path.is_file())
    print(f"cache  {cache_dir()}  ({_size(here)}; VQCLIP_HOME moves it)")
    for kind, title in (
        ("generator", "generators   checkpoints/generator=NAME"),
        ("perceptor", "perceptors   checkpoints/perceptors=[NAME,…]"),
    ):
        print(f"\n{title}")
        for card in known:
            if card.kind == kind:
                note = "" if card.sha256 or card.local or not card.urls else "  [unverified: no hash is known]"
                print(f"  {card.name:<20} {_state(card):<24} {card.about or ''}{note}")
                print(f"  {'':<45} {card.licence or 'licence not stated'}")
    print("\npairs   checkpoints=NAME; to fetch one in advance: vqclip models fetch NAME")
    print(textwrap.fill(", ".join(both), 78, initial_indent="  ", subsequent_indent="  "))
    return 0


def _state(card: Card) -> str:
    if card.local is None and not card.urls:
        return "no file"
    if card.local is not None:
        return ("shipped" if str(card.path).startswith("pkg://") else "yours") if card.local.is_file() else "missing"
    part = card.source.with_name(card.source.name + ".part")
    if card.kept.is_file():
        return f"here, {_size(card.kept.stat().st_size)}"
    if card.source.is_file():
        return "here, not converted yet"
    if part.is_file():
        of = f" of {_size(card.bytes)}" if card.bytes else ""
        return f"cut at {_size(part.stat().st_size)}{of}"
    return f"to fetch, {_size(card.bytes)}" if card.bytes else "to fetch"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _verify(chosen: list[Card], own: bool) -> int:
    from vqclip.checkpoints.convert import integrity_error
    from vqclip.checkpoints.tensors import Unreadable

    files: list[tuple[Path, Card | None, str]] = [
        (path, card, card.fetch_command if _is_fetched(card) else "put a good file there")
        for card in chosen
        for path in _files(card)
    ]
    for path in sorted((cache_dir() / "own").glob("*.safetensors")) if own else []:
        files.append((path, None, f"remove it: it is converted again from your own file ({path})"))
    if not files and not own:
        commands = [card.fetch_command for card in chosen if _is_fetched(card)]
        way = f"Try: {commands[0]}" if commands else "Nothing to fetch: the card has no links, or a path of your own"
        print(f"{', '.join(card.name for card in chosen)}: not on this machine. {way}")
        return 1
    broken = 0
    for path, card, fix in files:
        try:
            cause = integrity_error(path, card)
        except Unreadable as error:
            cause, fix = str(error), f"ls -l {path}"
        print(f"BAD   {path}\n      {cause}\n      fix it: {fix}" if cause else f"whole {path}")
        broken += bool(cause)
    print(f"{len(files)} files, {broken or 'all'} {'not ' if broken else ''}whole")
    return 1 if broken else 0


def _files(card: Card) -> list[Path]:
    """The files of a card on this machine."""
    places = [card.local] if card.local is not None else [card.kept, card.source]
    return [path for path in places if path.is_file()]


def _is_fetched(card: Card) -> bool:
    """Whether the card's file is downloaded rather than the user's own."""
    return card.local is None and bool(card.urls)


def _fetch(chosen: list[Card]) -> int:
    from vqclip.checkpoints.convert import ensure_weights, integrity_error

    for card in chosen:
        if card.local is None and not card.urls:
            print(f"{card.name}: nothing to fetch: the card has no links")
            continue
        cause = integrity_error(card.kept, card) if card.local is None and card.kept.is_file() else None
        if cause:
            print(f"{card.name}: {card.kept.name} is damaged and is made anew: {cause}")
        weights = ensure_weights(card, anew=bool(cause))
        unseen = card.target and not card.sha256 and card.local is None
        state = "here; its class looks at it when a run loads it" if unseen else "whole"
        print(f"{card.name}: {weights.path} is {state}")
    return 0
