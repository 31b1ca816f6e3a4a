"""The compact tokenizer: openai-clip's own encoding over part of its vocabulary."""

import clip
import pytest
import torch

from vqclip.models.tokenizer import CompactTokenizer, simple_tokenizer

BYTES_ONLY = torch.tensor([*range(512), 49406, 49407])
TEXTS = ["a red apple on a blue background", "E=mc², a café (at night), it's #1, 猫", "", "🦊", "x" * 500]


def spelled(tokenizer, kept, row):
    """The text of a row of compact ids, through openai-clip's own decoder."""
    ids = [kept[i] for i in row.tolist()]
    return simple_tokenizer().decode(ids[1 : ids.index(49407)])


def test_the_whole_vocabulary_is_openai_clips_own_encoding():
    texts = TEXTS[:4]
    assert torch.equal(CompactTokenizer(None, 77)(texts), clip.tokenize(texts).long())


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_passes_and_the_end_token_has_the_highest_id_of_its_row(text):
    tokenizer = CompactTokenizer(BYTES_ONLY, 32)
    (row,) = tokenizer([text])
    assert row.shape == (32,) and row.dtype == torch.long
    assert row[0] == tokenizer.start and row.max() == tokenizer.end == len(tokenizer) - 1
    assert (row[row.argmax() + 1 :] == 0).all()


def test_a_token_that_was_not_kept_is_spelt_out():
    kept = BYTES_ONLY.tolist()
    tokenizer = CompactTokenizer(BYTES_ONLY, 64)
    assert spelled(tokenizer, kept, tokenizer(["a red café, 猫"])[0]).strip() == "a red café , 猫"


def test_a_long_text_keeps_its_beginning_and_the_end_token():
    tokenizer = CompactTokenizer(BYTES_ONLY, 8)
    long, short = tokenizer(["abcdefghijkl", "abcdef"])
    assert long[-1] == tokenizer.end and torch.equal(long[:6], short[:6])


@pytest.mark.parametrize("ids", [[*range(511), 49406, 49407], [*range(512), 49407], [49406, 49407, *range(512)]])
def test_a_vocabulary_without_its_bytes_or_out_of_order_is_refused(ids):
    with pytest.raises(ValueError, match="token_ids must be ascending"):
        CompactTokenizer(torch.tensor(ids), 32)
