"""``vqclip import FILE|COMMAND``: converts settings of VQGAN-CLIP, pytti or pixray to an experiment file."""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vqclip.cli.arguments import ToolParser
from vqclip.config.choices import is_group
from vqclip.config.records import escape_interpolations
from vqclip.errors import UserError
from vqclip.io.files import atomic_write
from vqclip.io.yaml_text import read_yaml
from vqclip.paths import conf_dir
from vqclip.peers.importer import JOINED, Imported, program, read_settings, translate

__all__ = ["experiment_of", "main"]


def main(argv: Sequence[str]) -> int:
    """The command line tool."""
    parser = ToolParser(
        prog="vqclip import", description="Turn settings of VQGAN-CLIP, pytti or pixray into an experiment file."
    )
    parser.add_argument("source", metavar="FILE|COMMAND", help="a settings file, or a command line in quotes")
    parser.add_argument("--name", help="of the experiment (the file's, or imported)")
    parser.add_argument("--to", type=Path, default=Path("imported"), help="config folder it goes to (imported)")
    args = parser.parse_args(argv)
    if args.to.exists() and not args.to.is_dir():
        raise UserError(f"--to {args.to}: is a file. Allowed: a config folder. Try: --to imported")
    peer, given = read_settings(args.source)
    result = translate(peer, given)
    name = args.name or (Path(args.source).stem if os.path.isfile(args.source) else "imported")
    name, content = _named(_as_choice(name), args.to, program(peer)["name"], result)
    path = args.to / "experiment" / f"{name}.yaml"
    atomic_write(path, content)
    _check(args.to, name)
    _say(path, result, _again(args.to, name, result))
    return 0


def _as_choice(name: str) -> str:
    """Make a valid name for ``experiment=NAME``: a file name, and not a number, true or null to Hydra."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    name = re.sub(r"[^\w-]+", "_", name).encode()[:200].decode(errors="ignore")  # at most 255 bytes with suffixes
    if name.isascii() and not isinstance(OverridesParser.create().parse_override(f"experiment={name}").value(), str):
        return f"x_{name}"
    return name


def _again(folder: Path, name: str, result: Imported) -> str:
    """The command that runs the experiment, with a prompt if the experiment has none."""
    text = "" if result.shows_something else ' "a fox"'
    return f"vqclip --config-dir {shlex.quote(str(folder))} experiment={name}{text}"


def _named(name: str, folder: Path, peer: str, result: Imported) -> tuple[str, bytes]:
    """The file's name and content; the name is numbered if a shipped experiment or another file has it."""
    for i in itertools.count(1):
        own = name if i == 1 else f"{name}_{i}"
        path = folder / "experiment" / f"{own}.yaml"
        heading = f"From {peer}'s settings, by vqclip import.\n  {_again(folder, own, result)}"
        content = experiment_of(result, heading).encode()
        if (conf_dir() / "experiment" / path.name).exists():
            continue
        if not path.exists() or path.read_bytes() == content:
            return own, content
    raise AssertionError


def _say(path: Path, result: Imported, again: str) -> None:
    film = again.replace("vqclip", "vqclip film", 1)
    print(path)
    for heading, lines in (
        ("no equal here:", result.missing),
        ("a tool of its own:", [tool.replace("vqclip film", film) for tool in result.tools]),
        ("note:", result.notes),
    ):
        if lines:
            print(heading)
            print("\n".join(f"  {line}" for line in lines))
    own = "" if result.shows_something else ", with a text of your own"
    print(f"to run it{own}:\n  {again}\nwith the models that come along, which need no download:")
    embedded = ["checkpoints/generator=embedded", "checkpoints/perceptors=[embedded]", "'size=[128,128]'"]
    if "checkpoints.generator.path" in result.last:  # an experiment's own keys override its choices
        embedded.append("checkpoints.generator.path=pkg://vqclip/embedded/generator.safetensors")
    if "search.stages" in result.last:  # for another size
        embedded.append("search.stages=null")
    print(f"  {again} {' '.join(embedded)}")


def experiment_of(result: Imported, heading: str) -> str:
    """The text of an experiment file; ``heading`` and settings without an equivalent become comments."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    groups: dict[str, Any] = {}
    keys: dict[str, Any] = {}
    parser = OverridesParser.create()
    for line in result.lines:
        key, _, text = line.removeprefix("+").partition("=")
        if is_group(key):
            value = parser.parse_override(line.removeprefix("+")).value()
            if key == "init" and groups.get(key) != value:
                keys.pop(key, None)  # keys of another init
            groups[key] = [*groups.get(key, []), *value] if key == "loss/terms" and isinstance(value, list) else value
        else:
            _put(keys, key.split("."), read_yaml(text))
    defaults = [
        {f"/{key}" if key == "loss/terms" else f"override /{key}": list(dict.fromkeys(v)) if isinstance(v, list) else v}
        for key, v in sorted(groups.items(), key=lambda item: item[0] != "loss/terms")  # Hydra: overrides come last
    ]
    remarks = [*heading.splitlines(), *(f"No equal here: {line}" for line in result.missing)]
    body = yaml.safe_dump({"defaults": defaults, **keys}, sort_keys=False, allow_unicode=True, width=120)
    return "# @package _global_\n" + "".join(f"# {' '.join(line.split(chr(10)))}\n" for line in remarks) + body


def _put(keys: dict[str, Any], path: Sequence[str], value: Any) -> None:
    joined = ".".join(path) in JOINED
    *parts, last = path
    for part in parts:
        keys = keys.setdefault(part, {})
    value = escape_interpolations(value)  # untrusted: no interpolation
    keys[last] = keys.get(last, []) + [entry for entry in value if entry not in keys.get(last, [])] if joined else value


def _check(folder: Path, name: str) -> None:
    """Check that the written experiment composes and has no mistakes; pictures may be missing here."""
    from vqclip.config.check import errors_in
    from vqclip.config.compose import compose
    from vqclip.config.resolve import resolve

    cfg = compose([f"experiment={name}"], config_dir=str(folder.absolute()))
    for error in errors_in(resolve(cfg)):
        print(f"note: {error}")
