"""Converts settings of other programs to config lines, and lists those without an equivalent."""

from __future__ import annotations

import ast
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from vqclip.errors import UserError, closest
from vqclip.io.yaml_text import read_yaml
from vqclip.peers import crops, films, machinery, pictures
from vqclip.peers.prompts import picture_of
from vqclip.peers.values import NoEqual, filled, number

__all__ = ["JOINED", "PROGRAMS", "Imported", "converter", "lines_of", "program", "read_settings", "translate"]

#: Known programs, each with a table beside this file.
PROGRAMS = ("vqgan_clip", "pytti", "pixray", "engine")
#: List keys to which several options append; for other keys, the last option counts.
JOINED = ("loss/terms", "prompts.exclude", "prompts.extras")
#: Key for words of a command that belong to no option.
STRAY = ""
#: Unquoted shell syntax: redirections and command separators.
_SHELL = re.compile(
    r"""(?P<quoted>"(?:\\.|[^"\\])*"|'[^']*'|\\.)"""
    r"""|(?P<stream>(?:(?<!\S)\d+|&)?[<>]+&?\s*(?:"[^"]*"|'[^']*'|[^\s;&|<>"']+))|[;&|<>]+""",
    re.DOTALL,
)


@dataclass
class Imported:
    """The converted settings."""

    lines: list[str] = field(default_factory=list)  #: ``key=value``, in the order in which they override the default
    tools: list[str] = field(default_factory=list)  #: further vqclip commands, for what is not part of a run
    missing: list[str] = field(default_factory=list)  #: settings without an equivalent, each with what comes nearest
    notes: list[str] = field(default_factory=list)
    last: dict[str, tuple[str, str]] = field(default_factory=dict)  #: our key → its line and the option that set it

    @property
    def shows_something(self) -> bool:
        """Whether there are include prompts."""
        return any(line.startswith("prompts.include=") for line in self.lines)


@cache
def program(name: str) -> dict[str, Any]:
    """Read the table of a program: ``name``, ``base``, ``options``."""
    return read_yaml((Path(__file__).parent / f"{name}.yaml").read_text(encoding="utf-8"))


def converter(name: str) -> Callable[[Any, Mapping[str, Any]], list[str]]:
    """The function that a table's ``by`` names."""
    (found,) = {vars(module)[name] for module in (pictures, crops, films, machinery) if name in vars(module)}
    return found


def lines_of(option: Mapping[str, Any], value: Any, given: Mapping[str, Any]) -> list[str]:
    """One option's config lines for ``value``, or its ``vqclip film …``; empty if there is nothing to set.

    Raises:
        NoEqual: there is no equivalent.
    """
    if "by" in option:
        return converter(option["by"])(value, given)
    if value is False:  # switched off, so no equivalent is needed
        return []
    if "none" in option:
        raise NoEqual(option["none"])
    lines = [option["here"]] if isinstance(option["here"], str) else option["here"]
    if not value and not any("{}" in line for line in lines):  # a switch
        return []
    if isinstance(option["example"], float):  # a weight or a rate, which may be a formula there
        value = number(value)
    return [filled(line, value) for line in lines]


def translate(name: str, given: Mapping[str, Any]) -> Imported:
    """Convert settings by the other program's option names to config lines."""
    table, result = program(name), Imported()
    result.lines += table["base"]
    stated = {key: value for key, value in given.items() if value not in (None, "", [])}
    for key, value in given.items():
        option = table["options"].get(key)
        if key == STRAY:
            result.missing += [f"{word!r}: no option stands before it" for word in value]
        elif option is None:
            result.missing.append(f"{key}: {table['name']} has no such option.{closest(key, list(table['options']))}")
        elif option.get("never"):
            result.notes.append(f"{key}: nothing to set; {option['never']}")
        elif key in stated:
            _add(result, table["name"], key, option, value, stated)
    result.lines = picture_of(result.lines)
    return result


