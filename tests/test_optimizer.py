"""OneScaleAdam: places keep their proportions, pictures are apart, and a run by it resumes and repeats."""

import torch

from vqclip import run
from vqclip.optimizer import OneScaleAdam


def moved(gradients, lr=0.1, **settings):
    latent = torch.nn.Parameter(torch.zeros_like(gradients[0]))
    optimizer = OneScaleAdam([latent], lr, **settings)
    for gradient in gradients:
        latent.grad = gradient.clone()
        optimizer.step()
    return latent.detach()


def test_a_step_is_along_the_gradient_and_of_the_rates_length():
    gradient = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    step = moved([gradient])
    torch.testing.assert_close(step, -0.1 * gradient / gradient.square().mean().sqrt())
    torch.testing.assert_close(moved([1000 * gradient]), step)


def test_a_picture_does_not_feel_the_others():
    g = torch.Generator().manual_seed(1)
    steps = [torch.randn(2, 4, 8, 8, generator=g) * torch.tensor([1.0, 50.0]).view(2, 1, 1, 1) for _ in range(3)]
    assert torch.equal(moved(steps)[:1], moved([step[:1] for step in steps]))


def test_coarse_spreads_a_places_gradient_to_its_neighbours_at_any_size():
    for side in (1, 3, 16):
        gradient = torch.zeros(1, 2, side, side)
        gradient[..., 0, 0] = 1
        step = moved([gradient], coarse=1)
        assert (step[..., 0, 0] < 0).all()
        assert (step[..., : min(side, 2), : min(side, 2)] < 0).all()
        torch.testing.assert_close(step.square().mean().sqrt(), torch.tensor(0.1))


def test_the_same_config_gives_the_same_picture_and_goes_on_from_a_checkpoint(tmp_path):
    quick = ["optimizer=one_scale", "size=[64,64]", "init=sine", "logger=none", "callbacks=none", "snapshot_every=2"]
    whole = run("a fox", [*quick, "steps=4"], tmp_path / "whole")
    run("a fox", [*quick, "steps=2"], tmp_path / "cut")
    cut = run(overrides=[f"resume={tmp_path / 'cut'}", "steps=4"])
    assert torch.equal(whole.images, run("a fox", [*quick, "steps=4"], tmp_path / "again").images)
    assert torch.equal(cut.images, whole.images)
