"""The tokenizer: openai-clip's byte-pair encoding with its whole vocabulary or a part of it.

A small model keeps only the tokens that it needs: `token_ids` lists their openai-clip ids in ascending order, and a
token's compact id is its index in that list.  All single-byte tokens must be among them, so that any other token can be
spelt byte by byte.
"""

from __future__ import annotations

import functools
import warnings

import torch
from torch import Tensor

__all__ = ["CompactTokenizer", "simple_tokenizer"]

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    from clip.simple_tokenizer import SimpleTokenizer


@functools.cache
def simple_tokenizer() -> SimpleTokenizer:
    """openai-clip's tokenizer, loaded once."""
    return SimpleTokenizer()


class CompactTokenizer:
    """Texts → token ids [B, context_length], long.

    Args:
        token_ids: openai-clip ids in the vocabulary, ascending [V]; None: all.
        context_length: length of a row, including the start and end tokens.

    A row is: start token, the text's tokens, end token, zeros.  Long texts are truncated, but keep the end token, which
    has the highest id: ``CLIP.encode_text`` finds it by that.
    """

    def __init__(self, token_ids: Tensor | None, context_length: int):
        self.context_length = context_length
        tokenizer = simple_tokenizer()
        start, end = tokenizer.encoder["<|startoftext|>"], tokenizer.encoder["<|endoftext|>"]
        kept = list(range(len(tokenizer.encoder))) if token_ids is None else token_ids.tolist()
        self._compact = {token: i for i, token in enumerate(kept)}
        needed = {*range(2 * len(tokenizer.byte_encoder)), start, end}  # single bytes come first in the vocabulary
        if kept != sorted(self._compact) or not needed <= set(kept):
            raise ValueError(
                "token_ids must be ascending and hold every single-byte token and the start and end tokens"
            )
        self.start, self.end = self._compact[start], self._compact[end]

    def __len__(self) -> int:
        """Size of the vocabulary."""
        return len(self._compact)

    def encode(self, text: str) -> list[int]:
        """Compact ids of a text of any length, without start and end."""
        tokenizer, ids = simple_tokenizer(), []
        for token in tokenizer.encode(text):
            if token in self._compact:
                ids.append(self._compact[token])
            else:
                word = tokenizer.decoder[token]  # printable characters for its bytes, with "</w>" at the end of a word
                symbols = [*word[:-5], word[-5:]] if word.endswith("</w>") else [*word]
                ids.extend(self._compact[tokenizer.encoder[symbol]] for symbol in symbols)
        return ids

    def __call__(self, texts: list[str]) -> Tensor:
        rows = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            ids = [self.start, *self.encode(text)[: self.context_length - 2], self.end]
            row[: len(ids)] = torch.tensor(ids)
        return rows
