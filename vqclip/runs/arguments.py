"""Converts the arguments of ``vqclip.run`` and ``vqclip.sweep`` to command line overrides."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqclip.config.grammar import PLAIN, is_list, nested, quote, quote_where_needed
from vqclip.errors import UserError, is_text, shown
from vqclip.paths import can_name_a_folder

__all__ = ["as_callbacks", "as_folder", "as_overrides"]

#: Keys with parts by name → the override that removes all parts.
_BY_NAME = {
    "callbacks": "callbacks=none",
    "logger": "logger=none",
    "loss.terms": "++loss.terms=null",
    "checkpoints.perceptors": "++checkpoints.perceptors=null",
}


def as_overrides(
    prompt: str | Sequence[str] | None,
    overrides: Sequence[str] | Mapping[str, Any],
    keys: Mapping[str, Any],
    swept: bool = False,
) -> list[str]:
    """Convert arguments to the equivalent command line overrides.

    Args:
        swept: whether a list means several values to sweep.

    Raises:
        UserError: a value that no config can hold.
    """
    given = {**_mapping(overrides), **keys} if isinstance(overrides, Mapping) else keys
    words = [] if isinstance(overrides, Mapping) else _lines(overrides)
    if isinstance(given.get("resume"), Path):  # a path is not parsed as an override
        given = {**given, "resume": str(given["resume"])}
    if isinstance(paths := given.get("paths"), Mapping):  # copied from a run's config
        given = {**given, "paths": {key: value for key, value in paths.items() if key != "output_dir"}}
    try:
        for key, value in given.items():
            words += [*_emptied(key, value), f"{key}={_choices(key, value) if swept else _value(value)}"]
    except (RecursionError, ValueError) as error:  # nested in itself; more digits than Python converts
        raise UserError(f"overrides: a value that no config can hold ({error}). Allowed: {PLAIN}") from None
    texts = _texts(prompt)
    words += [f"prompts.include=[{','.join(map(quote, texts))}]"] if texts else []
    if wrong := [word for word in words if not is_text(word)]:
        raise UserError(
            f"{shown(wrong[0])}: half a surrogate pair, which no file can hold. Allowed: complete characters"
        )
    _refuse_idle(words, swept)
    return words


def _refuse_idle(words: Sequence[str], swept: bool) -> None:
    """Refuse Hydra's own keys, which have no effect in a run from Python."""
    place = "hydra.sweep.dir" if swept else "hydra.run.dir"
    for word in words:
        key, _, value = word.lstrip("+~").partition("=")
        if key in (place, "paths.output_dir"):
            where = value.strip("\"'") or "outputs/mine"
            raise UserError(f"{word}: not from Python. Allowed: the argument folder. Try: folder={where!r}")
        if not swept and re.match(r"hydra\b", key) and key != "hydra.searchpath":
            raise UserError(
                f"{word}: has no effect on a run from Python. Allowed of Hydra's keys: hydra.searchpath. "
                f"Try: without it, or a command: vqclip {shlex.quote(word)}"
            )


def as_folder(name: str, value: Any, there: bool = False) -> Path:
    """Check a folder argument; ``~`` is the home folder.

    Args:
        there: whether it must exist.

    Raises:
        UserError: it is neither a string nor a path, or cannot be a folder's name.
    """
    text = os.path.expanduser(value) if isinstance(value, str | Path) else ""
    if not can_name_a_folder(text):
        raise UserError(
            f"{name}={shown(value)}: not a folder name. Allowed: a text or a Path. Try: {name}='outputs/mine'"
        )
    if there and not Path(text).is_dir():
        raise UserError(f"{name}={text}: there is no such folder. Try: ls {shlex.quote(str(Path(text).parent))}")
    if there:
        os.listdir(text)  # raises if it is unreadable
    return Path(text)


def as_callbacks(value: Any) -> list[Any]:
    """Check an argument of Lightning callbacks.

    Raises:
        UserError: it is something else.
    """
    some = _listed(value)
    if not some:
        return []
    import pytorch_lightning as pl

    if wrong := [one for one in some if not isinstance(one, pl.Callback)]:
        raise UserError(
            f"callbacks: {shown(wrong[0])} is no callback of pytorch_lightning's. Allowed: a list of objects of its "
            "classes. Try: callbacks=[EarlyStopping('loss')]"
        )
    return some


