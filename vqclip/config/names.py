"""Names of keys: which there are, and the nearest to one that there is not.  From the schema alone, without Hydra.

Also the forms of an override that Hydra takes otherwise than a user means them: ``noise=null``, ``optimizer={…}``.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterator, Sequence

from vqclip.config.kinds import Scheduled
from vqclip.config.nodes import Group, Key, Named, Node, Target
from vqclip.config.schema import CLASSES, ROOT
from vqclip.config.targets import choices_of, one_of
from vqclip.errors import UserError
from vqclip.paths import conf_dir

__all__ = [
    "as_hydra_takes_it",
    "choice_of_term",
    "classes_of",
    "is_name",
    "key_at",
    "nearest",
    "owners_of",
    "unknown_key",
    "unknown_overrides",
]

_ASSIGNED = re.compile(r"(?s)([+~]{0,2})([A-Za-z_][\w./@-]*)=(.*)")
#: Not several of them, which a sweep takes one by one.
_ONE_MAPPING = re.compile(r"(?s)\s*\{([^{}]|\{[^{}]*\})*\}\s*")
_TAKEN_AWAY = re.compile(r"(~)([A-Za-z_]\w*)()")
#: What stands in quotes; or bare words, up to what ends them in a list or a mapping.
_WORDS = re.compile(
    r"""(?x) "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*'
    | [^\s,:()\[\]{}"'] (?: (?:[^,:()\[\]{}"'] | :(?!\s))* [^\s,:()\[\]{}"'] )?"""
)
#: Groups where null means the choice of that name, and those where it means that nothing is chosen.
_NULL_IS_NONE = ("callbacks", "logger", "noise")
_NULL_IS_NOTHING = ("debug", "experiment", "hparams_search", "search")
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
    module = {"optimizer": "torch.optim", "logger": "loggers"}.get(group, group)
    return {target: group for target, group in CLASSES.items() if f".{module}." in f".{target}"}


def key_at(path: str) -> Key | None:
    """The key of a dotted path, whatever class it belongs to; None where there is none, or its group takes any."""
    return next((node for node in _nodes_at(path) if isinstance(node, Key)), None)


def _nodes_at(path: str) -> list[Node]:
    nodes: list[Node] = [ROOT]
    for part in path.split("."):
        nodes = [inner for node in nodes for inner in _inside(node, part)]
    return nodes


def _inside(node: Node, part: str) -> Iterator[Node]:
    if isinstance(node, Group) and part in node.keys:
        yield node.keys[part]
    elif isinstance(node, Named):
        yield node.of
    elif isinstance(node, Target):
        for group in [*classes_of(node.group).values(), Group("", node.also)]:
            yield from _inside(group, part)


def _all_keys(node: Node = ROOT, path: str = "") -> Iterator[str]:
    """Every key with a name of ours, dotted."""
    inner: list[tuple[str, Node]] = []
    if isinstance(node, Group):
        inner = list(node.keys.items())
    elif isinstance(node, Target):
        inner = [item for group in classes_of(node.group).values() for item in group.keys.items()]
        inner += node.also.items()
    for name, key in inner:
        yield f"{path}{name}"
        yield from _all_keys(key, f"{path}{name}.")


def nearest(word: str, more: Sequence[str] = ()) -> str:
    """`` Did you mean …?`` or nothing: also a key's last part, mistyped or not, finds the whole of it."""
    if near := [_ELSEWHERE[word]] if word in _ELSEWHERE else difflib.get_close_matches(word, ROOT.keys, 1, 0.75):
        return f" Did you mean {near[0]}?"
    names = [name for name in dict.fromkeys([*_all_keys(), *more]) if name != word]
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
    """The sentence that there is no such key."""
    if key_at(key) and (choice := choice_of_term(key)):
        return f"{key}: of a term that is not chosen. Try: {choice} {key}=…"
    return f"{key}: there is no such key.{nearest(key, more)} All keys with their values: vqclip --cfg job"


def choice_of_term(key: str) -> str:
    """The override that chooses the term which ``loss.terms.NAME…`` is about; empty where none of ours has the name."""
    found = re.match(r"loss\.terms\.(\w+)", key)
    return f"+loss/terms=[{found[1]}]" if found and found[1] in choices_of("loss.terms") else ""


def owners_of(key: str) -> list[str]:
    """The choices that have a key which another choice of their group lacks, ``init=sine``."""
    group, _, rest = key.partition(".")
    titles = [known.title for known in classes_of(group).values() if rest in known.keys]
    return list(dict.fromkeys(title for title in titles if title.startswith(f"{group}=")))


