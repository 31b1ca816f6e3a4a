"""Terms of the objective: what each is small for, that every preset runs, and classes of one's own from outside."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import vgg16
from ways import stands_break_and_rerun

from vqclip import run
from vqclip.checkpoints.cards import local_path
from vqclip.checkpoints.load import load_generator, load_perceptor
from vqclip.classes import instantiate
from vqclip.cli import main
from vqclip.config.check import errors_in
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve
from vqclip.errors import UserError
from vqclip.io.pixels import read_image
from vqclip.io.regions import Region
from vqclip.loss import Include, Objective
from vqclip.models.denoiser import Denoiser
from vqclip.protocols import Generator, Perceptor, Targets, Term, View
from vqclip.terms import (
    CodebookDistance,
    Contrast,
    Denoised,
    Edges,
    LatentNorm,
    LatentPrior,
    Palette,
    PerceptualAnchor,
    PixelAnchor,
    Saturation,
    Sharpness,
    Symmetry,
    Tiling,
    TotalVariation,
)

PRESETS = sorted(path.stem for path in (Path(__file__).parent.parent / "conf/loss/terms").glob("*.yaml"))


def view(image, **changes):
    z = torch.zeros(len(image), 4, 2, 2)
    return View(**({"progress": 0.0, "image": image, "latent": z, "start": z, "generator": None,
                    "start_picture": lambda: image} | changes))  # fmt: skip


NOISE = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
GREY = torch.full((2, 3, 16, 16), 0.5)
MIRRORED = torch.cat([NOISE[..., :8], NOISE[..., :8].flip(-1)], -1)


@pytest.mark.parametrize(
    "term, small, large",
    [
        (TotalVariation(1), GREY, NOISE),
        (Saturation(1, 0.0), GREY, NOISE),
        (Contrast(1, 0.0), GREY, NOISE),
        (Palette(1, ["#808080"]), GREY, NOISE),
        (Symmetry(1), MIRRORED, NOISE),
        (Tiling(1), GREY, NOISE),
        (Sharpness(1), NOISE, GREY),
        (Edges(1, 0.1, "white"), torch.ones_like(GREY), GREY),
    ],
    ids=lambda x: type(x).__name__,
)
def test_a_term_is_small_where_the_picture_is_as_it_says(term, small, large):
    assert term(view(small)).shape == (2,) and isinstance(term, Term)
    assert (term(view(small)) < term(view(large))).all()


ROW = torch.zeros(1, 3, 4, 4)
ROW[..., 0, :] = 1  # white along the top
HALVES = torch.tensor([0.0, 1.0]).expand(1, 3, 8, 2)
RED = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
FRAME = F.pad(torch.zeros(1, 3, 16, 16), (2,) * 4, value=1.0)


@pytest.mark.parametrize(
    "term, picture, value",
    [
        (TotalVariation(1), ROW, 1 / 3),
        (TotalVariation(1), ROW.mT, 1 / 3),
        (Saturation(1, 0.25), RED, 0.75**2),
        (Saturation(1, 1.0), RED, 0),
        (Contrast(1, 0.25), HALVES, 0.25**2),
        (Palette(1, ["red", "blue"]), RED, 0),
        (Symmetry(1), ROW, 0),
        (Symmetry(1, "vertical"), ROW, 0.5),
        (Edges(1, 0.1, "white"), FRAME, 0),
        (Edges(1, 0.1, "black"), FRAME, 1),
        (Tiling(1), ROW, 1),
        (Tiling(1), ROW.mT, 1),
    ],
    ids=lambda x: type(x).__name__,
)
def test_a_term_has_the_value_of_its_formula(term, picture, value):
    assert term(view(picture)).tolist() == pytest.approx([value], abs=1e-6)


def test_terms_of_the_latent_measure_from_nothing_from_the_codes_and_from_their_mean(generator):
    codes = generator.codebook

    def value(term, place):
        latent = place.view(1, -1, 1, 1).expand(1, -1, 2, 2)
        return term(view(GREY[:1], latent=latent, generator=generator)).item()

    assert value(LatentNorm(1), torch.full((4,), 3.0)) == 9
    assert value(CodebookDistance(1), codes[3]) == 0 < value(CodebookDistance(1), codes[3] + 0.1)
    assert value(LatentPrior(1), codes.mean(0)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "value, what", [(torch.zeros(()), "[]"), (torch.zeros(2, 3), "[2, 3]"), (torch.zeros(7), "[7]"), (0.5, "float")]
)
def test_a_term_that_gives_something_else_than_a_value_a_picture_is_named(value, what):
    def own(view):
        return value

    own.weight = 1
    objective = Objective(alpha=1, beta=0, anchor=0, terms={"own": own})
    with pytest.raises(UserError, match=rf"loss.terms.own: it gave {re.escape(what)}. Allowed: one value a picture"):
        objective.on_picture(view(GREY))


def test_the_latent_prior_inverts_in_float32_whatever_the_precision(generator):
    z = torch.randn(2, generator.channels, 4, 4, generator=torch.Generator().manual_seed(0))
    seen = view(NOISE, latent=z, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = LatentPrior(1)(seen)
    assert torch.equal(mixed, LatentPrior(1)(seen))


def test_the_pixel_anchor_measures_from_the_start():
    assert torch.equal(PixelAnchor(1)(view(NOISE)), torch.zeros(2))
    assert (PixelAnchor(1)(view(NOISE, start_picture=lambda: GREY)) > 0).all()


def test_spherical_and_cosine_agree_where_vector_and_target_do():
    unit = torch.nn.functional.normalize(torch.ones(1, 1, 8), dim=-1)
    seen = view(GREY[:1], vectors=unit, targets=Targets(unit[0], None))
    for distance in ("cosine", "spherical"):
        torch.testing.assert_close(Include(-1, distance)(seen), torch.ones(1))


def test_similarities_are_in_float32_whatever_the_precision():
    unit = torch.nn.functional.normalize(torch.randn(1, 9, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    seen = view(GREY[:1], vectors=unit, targets=Targets(unit[:, 0], unit[:, 1]))
    objective = Objective(1, 0.5, 0)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = objective.on_crops(seen)
    full = objective.on_crops(seen)
    assert {*mixed} == {"include", "exclude"} and all(torch.equal(mixed[name], full[name]) for name in full)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """The words that ask for a preset; VGG16 has random weights in torchvision's format."""
    file = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    with torch.device("meta"):
        shapes = {f"features.{key}": value.shape for key, value in vgg16().features.state_dict().items()}
    rng = torch.Generator().manual_seed(0)
    torch.save({key: 0.05 * torch.randn(shape, generator=rng) for key, shape in shapes.items()}, file)
    size = {"channels": 8, "side": 8, "patch": 2, "width": 24, "depth": 1, "heads": 2}
    size |= {"words": 8, "reader": "", "hidden": 4, "rank": 2}
    save_file(Denoiser(**size).state_dict(), file.with_name("denoiser.safetensors"), {"config": json.dumps(size)})
    more = {
        "perceptual": [f"loss.terms.perceptual.path={file}"],
        "denoised": [f"loss.terms.denoised.path={file.with_name('denoiser.safetensors')}"],
    }
    return lambda name: [f"+loss/terms=[{name}]", *more.get(name, [])]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_sound_config(name, preset):
    config = resolve(compose(preset(name)))
    assert errors_in(config) == []
    assert list(instantiate(config["loss"]).terms) == ["include", "exclude", "anchor", name]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_reaches_the_latent(make_module, name, preset):
    module = make_module(objective=instantiate(resolve(compose(preset(name)))["loss"]))
    optimizer = module.configure_optimizers()
    module.optimise(0, optimizer)
    module.optimise(1, optimizer)
    assert torch.isfinite(module.latent.grad).all() and module.metrics[name].shape == (1,)


