"""Lists the shipped config groups and their choices, and formulates what may be chosen."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vqclip.paths import conf_dir

__all__ = ["A_PART", "PARTS", "about_choice", "choices_of", "group_names", "is_group", "one_of"]

#: Keys with parts by name → what a part is called.
PARTS = {"loss.terms": "term", "callbacks": "callback", "logger": "logger"}
#: The key of such a part: the key that holds it, and its name.
A_PART = re.compile(rf"({'|'.join(map(re.escape, PARTS))})\.(\w+)")


def group_names() -> list[str]:
    """All shipped config groups, nested ones included, sorted."""
    return sorted(path.relative_to(conf_dir()).as_posix() for path in conf_dir().rglob("*") if path.is_dir())


def is_group(key: str) -> bool:
    """Whether a typed key names a shipped config group: ``loss``, ``loss/terms``."""
    return os.path.isdir(conf_dir() / key)  # Path.is_dir raises if the key is too long


def choices_of(group: str) -> list[str]:
    """The shipped choices of a config group."""
    folder = _folder(group)
    return sorted(path.stem for path in folder.glob("*.yaml")) if folder.is_dir() else []


def _folder(group: str) -> Path:
    """The folder of a group's choices; ``loss.terms`` and ``loss/terms`` are the same."""
    return conf_dir() / group.replace(".", "/")


def about_choice(group: str, choice: str) -> str:
    """The first comment in a choice's file, up to the end of a sentence or a command."""
    words: list[str] = []
    for line in (_folder(group) / f"{choice}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            if words or not line.strip():
                break
            continue
        text = line.lstrip("#")
        if "@package" in text:
            continue
        if text.startswith("   ") or not text.strip():
            break
        words.append(text.strip())
        if text.rstrip().endswith("."):
            break
    return re.split(r" +(?=(?:vqclip|pip) )", " ".join(words))[0].rstrip(" :")


def one_of(group: str, more: str = "", example: str = "") -> str:
    """What may be chosen in a group and what to try, for messages.

    Args:
        more: what else is allowed.
        example: what to try; default: a choice.
    """
    options = choices_of(group)
    best = next((name for name in ("default", "embedded", *options) if name in options), "NAME")
    choice = f"'+loss/terms=[{best}]'" if group == "loss.terms" else f"{group.replace('.', '/')}={best}"
    return f"Allowed: one of {', '.join(options) or 'your own'}{more}. Try: {example or choice}"
