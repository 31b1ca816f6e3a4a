"""Parses the command line into prompts, overrides and flags in one scan, without importing Hydra."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NoReturn

from vqclip.config.choices import group_names
from vqclip.config.grammar import as_typed, quote
from vqclip.config.names import is_name, key_at, nearest
from vqclip.config.schema import ROOT
from vqclip.config.shorthand import expand_shorthand
from vqclip.errors import UserError, closest

__all__ = [
    *("FLAGS", "Command", "ToolParser", "allow_lazy_help", "parse_arguments", "parse_config", "top_level"),
    *("take_flag", "whole"),
]

#: Flags, with their short forms → allowed values; ``()`` for no value, ``None`` for any.
FLAGS: dict[str, tuple[str, ...] | None] = {
    "--multirun": (),
    "--help": (),
    "--hydra-help": (),
    "--version": (),
    "--resolve": (),
    "--run": (),
    "--offline": (),
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--package": None,
    "--config-dir": None,
    "--config-name": None,
    "--shell-completion": None,
}
_SHORT = {
    "-m": "--multirun",
    "-h": "--help",
    "-r": "--run",
    "-c": "--cfg",
    "-i": "--info",
    "-p": "--package",
    "-cd": "--config-dir",
    "-cn": "--config-name",
    "-sc": "--shell-completion",
}
#: Hydra's flags that are not supported → what to use instead.
_ELSEWHERE = {
    **dict.fromkeys(("-cp", "--config-path"), "groups and configs of your own lie beside ours. Try: --config-dir DIR"),
    "--experimental-rerun": "a run folder knows how it was made. Try: vqclip rerun RUN",
}
_OVERRIDE = re.compile(r"[~+]{0,2}(?P<key>[a-z_][\w.@/-]*)(=|$)")


@cache
def allow_lazy_help() -> None:
    """Let Python 3.14 build Hydra's own parser.

    From 3.14 on, argparse checks help texts when arguments are added; one of Hydra's is a lazy object and is refused,
    so that up to Hydra 1.3.8 no command would start.
    """
    container: Any = argparse._ActionsContainer
    if check := getattr(container, "_check_help", None):
        container._check_help = lambda self, action: isinstance(action.help, str) and check(self, action)


class ToolParser(argparse.ArgumentParser):
    """The parser of a tool, which raises UserError on mistakes."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog.removeprefix('vqclip ')}: {message}. Try: {self.prog} --help")


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """The argparse ``type`` of a whole number from ``low`` to ``high``, both included."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < low or (high is not None and int(text) > high):
            bounds = f"from {low} up" if high is None else f"from {low} to {high:,}"
            raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a whole number {bounds}")
        return int(text)

    return number


@dataclass
class Command:
    """A parsed command line."""

    prompts: list[str] = field(default_factory=list)  #: bare words
    overrides: list[str] = field(default_factory=list)  #: for Hydra; the prompts come last
    flags: dict[str, str | None] = field(default_factory=dict)  #: long form → its value
    notes: list[str] = field(default_factory=list)  #: notes to print

    @property
    def shows(self) -> bool:
        """Whether Hydra only shows something, and nothing runs."""
        return bool({"--cfg", "--info", "--hydra-help", "--shell-completion"} & set(self.flags))

    @property
    def words(self) -> list[str]:
        """The arguments for Hydra's own parser: flags first.  A sweep also prints them as its command."""
        flags = [word for pair in self.flags.items() for word in pair if word is not None]
        return ["-m" if word == "--multirun" else word for word in flags] + self.overrides


def parse_config(argv: Sequence[str], tool: str) -> Command:
    """Parse the config of a tool: prompts, overrides and ``--config-dir``, but no other flags.

    Raises:
        UserError: another flag, or what :func:`parse_arguments` refuses.
    """
    command = parse_arguments(argv)
    if others := [flag for flag in command.flags if flag != "--config-dir"]:
        raise UserError(f"{others[0]}: not with {tool}. Allowed: prompts, KEY=VALUE, --config-dir DIR")
    return command