SHIPPED = "pkg://vqclip/embedded/denoiser.safetensors"


@torch.no_grad()
def test_the_denoiser_knows_a_drawing_from_noise():
    """A drawing's noisy latent comes back nearer to it, at every size; the term is small for it, not for its pieces."""
    generator = load_generator(resolve(compose([]))["checkpoints"]["generator"])
    inputs = Path(__file__).parent.parent / "experiments"
    z = generator.encode(read_image(inputs / "editing/inputs/apple.png"))
    rng = torch.Generator().manual_seed(0)
    noise, level = torch.randn(z.shape, generator=rng), torch.tensor([0.5])
    denoiser = Denoiser.load(local_path(SHIPPED))
    for part in (slice(None), slice(2, 15)):  # 16×16 and, with stretched positions, 13×13 places
        x, hidden = denoiser.standard(z)[..., part, part], noise[..., part, part]
        clean = denoiser(x + level * hidden, level)
        assert clean.shape == x.shape and (clean - x).square().mean() < 0.3 * (level * hidden).square().mean()
    mixed = z.flatten(2)[..., torch.randperm(256, generator=rng)].view_as(z)  # the same places in another order
    drawing, shuffled = (Denoised(1, SHIPPED)(view(GREY[:1], latent=latent)) for latent in (z, mixed))
    assert drawing < 0.5 * shuffled


