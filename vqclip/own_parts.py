"""Checks of what custom parts return, so that a mistake is reported with the part's name instead of torch's traceback.

Only types and shapes are compared, which takes no measurable time.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from vqclip.errors import UserError, shown

__all__ = ["image_vectors", "part_name", "require_tensor", "require_whole", "text_vectors"]


def part_name(part: Any, key: str) -> str:
    """A part's key and class, for messages; for a network, the name that its card gave it."""
    return getattr(part, "vqclip_name", None) or f"{key}: {type(part).__module__}.{type(part).__qualname__}"


def require_tensor(
    value: Any, shape: Sequence[int | None], who: str, what: str, of: Tensor | None = None, form: str = ""
) -> Tensor:
    """Return ``value`` if it is a floating-point tensor of this shape, in which None is any length.

    Args:
        who: the part and method that returned it, for the message.
        what: what it is, for the message.
        of: what it was computed from; if this requires a gradient, ``value`` must too.
        form: the shape in letters, for the message.

    Raises:
        UserError: it is anything else.
    """
    wanted = f"{what} of {['D' if n is None else n for n in shape]}".replace("'", "") + (form and f", {form}")
    if not isinstance(value, Tensor):
        raise UserError(f"{who} gave {type(value).__name__}. Allowed: {wanted}")
    fits = len(value.shape) == len(shape) and all(n in (None, m) for n, m in zip(shape, value.shape, strict=True))
    if not (fits and value.is_floating_point()):
        kind = "" if value.is_floating_point() else f" of {value.dtype}"
        raise UserError(f"{who} gave {list(value.shape)}{kind}. Allowed: {wanted}")
    if of is not None and of.requires_grad and torch.is_grad_enabled() and not value.requires_grad:
        raise UserError(f"{who} gave {what} without a gradient. Allowed: no torch.no_grad and no detach in it")
    return value


def require_whole(part: Any, name: str, who: str) -> None:
    """Refuse a part whose attribute is not a positive integer, such as a number of pixels or crops."""
    value = getattr(part, name, None)
    if not isinstance(value, Integral) or value < 1:
        raise UserError(f"{who}.{name} is {shown(value)}. Allowed: a whole number, 1 or more")


def image_vectors(perceptor: Any, crops: Tensor, length: int) -> Tensor:
    """Encode crops [M,3,S,S] as vectors [M,length] in float32."""
    who = f"{part_name(perceptor, 'checkpoints.perceptors')}.encode_image"
    vectors, shape = perceptor.encode_image(crops), (len(crops), length)
    return require_tensor(vectors, shape, who, "vectors", crops, "as long as those of encode_text").float()


def text_vectors(perceptor: Any, texts: list[str]) -> Tensor:
    """Encode texts as vectors [n,D] in float32, whatever the perceptor's dtype is."""
    who = f"{part_name(perceptor, 'checkpoints.perceptors')}.encode_text"
    vectors = require_tensor(perceptor.encode_text(texts), (len(texts), None), who, "vectors").float()
    for text, vector in zip(texts, vectors, strict=True):
        if not vector.isfinite().all():
            raise UserError(f"{who} gave {shown(text)} a vector with NaN or infinity. Allowed: finite numbers")
    return vectors
