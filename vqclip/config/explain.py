"""Hydra's errors in one sentence each, with the nearest key or choice and the command that fixes it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import MissingConfigException
from omegaconf import DictConfig

from vqclip.config.names import owner_of, unknown_key
from vqclip.config.schema import ROOT
from vqclip.errors import closest
from vqclip.paths import conf_dir

__all__ = ["explain", "file_mistakes"]

#: launcher → the extra of vqclip that brings it.
_EXTRAS = {
    "joblib": "joblib",
    "workers": "joblib",
    "ray": "ray",
    "ray_aws": "ray",
    "cluster": "ray",
    "submitit_slurm": "submitit",
    "submitit_local": "submitit",
    "slurm": "submitit",
}


def explain(error: Exception, config_dir: str | None = None) -> str:
    """One sentence for what went wrong while a config was composed."""
    text = str(error)
    if broken := "".join(_broken_files(config_dir)):
        return broken
    if isinstance(error, MissingConfigException) or "Could not load '" in text:
        return _no_choice(error)
    if found := re.search(r"Could not (?:override|find|append to|delete)[^']*'([^']+)'", text):
        key = found[1]
        if owner := owner_of(key):
            return f"{key}: belongs to {owner}, which is not chosen. Try: {owner} {key}=…"
        if "append" in found[0]:
            return f"{key}: is there already, + is for what is not. Try: {key}=VALUE"
        return unknown_key(key, _groups())
    if found := re.search(r"Key '([^']+)' is not in struct\s+full_key: (\S+)", text):
        return unknown_key(found[2], _groups())
    return _other(text)


def _other(text: str) -> str:
    """Hydra's grammar, ambiguous values, and what is left."""
    if found := re.search(r"Ambiguous value for argument '(.*?)'", text, re.DOTALL):
        line = found[1]
        key, _, value = line.partition("=")
        return f"{line}: several values. Allowed: one, a list, or a sweep. Try: {key}=[{value}], or vqclip -m {line}"
    if "parsing override" in text or "no viable alternative" in text or "mismatched input" in text:
        line = (re.search(r"override '(.*?)'", text) or ["", ""])[1]
        what = f"{line}: " if line else "an override "
        return (
            f"{what}cannot be read. Allowed: KEY=VALUE with brackets and quotes closed, and a text with commas or "
            "brackets in quotes twice. Try: 'prompts.exclude=\"dark, blurry\"'"
        )
    return " ".join(text.split())


def _no_choice(error: Exception) -> str:
    # A choice that stands alone comes with its options, one in a list without.
    found = re.search(r"Could not load '([^']+)'", str(error))
    missing = getattr(error, "missing_cfg_file", None) or (found[1] if found else "")
    group, _, choice = missing.rpartition("/")
    if not group:
        return f"--config-name {choice}: there is no such file. Allowed: a config beside ours in --config-dir DIR"
    if group == "hydra/launcher" and choice in _EXTRAS:
        return f'{group}={choice}: is not installed. Try: pip install "vqclip[{_EXTRAS[choice]}]"'
    options = sorted(getattr(error, "options", None) or (path.stem for path in (conf_dir() / group).glob("*.yaml")))
    if group == "experiment" and (study := _study(choice)):
        return study
    near = difflib.get_close_matches(choice, options, n=1)
    best = (near or options or [""])[0]
    alone = getattr(error, "options", None)
    return (
        f"{group}={choice}: there is no such choice.{closest(choice, options)} Allowed: {', '.join(options)}. "
        f"Try: {group}={best if alone else f'[{best}]'}"
    )


def _study(name: str) -> str:
    """Where a study of the repository is, and the command that runs it; empty where there is none of that name."""
    if name not in ("alpha_beta", "gallery", "learning_rate", "search", "sfumato"):
        return ""
    folder = conf_dir().parent / "experiments" / name
    where = "" if folder.is_dir() else " of the repository, which an installed copy does not hold"
    return (
        f"experiment={name}: a study with a folder of its own, experiments/{name}{where}. "
        f"Try: vqclip -m --config-dir experiments/{name} experiment={name}"
    )


def _groups() -> list[str]:
    return [str(path.relative_to(conf_dir())) for path in conf_dir().rglob("*") if path.is_dir()]


def _own_files(config_dir: str | None) -> Iterator[Path]:
    """The user's own YAML files."""
    for folder in ([Path(config_dir)] if config_dir else []) + [conf_dir() / "local"]:
        yield from sorted(folder.rglob("*.yaml")) if folder.is_dir() else ()


def _broken_files(config_dir: str | None) -> Iterator[str]:
    """The first file of the user's own that is no mapping in UTF-8 YAML."""
    for path in _own_files(config_dir):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            yield f"{path}: not in UTF-8. Try: iconv -f latin1 -t utf-8 {path} > new.yaml"
        except yaml.YAMLError as error:
            mark: Any = getattr(error, "problem_mark", None)
            line = f" line {mark.line + 1}" if mark else ""
            yield f"{path}{line}: not YAML ({getattr(error, 'problem', None) or 'it cannot be read'})"
        except OSError as error:
            yield f"{path}: cannot be read ({error.strerror})"
        else:
            if content is None or isinstance(content, dict):
                continue
            yield f"{path}: holds a {type(content).__name__}. Allowed: KEY: VALUE, line by line"
        return


def file_mistakes(cfg: DictConfig, config_dir: str | None) -> list[str]:
    """Keys at the top that are none of ours, with the file of the user's own that has them."""
    errors: list[str] = []
    if unknown := [key for key in map(str, cfg) if key not in ROOT.keys]:
        errors += _broken_files(config_dir)
    for key in unknown if not errors else ():
        where = next((p for p in _own_files(config_dir) if re.search(rf"(?m)^{re.escape(key)}\s*:", _text(p))), None)
        if key in ("experiment", "debug", "local") or (conf_dir() / key).is_dir():
            file = next((p for p in _own_files(config_dir) if p.parent.name == key), where)
            errors.append(
                f"{file or key}: its keys are not where they belong. Try: '# @package _global_' as its first line"
            )
        else:
            at = f"{where}: " if where else ""
            errors.append(f"{at}{unknown_key(key, _groups())}")
    return errors


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
