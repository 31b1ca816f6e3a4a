"""Expands what users may type to what Hydra needs: ``noise=null``, ``optimizer={…}``, keys without a ``+``."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence

from vqclip.config.choices import A_PART, choices_of, is_group, one_of
from vqclip.config.grammar import in_quotes
from vqclip.config.kinds import Scheduled
from vqclip.config.names import ASSIGNED, choice_of, key_at, outermost, takes_more, walk
from vqclip.config.nodes import Group, Key, Target
from vqclip.config.schema import ROOT
from vqclip.errors import UserError

__all__ = ["expand_shorthand"]

#: Not several of them, which a sweep takes one by one.
_ONE_MAPPING = re.compile(r"(?s)\s*\{([^{}]|\{[^{}]*\})*\}\s*")
#: What stands in quotes; or bare words, up to what ends them in a list or a mapping, with their interpolations.
_WORDS = re.compile(
    r"""(?x) "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*'
    | (?: INNER | [^\s,:()\[\]{}"'] ) (?: (?: INNER | [^,:()\[\]{}"'] | :(?!\s))* (?: INNER | [^\s,:()\[\]{}"'] ) )?
    """.replace("INNER", r"\$\{(?:[^{}]|\$\{[^{}]*\})*\}")
)
#: Groups where null means the choice of that name, and those where it means that nothing is chosen.
_NULL_IS_NONE = ("callbacks", "logger", "noise")
_NULL_IS_NOTHING = ("debug", "experiment", "hparams_search", "search")


def expand_shorthand(overrides: Sequence[str]) -> list[str]:
    """Overrides as a user means them → as Hydra takes them.

    ``noise=null`` is ``noise=none``; ``optimizer={_target_: …}`` and a schedule replace what is there, whole; other
    mappings are laid over it.  Words with letters beyond ASCII need no quotes, and ``~/`` is the home folder.

    Raises:
        UserError: null for a group that a run cannot do without.
    """
    swept = [match[2] for match in map(ASSIGNED.fullmatch, overrides) if match and _is_swept_group(match[2], match[3])]
    added = {override.partition("=")[0] for override in overrides if override[:1] == "+"}
    return [word for override in overrides for word in _as_taken(override, swept, added)]


def _is_swept(value: str) -> bool:
    """Whether a value is several, one for each job of a sweep."""
    return bool(re.search(r"[,(]", outermost(value)))


def _is_swept_group(key: str, value: str) -> bool:
    return is_group(key) and _is_swept(value)


def _depends_on(key: str, groups: Sequence[str]) -> bool:
    """Whether a config has or lacks a key by what is chosen in ``groups``."""
    chosen = {"experiment", "debug", "local", key.partition(".")[0]}
    return "." in key and bool(key_at(key)) and any(group.partition("/")[0] in chosen for group in groups)


def _as_taken(override: str, swept: Sequence[str], added: Collection[str]) -> list[str]:
    if override[:1] == "~" and override[1:] in _NULL_IS_NONE and f"+{override[1:]}" not in added:
        return [_without(override[1:])]
    match = ASSIGNED.fullmatch(override)
    if not match or override.startswith("resume="):  # whose folder is no value of Hydra's, and taken as it stands
        return [override]
    mark, key, value = match[1], match[2], match[3]
    if not re.search("[\"']", _WORDS.sub("", value)):  # a quote by itself, as in a folder's name, would meet ours
        value = _WORDS.sub(lambda word: _readable(word[0]), value)
    override = f"{mark}{key}={value}"
    if mark:
        return [override]
    if is_group(key) and (value.strip() == "null" or (value == "false" and key in _NULL_IS_NONE)):
        return [_without(key)]
    if _ONE_MAPPING.fullmatch(value) and (known := key_at(key)) and isinstance(known.kind, Scheduled):
        return [f"++{key}=null", f"++{key}={value}"]  # else what a schedule there has would be mixed into it
    if value.lstrip().startswith("{"):
        if value.rstrip().endswith("}") and key in ROOT.keys:
            replaced = isinstance(ROOT.keys[key], Target) and "_target_" in value
            return [f"~{key}", f"+{key}={value}"] if replaced else [f"++{key}={value}"]
        if re.search(r"(^|\.)(terms|callbacks|logger)(\.|$)", key):
            return [f"++{key}={value}"]
    if "." in key and not _is_swept(value) and (_may_lack(key) or _depends_on(key, swept)):
        # One that a config may lack, or the one that Hydra composes before a sweep has any: no + to be remembered.
        return [f"++{key}={value}"]
    return [override]


def _readable(word: str) -> str:
    """A bare word as Hydra's grammar takes it: letters beyond ASCII in quotes, the home folder by its path.

    Windows' ``\\\\server`` is quoted too: of two backslashes Hydra takes one for an escape.
    """
    if word[0] in "\"'" or (word.isascii() and not word.startswith(("~/", r"\\"))):
        return word
    word = os.path.expanduser(word)
    quote = "'" if '"' in word else '"'  # which an interpolation may have
    return word if re.fullmatch(r"[\w./-]+", word, re.ASCII) else in_quotes(word, quote)


def _may_lack(key: str) -> bool:
    """Whether a config may do without a key that it may have.

    What else it then needs (of ``search.restarts``, which is null by default, count and steps), the check says.
    """
    if re.match(rf"{A_PART.pattern}\.", key) and not choice_of(key):
        return True  # of a part of one's own, whose class has keys that no schema knows, or that one of ours has too
    path, lacks = "", False
    for part, nodes, inner in walk(key):
        if not inner:
            return any(map(takes_more, nodes))
        path = f"{path}.{part}".lstrip(".")
        known = [node for node in inner if isinstance(node, Key | Group)]
        lacks |= bool(known) and (not known[0].needed or (path != key and bool(known[0].null))) and not choices_of(path)
    return lacks


def _without(group: str) -> str:
    """The override that chooses nothing in a group."""
    if group in _NULL_IS_NONE:
        return f"{group}=none"
    if group == "loss/terms":
        return "loss.terms=null"
    if group in _NULL_IS_NOTHING or group == "local":
        return f"~{group}"
    raise UserError(f"{group}=null: a run needs one. {one_of(group)}")