def unknown_overrides(overrides: Sequence[str]) -> list[str]:
    """What can be said against the names in ``overrides`` without composing anything."""
    errors = []
    for override in overrides:
        match = _ASSIGNED.fullmatch(override) or _TAKEN_AWAY.fullmatch(override)
        if not match or re.search(r"[/@]", match[2]):
            continue
        mark, key, value = match.groups()
        first = key.partition(".")[0]
        if first in _BESIDE:
            continue
        if first not in ROOT.keys:
            said = unknown_key(key)
            errors.append(said if "Did you mean" in said else f"{said}. A prompt: vqclip -- {shlex.quote(override)}")
        elif mark == "+" and _is_there(key):
            errors.append(f"{override}: {key} is there already, + is for what is not. Try: {key}={value}")
        elif not mark and not _may_be(key):
            errors.append(unknown_key(key))
    return errors


def _is_there(key: str) -> bool:
    """Whether every config has the key."""
    node: Node = ROOT
    for part in key.split("."):
        if not isinstance(node, Group) or part not in node.keys:
            return False
        node = node.keys[part]
    return isinstance(node, Key) and node.needed


def _may_be(key: str) -> bool:
    """Whether some config may have the key."""
    nodes: list[Node] = [ROOT]
    for part in key.split("."):
        if any(isinstance(node, Group) and node.others for node in nodes) or part.startswith("_"):
            return True
        if any(isinstance(node, Target) and node.group in ("optimizer", "callbacks", "logger") for node in nodes):
            return True
        inner = [found for node in nodes for found in _inside(node, part)]
        if not inner:
            return any(isinstance(node, Key) and not part for node in nodes) or _in_schedule(nodes, part)
        nodes = inner
    return True


def _in_schedule(nodes: Sequence[Node], part: str) -> bool:
    """``loss.alpha.start``: a part of a value that may be a schedule."""
    return any(isinstance(node, Key) and hasattr(node.kind, "low") for node in nodes) and part.isidentifier()


def as_hydra_takes_it(overrides: Sequence[str]) -> list[str]:
    """Overrides as a user means them → as Hydra takes them.

    ``noise=null`` is ``noise=none``; ``optimizer={_target_: …}`` and a schedule replace what is there, whole; other
    mappings are laid over it.  Words with letters beyond ASCII need no quotes.

    Raises:
        UserError: null for a group that a run cannot do without.
    """
    return [word for override in overrides for word in _as_taken(override)]


def _as_taken(override: str) -> list[str]:
    if override[:1] == "~" and override[1:] in _NULL_IS_NONE:
        return [_without(override[1:])]
    match = _ASSIGNED.fullmatch(override)
    if not match:
        return [override]
    mark, key, value = match[1], match[2], _letters_quoted(match[3])
    override = f"{mark}{key}={value}"
    if mark:
        return [override]
    if (conf_dir() / key).is_dir():
        if value.strip() == "null" or (value == "false" and key in _NULL_IS_NONE):
            return [_without(key)]
        if value in ("true", "false") or re.match(r"\s*\[\s*\{", value):
            raise UserError(_no_option(key, value))
    if _ONE_MAPPING.fullmatch(value) and (known := key_at(key)) and isinstance(known.kind, Scheduled):
        return [f"++{key}=null", f"++{key}={value}"]  # else what a schedule there has would be mixed into it
    if value.lstrip().startswith("{"):
        if value.rstrip().endswith("}") and key in ROOT.keys:
            replaced = isinstance(ROOT.keys[key], Target) and "_target_" in value
            return [f"~{key}", f"+{key}={value}"] if replaced else [f"++{key}={value}"]
        if re.search(r"(^|\.)(terms|callbacks|logger)(\.|$)", key):
            return [f"++{key}={value}"]
    if "." in key and _may_lack(key) and not re.search(r"[,(]", re.sub(r"(?s)\{.*\}", "", value)):
        return [f"++{key}={value}"]  # one that a config may lack: no + to be remembered
    return [override]


def _letters_quoted(value: str) -> str:
    """A value, its bare words with letters beyond ASCII in quotes: Hydra's grammar takes those in no other way."""
    return _WORDS.sub(lambda m: m[0] if m[0].isascii() or m[0][0] in "\"'" else f'"{m[0]}"', value)


def _may_lack(key: str) -> bool:
    """Whether a config may do without a key that it may have."""
    nodes = [node for node in _nodes_at(key) if isinstance(node, Key | Group)]
    return bool(nodes) and not nodes[0].needed


def _no_option(group: str, value: str) -> str:
    """That a truth value or a list of mappings chooses nothing in a group."""
    own = ("", "")
    if "{" in value:
        own = (", or parts by name", f"'{group}={{one: {{_target_: CLASS}}, two: {{_target_: CLASS}}}}'")
    return f"{group}={value}: chooses nothing. {one_of(group, *own)}"


def _without(group: str) -> str:
    """The override that chooses nothing in a group."""
    if group in _NULL_IS_NONE:
        return f"{group}=none"
    if group == "loss/terms":
        return "loss.terms=null"
    if group in _NULL_IS_NOTHING or group == "local":
        return f"~{group}"
    raise UserError(f"{group}=null: a run needs one. {one_of(group)}")
