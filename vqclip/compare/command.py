"""The command that makes a run again, by Hydra's record of how it was typed."""

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
    """The command that makes a run again: as it was typed, where that is known.

    Args:
        resumed: config of a run that was resumed, which may have taken it further than it was typed.
    """
    try:
        overrides = read_yaml(_recorded(run, "overrides.yaml"))
        if not isinstance(overrides, list):
            raise TypeError
        hydra, flags = _recorded(run, "hydra.yaml"), []
        # It is long, and few runs have files of their own.
        if "command-line" in hydra or "hydra.searchpath=" in hydra or "\n    config_name: config\n" not in hydra:
            flags = _own_files(read_yaml(hydra)["hydra"])
        further = {}
        if resumed:
            begun = read_yaml(_recorded(run, "config.yaml"))
            further = {k: v for k, _, v in differences(begun, resumed) if k == "steps" or k.startswith(LIMITS)}
        words = [word for word in overrides if word.lstrip("+").partition("=")[0] not in {"sweep", *further}]
        return " ".join([shlex.join(["vqclip", *flags, *words]), *(as_typed(k, v) for k, v in further.items())])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, UserError):  # of whatever a stranger's folder has
        return shlex.join(["vqclip", "rerun", str(run)])


def choices_of(run: Path) -> dict[str, str]:
    """The choice of each group of a run, by Hydra's record; of a run without one nothing."""
    try:
        # The record is long, and a comparison reads many.
        found = re.search(r"^    choices:\n((?: {6}.*\n)+)", _recorded(run, "hydra.yaml"), re.MULTILINE)
        choices = read_yaml(found[1]) if found else {}
        return {group: choice for group, choice in choices.items() if isinstance(choice, str)}
    except (ValueError, AttributeError, UserError):  # of whatever a stranger's folder has
        return {}


def _recorded(run: Path, name: str) -> str:
    return RunFolder(run).read(run / ".hydra" / name).decode()


def _own_files(hydra: Mapping[str, Any]) -> list[str]:
    """The words of a command that say where files of one's own are, by Hydra's record."""
    folders = [one["path"] for one in hydra["runtime"]["config_sources"] if one["provider"] == "command-line"]
    flags = [word for path in folders for word in ("--config-dir", relative_where_possible(path))]
    name = hydra.get("job", {}).get("config_name", "config")
    flags += [] if name == "config" else ["--config-name", name]
    words = hydra.get("overrides", {}).get("hydra", [])
    return flags + [word for word in words if word.lstrip("+").startswith("hydra.searchpath=")]