@torch.no_grad()
def test_with_a_guidance_scale_the_denoiser_leads_to_what_is_asked_for():
    cards = resolve(compose(["checkpoints/perceptors=[robust]"]))["checkpoints"]
    generator, reader = load_generator(cards["generator"]), load_perceptor("robust", cards["perceptors"]["robust"])
    codes = generator.codebook
    noise = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    latent = codes.mean(0).view(-1, 1, 1) + 8 * codes.std(0).view(-1, 1, 1) * noise
    include = F.normalize(reader.encode_text(["a red apple", "a blue car"]), dim=1)
    seen = view(GREY, latent=latent.expand(2, -1, -1, -1), wanted=[(reader, [(None, Targets(include, None))])])
    for scale in (0, 3):
        term = Denoised(1, SHIPPED, sigma=8, guidance_scale=scale)
        clean = term._clean(term.denoiser, term.denoiser.standard(seen.latent), seen)
        picture = generator.decode(term.denoiser.original(clean)).clamp(0, 1)
        likeness = F.normalize(reader.encode_image(F.interpolate(picture, size=64, mode="area")), dim=1) @ include.T
        if scale:
            assert (likeness.diag() > likeness.flip(0).diag() + 0.2).all()
        else:
            assert torch.equal(*likeness)  # without words both are one picture


@torch.no_grad()
def test_a_region_is_denoised_as_a_picture_of_its_own(tmp_path):
    term = Denoised(1, SHIPPED, sigma=8, guidance_scale=3)
    denoiser = term.denoiser
    x, words = torch.randn(2, 16, 16, 32, generator=torch.Generator().manual_seed(0)), torch.eye(denoiser.words)[:3]
    reader, sigma = SimpleNamespace(sha256=denoiser.reader), torch.tensor([8.0, 8.0])
    left, right = Region((0, 0, 0.5, 1)), Region((0.5, 0, 1, 1))
    Image.fromarray(np.uint8([[0, 0, 0, 255]])).save(tmp_path / "mask.png")
    quarter = Region(mask=str(tmp_path / "mask.png"))
    places = [
        (None, Targets(words[[0, 0]], None)),
        (left, Targets(torch.stack([words[1], words[1] * 0]), None)),  # the second picture has nothing there
        (quarter, Targets(words[[2, 2]], None)),
    ]
    clean = term._clean(denoiser, x, view(GREY, latent=x, wanted=[(reader, places)]))
    whole = denoiser.guided(x, sigma, words[[0, 0]], 3)
    assert torch.allclose(clean[0, ..., :16], denoiser.guided(x[:1, ..., :16], sigma[:1], words[1:2], 3)[0], atol=1e-5)
    assert torch.equal(clean[1, ..., :24], whole[1, ..., :24]) and torch.equal(
        clean[0, ..., 16:24], whole[0, ..., 16:24]
    )
    assert torch.allclose(clean[..., 24:], denoiser.guided(x[..., 24:], sigma, words[[2, 2]], 3), atol=1e-5)
    only = term._clean(denoiser, x, view(GREY, latent=x, wanted=[(reader, [(right, places[0][1])])]))
    assert torch.equal(only[..., :16], denoiser(x, sigma)[..., :16])  # nothing is asked of the left


@torch.no_grad()
def test_of_regions_that_overlap_the_smaller_lies_over_the_larger_whoever_is_named_first():
    term = Denoised(1, SHIPPED, sigma=8, guidance_scale=3)
    denoiser, x = term.denoiser, torch.randn(1, 16, 16, 32, generator=torch.Generator().manual_seed(0))
    words, reader, sigma = torch.eye(denoiser.words)[:3], SimpleNamespace(sha256=denoiser.reader), torch.tensor([8.0])
    boxes = (0, 0, 1, 1), (0.25, 0, 0.75, 1), (0, 0, 0.5, 1)
    places = [(Region(box), Targets(words[i : i + 1], None)) for i, box in enumerate(boxes)]
    clean = [
        term._clean(denoiser, x, view(GREY, latent=x, wanted=[(reader, order)])) for order in (places, places[::-1])
    ]
    assert torch.equal(*clean)
    middle = denoiser.guided(x[..., 8:24], sigma, words[1:2], 3)
    assert torch.allclose(clean[0][..., 16:24], middle[..., 8:], atol=1e-5)