def parse_arguments(argv: Sequence[str]) -> Command:
    """Parse the command line.

    Raises:
        UserError: an unknown flag or one without its value, a blank prompt, a key without a value.
    """
    command, words = Command(), list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            command.prompts += map(_filled, words)
            break
        if word.startswith("-") and len(word) > 1 and not word[1].isspace() and not word[1].isdigit():
            flag, value = take_flag(word, words)
            command.flags[flag] = value
        elif _is_override(word):
            command.overrides.append(word)
        else:
            command.prompts.append(word if "--help" in command.flags else _not_a_key(word))
    if command.flags.pop("--offline", "") is None:
        os.environ["VQCLIP_OFFLINE"] = "1"
    _refuse(command)
    command.overrides = expand_shorthand(command.overrides)
    if command.prompts:
        if twice := [word for word in command.overrides if word.startswith("prompts.include=")]:
            raise UserError(f"{twice[0]}: the prompt {command.prompts[0]!r} says it already. Allowed: one of the two")
        command.notes += [note for prompt in command.prompts for note in _peers_forms(prompt)]
        command.overrides.append(f"prompts.include=[{','.join(map(quote, command.prompts))}]")
    return command


def take_flag(word: str, rest: list[str]) -> tuple[str, str | None]:
    """A flag's long form and its value, which is removed from ``rest`` if it is a word of its own."""
    name, equals, value = word.partition("=")
    name = _SHORT.get(name, name)
    if name in _ELSEWHERE:
        raise UserError(f"{word}: {_ELSEWHERE[name]}")
    if name not in FLAGS:
        key = name.lstrip("-").replace("-", "_")
        if is_name(key) or key_at(key):
            near = (
                f" Try: {key}={value}, in a W&B sweep ${{args_no_hyphens}}." if equals and key_at(key) else nearest(key)
            )
            raise UserError(
                f"{word}: a key has no dashes, and takes = before its value.{near} A prompt: vqclip -- '{word}'"
            )
        near = closest(name, [*FLAGS, *_SHORT])
        raise UserError(f"{word}: there is no such flag.{near} All flags: vqclip --help. A prompt: vqclip -- '{word}'")
    allowed = FLAGS[name]
    if allowed == ():
        if equals:  # --offline=false must not go offline
            raise UserError(f"{word}: takes no value. Allowed: {name}, or not this flag")
        return name, None
    if allowed is None:
        value = value if equals else rest.pop(0) if rest else ""
        if not value.strip():
            raise UserError(f"{name}: a value is missing. Try: {name} {'my_conf' if 'dir' in name else 'NAME'}")
        return name, value
    if equals and value in allowed:
        return name, value
    if equals:
        raise UserError(f"{word}: there is no such choice. Allowed: {', '.join(allowed)}. Try: {name} {allowed[0]}")
    if not rest or rest[0] in allowed:
        return name, rest.pop(0) if rest else allowed[0]
    if difflib.get_close_matches(rest[0], allowed, 1, 0.75):
        raise UserError(
            f"{name} {rest[0]}: there is no such choice. Allowed: {', '.join(allowed)}. "
            f"A prompt: vqclip {name} {allowed[0]} {shlex.quote(rest[0])}"
        )
    return name, allowed[0]


def _is_override(word: str) -> bool:
    """Whether an argument is meant for Hydra rather than a prompt."""
    match = _OVERRIDE.match(word)
    if not match or (match[2] != "=" and word[0] != "~"):  # a bare word is a prompt
        return False
    if word[0] in "+~":
        return True
    key = match["key"]
    first = re.split(r"[./@]", key)[0]
    if first in top_level() or first != key:
        return True
    # "colour=red apples" is a prompt; "steeps=3" and "sed=a b" are typing mistakes.
    return not re.search(r"\s", word) or bool(closest(first, top_level()))


