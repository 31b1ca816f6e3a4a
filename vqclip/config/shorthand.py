"""Expands shorthand to Hydra's overrides: ``noise=null``, ``optimizer={…}``, keys without a ``+``."""

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

#: Matches one mapping, not several mappings to sweep.
_ONE_MAPPING = re.compile(r"(?s)\s*\{([^{}]|\{[^{}]*\})*\}\s*")
#: Matches quoted strings, and bare words with their interpolations.
_WORDS = re.compile(
    r"""(?x) "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*'
    | (?: INNER | [^\s,:()\[\]{}"'] ) (?: (?: INNER | [^,:()\[\]{}"'] | :(?!\s))* (?: INNER | [^\s,:()\[\]{}"'] ) )?
    """.replace("INNER", r"\$\{(?:[^{}]|\$\{[^{}]*\})*\}")
)
#: Groups where null means the choice ``none``, and groups where it means that nothing is chosen.
_NULL_IS_NONE = ("callbacks", "logger", "noise")
_NULL_IS_NOTHING = ("debug", "experiment", "hparams_search", "search")


def expand_shorthand(overrides: Sequence[str]) -> list[str]:
    """Expand overrides as typed to overrides for Hydra.

    ``noise=null`` is ``noise=none``; ``optimizer={_target_: …}`` and schedules replace the old value, other mappings
    are merged with it.  Words with non-ASCII letters need no quotes, and ``~/`` is the home folder.

    Raises:
        UserError: null for a group that a run needs.
    """
    swept = [match[2] for match in map(ASSIGNED.fullmatch, overrides) if match and _is_swept_group(match[2], match[3])]
    added = {override.partition("=")[0] for override in overrides if override[:1] == "+"}
    return [word for override in overrides for word in _as_taken(override, swept, added)]


def _is_swept(value: str) -> bool:
    """Whether an override has several values, one per job of a sweep."""
    return bool(re.search(r"[,(]", outermost(value)))


def _is_swept_group(key: str, value: str) -> bool:
    return is_group(key) and _is_swept(value)


def _depends_on(key: str, groups: Sequence[str]) -> bool:
    """Whether the choices in ``groups`` decide if a config has the key."""
    chosen = {"experiment", "debug", "local", key.partition(".")[0]}
    return "." in key and bool(key_at(key)) and any(group.partition("/")[0] in chosen for group in groups)


def _as_taken(override: str, swept: Sequence[str], added: Collection[str]) -> list[str]:
    if override[:1] == "~" and override[1:] in _NULL_IS_NONE and f"+{override[1:]}" not in added:
        return [_without(override[1:])]
    match = ASSIGNED.fullmatch(override)
    if not match or override.startswith("resume="):  # the folder after resume= is taken literally
        return [override]
    mark, key, value = match[1], match[2], match[3]
    if not re.search("[\"']", _WORDS.sub("", value)):  # no unbalanced quote, as in a folder's name
        value = _WORDS.sub(lambda word: _readable(word[0]), value)
    override = f"{mark}{key}={value}"
    if mark:
        return [override]
    if is_group(key) and (value.strip() == "null" or (value == "false" and key in _NULL_IS_NONE)):
        return [_without(key)]
    if _ONE_MAPPING.fullmatch(value) and (known := key_at(key)) and isinstance(known.kind, Scheduled):
        return [f"++{key}=null", f"++{key}={value}"]  # else it would be merged with an existing schedule
    if value.lstrip().startswith("{"):
        if value.rstrip().endswith("}") and key in ROOT.keys:
            replaced = isinstance(ROOT.keys[key], Target) and "_target_" in value
            return [f"~{key}", f"+{key}={value}"] if replaced else [f"++{key}={value}"]
        if re.search(r"(^|\.)(terms|callbacks|logger)(\.|$)", key):
            return [f"++{key}={value}"]
    if "." in key and not _is_swept(value) and (_may_lack(key) or _depends_on(key, swept)):
        # Adds a key that a config, or the one that Hydra composes first in a sweep, may lack; so users need no +.
        return [f"++{key}={value}"]
    return [override]


def _readable(word: str) -> str:
    """Make a bare word valid in Hydra's grammar: quote non-ASCII letters, expand the home folder.

    Windows' ``\\\\server`` is quoted too, since Hydra takes the first of two backslashes as an escape.
    """
    if word[0] in "\"'" or (word.isascii() and not word.startswith(("~/", r"\\"))):
        return word
    word = os.path.expanduser(word)
    quote = "'" if '"' in word else '"'  # an interpolation may contain quotes
    return word if re.fullmatch(r"[\w./-]+", word, re.ASCII) else in_quotes(word, quote)


def _may_lack(key: str) -> bool:
    """Whether a key is optional in some config, so that it may have to be added.

    If it requires further keys (``search.restarts.count`` and ``.steps``), the check reports them.
    """
    if re.match(rf"{A_PART.pattern}\.", key) and not choice_of(key):
        return True  # a custom class may have any key
    path, lacks = "", False
    for part, nodes, inner in walk(key):
        if not inner:
            return any(map(takes_more, nodes))
        path = f"{path}.{part}".lstrip(".")
        known = [node for node in inner if isinstance(node, Key | Group)]
        lacks |= bool(known) and (not known[0].needed or (path != key and bool(known[0].null))) and not choices_of(path)
    return lacks


def _without(group: str) -> str:
    """The override that means null for a group."""
    if group in _NULL_IS_NONE:
        return f"{group}=none"
    if group == "loss/terms":
        return "loss.terms=null"
    if group in _NULL_IS_NOTHING or group == "local":
        return f"~{group}"
    raise UserError(f"{group}=null: a run needs one. {one_of(group)}")
