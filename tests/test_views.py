"""Views: effects on crops, borders, whole-picture crops, weights by size, stratified places."""

from dataclasses import replace

import pytest
import torch
from test_augmentations import made
from ways import stands_break_and_rerun

from vqclip.config.check import errors_in
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve
from vqclip.effects import Effects
from vqclip.errors import UserError
from vqclip.loss import Exclude, Include
from vqclip.protocols import Targets, View
from vqclip.rng import StepRandom

STRENGTHS = {"perspective": 0.3, "jitter": 0.2, "sharpness": 2.0, "blur": 0.05, "erase": 0.4}
PLAIN = {"pad": 0.0, "flip": 0.0, "affine": None}


def crops_of(seed=0, n=6, side=16):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_no_strength_draws_no_number_and_gives_the_same_bytes():
    plain, zero = made(), made(effects=dict.fromkeys(STRENGTHS, 0.0), border="zeros")
    image, rng = crops_of(n=1, side=40), StepRandom([0], 3)
    assert torch.equal(plain(image, rng, 24), zero(image, rng, 24))
    draw = zero.draw(rng, 40, 40)
    assert draw.effects == {} and draw.weights is None
    crops = crops_of()
    assert Effects()(crops, {}, slice(None)) is crops


@pytest.mark.parametrize("name", STRENGTHS)
def test_every_effect_is_its_own_draw_alike_in_chunks_and_with_a_gradient(name):
    effects = Effects(**{name: STRENGTHS[name]})
    drawn = effects.draw(StepRandom([0, 1], 2), 3)
    crops = crops_of().requires_grad_()
    whole = effects(crops, drawn, slice(None))
    assert whole.shape == crops.shape and not torch.equal(whole, crops)
    parts = [effects(crops.view(2, 3, 3, 16, 16)[:, i : i + 1].flatten(0, 1), drawn, slice(i, i + 1)) for i in range(3)]
    torch.testing.assert_close(torch.stack(parts, 1).flatten(0, 1), whole)
    whole.square().sum().backward()
    assert crops.grad.isfinite().all() and all(own.any() for own in crops.grad)
    alone = effects.draw(StepRandom([1], 2), 3)
    assert torch.equal(alone[name][0], drawn[name][1])


def test_a_perspective_of_no_move_is_the_crop_and_the_corners_move_inwards():
    crops, effects = crops_of(n=1), Effects(perspective=0.5)
    same = effects(crops, {"perspective": torch.zeros(1, 1, 8)}, slice(None))
    torch.testing.assert_close(same, crops, rtol=1e-4, atol=1e-5)
    ramp = torch.linspace(-1, 1, 17).expand(1, 3, 17, 17)
    moved = effects(ramp, {"perspective": torch.ones(1, 1, 8)}, slice(None))
    torch.testing.assert_close(moved[0, 0, 0], torch.linspace(-0.5, 0.5, 17), rtol=0, atol=1e-5)


def test_a_jitter_by_nothing_is_the_crop_and_a_hue_by_half_a_turn_is_its_complement():
    crops = crops_of(n=2)
    same = Effects(jitter=0.3)(crops, {"jitter": torch.full((2, 1, 4), 0.5)}, slice(None))
    torch.testing.assert_close(same, crops, rtol=0, atol=2e-3)
    turned = Effects(jitter=0.5)(crops, {"jitter": torch.tensor([0.5, 0.5, 0.5, 1.0]).expand(2, 1, 4)}, slice(None))
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = (crops * weights).sum(1, keepdim=True)
    torch.testing.assert_close(turned - grey, grey - crops, rtol=0, atol=5e-3)


def test_a_blur_keeps_what_is_even_and_an_erasing_blackens_no_more_than_its_share():
    even = torch.full((4, 3, 20, 20), 0.7)
    blur, erase = Effects(blur=0.1), Effects(erase=0.3)
    rng = StepRandom([0, 1], 0)
    torch.testing.assert_close(blur(even, blur.draw(rng, 2), slice(None)), even)
    erased = erase(even, erase.draw(rng, 2), slice(None))
    assert set(erased.unique().tolist()) <= {0.0, even[0, 0, 0, 0].item()}
    assert 0 < (erased == 0).float().mean((1, 2, 3)).max() <= 0.3 + 2 / 20


@pytest.mark.parametrize("border", ["reflect", "wrap"])
@pytest.mark.parametrize("pad", [0.0, 0.25, 0.9])
def test_a_border_leaves_no_holes(border, pad):
    image = torch.ones(2, 3, 20, 28)
    augmentations = made(pad=pad, border=border)
    draw = augmentations.draw(StepRandom([0, 1], 0), 20, 28)
    torch.testing.assert_close(augmentations.transform(image, draw), torch.ones(2, 3, *_padded(20, 28, pad)))
    assert (made(pad=pad).transform(image, draw) == 0).any()