def _not_a_key(word: str) -> str:
    """Return a prompt; refuse ``noise.factor`` alone, ``=``, a picture's name and a run folder as mistakes."""
    if word == "=":
        raise UserError("=: no spaces around it. Allowed: KEY=VALUE in one word. Try: seed=3")
    if os.path.splitext(word)[1] in (".png", ".jpg", ".jpeg", ".webp") and os.path.isfile(word):
        edited, shows = as_typed("init.path", word), as_typed("prompts.extras", [{"image": word}])
        raise UserError(
            f"{word}: a picture, not a text. To edit it: vqclip experiment=edit {edited} 'a fox'. "
            f"As a prompt: {shows}. As a text: vqclip -- {shlex.quote(word)}"
        )
    if os.path.dirname(word) and os.path.isfile(os.path.join(word, "run.json")):
        raise UserError(
            f"{word}: a run folder, not a text. To see it: vqclip compare RUN. To continue it: vqclip resume=RUN. To "
            f"reproduce it: vqclip rerun RUN. As a text: vqclip -- {shlex.quote(word)}"
        )
    if word.startswith('{"') and word.endswith("}"):
        raise UserError(
            f"{word}: a mapping, not a text. Allowed: KEY=VALUE, in a W&B sweep ${{args_no_hyphens}}. Try: seed=3. "
            f"As a prompt: vqclip -- {shlex.quote(word)}"
        )
    if "." in word and (key := key_at(word)):
        example = shlex.quote(f"{word}={key.example}")
        raise UserError(f"{word}: a key without a value. Try: {example}. As a prompt: vqclip -- {word}")
    return _filled(word)


def _filled(word: str) -> str:
    if not word.strip():
        raise UserError(
            'prompts.include: an empty prompt. Allowed: any text that is not blank. Try: vqclip "a red apple"'
        )
    return word


@cache
def top_level() -> list[str]:
    """Top-level keys and groups of the config."""
    return sorted({*(name for name in group_names() if "/" not in name), *ROOT.keys, "hydra", "local"})


def _refuse(command: Command) -> None:
    """Refuse what Hydra accepts but vqclip does not support."""
    for flag in ("--resolve", "--package"):
        if flag in command.flags and "--cfg" not in command.flags:
            raise UserError(f"{flag}: only for a config that is shown. Try: vqclip --cfg job {flag}")
    for override in command.overrides:
        word = override.lstrip("+")
        if word.startswith("hydra.sweep.subdir=") or re.match(r"hydra\.sweep=\{.*\bsubdir:", word):
            raise UserError(
                f"{override}: the jobs' folders are numbered, so that a sweep can go on where it stopped. "
                "Allowed: the sweep's folder. Try: hydra.sweep.dir=multirun/mine"
            )
        if word.startswith("hydra.job.name=") and "/" in word:
            raise UserError(f"{override}: it names the log file. Allowed: a name without /. Try: hydra.job.name=mine")
    if (folder := command.flags.get("--config-dir")) is not None:
        if not os.path.isdir(folder):
            raise UserError(f"--config-dir {folder}: there is no such folder. Allowed: one that holds GROUP/NAME.yaml")
        os.listdir(folder)  # raises if unreadable; from Python 3.13 on, globbing would find it empty


def _peers_forms(prompt: str) -> list[str]:
    """Notes on a prompt in the syntax of other programs, which is plain text here."""
    if " | " in prompt or " ^ " in prompt:
        parts = [part.strip() for part in re.split(r" [|^] ", prompt)]
        shown = " ".join(f'"{part}"' for part in parts)
        return [
            f'"{prompt}" is one text here. A picture of each: vqclip {shown}   '
            + (
                f"Scenes of a film: vqclip film {shown}"
                if " ^ " in prompt
                else f"Mixed into one: vqclip 'prompts.include=[{{parts: [{', '.join(parts)}]}}]'"
            )
        ]
    return []
