"""Crops: drawn apart from applied, exact, and the same in chunks, in batches and alone."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.functional import InterpolationMode, affine

from vqclip.augmentations import Augmentations
from vqclip.rng import StepRandom
from vqclip.sampling import pad_by_index, sample_by_index

REFERENCE = {
    "pad": 0.5,
    "flip": 0.5,
    "affine": {"degrees": 30, "translate": 0.2, "interpolation": "bilinear"},
    "crops": {"count": 8, "mean": 1.2, "std": 0.3, "min": 0.43, "max": 1.9, "antialias": False},
}


def made(**changes) -> Augmentations:
    crops = {**REFERENCE["crops"], **changes.pop("crops", {})}
    return Augmentations(**{**REFERENCE, **changes, "crops": crops})


def test_crop_sides_follow_the_recipe():
    draw = made(crops={"count": 20000}).draw(StepRandom([0], 3), 100, 100)
    assert draw.side.min() == 43 and draw.side.max() == 190
    assert draw.side.mean() == pytest.approx(120, abs=1)
    assert torch.equal(draw.side, draw.side.floor())
    for place in (draw.top, draw.left):
        assert place.min() >= 0 and (place + draw.side).max() <= 200
        # uniform over what is free: half the crops lie before the middle
        assert (place / (200 - draw.side + 1)).mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("height,width", [(40, 40), (40, 56)])
def test_cut_is_crop_then_bilinear_resize(height, width):
    augmentations = made()
    image = torch.rand(2, 3, height, width)
    draw = augmentations.draw(StepRandom([0, 1], 0), height, width)
    padded = augmentations.transform(image, draw)
    crops = augmentations.cut(padded, draw, 24).view(2, 8, 3, 24, 24)
    for b in range(2):
        for n in range(8):
            top, left, side = (int(x[b, n]) for x in (draw.top, draw.left, draw.side))
            crop = padded[b : b + 1, :, top : top + side, left : left + side]
            expected = F.interpolate(crop, size=(24, 24), mode="bilinear", align_corners=True)[0]
            torch.testing.assert_close(crops[b, n], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("height,width", [(40, 40), (40, 56)])
def test_affine_is_torchvisions(interpolation, height, width):
    augmentations = made(flip=0.0, affine={**REFERENCE["affine"], "interpolation": interpolation})
    image = torch.rand(1, 3, height, width)
    draw = augmentations.draw(StepRandom([5], 0), height, width)
    ours = augmentations.transform(image, draw)
    padded = F.pad(image, (width // 2, width // 2, height // 2, height // 2))
    shift = [float(draw.shift[0, 0]) * 2 * width, float(draw.shift[0, 1]) * 2 * height]
    theirs = affine(
        padded, float(draw.angle[0].rad2deg()), shift, 1.0, [0.0], interpolation=InterpolationMode(interpolation)
    )
    close = torch.isclose(ours, theirs, atol=1e-5).double().mean()
    assert close > 0.995  # a pixel exactly between two may round either way


def test_no_affine_no_flip_is_padding_alone():
    image = torch.rand(1, 3, 16, 16)
    augmentations = made(flip=0.0, affine=None)
    out = augmentations.transform(image, augmentations.draw(StepRandom([0], 0), 16, 16))
    assert torch.equal(out, F.pad(image, (8, 8, 8, 8)))


@pytest.mark.parametrize("antialias", [False, True])
def test_chunks_and_batches_cut_the_same_crops(antialias):
    augmentations = made(crops={"antialias": antialias})
    images = torch.rand(3, 3, 32, 32)
    draw = augmentations.draw(StepRandom([7, 8, 9], 4), 32, 32)
    padded = augmentations.transform(images, draw)
    whole = augmentations.cut(padded, draw, 16).view(3, 8, 3, 16, 16)
    parts = [augmentations.cut(padded, draw, 16, slice(i, i + 3)).view(3, -1, 3, 16, 16) for i in range(0, 8, 3)]
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    alone = augmentations(images[1:2], StepRandom([8], 4), 16)
    torch.testing.assert_close(alone, whole[1])


def test_antialias_keeps_the_mean_of_a_fine_pattern():
    """Sampling one pixel in four of a checkerboard sees one colour; averaging sees grey."""
    board = (torch.arange(128)[:, None] + torch.arange(128)).remainder(2).float().expand(1, 3, -1, -1)
    crops = {"count": 4, "mean": 1.0, "std": 0.0, "min": 1.0, "max": 1.0, "antialias": True}
    seen = made(pad=0.0, flip=0.0, affine=None, crops=crops)(board, StepRandom([0], 0), 32)
    assert (seen - 0.5).abs().max() < 0.1


@pytest.mark.parametrize("antialias", [False, True])
def test_in_mixed_precision_a_picture_is_brief_and_places_are_not(antialias):
    effects = {"perspective": 0.2, "jitter": 0.1, "sharpness": 0.5, "blur": 0.05, "erase": 0.2}
    augmentations, image = made(crops={"antialias": antialias}, effects=effects), torch.rand(1, 3, 48, 64).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = augmentations(image, StepRandom([0], 1), 16)
    assert torch.equal(mixed, augmentations(image.float(), StepRandom([0], 1), 16))


@pytest.mark.parametrize("antialias", [False, True])
def test_a_region_of_one_pixel_is_cut(antialias):
    image = torch.full((1, 3, 8, 1), 0.5)
    assert made(crops={"antialias": antialias})(image, StepRandom([0], 1), 4).isfinite().all()


@pytest.mark.parametrize("antialias", [False, True])
def test_gradient_reaches_every_pixel_it_should(antialias):
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    crops = {"count": 4, "mean": 1.0, "std": 0.0, "min": 1.0, "max": 1.0, "antialias": antialias}
    made(pad=0.0, flip=0.0, affine=None, crops=crops)(image, StepRandom([0], 0), 16).sum().backward()
    share = (image.grad != 0).float().mean()
    assert share == 1 if antialias else share > 0.5


@pytest.mark.parametrize("size", [(9, 9), (7, 12), (1, 5)], ids=str)
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("fill", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_what_is_read_by_indices_and_its_gradient_are_grid_samples(mode, fill, align_corners, size):
    image, grid = torch.randn(2, 3, *size, requires_grad=True), torch.rand(2, 6, 8, 2) * 5 - 2.5
    ours = sample_by_index(image, grid, mode, fill, align_corners)
    theirs = F.grid_sample(image, grid, mode, fill, align_corners)
    torch.testing.assert_close(ours, theirs)
    back = torch.randn_like(ours)
    torch.testing.assert_close(*(torch.autograd.grad(read, image, back)[0] for read in (ours, theirs)))


def test_a_border_by_indices_is_pads():
    image, sides = torch.randn(2, 3, 7, 9), (8, 3, 2, 6)
    assert torch.equal(pad_by_index(image, sides), F.pad(image, sides, "reflect"))
