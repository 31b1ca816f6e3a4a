"""Lists the config groups and their choices as shipped, and says in messages what may be chosen."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vqclip.paths import conf_dir

__all__ = ["A_PART", "PARTS", "about_choice", "choices_of", "group_names", "is_group", "one_of"]

#: Where the config holds several parts by name → what one of them is.
PARTS = {"loss.terms": "term", "callbacks": "callback", "logger": "logger"}
#: A key of such a part: where it is held, and its name.
A_PART = re.compile(rf"({'|'.join(map(re.escape, PARTS))})\.(\w+)")


def group_names() -> list[str]:
    """The config groups as shipped, those within others too, in the order of their names."""
    return sorted(path.relative_to(conf_dir()).as_posix() for path in conf_dir().rglob("*") if path.is_dir())


def is_group(key: str) -> bool:
    """Whether a key as it is typed names a config group as shipped: ``loss``, ``loss/terms``."""
    return os.path.isdir(conf_dir() / key)  # pathlib's own raises where a key is too long


def choices_of(group: str) -> list[str]:
    """The choices of a config group as shipped."""
    folder = _folder(group)
    return sorted(path.stem for path in folder.glob("*.yaml")) if folder.is_dir() else []


def _folder(group: str) -> Path:
    """Where the choices of ``loss/terms`` are, which a key has as ``loss.terms``."""
    return conf_dir() / group.replace(".", "/")


def about_choice(group: str, choice: str) -> str:
    """The first comment of a choice's file, up to the line that ends a sentence, or to a command."""
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
        more: what else may stand there.
        example: to try, else a choice.
    """
    options = choices_of(group)
    best = next((name for name in ("default", "embedded", *options) if name in options), "NAME")
    choice = f"'+loss/terms=[{best}]'" if group == "loss.terms" else f"{group.replace('.', '/')}={best}"
    return f"Allowed: one of {', '.join(options) or 'your own'}{more}. Try: {example or choice}"
