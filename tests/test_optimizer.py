"""PlainSteps and OneScaleAdam: how far and where they go, that pictures are apart, that a run resumes and repeats."""

import pytest
import torch

from vqclip import run
from vqclip.optimizer import OneScaleAdam, PlainSteps


def moved(gradients, lr=0.1):
    start = torch.zeros_like(gradients[0])
    latent = torch.nn.Parameter(start.clone())
    optimizer = OneScaleAdam([latent], lr)
    for gradient in gradients:
        latent.grad = gradient.clone()
        optimizer.step()
    return latent.detach() - start


def test_a_step_is_along_the_gradient_and_of_the_rates_length():
    gradient = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    step = moved([gradient])
    torch.testing.assert_close(step, -0.1 * gradient / gradient.square().mean().sqrt())
    torch.testing.assert_close(moved([1000 * gradient]), step)


def test_steps_of_one_number_are_adams():
    ours, theirs = (torch.nn.Parameter(torch.zeros(1, 1, 1, 1)) for _ in range(2))
    optimizers = OneScaleAdam([ours], 0.1), torch.optim.Adam([theirs], 0.1, (0.9, 0.95))
    for gradient in (1.0, -0.5, 3.0, 0.2):
        for latent, optimizer in zip((ours, theirs), optimizers, strict=True):
            latent.grad = torch.full_like(latent, gradient)
            optimizer.step()
        torch.testing.assert_close(ours, theirs)


def test_a_picture_does_not_feel_the_others():
    g = torch.Generator().manual_seed(1)
    steps = [torch.randn(2, 4, 8, 8, generator=g) * torch.tensor([1.0, 50.0]).view(2, 1, 1, 1) for _ in range(3)]
    assert torch.equal(moved(steps)[:1], moved([step[:1] for step in steps]))


def test_plain_steps_go_the_same_share_of_the_way_at_every_size_and_beside_others():
    for shape in ((1, 4, 8, 8), (3, 4, 16, 8)):
        latent = torch.nn.Parameter(torch.ones(shape))
        optimizer = PlainSteps([latent], lr=0.25)
        for _ in range(2):
            optimizer.zero_grad()
            (0.4 * latent.square().mean((1, 2, 3))).sum().backward()
            optimizer.step()
        torch.testing.assert_close(latent.detach(), torch.full(shape, 0.9**2))


def test_plain_steps_go_on_by_their_momentum():
    latent = torch.nn.Parameter(torch.zeros(1, 2, 1, 1))
    optimizer = PlainSteps([latent], lr=0.1, momentum=0.5)
    for _ in range(2):
        latent.grad = torch.ones_like(latent)
        optimizer.step()
    torch.testing.assert_close(latent.detach(), torch.full_like(latent, -0.1 - 0.15))


@pytest.mark.parametrize("kind", [OneScaleAdam, PlainSteps])
def test_a_closure_has_gradients_whatever_the_caller_turned_off(kind):
    latent = torch.nn.Parameter(torch.ones(1, 1, 1, 1))

    def closure():
        loss = latent.square().sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert kind([latent], 0.1).step(closure) == 1
    assert latent < 1


def test_the_same_config_gives_the_same_picture_and_goes_on_from_a_checkpoint(tmp_path):
    quick = "optimizer=one_scale size=[64,64] init=sine logger=none callbacks=none snapshot_every=2"
    whole = run("a fox", [*quick.split(), "steps=4"], tmp_path / "whole")
    run("a fox", [*quick.split(), "steps=2"], tmp_path / "cut")
    cut = run(overrides=[f"resume={tmp_path / 'cut'}", "steps=4"])
    assert torch.equal(whole.images, run("a fox", [*quick.split(), "steps=4"], tmp_path / "again").images)
    assert torch.equal(cut.images, whole.images)


OF_A_RATE = """
import torch

class Strict(torch.optim.SGD):
    def __init__(self, params, lr):
        assert lr > 0
        super().__init__(params, lr)
"""


def test_an_optimizer_that_refuses_a_rate_of_0_takes_one_that_warms_up(small_pair, tmp_path, monkeypatch):
    (tmp_path / "strict_rate.py").write_text(OF_A_RATE)
    monkeypatch.syspath_prepend(tmp_path)
    warming = "{start: 0.1, end: 0.1, shape: linear, warmup: 0.5}"
    rate = f"optimizer={{_target_: strict_rate.Strict, clip: null, lr: {warming}}}"
    made = run("a fox", [*small_pair, "~optimizer", f"+{rate}", "steps=4", "logger=none"], tmp_path / "run")
    assert [row["lr"] for row in made.history] == pytest.approx([0, 0.2 / 3, 0.1, 0.1])
