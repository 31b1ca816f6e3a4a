"""Finds words of a prompt that a small perceptor was not trained on, since they are drawn as something else."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

__all__ = ["known_words", "unknown_words"]

#: A word in any alphabet, without a trailing 's; or an emoji.
_WORD = re.compile(r"(?<![^\W\d_])(?<![^\W\d_]['’])[^\W\d_]+|[\u2600-\u27bf\U0001f000-\U0001faff]")


def known_words(weights: Path) -> frozenset[str]:
    """The words in ``words.txt`` beside a perceptor's file; empty if there is no such file."""
    path = weights.with_name("words.txt")
    return frozenset(_WORD.findall(path.read_text().lower())) if path.is_file() else frozenset()


def unknown_words(texts: Iterable[str], known: frozenset[str]) -> dict[str, str | None]:
    """Each unknown word of ``texts``, in order, with the known word of the most similar spelling, if there is one."""
    texts = (unicodedata.normalize("NFC", text.lower()) for text in texts)  # ü as one character
    said = dict.fromkeys(word for text in texts for word in _WORD.findall(text))
    missing = [word for word in said if not any(form in known for form in _forms(word))] if known else []
    return {word: next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.8)), None) for word in missing}


def _forms(word: str) -> list[str]:
    """The word, and the words that it may be a plural of."""
    forms = [word]
    for ending, instead in (("s", ""), ("es", ""), ("ies", "y"), ("ves", "f")):
        if word.endswith(ending):
            forms.append(word.removesuffix(ending) + instead)
    return forms
