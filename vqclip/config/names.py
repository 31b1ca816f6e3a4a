"""Finds keys by name in the schema, and suggests the nearest one; without Hydra."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterator, Sequence

from vqclip.config.choices import A_PART, PARTS, choices_of, one_of
from vqclip.config.kinds import Scheduled
from vqclip.config.nodes import Group, Key, Named, Node, Target
from vqclip.config.schema import CLASSES, ROOT
from vqclip.config.signatures import is_for

__all__ = [
    "ASSIGNED",
    "choice_of",
    "classes_of",
    "example_of",
    "is_name",
    "key_at",
    "nearest",
    "outermost",
    "owners_of",
    "takes_more",
    "unknown_key",
    "unknown_overrides",
    "walk",
]

#: An override's prefix (``+``, ``++``, ``~``), key and value.
ASSIGNED = re.compile(r"(?s)([+~]{0,2})([A-Za-z_][\w./@-]*)=(.*)")
_TAKEN_AWAY = re.compile(r"(~)([A-Za-z_]\w*)()")
#: Names in other programs → our keys.
_ELSEWHERE = {
    "batch": "batch_size",
    "ckpt_path": "resume",
    "device": "trainer=gpu",
    "epochs": "steps",
    "gpu": "trainer=gpu",
    "guidance": "loss.alpha",
    "height": "size",
    "iterations": "steps",
    "iters": "steps",
    "learning_rate": "optimizer.lr",
    "lr_scheduler": "optimizer.lr={start: 0.1, end: 0, shape: cosine}",
    "max_epochs": "steps",
    "max_steps": "steps",
    "model": "checkpoints",
    "negative": "prompts.exclude",
    "negative_prompt": "prompts.exclude",
    "num_steps": "steps",
    "out": "hydra.run.dir",
    "output": "hydra.run.dir",
    "output_dir": "hydra.run.dir",
    "prompt": "prompts.include",
    "scheduler": "optimizer.lr={start: 0.1, end: 0, shape: cosine}",
    "seed_everything": "seed",
    "task_name": "tags",
    "width": "size",
}
#: Top-level names that are not in the schema.
_BESIDE = ("hydra", "local", "debug", "experiment", "defaults")


def classes_of(group: str) -> dict[str, Group]:
    """The classes of a config group that have a schema, by ``_target_``."""
    return {target: keys for target, keys in CLASSES.items() if is_for(target, group)}


def key_at(path: str) -> Key | None:
    """The schema's key at a dotted path, in whichever class; None if there is none, or its group allows any."""
    return next((node for node in _nodes_at(path) if isinstance(node, Key)), None)


def walk(key: str) -> Iterator[tuple[str, list[Node], list[Node]]]:
    """For each part of a dotted key: the part, the nodes that may contain it, and the nodes that it may be."""
    nodes: list[Node] = [ROOT]
    for part in key.split("."):
        inner = [found for node in nodes for found in _inside(node, part)]
        yield part, nodes, inner
        nodes = inner


def _nodes_at(key: str) -> list[Node]:
    *_, (_, _, nodes) = walk(key)
    return nodes


def _inside(node: Node, part: str) -> Iterator[Node]:
    """The nodes under one part of a dotted key; several if different classes have it."""
    if isinstance(node, Group) and part in node.keys:
        yield node.keys[part]
    elif isinstance(node, Named):
        yield node.of
    elif isinstance(node, Target):
        for group in _classes(node):
            yield from _inside(group, part)


def _classes(node: Target) -> list[Group]:
    """The classes with a schema that ``node`` may be."""
    return [*classes_of(node.group).values(), Group("", node.also)]


def _all_keys(node: Node = ROOT, path: str = "") -> Iterator[str]:
    """Every dotted key of the schema."""
    inner: list[tuple[str, Node]] = []
    if isinstance(node, Group):
        inner = list(node.keys.items())
    elif isinstance(node, Target):
        inner = [item for group in _classes(node) for item in group.keys.items()]
    for name, key in inner:
        yield f"{path}{name}"
        yield from _all_keys(key, f"{path}{name}.")


