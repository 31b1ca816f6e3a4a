"""openai-clip's layers in our spelling."""

import copy

import pytest
import torch

from vqclip.models.clip_fast import FEW_PLACES, Block, ResidualAttentionBlock


@pytest.mark.parametrize("places", [50, FEW_PLACES + 1])
def test_a_block_in_bfloat16_is_openai_clips_to_its_rounding(places):
    torch.manual_seed(0)
    theirs = ResidualAttentionBlock(128, 2).requires_grad_(False)
    ours = Block(copy.deepcopy(theirs), slice(None))
    x = torch.randn(places, 4, 128)
    weight = torch.randn(places, 4, 128)

    def both(block, brief):
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=brief):
            y = block(leaf)
        (y.float() * weight).sum().backward()
        return y.float(), leaf.grad

    for exact, brief in zip(both(theirs, False), both(ours, True), strict=True):
        error = (brief - exact).norm() / exact.norm()
        assert 1e-5 < error < 1e-2
