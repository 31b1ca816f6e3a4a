"""What is set before W&B begins a run: less to wait for, and a folder that it can write.  The record is the same."""

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


#: Folders of runs that W&B was given for its artifacts → what the user had set then, if anything.
_given: dict[str, str | None] = {}


def keep_artifacts(folder: Path) -> None:
    """Have W&B keep its artifacts beside the run in ``folder`` where it cannot in the home folder, as in a container.

    It would refuse the first one, and end the run.  W&B knows one such folder a process, so each run of a sweep decides
    anew.
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
    """Once W&B is imported, before its runs begin."""
    import wandb.util

    if "pandas" not in sys.modules:
        wandb.util.pd_available = False  # else it is imported, half a second, to find that a picture is no table
    # W&B's account of its own work: where a server refuses that too, it would be the last that a user reads.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    # W&B parses all that 500 packages say of themselves for two lines of each, again for every run of a sweep.
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