def nearest(word: str, more: Sequence[str] = ()) -> str:
    """`` Did you mean …?`` or an empty string; a key is also found by its last part."""
    tops = ROOT.keys if "." not in word else ()
    if near := [_ELSEWHERE[word]] if word in _ELSEWHERE else difflib.get_close_matches(word, tops, 1, 0.75):
        return f" Did you mean {near[0]}?"
    names = [name for name in dict.fromkeys([*_all_keys(), *more]) if not f"{word}.".startswith(f"{name}.")]
    parts = {name.rpartition(".")[2]: name for name in reversed(names)} if "." not in word else {}
    known = {**{name: name for name in names}, **parts}
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    # For a key within a group, only a typing mistake in the last part is near enough.
    sure = found and (
        "." not in known[found[0]] or "." in word or difflib.SequenceMatcher(None, word, found[0]).ratio() > 0.75
    )
    return f" Did you mean {known[found[0]]}?" if sure else ""


def is_name(word: str) -> bool:
    """Whether a word without dots is a key here or in other programs: ``steps``, ``lr``, ``iterations``."""
    return word in _ELSEWHERE or word in {name.rpartition(".")[2] for name in _all_keys()}


def unknown_key(key: str, more: Sequence[str] = ()) -> str:
    """The message that there is no such key, or that this config lacks it."""
    group = key.partition(".")[0]
    if any(isinstance(node, Key | Group) for node in _nodes_at(key)):
        if choice := choice_of(key):
            kind = PARTS["loss.terms" if group == "loss" else group]
            return f"{key}: of a {kind} that is not chosen. Try: {choice} {key}=…"
        if card := re.match(r"checkpoints\.perceptors\.(\w+)", key):
            return f"{key}: of a perceptor that is not chosen. Try: 'checkpoints/perceptors=[{card[1]}]'"
        if choices := choices_of(group) if isinstance(ROOT.keys[group], Group) else []:
            return f"{key}: nothing is chosen of {group}. Try: {group}={choices[0]} {key}=…"
        return f"{key}: not in this config: what it belongs to is not chosen, or null. All of it: vqclip --cfg job"
    parent = key.rpartition(".")[0]
    if parent and (whole := key_at(parent)):
        return f"{key}: {parent} is one value here. Allowed: {whole.allowed}. Try: {example_of(parent, whole)}"
    near = _without_name(key) or _in_its_group(key)
    near = nearest(key, more) if near is None else near
    return f"{key}: there is no such key.{near} All keys with their values: vqclip --cfg job"


def _in_its_group(key: str) -> str | None:
    """What the unknown key's group has instead; None if there is no such group."""
    group, _, name = key.rpartition(".")
    nodes = _nodes_at(group) if group else []
    if any(isinstance(node, Named) for node in nodes):
        return f" {one_of(group, f', or your own by {key}._target_=CLASS')}."
    if not nodes:
        return f" {one_of(group)}." if group in _BESIDE and choices_of(group) else None
    groups = [inner for node in nodes for inner in (_classes(node) if isinstance(node, Target) else [node])]
    known = list(dict.fromkeys(name for inner in groups if isinstance(inner, Group) for name in inner.keys))
    if near := difflib.get_close_matches(name, known, 1):
        return f" Did you mean {group}.{near[0]}?"
    elsewhere = nearest(name).replace(f" Did you mean {group}?", "")
    return elsewhere or (f" Allowed in {group}: {', '.join(known)}." if 0 < len(known) <= 12 else "")


def example_of(path: str, key: Key) -> str:
    """An example override; a schedule for keys that may change over a run."""
    value = key.example
    if isinstance(key.kind, Scheduled):
        value = f"{{start: {value}, end: {max(key.kind.low, 0):g}}}"
    return shlex.quote(f"{path}={value}")


def choice_of(key: str) -> str:
    """The override that chooses the part of ``callbacks.NAME…``; empty if no shipped part has the name."""
    found = A_PART.match(key)
    if not found or not any(keys.title in (found[0], f"{found[1]}={found[2]}") for keys in CLASSES.values()):
        return ""
    name = found[2]
    return {
        "loss.terms": f"'+loss/terms=[{name}]'",
        "callbacks": f"'callbacks=[default,{name}]'",
        "logger": f"logger={name}",
    }[found[1]]