def test_a_terms_own_keys_are_typed_and_a_file_of_it_that_is_not_there_is_named(
    small_pair, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for term, word, said in (
        ("saturation", "target=3", "Allowed: a number from 0 to 1"),
        ("saturation", "targt=3", "there is no such key"),
        ("perceptual", "path=gone.pth", "loss.terms.perceptual: path=gone.pth: there is no such file"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*small_pair, f"+loss/terms=[{term}]", f"loss.terms.{term}.{word}", "a fox"])
        message = capsys.readouterr().err
        assert stop.value.code == 2 and said in message and "Traceback" not in message


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["path=gone"], "path=gone: no denoiser of vqclip's"),
        ([f"path={__file__}"], "no denoiser of vqclip's"),
        (
            ["guidance_scale=3"],
            "guidance_scale: its denoiser knows texts by the vectors of another perceptor than embedded. "
            "Try: 'checkpoints/perceptors=[robust]'",
        ),
        ([], "16 channels, this generator's have"),
    ],
)
def test_what_a_term_refuses_is_told_by_the_name_that_the_config_has_for_it(small_pair, tmp_path, words, said):
    keys = ["_target_=vqclip.terms.Denoised", "weight=1", f"path={SHIPPED}", *words]
    with pytest.raises(UserError) as error:
        run("a fox", [*([] if words else small_pair), *(f"++loss.terms.mine.{key}" for key in keys)], tmp_path / "run")
    assert str(error.value).startswith("loss.terms.mine: ") and said in str(error.value)
    assert str(error.value).endswith(", or loss.terms.mine=null") and "denoised" not in str(error.value)
    assert not (tmp_path / "run").exists()  # it was told before the first picture


def test_a_perceptual_anchor_is_nothing_at_the_start_and_hardly_minds_a_shift(preset, tmp_path):
    term = instantiate(resolve(compose(preset("perceptual")))["loss"]).terms["perceptual"]
    picture = F.interpolate(NOISE, size=64, mode="bicubic").clamp(0, 1)
    assert torch.equal(term(view(picture, start_picture=lambda: picture)), torch.zeros(2))
    assert [seen.shape[1] for seen in term._seen(picture)] == [64, 128, 256, 512, 512]  # a layer of each block
    near, far = picture.roll(1, -1), 1 - picture
    apart = [term(view(other, start_picture=lambda: picture)) for other in (near, far)]
    assert (apart[0] > 0).all() and (apart[0] < apart[1]).all()
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    for path, wrong in (("gone.pth", "there is no such file"), (tmp_path / "other.pth", "it lacks features.0.bias")):
        with pytest.raises(UserError, match=wrong):
            PerceptualAnchor(1, str(path))


def test_the_networks_have_the_protocols(generator, perceptor):
    assert isinstance(generator, Generator) and isinstance(perceptor, Perceptor)


OUTSIDE = """
class Far:                                     # looks at the crops' vectors
    on_crops = True
    def __init__(self, weight): self.weight = weight
    def __call__(self, view): return view.vectors.square().sum((1, 2))

class Grey:                                    # of the older form
    def __init__(self, weight): self.weight = weight
    def __call__(self, image, latent): return (image - image.mean(1, keepdim=True)).abs().flatten(1).mean(1)

class Wave:                                    # a schedule
    def __init__(self, height): self.height = height
    def __call__(self, t): return self.height * t * (1 - t)
"""


def test_terms_and_a_schedule_from_a_folder_outside(tmp_path, monkeypatch, make_module):
    (tmp_path / "outside_terms.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    loss = {
        "_target_": "vqclip.loss.Objective", "alpha": 1, "beta": 0.5, "anchor": 0,
        "terms": {
            "far": {"_target_": "outside_terms.Far", "weight": 0.1},
            "grey": {"_target_": "outside_terms.Grey", "weight": {"_target_": "outside_terms.Wave", "height": 2}},
        },
    }  # fmt: skip
    module = make_module(objective=instantiate(loss))
    module.optimise(1, module.configure_optimizers())
    torch.testing.assert_close(module.metrics["far"], torch.ones(1))  # unit vectors: the mean over crops is 1
    assert module.metrics["grey"] > 0 and module.objective.weights["grey"](0.5) == 0.5
    sys.modules.pop("outside_terms")


def test_a_run_of_terms_is_resumed_and_made_again(small_pair, tmp_path):
    stands_break_and_rerun([*small_pair, "+loss/terms=[palette,tv,symmetry,pixels,latent_prior]"], tmp_path)