def _add(
    result: Imported, program_name: str, key: str, option: Mapping[str, Any], value: Any, given: Mapping[str, Any]
) -> None:
    try:
        if "tool" in option:
            result.tools += [option["tool"]] if value not in (False, "0", 0) else []
            return
        for line in lines_of(option, value, given):
            if line.startswith("note: "):
                result.notes.append(f"{key}: {line.removeprefix('note: ')}")
            elif line.startswith("vqclip "):
                result.tools += [line] if line not in result.tools else []  # one of several options
            else:
                _lay(result, key, line)
    except NoEqual as error:
        result.missing.append(f"{key}={value}: {error}")
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError):  # the value may be anything
        result.missing.append(f"{key}={value}: no value that {program_name} takes. One is {option.get('example')!r}")


def _lay(result: Imported, option: str, line: str) -> None:
    """Add a line that overrides earlier ones; with a note if another option had set its key to something else."""
    key = line.removeprefix("+").partition("=")[0]
    before, other = result.last.get(key, ("", option))
    if before == line:
        return
    if other != option and key not in JOINED:
        result.notes.append(f"{option}: {line} counts, and {before} of {other} does not")
    result.lines.append(line)
    result.last[key] = line, option


def read_settings(source: str) -> tuple[str, dict[str, Any]]:
    """Read a file of settings or a command line; return the program and the given settings.

    Raises:
        UserError: it is neither, or nothing in it is known.
    """
    path = Path(os.path.expanduser(source))
    is_file = os.path.isfile(path)  # Path.is_file raises if a command is too long
    text = _text(path) if is_file else source
    as_yaml = is_file and path.suffix in (".yaml", ".yml", ".json")
    if as_yaml or re.match(r"(\s*#[^!].*\n)*\s*(\{|\w+\s*:)", text):
        return _from_yaml(source, text)
    name, given = "", {}
    if "add_settings(" in text:
        name, given = "pixray", _from_python(source, text)
    elif re.search(r"(^|\s)--?[a-z]|\.py\b|pytti|pixray", text):
        lines = (line.strip() for line in text.splitlines())
        name, given = _from_command(" ".join(line.rstrip("\\ ") for line in lines if not line.startswith("#")))
    bare = not given and re.search(r"python\S*\s.*(generate\.py|pixray|pytti)", text)
    if not name or not (bare or set(given) & set(program(name)["options"])):
        shown = next(iter(source.splitlines()), "")
        what = "holds no settings" if is_file else "is neither a file nor a command line with settings"
        raise UserError(
            f"import: {shown!r} {what}. Allowed: settings of VQGAN-CLIP, pytti or pixray. "
            "Try: vqclip import 'python generate.py -p \"a fox\" -i 300'"
        )
    return name, given


def _from_python(source: str, text: str) -> dict[str, Any]:
    """The arguments of ``pixray.add_settings`` in a notebook; shell lines are ignored and no code is run."""
    shell = re.compile(r"^\s*[!%].*$", re.MULTILINE)
    try:
        calls = [node for node in ast.walk(ast.parse(shell.sub("pass", text))) if isinstance(node, ast.Call)]
        given = [pair for call in calls if ast.unparse(call.func).endswith("add_settings") for pair in call.keywords]
        return {pair.arg: ast.literal_eval(pair.value) for pair in given if pair.arg}
    except (SyntaxError, ValueError):
        raise UserError(
            f"import: {source.splitlines()[0]}: the values of its add_settings cannot be read. Allowed: numbers, texts "
            "and lists as they stand, no names. Try: a YAML file of KEY: VALUE"
        ) from None


def _from_yaml(source: str, text: str) -> tuple[str, dict[str, Any]]:
    try:
        given = read_yaml(text)
    except ValueError as error:
        raise UserError(f"import: {source}: {error}. Allowed: KEY: VALUE, one a line") from None
    if not isinstance(given, dict):
        raise UserError(f"import: {source} holds no settings. Allowed: KEY: VALUE, one a line")
    given = {str(key): None if value == "None" else value for key, value in given.items() if key != "defaults"}
    names = {name: len(set(given) & set(program(name)["options"])) for name in PROGRAMS}
    name = max(names, key=names.__getitem__)
    if not names[name]:
        raise UserError(f"import: {source} has no key of VQGAN-CLIP, pytti or pixray. Allowed: KEY: VALUE, one a line")
    return name, given


