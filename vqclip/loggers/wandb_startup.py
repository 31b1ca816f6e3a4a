"""Settings before W&B starts a run: a faster start, and a writable folder for artifacts."""

from __future__ import annotations

import logging
import os
import re
import sys
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

from vqclip.io.files import takes_files

__all__ = ["keep_artifacts", "speed_up_start"]


#: Folders that were set for W&B's artifacts → the user's value before.
_given: dict[str, str | None] = {}


def keep_artifacts(folder: Path) -> None:
    """Let W&B store artifacts beside the run in ``folder`` if the home folder is not writable, as in a container.

    Otherwise the first artifact would end the run.  The setting is global to the process, so it is made for every run
    of a sweep.
    """
    from wandb.env import DATA_DIR, get_data_dir

    asked = os.environ.pop(DATA_DIR, None)
    asked = _given.get(asked, asked) if asked else None
    if asked:
        os.environ[DATA_DIR] = asked
    if not takes_files(get_data_dir()):
        os.environ[DATA_DIR] = place = str(folder.absolute() / "wandb" / "data")
        _given[place] = asked


def speed_up_start() -> None:
    """Disable slow parts of W&B's start-up; call it after importing wandb and before the first run."""
    import wandb.util

    if "pandas" not in sys.modules:
        wandb.util.pd_available = False  # else pandas is imported (half a second) to check for tables
    # W&B's telemetry: its errors would be the last lines that a user reads.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    # W&B parses the metadata of all installed packages for two lines of each, for every run of a sweep.
    if hasattr(wandb.util, "working_set") and hasattr(wandb.util, "InstalledDistribution"):  # both are private
        wandb.util.working_set = _installed


@cache
def _installed() -> tuple:
    """Every installed package with its name and version."""
    from wandb.util import InstalledDistribution

    heads = ((one.read_text("METADATA") or one.read_text("PKG-INFO") or "").split("\n\n")[0] for one in distributions())
    found = ([re.search(rf"^{key}: (.+)$", head, re.MULTILINE) for key in ("Name", "Version")] for head in heads)
    return tuple(
        InstalledDistribution(name[1].strip(), version[1].strip()) for name, version in found if name and version
    )
