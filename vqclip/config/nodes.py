"""The building blocks of the schema: keys, groups of keys, and mappings whose names are the user's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vqclip.config.kinds import Kind

__all__ = ["Group", "Key", "Named", "Node", "Target"]


@dataclass
class Key:
    """One value.

    Attributes:
        kind: the kind of value.
        example: a good value, as typed on the command line.
        doc: what the key does, in one line.
        unit: pixels, steps, …; empty if there is none.
        null: what ``null`` means; empty if it is not allowed.
        needed: whether a config without the key is a mistake.
    """

    kind: Kind
    example: str
    doc: str
    unit: str = ""
    null: str = ""
    needed: bool = True

    @property
    def allowed(self) -> str:
        """The rest of the sentence "Allowed: …", including null."""
        also_null = self.null and not self.kind.allowed.startswith("null")
        return self.kind.allowed + (f", or null ({self.null})" if also_null else "")


@dataclass
class Group:
    """A mapping of known keys.

    Attributes:
        others: dotted name of the callable whose further arguments may be added with ``+``; ``*`` for any key.
        null: what ``null`` means; empty if it is not allowed.
        title: the choice that has these keys, such as ``init=sine``, if the group has several.
    """

    doc: str
    keys: Mapping[str, Node] = field(default_factory=dict)
    others: str = ""
    null: str = ""
    needed: bool = True
    title: str = ""


@dataclass
class Target:
    """A mapping with a ``_target_``: its keys are those of the class, see ``vqclip.config.schema.CLASSES``.

    Attributes:
        group: the config group, for messages about its choices.
        also: keys that every class of the group has; those in ``signatures.PASSED_ON`` are also constructor arguments.
    """

    doc: str
    group: str
    also: Mapping[str, Key] = field(default_factory=dict)
    null: str = ""
    needed: bool = True


@dataclass
class Named:
    """A mapping whose names the user chooses."""

    of: Node
    doc: str
    null: str = ""
    needed: bool = True


Node = Key | Group | Target | Named
