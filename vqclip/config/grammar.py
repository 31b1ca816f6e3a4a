"""Texts in Hydra's override grammar, and names made of overrides."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["NAME_LENGTH", "job_name", "quote", "quote_where_needed", "unquoted"]


def quote(text: str) -> str:
    """A text as one quoted value of Hydra's override grammar, whatever it holds."""
    # In a quoted value a run of backslashes is an escape only where a quote follows, or the end.
    escaped = re.sub(r'(\\*)"', lambda m: m[1] * 2 + r"\"", text)
    escaped = re.sub(r"(\\+)$", lambda m: m[1] * 2, escaped)
    return '"' + escaped.replace("${", r"\${") + '"'


def quote_where_needed(text: str) -> str:
    """A text as one value of Hydra's override grammar, for a command that a person reads: bare where it can be."""
    return text if re.fullmatch(r"[\w./-]+", text) else quote(text)


def unquoted(value: str) -> str:
    """A value of Hydra's override grammar as it is meant: a text without its quotes and escapes, all else as typed."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # quote() is asked before Hydra is there

    meant = OverridesParser.create().parse_override(f"key={value}").value()
    return meant.replace(r"\${", "${") if isinstance(meant, str) else value


#: W&B's limit on a run's name that its pages still show whole.
NAME_LENGTH = 64


def job_name(swept: Mapping[str, str]) -> str:
    """``alpha=.5 beta=0``: swept keys by the last part of their names, at most 64 characters."""
    short = [key.replace("/", ".").rsplit(".", 1)[-1] for key in swept]
    keys = [word if short.count(word) == 1 else key for word, key in zip(short, swept, strict=True)]
    name = " ".join(f"{key}={value}" for key, value in zip(keys, swept.values(), strict=True))
    if len(name) <= NAME_LENGTH:
        return name
    from vqclip.config.resolve import identity  # OmegaConf is slow to import, and quote() is asked first of all

    return f"{name[: NAME_LENGTH - 7]}…{identity(swept)[:6]}"  # two long prompts may begin alike