def owners_of(key: str) -> list[str]:
    """The choices that have the key, such as ``init=sine``."""
    group, _, rest = key.partition(".")
    if isinstance(ROOT.keys.get(group), Named):  # a logger's keys are below its name
        return []
    return list(dict.fromkeys(title for title in _titles_with(group, rest) if title.startswith(f"{group}=")))


def _titles_with(group: str, key: str) -> list[str]:
    """Titles of the group's classes that have a key: ``init=sine``, ``callbacks.upscale``."""
    return [known.title for known in classes_of(group).values() if key in known.keys]


def _without_name(key: str) -> str:
    """`` Did you mean logger.wandb.mode?`` for ``logger.mode``, or an empty string."""
    group, _, rest = key.partition(".")
    if not isinstance(ROOT.keys.get(group), Named):
        return ""
    titles = _titles_with(group, rest)
    return f" Did you mean {group}.{re.split('[=.]', titles[0])[-1]}.{rest}?" if titles else ""


def unknown_overrides(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Overrides with wrong names, as far as can be told without composing → what is wrong."""
    found = {override: _wrong_names(override) for override in overrides}
    return {override: errors for override, errors in found.items() if errors}


def _wrong_names(override: str) -> list[str]:
    match = ASSIGNED.fullmatch(override) or _TAKEN_AWAY.fullmatch(override)
    if not match or re.search(r"[/@]", match[2]):
        return []
    mark, key, value = match.groups()
    first = key.partition(".")[0]
    if first in _BESIDE:
        return []
    if first not in ROOT.keys:
        said = unknown_key(key)
        return [said if "Did you mean" in said else f"{said}. A prompt: vqclip -- {shlex.quote(override)}"]
    if mark == "+" and _is_there(key):
        return [f"{override}: {key} is there already, + is for what is not. Try: {shlex.quote(f'{key}={value}')}"]
    if not mark and not _may_be(key):
        return [unknown_key(key)]
    inner = [] if key_at(key) else _keys_in(value)  # a schedule is checked as one value
    return [unknown_key(f"{key}.{name}") for name in inner if not _may_be(f"{key}.{name}")]


def outermost(value: str) -> str:
    """A value without its quoted and bracketed parts."""
    outside, left = re.sub(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", "", value), ""
    while left != outside:
        left, outside = outside, re.sub(r"\[[^][{}]*\]|\{[^][{}]*\}", "", outside)
    return outside


def _keys_in(value: str) -> list[str]:
    """The outermost keys of a typed mapping; empty if it names a class, whose keys are arguments."""
    mapping = re.fullmatch(r"(?s)\s*\{(.*)\}\s*", value)
    found = re.findall(r"(?:^|,)\s*(\w+)\s*:", outermost(mapping[1])) if mapping else []
    return [] if "_target_" in found else found


def _is_there(key: str) -> bool:
    """Whether every config has this key."""
    node: Node = ROOT
    for part in key.split("."):
        if not isinstance(node, Group) or part not in node.keys:
            return False
        node = node.keys[part]
    return isinstance(node, Key) and node.needed


def takes_more(node: Node) -> bool:
    """Whether keys may be added that are not in the schema, such as arguments of other classes."""
    return (isinstance(node, Group) and bool(node.others)) or (
        isinstance(node, Target) and node.group in ("optimizer", "callbacks", "logger")
    )


def _may_be(key: str) -> bool:
    """Whether some config may have this key."""
    for part, nodes, inner in walk(key):
        if part.startswith("_") or any(map(takes_more, nodes)):
            return True
        if not inner:
            return any(isinstance(node, Key) and not part for node in nodes) or _in_schedule(nodes, part)
    return True


def _in_schedule(nodes: Sequence[Node], part: str) -> bool:
    """Whether it is a part of a schedule, as in ``loss.alpha.start``."""
    return any(isinstance(node, Key) and isinstance(node.kind, Scheduled) for node in nodes) and part.isidentifier()
