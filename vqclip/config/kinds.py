"""The kinds of values in the schema, each a small class that checks a value and says what is allowed.

``kind.check(value)`` returns None or raises ValueError; ``kind.allowed`` completes the sentence "Allowed: …".  Nothing
here imports torch, Hydra or OmegaConf.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from vqclip.errors import UserError, closest
from vqclip.schedules import SHAPES, is_number, sample

__all__ = [
    "Anything",
    "Choice",
    "Colour",
    "Flag",
    "Kind",
    "Listing",
    "Number",
    "Picture",
    "Prompts",
    "Scheduled",
    "Size",
    "Snapshot",
    "SweepRecord",
    "Templates",
    "Text",
    "Whole",
]


class Kind(Protocol):
    """A kind of value."""

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        ...

    def check(self, value: Any) -> None:
        """Raise ValueError if ``value`` is not of this kind; a message, if any, says more than :attr:`allowed`."""
        ...


#: Bounds from here on only exclude absurd values; messages mention them only if they are exceeded.
_ABSURD = 1e6


def _between(low: float, high: float) -> str:
    """``" from 0 to 1"``, without absurd bounds."""
    if high < _ABSURD:
        return f" from {low:.12g} to {high:.12g}"
    return f" from {low:.12g} up" if low > -_ABSURD else ""


def _check_bounds(value: float, low: float, high: float) -> None:
    if high >= _ABSURD and (abs(value) if low < 0 else value) > high:
        raise ValueError(f"a number up to {high:.16g}")
    if not low <= value <= high:
        raise ValueError


@dataclass
class Whole:
    """A whole number."""

    low: int
    high: int = 10**9

    @property
    def allowed(self) -> str:
        return f"a whole number{_between(self.low, self.high)}"

    def check(self, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError
        _check_bounds(value, self.low, self.high)


@dataclass
class Number:
    """A finite number."""

    low: float = -math.inf
    high: float = math.inf

    @property
    def allowed(self) -> str:
        return f"a number{_between(self.low, self.high)}"

    def check(self, value: Any) -> None:
        if not is_number(value):
            raise ValueError
        _check_bounds(value, self.low, self.high)


@dataclass
class Scheduled:
    """A number, or a schedule of one (:mod:`vqclip.schedules`)."""

    low: float = -math.inf
    high: float = math.inf

    @property
    def allowed(self) -> str:
        shapes = "|".join(SHAPES)
        return f"a number{_between(self.low, self.high)}, or a schedule {{start: NUMBER, end: NUMBER, shape: {shapes}}}"

    def check(self, value: Any) -> None:
        if isinstance(value, str | bool | list):
            raise ValueError
        try:
            values = sample(value)
        except UserError:  # a missing class is reported for all classes together
            return
        except ValueError as error:
            raise ValueError(f"{self.allowed}. {error}" if str(error) else "") from None
        if not all(map(is_number, values)):
            raise ValueError
        for number in values:
            _check_bounds(number, self.low, self.high)


@dataclass
class Choice:
    """One of a few values."""

    options: tuple[Any, ...]

    @property
    def allowed(self) -> str:
        return f"one of {', '.join(dict.fromkeys(map(str, self.options)))}"

    def check(self, value: Any) -> None:
        if not any(value == option and type(value) is type(option) for option in self.options):
            raise ValueError


@dataclass
class Flag:
    """True or false."""

    allowed: str = "true or false"

    def check(self, value: Any) -> None:
        if not isinstance(value, bool):
            raise ValueError


@dataclass
class Text:
    """A string that is not blank, or that matches ``pattern``."""

    allowed: str = "a text"
    pattern: str = r"(?s).*\S.*"

    def check(self, value: Any) -> None:
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise ValueError


@dataclass
class Anything:
    """Any value; the class that gets it checks it."""

    allowed: str = "any value"

    def check(self, value: Any) -> None:
        pass


@dataclass
class Listing:
    """A list whose items are of one kind."""

    of: Kind
    most: int = 10_000
    least: int = 0

    @property
    def allowed(self) -> str:
        count = f" of {self.least}{'' if self.least == self.most else ' or more'}" if self.least else ""
        return f"a list{count}, each of them {self.of.allowed}"

    def check(self, value: Any) -> None:
        if not isinstance(value, list) or not self.least <= len(value) <= self.most:
            raise ValueError
        for item in value:
            self.of.check(item)


@dataclass
class Size:
    """Height and width."""

    high: int = 65_536
    allowed: str = "[height, width], two whole numbers of pixels from 1 up"

    def check(self, value: Any) -> None:
        sides = re.fullmatch(r"(\d+)(?:\s*[x×,]\s*(\d+))?", str(value))
        if sides and int(sides[1]):  # size=64, size=128x64
            raise ValueError(f"{self.allowed}, as size=[{sides[1]},{sides[2] or sides[1]}]")
        if not isinstance(value, list) or len(value) != 2 or any(type(v) is not int or v < 1 for v in value):
            raise ValueError
        if max(value) > self.high:
            raise ValueError(f"[height, width], each up to {self.high} pixels")


@dataclass
class Snapshot:
    """The step of a snapshot, or ``best`` or ``final``."""

    allowed: str = "best, final, or a step that the run has a snapshot of"

    def check(self, value: Any) -> None:
        if value not in ("best", "final"):
            Whole(0).check(value)


@dataclass
class Colour:
    """A colour by its CSS name or as ``"#rrggbb"``."""

    allowed: str = 'a colour by name or as "#rrggbb"'

    def check(self, value: Any) -> None:
        from PIL import ImageColor

        try:
            ImageColor.getrgb(value)
        except (ValueError, AttributeError, TypeError):
            near = closest(str(value), list(ImageColor.colormap))
            raise ValueError(f"{self.allowed}; {near.strip(' ?').replace('D', 'd', 1)}" if near else "") from None


@dataclass
class Picture:
    """The path of a picture that can be opened."""

    allowed: str = "the path of a picture file"

    def check(self, value: Any) -> None:
        from vqclip.io.images import open_picture

        open_picture(value)


@dataclass
class Prompts:
    """Prompt entries (:mod:`vqclip.prompts`), whose pictures can be opened."""

    needed: bool = False
    allowed: str = (
        "an entry or a list of them, each a text, {image: PATH}, {parts: [ENTRY, ENTRY]}, {row: [ENTRY, ENTRY]} "
        "or {file: PATH}, none of them empty"
    )

    def check(self, value: Any) -> None:
        from vqclip.prompts import parse_prompts

        if not parse_prompts(value, open_files=True) and self.needed:
            raise ValueError


@dataclass
class Templates:
    """Sentences with {} for the text (:mod:`vqclip.prompts`)."""

    allowed: str = "a sentence with {} where the text belongs, or a list of them"

    def check(self, value: Any) -> None:
        from vqclip.prompts import parse_templates

        parse_templates(value)


@dataclass
class SweepRecord:
    """What a sweep writes into the configs of its jobs."""

    allowed: str = "null; a sweep fills it in"

    def check(self, value: Any) -> None:
        if not (isinstance(value, Mapping) and {"group", "swept"} <= set(value)):
            raise ValueError
