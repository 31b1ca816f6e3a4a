"""Starts from a picture: any file, fitted, encoded, and kept where its mask is black."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from vqclip import run
from vqclip.checkpoints import load
from vqclip.cli import main
from vqclip.errors import UserError
from vqclip.init import Blank
from vqclip.init import Image as ImageStart
from vqclip.io.masks import feather, subject_mask
from vqclip.io.pixels import fit, read_image
from vqclip.protocols import InitContext
from vqclip.rng import StepRandom

WIDE = np.zeros((20, 40, 3), dtype=np.uint8)
WIDE[:, :20] = (200, 40, 90)
WIDE[:10, 20:] = (0, 255, 0)


def pixels_of(path, ground="white"):
    image = read_image(path, ground)
    assert image.shape[:2] == (1, 3) and image.dtype == torch.float32
    return (image[0].movedim(0, -1) * 255).round().byte().numpy()


@pytest.mark.parametrize(
    "name,mode,apart",
    [
        ("a.png", "RGB", 0),
        ("a.png", "RGBA", 0),
        ("a.png", "P", 0),
        ("a.gif", "P", 0),
        ("a.bmp", "RGB", 0),
        ("a.tif", "RGB", 0),
        ("a.tif", "CMYK", 1),
        ("a.jpg", "CMYK", 12),
        ("a.jpg", "RGB", 12),
        ("a.webp", "RGB", 12),
        ("a.avif", "RGB", 12),
        ("a.ppm", "RGB", 0),
    ],
)
def test_formats_and_modes_of_colour(tmp_path, name, mode, apart):
    options = {"quality": 95} if apart > 1 else {}
    Image.fromarray(WIDE).convert(mode, palette=Image.Palette.ADAPTIVE).save(tmp_path / name, **options)
    made = pixels_of(tmp_path / name).astype(int)
    assert made.shape == WIDE.shape and abs(made - WIDE).mean() <= apart


@pytest.mark.parametrize("kind", ["L", "1", "I;16", "I", "F", "F of 255"])
def test_modes_of_grey(tmp_path, kind):
    """Halves of black, white and middle grey; 16 bits are not cut off at 255."""
    grey = np.repeat([0, 128, 255], 4)[None].repeat(6, 0)
    made = {
        "L": lambda: (Image.fromarray(grey.astype(np.uint8)), "a.png"),
        "1": lambda: (Image.fromarray((grey > 200).astype(np.uint8) * 255).convert("1"), "a.png"),
        "I;16": lambda: (Image.fromarray((grey * 257).astype(np.uint16)), "a.png"),
        "I": lambda: (Image.fromarray((grey * 257).astype(np.int32)), "a.tif"),
        "F": lambda: (Image.fromarray((grey / 255).astype(np.float32)), "a.tif"),
        "F of 255": lambda: (Image.fromarray(grey.astype(np.float32)), "a.tif"),
    }
    picture, name = made[kind]()
    picture.save(tmp_path / name)
    expected = (grey > 200) * 255 if kind == "1" else grey
    assert (pixels_of(tmp_path / name) == expected[..., None]).all()


def test_what_is_no_number_is_black_and_makes_nothing_else_so(tmp_path):
    grey = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    Image.fromarray(np.where(grey == grey[1, 1], np.nan, grey)).save(tmp_path / "a.tif")
    Image.fromarray(np.where(grey == grey[1, 1], 0, grey)).save(tmp_path / "b.tif")
    assert (pixels_of(tmp_path / "a.tif") == pixels_of(tmp_path / "b.tif")).all()


def test_what_is_transparent_lies_on_the_ground(tmp_path):
    rgba = np.dstack([WIDE, np.where(np.arange(40) < 20, 255, 0)[None].repeat(20, 0)]).astype(np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    grey_alpha = Image.fromarray(rgba).convert("LA")
    grey_alpha.save(tmp_path / "la.png")
    palette = Image.fromarray(rgba).quantize(8)
    palette.save(tmp_path / "p.png")
    for name in ("a.png", "la.png", "p.png"):
        assert (pixels_of(tmp_path / name)[:, 25:] == 255).all()
        assert (pixels_of(tmp_path / name, "black")[:, 25:] == 0).all()
    assert (pixels_of(tmp_path / "a.png")[:, :20] == WIDE[:, :20]).all()


@pytest.mark.parametrize("turn", range(1, 9))
def test_the_turn_that_a_camera_noted(tmp_path, turn):
    """EXIF orientation: stored turned, read upright."""
    back = {
        1: [], 2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE], 8: [Image.Transpose.ROTATE_270],
    }  # fmt: skip
    stored = Image.fromarray(WIDE)
    for operation in back[turn]:
        stored = stored.transpose(operation)
    exif = Image.Exif()
    exif[0x0112] = turn
    stored.save(tmp_path / "a.png", exif=exif)
    assert (pixels_of(tmp_path / "a.png") == WIDE).all()


def test_fit_cuts_pads_or_stretches(tmp_path):
    Image.fromarray(WIDE).save(tmp_path / "a.png")
    wide = read_image(tmp_path / "a.png")
    assert torch.equal(fit(wide, 20, 40), wide)
    assert torch.equal(fit(wide, 20, 20, "crop"), wide[..., 10:30])
    padded = fit(wide, 40, 40, "pad")
    assert torch.equal(padded[..., 10:30, :], wide) and (padded[..., :10, :] == wide[..., :1, :]).all()
    stretched = fit(wide, 20, 20, "stretch")
    torch.testing.assert_close(stretched[..., 2], wide[..., 4])
    for how in ("crop", "pad", "stretch"):
        for size in ((7, 64), (64, 7), (20, 41), (1, 1)):
            made = fit(wide, *size, how)
            assert made.shape[-2:] == size and made.min() >= 0 and made.max() <= 1


def test_the_start_is_the_encoded_picture(generator, tmp_path):
    Image.fromarray(WIDE).resize((32, 32)).save(tmp_path / "a.png")
    start = InitContext(generator, generator.latent_shape(32, 32), ["a", "b"], StepRandom([0, 0], 0), None)
    z = ImageStart(str(tmp_path / "a.png"), "cut", None, 8)(start)
    with torch.no_grad():
        expected = generator.encode(read_image(tmp_path / "a.png"))
    assert z.shape == (2, *start.shape) and torch.equal(z[:1], expected) and torch.equal(z[0], z[1])


def test_a_feathered_mask_stays_inside_and_keeps_thin_strokes():
    mask = torch.zeros(1, 1, 20, 20)
    mask[..., 5:15, 5:] = 1
    mask[..., 2, :] = 1  # one pixel thin
    soft = feather(mask, 4)
    assert (soft[mask == 0] == 0).all() and (soft[mask == 1] > 0).all()
    torch.testing.assert_close(soft[0, 0, 5:10, 12], torch.tensor([0.25, 0.5, 0.75, 1, 1]))
    assert soft[0, 0, 10, 19] == 1  # the picture's rim is no edge
    assert torch.equal(feather(mask, 0), mask)


def test_a_ground_is_of_the_rims_colour_and_a_thing_is_what_is_not_with_a_margin():
    picture = torch.full((1, 3, 20, 20), 0.5)
    picture[:, 0, 8:12, 8:12] = 0.7
    picture[:, 1, 0, 0] = 0.55  # a speck within what counts as the same
    white = subject_mask(picture, 0.1, 2)[0, 0]
    assert white.sum() == 8 * 8 and white[6:14, 6:14].all()


def edit(small_pair, folder, picture, *overrides):
    rest = [word for word in small_pair if word != "init=sine"]
    return run("a fox", [*rest, "init=image", f"init.path={picture}", *overrides], folder)


def test_the_first_run_of_a_process_is_as_every_later_one(small_pair, tmp_path, photo):
    """The models are shared between the jobs of a process; how one job left them must not reach the next."""
    load._LOADED.clear()
    one, two = (edit(small_pair, tmp_path / name, photo).folder for name in ("one", "two"))
    for name in ("metrics.csv", "picture-00/latents.safetensors", "picture-00/final.png"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


@pytest.fixture
def photo(tmp_path):
    picture = Image.effect_mandelbrot((32, 32), (-2, -1.5, 1, 1.5), 30).convert("RGB")
    picture.save(tmp_path / "photo.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 16, 40, 64))
    mask.save(tmp_path / "mask.png")
    return tmp_path / "photo.png"


def test_outside_the_mask_every_snapshot_is_the_input(small_pair, tmp_path, photo):
    folder = edit(small_pair, tmp_path / "run", photo, f"init.mask={tmp_path}/mask.png", "optimizer.lr=.5").folder
    before = np.asarray(Image.open(photo))
    inside = np.zeros((32, 32), dtype=bool)
    inside[8:32, :20] = True
    snapshots = sorted((folder / "picture-00" / "steps").glob("*.png"))
    assert len(snapshots) == 3
    for path in snapshots:
        after = np.asarray(Image.open(path))
        assert (after[~inside] == before[~inside]).all()
    assert abs(after[16:, 2:12].astype(int) - before[16:, 2:12]).mean() > 10
    without = edit(small_pair, tmp_path / "free", photo, "optimizer.lr=.5").folder
    assert (np.asarray(Image.open(without / "picture-00/final.png"))[~inside] != before[~inside]).any()


def test_a_ground_stays_the_input_without_a_mask(small_pair, tmp_path):
    picture = Image.new("RGB", (32, 32), "white")
    picture.paste("red", (12, 12, 20, 20))
    picture.save(tmp_path / "square.png")
    more = ["init.ground=0.1", "init.feather=1", "optimizer.lr=.5"]
    folder = edit(small_pair, tmp_path / "run", tmp_path / "square.png", *more).folder
    after = np.asarray(Image.open(folder / "picture-00/final.png"))
    assert (after[:8] == 255).all() and (after[:, 24:] == 255).all() and (after[12:20, 12:20] != (255, 0, 0)).any()


def test_a_ground_that_is_the_whole_picture_is_refused(small_pair, tmp_path, photo):
    with pytest.raises(UserError, match=r"init\.ground=1: .*nothing would change"):
        edit(small_pair, tmp_path / "run", photo, "init.ground=1")


def test_a_mask_that_is_cut_off_is_told(small_pair, tmp_path):
    Image.fromarray(WIDE).save(tmp_path / "wide.png")
    edge = np.zeros(WIDE.shape[:2], np.uint8)
    edge[:, :4] = 255
    Image.fromarray(edge).save(tmp_path / "edge.png")
    with pytest.raises(UserError, match=r"init\.mask=.*nothing white is left of it at this size with init\.fit=crop"):
        edit(small_pair, tmp_path / "run", tmp_path / "wide.png", f"init.mask={tmp_path}/edge.png", "init.fit=crop")


def test_the_gradient_passes_the_mask_only_inside(small_pair, tmp_path, photo):
    """What the mask hides moves nothing: the perceptor sees the picture as it will be."""
    black_but_one = Image.new("L", (32, 32))
    black_but_one.paste(255, (0, 0, 4, 4))
    black_but_one.save(tmp_path / "corner.png")
    corner = edit(small_pair, tmp_path / "corner", photo, f"init.mask={tmp_path}/corner.png", "init.feather=0").folder
    before, after = (np.asarray(Image.open(p), int) for p in (photo, corner / "picture-00/final.png"))
    assert (before[4:] == after[4:]).all() and (before[:, 4:] == after[:, 4:]).all()


def test_the_anchor_holds_the_result_near_its_start_and_may_let_go(small_pair, tmp_path, photo):
    apart = []
    for weight in ("0", "1", "{start: 1, end: 0, shape: linear}", "100"):
        folder = edit(small_pair, tmp_path / f"{len(apart)}", photo, "steps=12", f"loss.anchor={weight}").folder
        from safetensors.torch import load_file

        latents = load_file(folder / "picture-00/latents.safetensors")
        apart.append((latents["000012"] - latents["000000"]).square().mean().item())
    free, held, let_go, tight = apart
    assert tight < held < let_go < free
    rows = list(csv.DictReader((tmp_path / "2" / "metrics.csv").open()))
    assert all(float(row["anchor"]) >= 0 for row in rows) and len(rows) == 12  # a column of its own in every row


WRONG = {
    "gone": (["init.path=gone.png"], "init.path='gone.png': not allowed here. Allowed: the path of a picture file; "
             "gone.png: there is no such file. Try: init.path=photo.jpg"),
    "text": (["init.path=text.png"], "init.path='text.png': not allowed here. Allowed: the path of a picture file; "
             "text.png: it is not a picture Pillow can open. Try: init.path=photo.jpg"),
    "cut off": (["init.path=cut.png"], "init.path='cut.png': not allowed here. Allowed: the path of a picture file; "
                "cut.png: it cannot be read (image file is truncated). Try: init.path=photo.jpg"),
    "folder": (["init.path=."], "init.path='.': not allowed here. Allowed: the path of a picture file; .: it is a "
               "folder. Try: init.path=photo.jpg"),
    "number": (["init.path=7"], "init.path=7: not allowed here. Allowed: the path of a picture file; 7: it is not a "
               "path. Try: init.path=photo.jpg"),
    "none": ([], "init.path: a value is missing. Try: init.path=photo.jpg"),
    "fit": (["init.path=photo.png", "init.fit=fill"], "init.fit='fill': not allowed here. Allowed: one of crop, pad, "
            "stretch, cut. Try: init.fit=crop"),
    "feather": (["init.path=photo.png", "init.feather=-1"], "init.feather=-1: not allowed here. Allowed: a whole "
                "number from 0 to 512. Try: init.feather=8"),
    "mask gone": (["init.path=photo.png", "init.mask=gone.png"], "init.mask='gone.png': not allowed here. Allowed: the "
                  "path of a picture file; gone.png: there is no such file. Try: init.mask=mask.png"),
    "mask shape": (["init.path=photo.png", "init.mask=wide.png"], "init.mask='wide.png': 40×20 pixels, and the picture "
                   "is 32×32: of another shape. Allowed: a mask of the picture's proportions"),
    "mask black": (["init.path=photo.png", "init.mask=black.png"], "init.mask='black.png': black all over, so nothing "
                   "may change. Allowed: white where it may"),
    "anchor": (["init.path=photo.png", "loss.anchor={start: 1}"], "loss.anchor={start: 1}: not allowed here. "
               "Allowed: a number from 0 up, or a schedule {start: NUMBER, end: NUMBER, shape: "
               "constant|linear|cosine|exponential|steps}. Try: loss.anchor=0"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_pictures_and_masks(tmp_path, photo, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[: len(photo.read_bytes()) // 2])
    Image.fromarray(WIDE).save(tmp_path / "wide.png")
    Image.new("L", (32, 32)).save(tmp_path / "black.png")
    overrides, message = WRONG[name]
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as exit:
        main(["init=image", *overrides])
    assert exit.value.code == 2
    assert capsys.readouterr().err == f"vqclip: {message}\n"
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def start(generator):
    return InitContext(generator, generator.latent_shape(64, 96), ["a", "b"], StepRandom([0, 1], 0), None)


def test_blank_is_the_sheet_with_noise_in_its_middle(start):
    sheet = Blank("white", noise=0, spot=0.5)(start)
    white = torch.ones(1, 3, 64, 96).to(start.generator.codebook)
    assert torch.equal(sheet, start.generator.encode(white).expand_as(sheet))
    z = Blank("white", noise=0.5, spot=0.5)(start)
    apart = (z - sheet).square().mean(1).sqrt()
    h, w = z.shape[-2] // 2, z.shape[-1] // 2
    assert (apart[:, h, w] > 10 * apart[:, 0, 0]).all() and not torch.equal(apart[0], apart[1])
    assert (Blank("#0000ff", noise=0, spot=0.5)(start) != sheet).any()
