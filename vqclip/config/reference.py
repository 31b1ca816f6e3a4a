"""The reference of a config group as Markdown, and its keys as plain rows: from the schema and the shipped YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from vqclip.config.nodes import Group, Key, Named, Node, Target
from vqclip.config.schema import CLASSES, ROOT
from vqclip.config.targets import choices_of
from vqclip.io.yaml_text import read_yaml
from vqclip.paths import conf_dir

__all__ = ["Row", "groups", "reference", "rows", "summary"]


@dataclass(frozen=True)
class Row:
    """A key with all that is known of it."""

    path: str  #: dotted
    key: Key
    default: str  #: as the shipped config has it; empty where it has none


def groups() -> list[str]:
    """Every group of the config that has a schema, in the order of the config; ``""`` is the top level."""
    return ["", *(name for name, node in ROOT.keys.items() if not isinstance(node, Key))]


def summary(group: str) -> str:
    """A group in one line."""
    return (ROOT if not group else ROOT.keys[group]).doc


def rows(group: str) -> list[tuple[str, list[Row]]]:
    """The keys of a group, as (title, rows): a title for each class that the group chooses from."""
    if not group:
        return [("", [Row(name, key, _default("", name)) for name, key in ROOT.keys.items() if isinstance(key, Key)])]
    return [(title, list(_rows(node, path))) for title, node, path in _parts(ROOT.keys[group], group)]


def _parts(node: Node, path: str) -> Iterator[tuple[str, Group, str]]:
    """The groups of keys that may stand at ``path``."""
    if isinstance(node, Group):
        yield "", node, path
    role = node.of if isinstance(node, Named) else node
    if isinstance(role, Target):
        for target, group in CLASSES.items():
            if _belongs(target, role.group):
                name = group.title.rpartition("=")[2] or target.rpartition(".")[2]
                inside = group.title if "." in group.title else f"{path}.{name.lower()}" if role is not node else path
                also = role.also if role.group == "optimizer" else {}
                yield f"{group.title or name}: {group.doc}", Group(group.doc, {**group.keys, **also}), inside


def _belongs(target: str, group: str) -> bool:
    modules = {"optimizer": ["torch.optim"], "logger": ["loggers"], "loss": ["loss", "terms"]}
    return any(f".{module}." in f".{target}" for module in modules.get(group, [group]))


def _rows(node: Node, path: str) -> Iterator[Row]:
    if isinstance(node, Key):
        yield Row(path, node, _default(*path.split(".", 1)))
    elif isinstance(node, Group):
        for name, inner in node.keys.items():
            yield from _rows(inner, f"{path}.{name}")
    elif isinstance(node, Named):
        yield from _rows(node.of, f"{path}.NAME")
    else:
        for name, key in node.also.items():
            yield Row(f"{path}.{name}", key, "")


def _default(group: str, name: str) -> str:
    """The default as the shipped YAML has it, in the form of the command line."""
    inside = {"checkpoints": "embedded", "init": "image" if name in ("path", "fit", "mask", "feather") else "prior"}
    if name == "std":
        inside["init"] = "sine"
    top = _shipped("config.yaml")
    if not group or isinstance(top.get(group), Mapping):
        node: Any = top.get(group) if group else top
    else:
        node = _shipped(f"{group}/{inside.get(group, 'default')}.yaml")
    for part in name.split("."):
        node = node.get(part, "") if isinstance(node, Mapping) else ""
    if node == "" or node == "???":
        return ""
    return (
        {None: "null", True: "true", False: "false"}[node]
        if node is None or node is True or node is False
        else str(node)
    )


@cache
def _shipped(name: str) -> Any:
    """A file of the shipped config; None where there is none."""
    file = conf_dir() / name
    return read_yaml(file.read_text(encoding="utf-8")) if file.is_file() else None


def reference(group: str) -> str:
    """The reference of a group as Markdown: what it is, its choices, and a table of its keys."""
    lines = [f"## `{group}`" if group else "## Top level", "", summary(group), ""]
    if options := choices_of(group) if group else []:
        lines += ["Choices: " + ", ".join(f"`{group}={name}`" for name in options), ""]
    for title, found in rows(group):
        if title:
            lines += [f"**{title}**", ""]
        if found:
            lines += ["| key | default | allowed | what it does |", "| --- | --- | --- | --- |"]
            lines += [_line(row) for row in found] + [""]
    return "\n".join(lines)


def _line(row: Row) -> str:
    unit = f" ({row.key.unit})" if row.key.unit else ""
    default = f"`{row.default}`" if row.default else ""
    cells = (f"`{row.path}`", default, row.key.allowed, f"{row.key.doc}{unit}; `{row.path}={row.key.example}`")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
