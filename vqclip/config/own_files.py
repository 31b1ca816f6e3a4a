"""Finds and reads config files of the user's own, and explains what is wrong with one."""

from __future__ import annotations

import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from vqclip.config.choices import group_names
from vqclip.config.names import unknown_key
from vqclip.config.schema import ROOT
from vqclip.io.yaml_text import TooManyValues, read_yaml
from vqclip.paths import conf_dir

__all__ = ["broken_files", "endless_files", "misplaced_keys"]


def _own_files(config_dir: str | None) -> Iterator[Path]:
    """The user's own YAML files."""
    for folder in ([Path(config_dir)] if config_dir else []) + [conf_dir() / "local"]:
        yield from sorted(folder.rglob("*.yaml")) if folder.is_dir() else ()


def endless_files(config_dir: str) -> Iterator[str]:
    """Files of the user's own in which Hydra would read for ever: pipes, and aliases of aliases."""
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
                continue  # Hydra says so where the file is chosen


def broken_files(config_dir: str | None) -> Iterator[str]:
    """The first file of the user's own that is no mapping in UTF-8 YAML."""
    for path in _own_files(config_dir):
        try:
            content = read_yaml(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            yield f"{path}: not in UTF-8. Try: iconv -f latin1 -t utf-8 {path} > new.yaml"
        except ValueError as error:
            yield f"{path}: {error}. Allowed: KEY: VALUE, line by line, indented with spaces"
        except OSError as error:
            yield f"{path}: cannot be read ({error.strerror}). Try: ls -l {shlex.quote(str(path))}"
        else:
            if content is None or isinstance(content, dict):
                continue
            yield f"{path}: holds a {type(content).__name__}. Allowed: KEY: VALUE, line by line"
        return


def misplaced_keys(cfg: DictConfig, config_dir: str | None) -> list[str]:
    """Keys at the top that are none of ours, with the file of the user's own that has them."""
    errors: list[str] = []
    if unknown := [key for key in map(str, cfg) if key not in ROOT.keys]:
        errors += broken_files(config_dir)
    for key in unknown if not errors else ():
        where = next((p for p in _own_files(config_dir) if re.search(rf"(?m)^{re.escape(key)}\s*:", _text(p))), None)
        if key in ("experiment", "debug", "local") or (conf_dir() / key).is_dir():
            file = next((p for p in _own_files(config_dir) if p.parent.name == key), where)
            errors.append(
                f"{file or key}: its keys are not where they belong. Try: '# @package _global_' as its first line"
            )
        else:
            at = f"{where}: " if where else ""
            errors.append(f"{at}{unknown_key(key, group_names())}")
    return errors


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
