import pytest
import torch

from vqclip import run
from vqclip.noise import Noise
from vqclip.rng import StepRandom


def strength(num_rands: int, factor: float = 1.0) -> torch.Tensor:
    """The standard deviation of the noise on each of many crops."""
    return Noise(factor, num_rands).draw(StepRandom([0], 0), 500, 16, 0.0).flatten(2).std(-1)[0]


def test_strength_is_uniform_up_to_the_factor():
    r = strength(0, factor=0.22)
    assert r.max() < 0.25 and r.mean() == pytest.approx(0.11, abs=0.01)


def test_more_uniforms_pull_it_to_zero():
    means = [strength(n).mean().item() for n in range(4)]
    for n, mean in enumerate(means):
        assert mean == pytest.approx(0.5 ** (n + 1), rel=0.15)


class Tensorial:
    """A schedule of one's own that gives a tensor."""

    def __call__(self, t):
        return torch.tensor(0.1) * (1 - t)


def test_a_factor_may_be_a_tensor(small_pair, tmp_path):
    factor = f"noise.factor={{_target_: {__name__}.Tensorial}}"
    rows = run("a fox", [*small_pair, factor], tmp_path / "run").history
    assert [row["noise"] for row in rows] == pytest.approx([0.1, 0.2 / 3, 0.1 / 3, 0], abs=1e-6)


def test_factor_zero_draws_nothing_and_a_schedule_is_followed():
    assert Noise(0, 0).draw(StepRandom([0], 0), 4, 8, 0.5) is None
    fading = Noise({"start": 0.2, "end": 0.0, "shape": "linear"}, 0)
    first, half = (fading.draw(StepRandom([0], 0), 4, 8, t) for t in (0.0, 0.5))
    torch.testing.assert_close(first, half * 2)
    assert fading.draw(StepRandom([0], 0), 4, 8, 1.0) is None