def _from_command(line: str) -> tuple[str, dict[str, Any]]:
    try:
        words = shlex.split(_SHELL.sub(_unshelled, line))
    except ValueError as error:
        raise UserError(f"import: {error}: the command's quotes have no pairs. Try: vqclip import 'python …'") from None
    words = words[: words.index("#")] if "#" in words else words  # a comment
    scripts = _scripts(words)
    if len(scripts) > 1:
        two = " and ".join(words[i] for i in scripts[:2])
        raise UserError(f"import: {two}: two commands. Allowed: one. Try: each in quotes, with a --name of its own")
    begin = scripts[0] if scripts else 0
    first = next((i for i in range(begin, len(words)) if _is_flag(words[i])), len(words))
    end = next((i for i in range(begin if scripts else first, len(words)) if words[i] == ";"), len(words))
    if any("pytti" in word for word in words[: begin + 1]):
        stray = [word for word in words[begin + 1 : end] if "=" not in word]
        settings = words[begin + 1 if scripts else 0 : end]
        pairs = [word.lstrip("+").partition("=") for word in settings if "=" in word]
        return "pytti", {key: _value(value) for key, _, value in pairs} | ({STRAY: stray} if stray else {})
    name = "pixray" if any("pixray" in word for word in words[: begin + 1]) else "vqgan_clip"
    stray = words[begin + 1 : min(first, end)]
    return name, ({STRAY: stray} if stray else {}) | _flags(name, words[first:end])


def _unshelled(found: re.Match[str]) -> str:
    if re.fullmatch(r"\\[A-Za-z0-9]", found[0]):  # a Windows path: in Unix shells nobody escapes letters
        return rf"\{found[0]}"
    return found["quoted"] or (" " if found["stream"] else " ; ")


def _scripts(words: list[str]) -> list[int]:
    """Indices of scripts that are not an option's value, and of ``python -m`` modules that are not launchers."""
    found: list[int] = []
    for i, word in enumerate(words):
        if i > 1 and words[i - 1] == "-m" and "python" in words[i - 2]:
            found.append(i)
        elif word.endswith(".py") and not re.search(r"\s", word) and not (found and _is_flag(words[i - 1])):
            launched = found and words[found[-1] - 1] == "-m"
            if launched and not any(between == ";" or "python" in between for between in words[found[-1] + 1 : i]):
                found.pop()
            found.append(i)
    return found


def _is_flag(word: str) -> bool:
    return bool(re.match(r"--?[a-zA-Z]", word))


def _flags(name: str, words: list[str]) -> dict[str, Any]:
    """The options set by flags; unknown ones keep their names."""
    options = program(name)["options"]
    known = {flag: key for key, option in options.items() for flag in [*option.get("flags", []), f"--{key}"]}
    given: dict[str, Any] = {}
    while words:
        flag, equals, inline = words.pop(0).partition("=")
        key = known.get(flag, flag.lstrip("-").replace("-", "_"))
        values = [inline] if equals else []
        while words and not _is_flag(words[0]):
            values.append(words.pop(0))
        option = options.get(key, {})
        read = [value if option.get("by") in ("prompts", "spot") else _value(value) for value in values]
        given[key] = True if not read else read if option.get("list") or len(read) > 1 else read[0]
    return given


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = "not in UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise UserError(f"import: {path}: {what}. Allowed: settings as a text. Try: iconv -t utf-8 {path}") from None


def _value(text: str) -> Any:
    """Parse a word of a command line as its program would: numbers, and None as in Python."""
    if re.fullmatch(r"[-+]?\d+", text):  # with a leading 0, YAML would read it as octal
        return int(text)
    try:
        return None if text == "None" else read_yaml(text) if text else ""
    except ValueError:
        return text
