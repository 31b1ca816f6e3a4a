"""Checks the whole config before anything heavy is loaded, and reports every mistake at once.

Nothing here imports torch, so that ``vqclip --help``, ``--cfg job`` and mistyped keys are fast.  Classes of other
packages are imported only if a config names them (:mod:`vqclip.config.signatures`).
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from vqclip.classes import find
from vqclip.config.choices import choices_of, one_of
from vqclip.config.consistency import contradictions
from vqclip.config.kinds import Kind, Number, Scheduled, Whole
from vqclip.config.names import choice_of, owners_of
from vqclip.config.nodes import Group, Key, Named, Node, Target
from vqclip.config.resolve import classes_in
from vqclip.config.schema import CLASSES, ROOT
from vqclip.config.signatures import PASSED_ON, argument_errors, is_for
from vqclip.config.trial_instantiation import instantiation_errors
from vqclip.errors import UserError, closest, is_text, shown

__all__ = ["check", "errors_in", "mistakes"]


def check(config: Mapping[str, Any]) -> None:
    """Raise one UserError with all mistakes of a resolved config."""
    errors = errors_in(config)
    if errors:
        raise UserError("\n".join(errors))


def errors_in(config: Mapping[str, Any]) -> list[str]:
    """All mistakes in a resolved config, one message each."""
    from vqclip.checkpoints.check import validate_cards
    from vqclip.config.own_classes import class_errors

    errors = [*mistakes(config, ROOT), *_missing_classes(config)]
    errors += [e for e in _not_plain(config) if not any(said.startswith(e.partition("=")[0]) for said in errors)]
    if isinstance(config.get("checkpoints"), Mapping) and not any(e.startswith("checkpoints") for e in errors):
        errors += [*validate_cards(config["checkpoints"]), *class_errors(config["checkpoints"])]
    # Contradictions are checked only if every value is valid on its own.
    return list(dict.fromkeys(errors)) or list(contradictions(config)) or list(instantiation_errors(config))


def _missing_classes(config: Mapping[str, Any]) -> Iterator[str]:
    """Classes that do not exist, at any depth of a config, one message each."""
    for key, target in classes_in(config):
        if isinstance(target, str) and target and target not in CLASSES:
            try:
                find(target)
            except LookupError as error:
                lightning = target.startswith("lightning.pytorch.")
                other = f"pytorch_lightning.{target.removeprefix('lightning.pytorch.')}"
                yield f"{key}={target}: {error}" + (f". Try: {key}={other}" if lightning else "")


def _not_plain(value: Any, path: str = "") -> Iterator[str]:
    """Values that JSON records cannot hold: bytes, infinite numbers, lone surrogates, one message each."""
    if isinstance(value, Mapping | list):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            if isinstance(key, str) and not is_text(key):
                yield f"{path}: its key {key!r} has half a surrogate pair. Allowed: complete characters"
            yield from _not_plain(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, str) and not is_text(value):
        yield f"{path}={shown(value)}: half a surrogate pair, which no file can hold. Allowed: complete characters"
    elif not (value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))):
        kind = "" if isinstance(value, float) else f", of type {type(value).__name__}"
        yield f"{path}={shown(value)}: not allowed here{kind}. Allowed: texts, finite numbers, true, false, null"


def mistakes(value: Any, node: Node, path: str = "") -> Iterator[str]:
    """The mistakes in plain data ``value`` according to the schema's ``node``; ``path`` is its dotted key."""
    if value is None and node.null:
        return
    if isinstance(node, Key):
        yield from _value_mistakes(value, node, path)
    elif not isinstance(value, Mapping):
        yield _not_a_mapping(value, node, path)
    elif isinstance(node, Named):
        for name, item in value.items():
            yield from mistakes(item, node.of, f"{path}.{name}")
    elif isinstance(node, Target):
        yield from _target_mistakes(value, node, path)
    else:
        yield from _group_mistakes(value, node, path)


def _value_mistakes(value: Any, key: Key, path: str) -> Iterator[str]:
    try:
        key.kind.check(value)
    except ValueError as error:
        allowed = str(error) or key.allowed
        helps = f"Try: {shlex.quote(f'{path}={key.example}')}"
        wants_number = isinstance(key.kind, Number | Scheduled | Whole)
        if wants_number and isinstance(value, str) and re.fullmatch(r"-?(\d+\.?\d*|\.\d+)(e-?\d+)?", value):
            number = shlex.quote(f'{path}="${{oc.decode:${{oc.env:NAME}}}}"')  # nested, so in quotes
            helps = f"This is a text. The number in an environment variable: {number}"
        if wants_number and isinstance(value, list) and _are_numbers_of(key.kind, value):
            helps = f"Each in a run of its own: vqclip -m {path}={','.join(map(shown, value))}"
        end = "" if allowed.endswith("?") else "."  # after "Did you mean …?"
        yield f"{path}={shown(value)}: not allowed here. Allowed: {allowed}{end} {helps}"


