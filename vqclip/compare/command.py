"""The command that reproduces a run, from Hydra's record of what was typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqclip.config.grammar import as_typed
from vqclip.config.resolve import differences
from vqclip.errors import UserError
from vqclip.io.yaml_text import read_yaml
from vqclip.paths import relative_where_possible
from vqclip.runs.folder import RunFolder
from vqclip.runs.resume import LIMITS

__all__ = ["choices_of", "command_of"]


def command_of(run: Path, resumed: Mapping[str, Any] | None = None) -> str:
    """The command that reproduces a run, as it was typed if that is known.

    Args:
        resumed: config of a resumed run, which may have more steps than were typed.
    """
    try:
        overrides = read_yaml(_recorded(run, "overrides.yaml"))
        if not isinstance(overrides, list):
            raise TypeError
        hydra, flags = _recorded(run, "hydra.yaml"), []
        # Parsing is slow, and few runs use config files of their own.
        if "command-line" in hydra or "hydra.searchpath=" in hydra or "\n    config_name: config\n" not in hydra:
            flags = _own_files(read_yaml(hydra)["hydra"])
        further = {}
        if resumed:
            begun = read_yaml(_recorded(run, "config.yaml"))
            further = {k: v for k, _, v in differences(begun, resumed) if k == "steps" or k.startswith(LIMITS)}
        words = [word for word in overrides if word.lstrip("+").partition("=")[0] not in {"sweep", *further}]
        return " ".join([shlex.join(["vqclip", *flags, *words]), *(as_typed(k, v) for k, v in further.items())])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, UserError):  # an untrusted file may hold anything
        return shlex.join(["vqclip", "rerun", str(run)])


def choices_of(run: Path) -> dict[str, str]:
    """The choice of each config group of a run, from Hydra's record; empty without one."""
    try:
        # Not parsed as YAML, which is slow: a comparison reads many.
        found = re.search(r"^    choices:\n((?: {6}.*\n)+)", _recorded(run, "hydra.yaml"), re.MULTILINE)
        choices = read_yaml(found[1]) if found else {}
        return {group: choice for group, choice in choices.items() if isinstance(choice, str)}
    except (ValueError, AttributeError, UserError):  # an untrusted file may hold anything
        return {}


def _recorded(run: Path, name: str) -> str:
    return RunFolder(run).read(run / ".hydra" / name).decode()


def _own_files(hydra: Mapping[str, Any]) -> list[str]:
    """The words of a command that name the user's own config files, from Hydra's record."""
    folders = [one["path"] for one in hydra["runtime"]["config_sources"] if one["provider"] == "command-line"]
    flags = [word for path in folders for word in ("--config-dir", relative_where_possible(path))]
    name = hydra.get("job", {}).get("config_name", "config")
    flags += [] if name == "config" else ["--config-name", name]
    words = hydra.get("overrides", {}).get("hydra", [])
    return flags + [word for word in words if word.lstrip("+").startswith("hydra.searchpath=")]
