"""What W&B's own reader finds in the records of a run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

WANDB = shutil.which("wandb", path=str(Path(sys.executable).parent)) or "wandb"


def records(folder, parts=1):
    """Records of the one W&B run in a run folder, by type, as ``wandb leet inspect`` reads them.

    A run that was resumed has a part for every time it went on.
    """
    paths = sorted(Path(folder).glob("wandb/*run-*/*.wandb"))
    assert len(paths) == parts
    found = {}
    for path in paths:
        inspect = [WANDB, "leet", "inspect", "--json", str(path)]
        for line in subprocess.run(
            inspect, capture_output=True, text=True, check=True, timeout=600
        ).stdout.splitlines():
            record = json.loads(line)
            found.setdefault(record["type"], []).append(record[record["type"]])
    return found


def rows_of(found):
    """What was logged at each step, however many rows it took."""
    rows = {}
    for record in found["history"]:
        rows.setdefault(record["item"]["step"], {}).update(record["item"])
    return rows


def sent_config(found):
    """The config that W&B was sent, in whatever pieces."""
    return {
        key: value
        for record in [*found["run"], *found.get("config", [])]
        for key, value in (record.get("config") or record)["update"].items()
    }
