"""Rewrites Hydra's errors as one sentence with the nearest key or choice and the command that fixes it."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException

from vqclip.config.choices import PARTS, choices_of, group_names, is_group, one_of
from vqclip.config.grammar import quote
from vqclip.config.names import example_of, key_at, owners_of, unknown_key
from vqclip.config.own_files import broken_file, broken_files, chosen_files
from vqclip.errors import closest
from vqclip.paths import conf_dir

__all__ = ["explain"]

#: Launcher → the extra of vqclip that installs it.
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


def explain(error: Exception, config_dir: str | None = None, overrides: Sequence[str] = ()) -> str:
    """One sentence about an error while composing ``overrides``."""
    text = " ".join(str(error).split())
    if isinstance(error, MissingConfigException) or "Could not load '" in text:
        return _no_choice(error)
    failed = _Failed(text, error.__cause__, overrides)
    if said := next(_no_choices(overrides), "") or _by_message(failed):
        return said
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark):
        twice = f"{mark.name} line {mark.line + 1}: {error.problem}. Allowed: KEY: VALUE, line by line, each key once"
        return broken_file(Path(mark.name)) or twice
    where = " or ".join(map(str, chosen_files(config_dir, overrides)))
    broken = next(broken_files(config_dir, overrides), "")
    return broken or _of_a_file(error, text, where or (f"a file in {config_dir}" if config_dir else "the config"))


@dataclass(frozen=True)
class _Failed:
    """Hydra's message in one line, its cause (usually OmegaConf's error), and the overrides."""

    text: str
    cause: BaseException | None
    overrides: Sequence[str]


def _no_key(found: re.Match[str], failed: _Failed) -> str:
    what, key = found[1], found[2]
    inner = str(getattr(failed.cause, "full_key", ""))
    key = inner if inner.startswith(f"{key}.") else key  # a key within a mapping
    if owners := owners_of(key):
        best = "experiment=edit" if key == "init.path" else owners[0]  # else the anchor holds
        return f"{key}: belongs to {' or '.join(owners)}, which is not chosen. Try: {best} {key}=…"
    if what == "override" and is_group(key):
        return f"{key}: nothing is chosen of that group yet. Try: '+{key}=[NAME]'"
    if what == "append to":
        return f"{key}: is there already, + is for what is not. Try: {key}=VALUE"
    return unknown_key(key, group_names())


def _chosen_already(found: re.Match[str], failed: _Failed) -> str:
    return f"{found[1]}: is chosen already, + is for what is not. Try: {shlex.quote(f'{found[1]}={found[2]}')}"


def _several_values(found: re.Match[str], failed: _Failed) -> str:
    line = found[1]
    key, _, value = line.partition("=")
    one, several = shlex.quote(f"{key}=[{value}]"), shlex.quote(line)
    return f"{line}: several values. Allowed: one, a list, or a sweep. Try: {one}, or vqclip -m {several}"


def _not_in_the_grammar(found: re.Match[str], failed: _Failed) -> str:
    line = (re.search(r"override '(.*?)'", failed.text) or ["", ""])[1] or next(_unreadable(failed.overrides), "")
    what = f"{line.removeprefix('++')}: " if line else "an override "
    key, _, value = line.lstrip("+").partition("=")
    strange = "LexerNo" in failed.text and value.isprintable() and not re.search(r"[][{}()\"',]", value)
    known = None if key.startswith("prompts.") else key_at(key)  # prompts need the advice about quotes
    quoted = shlex.quote(f"{key}={quote(value)}" if strange else 'prompts.exclude="dark, blurry"')
    quoted = example_of(key, known) if known and not strange else quoted
    if re.fullmatch(r"\$\{[^'\"]*\}", value) and value.count("{") == value.count("}"):  # nested interpolations
        quoted = shlex.quote(f'{key}="{value}"')
    return (
        f"{what}cannot be read. Allowed: KEY=VALUE with brackets and quotes closed, and a text with commas or "
        f"brackets in quotes twice. Try: {quoted}"
    )


def _of_another_kind(found: re.Match[str], failed: _Failed) -> str:
    cause = str(failed.cause).partition("\n")[0]
    if key := key_at(found[2]):
        fits = f"{key.allowed}. Try: {shlex.quote(f'{found[2]}={key.example}')}"
    elif "subclass" in cause or not found[2].startswith("hydra."):
        fits = f"its keys. Try: {found[2]}.KEY=VALUE"
    else:  # the message says what is allowed
        return f"{found[1]}: {cause}. Hydra's keys with their values: vqclip --cfg hydra"
    return f"{found[1]}: not allowed here. Allowed: {fits}"


#: Pattern of Hydra's message → our sentence; the first match counts.
_MESSAGES: Sequence[tuple[str, Callable[[re.Match[str], _Failed], str]]] = (
    (r"Could not (override|find|append to|delete)[^']*'([^']+)'", _no_key),
    (r"Multiple values for (\S+)\. .* 'override \S+: (.+?)'", _chosen_already),
    (r"Key '[^']+' is not in struct full_key: (\S+)", lambda found, failed: unknown_key(found[1], group_names())),
    (r"Ambiguous value for argument '(.*?)'", _several_values),
    (r"parsing override|no viable alternative|mismatched input|LexerNo", _not_in_the_grammar),
    (r"Error merging override [+~]*(([^=\s]+)=.*)", _of_another_kind),
)


def _by_message(failed: _Failed) -> str:
    """The sentence of the first matching pattern; empty if none matches."""
    for pattern, sentence in _MESSAGES:
        if found := re.search(pattern, failed.text):
            return sentence(found, failed)
    return ""


def _unreadable(overrides: Sequence[str]) -> Iterator[str]:
    """The overrides that Hydra's grammar cannot parse."""
    for line in overrides:
        try:
            OverridesParser.create().parse_override(line)
        except HydraException:
            yield line


