"""Named generators: equal names equal numbers, whatever else is drawn."""

import pytest
import torch

from vqclip.rng import StepRandom, generator_for


def test_a_name_fixes_the_numbers():
    a = torch.rand(4, generator=generator_for(1, "noise", 2))
    assert torch.equal(a, torch.rand(4, generator=generator_for(1, "noise", 2)))
    for other in [(2, "noise", 2), (1, "crops", 2), (1, "noise", 3)]:
        assert not torch.equal(a, torch.rand(4, generator=generator_for(*other)))


def test_the_numbers_are_these():
    """A change here changes every picture ever made with a seed: it needs a major version."""
    drawn = torch.rand(2, generator=generator_for(0, "crops.side", 0))
    assert drawn.tolist() == pytest.approx([0.1303062, 0.3383282])


def test_a_picture_sees_in_a_batch_what_it_sees_alone():
    batch = StepRandom([3, 4, 3], 7).normal("noise", 5)
    assert torch.equal(batch[0], batch[2])
    assert torch.equal(batch[1], StepRandom([4], 7).normal("noise", 5)[0])


def test_drawing_more_changes_nothing_else():
    one, two = StepRandom([0], 1), StepRandom([0], 1)
    two.uniform("something new", 1000)
    assert torch.equal(one.normal("noise", 8), two.normal("noise", 8))


def test_seed_zero_is_a_seed():
    assert not torch.equal(StepRandom([0], 0).uniform("x", 4), StepRandom([1], 0).uniform("x", 4))