def _are_numbers_of(kind: Kind, values: list[Any]) -> bool:
    """Whether every item of a list is a valid value of the kind."""
    try:
        for value in values:
            kind.check(value)
    except ValueError:
        return False
    return bool(values) and not any(isinstance(value, Mapping) for value in values)


def _not_a_mapping(value: Any, node: Group | Named | Target, path: str) -> str:
    what = "null chooses nothing" if value is None else f"{_kind_of(value)}, where keys belong"
    keys = f"Allowed: keys: {', '.join(node.keys if isinstance(node, Group) else ()) or 'NAME: {…}'}."
    if isinstance(node, Group) and node.null and value is not None:  # others always have keys
        example = ", ".join(f"{name}: {key.example}" for name, key in node.keys.items() if isinstance(key, Key))
        keys += f" Try: {shlex.quote(f'{path}={{{example}}}')}"
    if options := choices_of(path):
        keys = one_of(path) if not isinstance(value, str) else _chosen_in_a_file(value, path, options)
    return f"{path}={shown(value)}: {what}. {keys}"


def _chosen_in_a_file(value: str, path: str, options: list[str]) -> str:
    """The message for a custom file with ``noise: sfumato``; on the command line, that would be a choice."""
    name, group = value if value in options else options[0], path.replace(".", "/")
    entry = f"/{group}: [{name}]" if path == "loss.terms" else f"override /{group}: {name}"  # nothing to override
    return one_of(path, ", chosen in the defaults of the file", f"`defaults: [{entry}]` there, and not {path}")


def _group_mistakes(value: Mapping, group: Group, path: str, skip: frozenset[str] = frozenset()) -> Iterator[str]:
    dot = f"{path}." if path else ""
    for name, node in group.keys.items():
        if name in value:
            yield from mistakes(value[name], node, f"{dot}{name}")
        elif node.needed:
            yield _missing(node, f"{dot}{name}")
    added = {str(name): item for name, item in value.items() if name not in group.keys and name not in skip}
    if not group.others:
        yield from (_unknown(f"{dot}{name}", name, list(group.keys), path) for name in added)
    elif group.others != "*" and added:
        yield from argument_errors(group.others, added, path, list(group.keys))


def _unknown(key: str, name: str, known: list[str], where: str) -> str:
    """The message that there is no such key, with the nearest or all existing ones."""
    if owners := " or ".join(owners_of(key)):
        return (
            f"{key}: belongs to {owners}, and another is chosen. Allowed: {owners}, or not this key; where a sweep has "
            f"both, a sweep of each with one hydra.sweep.dir. Try: '~{key}'"
        )
    near = closest(name, known)
    allowed = "" if near or len(known) > 12 or not known else f" Allowed: {', '.join(known)}."
    if not known:
        allowed = f" {where} takes none."
    return f"{key}: there is no such key.{near}{allowed} All keys with their values: vqclip --cfg job"


def _missing(node: Node, path: str) -> str:
    if isinstance(node, Key):
        return f"{path}: missing. Allowed: {node.allowed}. Try: {shlex.quote(f'{path}={node.example}')}"
    if "none" in choices_of(path):  # as after ``GROUP: null`` in the defaults of a custom file
        return f"{path}: missing. {one_of(path, example=f'{path}=none, in defaults `override /{path}: none`')}"
    if choices_of(path) and not node.null:
        return f"{path}: missing. {one_of(path)}"
    return f"{path}: missing. It holds: {node.doc}" + (f" Try: {path}=null" if node.null else "")


def _target_mistakes(value: Mapping, node: Target, path: str) -> Iterator[str]:
    target = value.get("_target_")
    if not isinstance(target, str) or not target:
        if target is None and (choice := choice_of(path)):
            yield f"{path}: is not chosen. Try: {choice}"
            return
        given, what = ("", "missing") if target is None else (f"={shown(target)}", "not allowed here")
        yield f"{path}._target_{given}: {what}. {_choose(node, path)}"
        return
    special = {"_target_", "_convert_", "_recursive_"}  # not _args_: arguments must have names
    if node.group in ("optimizer", "logger"):  # vqclip completes these later; other projects' configs write _partial_
        special.add("_partial_")
    if target in CLASSES:
        if not is_for(target, node.group):
            yield f"{path}._target_={target}: a class for something else than {path}. {_choose(node, path)}"
            return
        group = CLASSES[target]
        yield from _group_mistakes(value, replace(group, keys={**group.keys, **node.also}), path, frozenset(special))
        return
    for name, key in node.also.items():
        if name in value or key.needed:
            yield from mistakes(value.get(name), key, f"{path}.{name}")
    arguments = {name: item for name, item in value.items() if name not in special}
    yield from argument_errors(target, arguments, path, [n for n in node.also if n not in PASSED_ON], group=node.group)


def _choose(node: Target, path: str) -> str:
    """The part of a message about allowed classes."""
    own = "a class by its dotted name"
    chosen = path == node.group and choices_of(path)
    return one_of(path, f", or {own}") if chosen else f"Allowed: {own}"


def _kind_of(value: Any) -> str:
    return "a list" if isinstance(value, list) else "a text" if isinstance(value, str) else "a single value"
