"""Knows the names of all keys, and suggests the nearest one.  From the schema alone, without Hydra."""

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

#: Mark, key and value of an override.
ASSIGNED = re.compile(r"(?s)([+~]{0,2})([A-Za-z_][\w./@-]*)=(.*)")
_TAKEN_AWAY = re.compile(r"(~)([A-Za-z_]\w*)()")
#: What other programs call a key of ours.
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
#: Keys of the config's top that belong to no group of ours.
_BESIDE = ("hydra", "local", "debug", "experiment", "defaults")


def classes_of(group: str) -> dict[str, Group]:
    """The classes with a schema that a config group chooses from, by ``_target_``."""
    return {target: keys for target, keys in CLASSES.items() if is_for(target, group)}


def key_at(path: str) -> Key | None:
    """The key of a dotted path, whatever class it belongs to; None where there is none, or its group takes any."""
    return next((node for node in _nodes_at(path) if isinstance(node, Key)), None)


def walk(key: str) -> Iterator[tuple[str, list[Node], list[Node]]]:
    """Part by part of a dotted key: the part, the nodes that it may be in, and the nodes that it may name there."""
    nodes: list[Node] = [ROOT]
    for part in key.split("."):
        inner = [found for node in nodes for found in _inside(node, part)]
        yield part, nodes, inner
        nodes = inner


def _nodes_at(key: str) -> list[Node]:
    *_, (_, _, nodes) = walk(key)
    return nodes


def _inside(node: Node, part: str) -> Iterator[Node]:
    """What a node holds under one part of a dotted key: several where several classes may stand there."""
    if isinstance(node, Group) and part in node.keys:
        yield node.keys[part]
    elif isinstance(node, Named):
        yield node.of
    elif isinstance(node, Target):
        for group in _classes(node):
            yield from _inside(group, part)


def _classes(node: Target) -> list[Group]:
    """The classes with a schema that may stand in the place of ``node``."""
    return [*classes_of(node.group).values(), Group("", node.also)]


def _all_keys(node: Node = ROOT, path: str = "") -> Iterator[str]:
    """Every key with a name of ours, dotted."""
    inner: list[tuple[str, Node]] = []
    if isinstance(node, Group):
        inner = list(node.keys.items())
    elif isinstance(node, Target):
        inner = [item for group in _classes(node) for item in group.keys.items()]
    for name, key in inner:
        yield f"{path}{name}"
        yield from _all_keys(key, f"{path}{name}.")


def nearest(word: str, more: Sequence[str] = ()) -> str:
    """`` Did you mean …?`` or nothing: also a key's last part, mistyped or not, finds the whole of it."""
    tops = ROOT.keys if "." not in word else ()
    if near := [_ELSEWHERE[word]] if word in _ELSEWHERE else difflib.get_close_matches(word, tops, 1, 0.75):
        return f" Did you mean {near[0]}?"
    names = [name for name in dict.fromkeys([*_all_keys(), *more]) if not f"{word}.".startswith(f"{name}.")]
    parts = {name.rpartition(".")[2]: name for name in reversed(names)} if "." not in word else {}
    known = {**{name: name for name in names}, **parts}
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    # Of a key in a group only a slip of the finger in its last part is near enough.
    sure = found and (
        "." not in known[found[0]] or "." in word or difflib.SequenceMatcher(None, word, found[0]).ratio() > 0.75
    )
    return f" Did you mean {known[found[0]]}?" if sure else ""


def is_name(word: str) -> bool:
    """Whether a word without dots names a key, here or in other programs: ``steps``, ``lr``, ``iterations``."""
    return word in _ELSEWHERE or word in {name.rpartition(".")[2] for name in _all_keys()}


def unknown_key(key: str, more: Sequence[str] = ()) -> str:
    """The sentence that there is no such key, or that a config which may have it has not."""
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
    """What an unknown key's group has instead; None where there is no such group."""
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
    """A value as it is typed; of what may change over a run, one that does."""
    value = key.example
    if isinstance(key.kind, Scheduled):
        value = f"{{start: {value}, end: {max(key.kind.low, 0):g}}}"
    return shlex.quote(f"{path}={value}")


def choice_of(key: str) -> str:
    """The override that chooses the part which ``callbacks.NAME…`` is about; empty where none of ours has the name."""
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
    """The choices that have a key which another choice of their group lacks, ``init=sine``."""
    group, _, rest = key.partition(".")
    if isinstance(ROOT.keys.get(group), Named):  # a logger's keys stand below its name
        return []
    return list(dict.fromkeys(title for title in _titles_with(group, rest) if title.startswith(f"{group}=")))


def _titles_with(group: str, key: str) -> list[str]:
    """Those of the group's classes that have a key, ``init=sine``, ``callbacks.upscale``."""
    return [known.title for known in classes_of(group).values() if key in known.keys]


def _without_name(key: str) -> str:
    """`` Did you mean logger.wandb.mode?`` for ``logger.mode``, or nothing."""
    group, _, rest = key.partition(".")
    if not isinstance(ROOT.keys.get(group), Named):
        return ""
    titles = _titles_with(group, rest)
    return f" Did you mean {group}.{re.split('[=.]', titles[0])[-1]}.{rest}?" if titles else ""


def unknown_overrides(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Those of ``overrides`` whose names are mistakes, as far as that is known without composing → what is wrong."""
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
    inner = [] if key_at(key) else _keys_in(value)  # a mapping as one value, a schedule say, is checked as such
    return [unknown_key(f"{key}.{name}") for name in inner if not _may_be(f"{key}.{name}")]


def outermost(value: str) -> str:
    """The parts of a value outside quotes, brackets and braces."""
    outside, left = re.sub(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", "", value), ""
    while left != outside:
        left, outside = outside, re.sub(r"\[[^][{}]*\]|\{[^][{}]*\}", "", outside)
    return outside


def _keys_in(value: str) -> list[str]:
    """The keys of a mapping as it was typed, outermost; none of one that names a class, whose keys are its own."""
    mapping = re.fullmatch(r"(?s)\s*\{(.*)\}\s*", value)
    found = re.findall(r"(?:^|,)\s*(\w+)\s*:", outermost(mapping[1])) if mapping else []
    return [] if "_target_" in found else found


def _is_there(key: str) -> bool:
    """Whether every config has the key."""
    node: Node = ROOT
    for part in key.split("."):
        if not isinstance(node, Group) or part not in node.keys:
            return False
        node = node.keys[part]
    return isinstance(node, Key) and node.needed


def takes_more(node: Node) -> bool:
    """Whether keys may be added that the schema does not name: another class's arguments, values of one's own."""
    return (isinstance(node, Group) and bool(node.others)) or (
        isinstance(node, Target) and node.group in ("optimizer", "callbacks", "logger")
    )


def _may_be(key: str) -> bool:
    """Whether some config may have the key."""
    for part, nodes, inner in walk(key):
        if part.startswith("_") or any(map(takes_more, nodes)):
            return True
        if not inner:
            return any(isinstance(node, Key) and not part for node in nodes) or _in_schedule(nodes, part)
    return True


def _in_schedule(nodes: Sequence[Node], part: str) -> bool:
    """``loss.alpha.start``: a part of a value that may be a schedule."""
    return any(isinstance(node, Key) and isinstance(node.kind, Scheduled) for node in nodes) and part.isidentifier()