def _listed(value: Any) -> list[Any]:
    """The items of an iterable; anything else, also a string or mapping, is one item."""
    if value is None or isinstance(value, str | bytes | bytearray | Mapping):
        return [] if value is None else [value]
    try:
        return list(value)
    except TypeError:
        return [value]


def _mapping(overrides: Mapping[Any, Any]) -> Mapping[str, Any]:
    if wrong := [key for key in overrides if not isinstance(key, str) or not key.strip()]:
        raise UserError(
            f"overrides: {wrong[0]!r} is no key. Allowed: the keys of the config as texts. "
            "Try: overrides={'loss.beta': 1}"
        )
    return overrides


def _lines(overrides: Any) -> list[str]:
    """Check overrides that were given as a list."""
    if not isinstance(overrides, list | tuple):
        raise UserError(
            f"overrides={shown(overrides)}: a {type(overrides).__name__}. Allowed: a list or a mapping. "
            f"Try: overrides={[overrides] if isinstance(overrides, str) else ['steps=50']!r}"
        )
    if wrong := [line for line in overrides if not isinstance(line, str)]:
        raise UserError(
            f"overrides: {shown(wrong[0])} is no override. Allowed: texts KEY=VALUE, or a mapping. "
            "Try: overrides=['steps=50']"
        )
    if flag := next((line for line in overrides if line.startswith("-")), ""):
        following = overrides[list(overrides).index(flag) + 1 :]
        raise UserError(
            f"overrides: {shown(flag)} is a flag of the command line. Allowed: texts KEY=VALUE. "
            f"Try: {_instead_of(flag, following)}"
        )
    return list(overrides)


def _instead_of(flag: str, following: Sequence[str]) -> str:
    """The Python equivalent of a command line flag."""
    name, equals, value = flag.partition("=")
    if name in ("--config-dir", "-cd"):
        return f"config_dir={value if equals else following[0] if following else 'my_conf'!r}"
    if name in ("-m", "--multirun"):
        return "vqclip.sweep, without it"
    return "os.environ['VQCLIP_OFFLINE'] = '1'" if name == "--offline" else "without it"


def _texts(prompt: Any) -> list[str]:
    """One prompt, or several in any iterable."""
    texts = _listed(prompt)
    if any(not isinstance(text, str) or not text.strip() for text in texts):
        raise UserError(
            f"prompt={shown(prompt)}: not allowed. Allowed: a text that is not blank, or a list of such texts. "
            "Try: prompt='a fox'"
        )
    return texts


def _emptied(key: str, value: Any) -> list[str]:
    """The override that first removes the config's parts, if the value is a mapping of complete parts by name.

    A mapping that only changes keys of existing parts, such as ``{"timelapse": {"fps": 12}}``, is merged with them.
    """
    if not isinstance(value, Mapping):
        return []
    given = {key: value, **{f"{key}.{name}": part for name, part in value.items()}}
    words = [word for path, word in _BY_NAME.items() if _is_whole(given.get(path))]
    # A custom class would otherwise get the keys of the default generator too.
    generator = given.get("checkpoints.generator")
    own = isinstance(generator, Mapping) and "_target_" in generator
    return [*words, "++checkpoints.generator=null"] if own else words


def _is_whole(parts: Any) -> bool:
    """Whether every part in a mapping has its class or file; also for an empty mapping."""
    if not isinstance(parts, Mapping):
        return False
    there = [part for part in parts.values() if part is not None]
    whole = [isinstance(part, Mapping) and {"_target_", "path", "urls"} & {*part} for part in there]
    return bool(there and all(whole)) or not parts


def _value(value: Any) -> str:
    """A value in Hydra's grammar.  A string is taken as typed; paths and strings within a value are quoted."""
    return value if isinstance(value, str) else nested(value)


def _choices(key: str, value: Any) -> str:
    """A list as Hydra's choice sweep, anything else as one value."""
    if not is_list(value) or isinstance(value, tuple):
        return _value(value)
    if not value:
        raise UserError(f"{key}=[]: nothing to sweep over. Allowed: one value or more; () is an empty list")
    return ",".join(quote_where_needed(item) if isinstance(item, str) else nested(item) for item in value)