def _no_choices(overrides: Sequence[str]) -> Iterator[str]:
    """Messages about groups whose value cannot be the name of a choice."""
    for line in overrides:
        try:
            override = OverridesParser.create().parse_override(line)
        except HydraException:
            continue
        value, key = override.value(), override.key_or_group.partition("@")[0]
        removed = override.is_delete() and value is None
        if not is_group(key) or override.is_sweep_override() or removed or isinstance(value, dict):
            continue
        names = value if isinstance(value, list) else [value]
        dotted = key.replace("/", ".")
        if dotted in PARTS and any(isinstance(name, dict) for name in names):
            example = f"'{dotted}={{one: {{_target_: CLASS}}, two: {{_target_: CLASS}}}}'"
            yield f"{line}: chooses nothing. {one_of(key, ', or parts by name', example)}"
        elif not all(isinstance(name, str) for name in names):
            yield f"{line}: chooses nothing. {one_of(key, ', or your own in --config-dir DIR')}"


def _of_a_file(error: Exception, text: str, where: str) -> str:
    """The message for other errors: a file of the user's that is valid YAML, but that Hydra cannot use."""
    if isinstance(error, RecursionError):
        return f"{where}: refers to itself, or is nested too deep. Allowed: defaults and aliases that come to an end"
    if isinstance(error, AssertionError):  # Hydra's, about an entry of the defaults list
        return f"{where}: defaults: a group without a name, or not in order. Allowed: entries with `override` come last"
    if not text and error.__cause__:
        text = f"In '{where}': Error raised while composing config: {' '.join(str(error.__cause__).split())}"
    if found := re.search(
        r"In '([^']+)': \w+ raised while composing config: (.*?)(?: full_key: (\S*))?(?: \w+=|$)", text
    ):
        key = f"{found[3]}: " if found[3] and "=" not in found[3] else ""
        text = f"{found[1]}: {key}{found[2]}"
    elif not re.search(r"(?i)\b(in|of) '?[\w/]+/[\w/]+", text):
        text = f"{where}: {text or 'an empty key or value where Hydra has none'}"
    return f"{text}. All keys with their values: vqclip --cfg job"


def _no_choice(error: Exception) -> str:
    # For a choice in a list, the error has no missing_cfg_file, but its message names the file.
    found = re.search(r"Could not load '([^']+)'", str(error))
    missing = getattr(error, "missing_cfg_file", None) or (found[1] if found else "")
    group, _, choice = missing.rpartition("/")
    if not group:
        return f"--config-name {choice}: there is no such file. Allowed: a config beside ours in --config-dir DIR"
    if group == "hydra/launcher" and choice in _EXTRAS:
        return f'{group}={choice}: is not installed. Try: pip install "vqclip[{_EXTRAS[choice]}]"'
    if group == "hydra/sweeper":
        return f"{group}={choice}: is not used here. Allowed: basic, vqclip. A search: vqclip -m hparams_search=optuna"
    options = sorted(getattr(error, "options", None) or choices_of(group))
    if group == "experiment" and (study := _study(choice)):
        return study
    near = difflib.get_close_matches(choice, options, n=1)
    best = (near or options or [""])[0]
    alone = getattr(error, "options", None)
    return (
        f"{group}={choice}: there is no such choice.{closest(choice, options)} Allowed: {', '.join(options)}. "
        f"Try: {shlex.quote(f'{group}={best}' if alone else f'{group}=[{best}]')}"
    )


def _study(name: str) -> str:
    """The path of the repository's study with this name and the command that runs it; empty if there is none."""
    if name not in ("alpha_beta", "gallery", "learning_rate", "search", "sfumato"):
        return ""
    folder = conf_dir().parent / "experiments" / name
    where = "" if folder.is_dir() else " of the repository, which an installed copy does not hold"
    return (
        f"experiment={name}: a study with a folder of its own, experiments/{name}{where}. "
        f"Try: vqclip -m --config-dir experiments/{name} experiment={name}"
    )
