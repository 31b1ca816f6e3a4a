"""Finds the user's own config files, and explains what is wrong with them."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vqclip.config.choices import choices_of, group_names, is_group, one_of
from vqclip.config.names import unknown_key
from vqclip.config.plain import plain_dict
from vqclip.config.schema import ROOT
from vqclip.errors import shown
from vqclip.io.yaml_text import TooManyValues, read_yaml
from vqclip.paths import conf_dir

__all__ = ["broken_file", "broken_files", "chosen_files", "endless_files", "misplaced_keys"]


def chosen_files(config_dir: str | None, overrides: Sequence[str]) -> list[Path]:
    """The user's own files that ``overrides`` choose as GROUP=NAME."""
    words = [word.replace("=", "/", 1) for word in overrides]
    files = [folder / f"{word}.yaml" for folder in _folders(config_dir) for word in words]
    return [path for path in files if os.path.isfile(path)]  # Path.is_file raises if a prompt is too long


def _own_files(config_dir: str | None, overrides: Sequence[str] = ()) -> Iterator[Path]:
    """The user's own YAML files, those that ``overrides`` choose first."""
    files = [path for folder in _folders(config_dir) if folder.is_dir() for path in sorted(folder.rglob("*.yaml"))]
    yield from dict.fromkeys([*chosen_files(config_dir, overrides), *files])


def _folders(config_dir: str | None) -> list[Path]:
    return ([Path(config_dir)] if config_dir else []) + [conf_dir() / "local"]


def endless_files(config_dir: str) -> Iterator[str]:
    """Messages about files that Hydra would read forever: pipes, and YAML with nested aliases."""
    for folder in ["", *group_names()]:
        for path in sorted((Path(config_dir) / folder).glob("*.yaml")):
            try:
                if not path.is_dir() and not stat.S_ISREG(path.stat().st_mode):
                    yield f"{path}: no file. Allowed: KEY: VALUE, line by line. Try: ls -l {shlex.quote(str(path))}"
                elif path.is_file() and "&" in (text := path.read_text(encoding="utf-8")):
                    read_yaml(text)
            except TooManyValues as error:
                yield f"{path}: {error}. Allowed: KEY: VALUE, line by line, each value once"
            except (OSError, ValueError):
                continue  # Hydra reports it if the file is chosen


def broken_files(config_dir: str | None, overrides: Sequence[str] = ()) -> Iterator[str]:
    """Messages about files that are not a mapping in UTF-8 YAML, chosen files first."""
    yield from filter(None, map(broken_file, _own_files(config_dir, overrides)))


def broken_file(path: Path) -> str:
    """Why a file is not a mapping in UTF-8 YAML; empty if it is one."""
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return f"{path}: not in UTF-8. Try: iconv -f latin1 -t utf-8 {path} > new.yaml"
    except ValueError as error:
        return f"{path}: {error}. Allowed: KEY: VALUE, line by line, indented with spaces"
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror}). Try: ls -l {shlex.quote(str(path))}"
    if content is None or isinstance(content, dict):
        return ""
    return f"{path}: holds a {type(content).__name__}. Allowed: KEY: VALUE, line by line"


def misplaced_keys(cfg: DictConfig, config_dir: str | None, overrides: Sequence[str] = ()) -> list[str]:
    """Messages about unknown top-level keys, with the user's file that has them."""
    errors: list[str] = []
    for key in [key for key in map(str, cfg) if key not in (*ROOT.keys, "hydra")]:
        files = list(_own_files(config_dir, overrides))
        where = next((p for p in files if re.search(rf"(?m)^{re.escape(key)}\s*:", _text(p))), None)
        if key == "local" or is_group(key):
            file = next((p for p in files if p.parent.name == key), where)
            why = _in_a_place_of_its_own(file, key, plain_dict(cfg, resolve=False)[key])
            errors.append((file and broken_file(file)) or f"{file or key}: {why}")
        elif where:
            errors.append(f"{where}: {unknown_key(key, group_names())}")
        else:  # Hydra may take a file that is not a mapping as a key
            errors.append(next(broken_files(config_dir, overrides), unknown_key(key, group_names())))
    return list(dict.fromkeys(errors))


def _in_a_place_of_its_own(file: Path | None, group: str, keys: Any) -> str:
    """Explain why a file's content is below its group instead of at the top of the config."""
    if isinstance(keys, str) and (options := choices_of(group)):  # experiment: edit
        entry = f"`defaults: [/{group}/{keys if keys in options else options[0]}]` there, and not {group}"
        return f"{group}={shown(keys)}: a text. {one_of(group, ', chosen in the defaults of the file', entry)}"
    if not keys:
        return "holds no keys. Allowed: '# @package _global_', then KEY: VALUE, line by line"
    if file and _text(file).startswith("\ufeff"):
        command = f"tail -c +4 {shlex.quote(str(file))} > new.yaml"
        return f"a byte order mark stands before its first line, which so is not read. Try: {command}"
    return "its keys are not where they belong. Try: '# @package _global_' as its first line"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
