"""Renders the reference of config groups, as Markdown and as rows, from the schema and the shipped YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from vqclip.config.names import classes_of
from vqclip.config.nodes import Group, Key, Named, Node, Target
from vqclip.config.schema import ROOT
from vqclip.io.yaml_text import read_yaml
from vqclip.paths import conf_dir

__all__ = ["Row", "groups", "reference", "rows", "summary"]


@dataclass(frozen=True)
class Row:
    """A key of the reference with its path and default."""

    path: str  #: dotted
    key: Key
    default: str  #: in the shipped config; empty if there is none

    @property
    def doc(self) -> str:
        """The description of the key with its unit."""
        return self.key.doc + (f" ({self.key.unit})" if self.key.unit else "")


def groups() -> list[str]:
    """Every config group that has a schema, in order; ``""`` is the top level."""
    return ["", *(name for name, node in ROOT.keys.items() if not isinstance(node, Key))]


def summary(group: str) -> str:
    """The description of a group in one line."""
    return (ROOT if not group else ROOT.keys[group]).doc


def rows(group: str) -> list[tuple[str, list[Row]]]:
    """The keys of a group as (title, rows), with a title for each class."""
    if not group:
        keys = [(name, key) for name, key in ROOT.keys.items() if isinstance(key, Key)]
        return [("", [Row(name, key, _default("config.yaml", name)) for name, key in keys])]
    return [(title, list(_rows(node, path, file))) for title, node, path, file in _parts(ROOT.keys[group], group)]


def _parts(node: Node, path: str) -> Iterator[tuple[str, Group, str, str]]:
    """The groups of keys at ``path``, each with its title, path and the file of its defaults."""
    if isinstance(node, Group):
        yield "", node, path, _file(path)
    role = node.of if isinstance(node, Named) else node
    if isinstance(role, Target):
        if role is node and role.group != "optimizer" and role.also:
            yield "with any of them", Group("", role.also), path, _file(path)
        terms = classes_of("terms") if role.group == "loss" else {}
        classes = (classes_of(role.group) | terms).items()
        titled = {group.title or target: (target, group) for target, group in classes}  # newest names
        for target, group in titled.values():
            name = group.title.rpartition("=")[2] or target.rpartition(".")[2]
            inside = group.title if "." in group.title else f"{path}.{name.lower()}" if role is not node else path
            keys = {**group.keys, **(role.also if role.group == "optimizer" else {})}
            yield f"{group.title or name}: {group.doc}", Group(group.doc, keys), inside, _file(path, group.title)


def _rows(node: Node, path: str, file: str) -> Iterator[Row]:
    if isinstance(node, Key):
        yield Row(path, node, _default(file, path))
    elif isinstance(node, Group):
        for name, inner in node.keys.items():
            yield from _rows(inner, f"{path}.{name}", file)
    elif isinstance(node, Named):
        yield from _rows(node.of, f"{path}.NAME", file)
    else:
        for name, key in node.also.items():
            yield Row(f"{path}.{name}", key, "")


def _file(group: str, title: str = "") -> str:
    """The shipped YAML with the defaults of a choice (``init=image``), or of the group's default choice."""
    top = _shipped("config.yaml")
    if isinstance(top.get(group), Mapping):
        return "config.yaml"
    chosen = next((entry[group] for entry in top["defaults"] if isinstance(entry, dict) and group in entry), "")
    return re.sub("[=.]", "/", title or f"{group}={chosen}") + ".yaml"


def _default(file: str, path: str) -> str:
    """A key's default in a shipped YAML, as typed on the command line; empty if there is none."""
    node = _shipped(file)
    for part in path.split(".")[file.count("/") :]:
        node = node.get(part, "") if isinstance(node, Mapping) else ""
    if node in ("", "???"):
        return ""
    return "null" if node is None else str(node).lower() if isinstance(node, bool) else str(node)


@cache
def _shipped(name: str) -> Any:
    """The content of a shipped YAML; None if there is no such file."""
    file = conf_dir() / name
    return read_yaml(file.read_text(encoding="utf-8")) if file.is_file() else None


def reference(group: str) -> str:
    """The reference of a group as Markdown: its description and a table of its keys."""
    lines = [summary(group), ""]
    for title, found in rows(group):
        if title:
            lines += [f"**{title}**", ""]
        if found:
            lines += ["| key | default | allowed | what it does |", "| --- | --- | --- | --- |"]
            lines += [_line(row) for row in found] + [""]
    return "\n".join(lines)


def _line(row: Row) -> str:
    default = f"`{row.default}`" if row.default else ""
    cells = (f"`{row.path}`", default, row.key.allowed, f"{row.doc}; `{row.path}={row.key.example}`")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