def _padded(height, width, pad):
    return height + 2 * int(height * pad), width + 2 * int(width * pad)


def test_a_wrapped_shift_is_a_roll():
    affine = {"degrees": 0, "translate": 1, "interpolation": "nearest"}
    augmentations = made(pad=0.0, flip=0.0, affine=affine, border="wrap", crops={"max": 1.0})
    image = crops_of(n=1, side=20)
    draw = augmentations.draw(StepRandom([0], 0), 20, 20)
    moved = augmentations.transform(image, replace(draw, shift=torch.tensor([[0.25, -0.4]])))
    assert torch.equal(moved, image.roll((-8, 5), (-2, -1)))


def test_stratified_places_are_a_latin_square():
    draw = made(**PLAIN, crops={"count": 10, "mean": 0.5, "std": 0, "max": 1, "stratified": True}).draw(
        StepRandom([0, 1], 4), 2000, 2000
    )
    for place in (draw.top, draw.left):
        assert (place / 1001 * 10).floor().sort(1).values.tolist() == [[*range(10)]] * 2
    assert not torch.equal(draw.top.argsort(1), draw.left.argsort(1))


def test_a_place_of_strata_that_is_rounded_up_is_inside():
    crops = {"count": 64, "mean": 1, "std": 0, "max": 1, "stratified": True}
    draw = made(**PLAIN, crops=crops).draw(StepRandom([195], 18), 32, 32)  # one of its places is 1
    assert draw.top.max() == draw.left.max() == 0


def test_a_crop_of_the_whole_picture_shows_it():
    augmentations = made(**PLAIN | {"pad": 0.5}, crops={"count": 4, "whole": 0.5})
    image, rng = crops_of(n=1, side=24), StepRandom([0], 0)
    crops = augmentations(image, rng, 24)
    torch.testing.assert_close(crops[:2], image.expand(2, -1, -1, -1))
    wide = augmentations(torch.ones(1, 3, 16, 32), rng, 32)  # a square about it, black above and below
    assert wide[0].mean() == pytest.approx(0.5, abs=0.05)


def test_weights_grow_with_the_size_and_average_to_one():
    augmentations = made(crops={"count": 9, "by_size": 2, "whole": 0.2, "whole_weight": 3})
    draw = augmentations.draw(StepRandom([0], 0), 100, 100)
    assert draw.weights.mean() == pytest.approx(1)
    torch.testing.assert_close(draw.weights[0, 2] / draw.weights[0, 5], (draw.side[0, 2] / draw.side[0, 5]) ** 2)
    torch.testing.assert_close(draw.weights[0, 0] / draw.weights[0, 5], 3 * (draw.side[0, 0] / draw.side[0, 5]) ** 2)


@pytest.mark.parametrize("distance", ["cosine", "spherical"])
@pytest.mark.parametrize("term", [Include, Exclude])
def test_equal_weights_are_none_and_a_weight_of_zero_is_no_crop(term, distance):
    vectors = torch.nn.functional.normalize(torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    view = View(
        0, vectors, vectors, vectors, None, None, vectors=vectors, targets=Targets(vectors[:, 0], vectors[:, 1])
    )
    torch.testing.assert_close(term(1, distance)(replace(view, weights=torch.ones(2, 4))), term(1, distance)(view))
    half = replace(view, weights=torch.tensor([1.0, 1, 0, 0]).expand(2, 4))
    torch.testing.assert_close(term(1, distance)(half), term(1, distance)(replace(view, vectors=vectors[:, :2])))


def test_a_mirror_has_one_picture_to_fill_up_with():
    (wrong,) = errors_in(resolve(compose(["augmentations.border=reflect", "augmentations.pad=1"])))
    assert wrong.startswith("augmentations.pad=1: a border of reflect has one picture")
    with pytest.raises(UserError, match=r"Did you mean augmentations\.effects\.jitter\?"):
        compose(["augmentations.effects.jiter=.1"])


def test_crops_of_the_whole_picture_alone_must_count():
    crops = {"whole": 1, "whole_weight": 0}
    (wrong,) = errors_in(resolve(compose([f"augmentations.crops.{key}={value}" for key, value in crops.items()])))
    assert wrong.startswith("augmentations.crops.whole_weight=0: all ")
    crops |= {"whole": 0.9}
    assert not errors_in(resolve(compose([f"augmentations.crops.{key}={value}" for key, value in crops.items()])))


def test_a_run_of_every_view_is_resumed_and_made_again(small_pair, tmp_path):
    crops = {"stratified": "true", "whole": 0.25, "whole_weight": 3, "by_size": 1}
    overrides = [f"augmentations.crops.{key}={value}" for key, value in crops.items()]
    overrides += [f"augmentations.effects.{key}={value}" for key, value in STRENGTHS.items()]
    stands_break_and_rerun([*small_pair, *overrides, "augmentations.border=wrap"], tmp_path)
