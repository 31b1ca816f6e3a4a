"""Generators and perceptors of one's own: classes that a card names, from a folder outside the package."""

import importlib
import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from vqclip import UserError, run
from vqclip.checkpoints.load import load_generator, load_perceptor
from vqclip.cli.interpolate import main as interpolate
from vqclip.models.canvas import MultiResolutionCanvas, PixelCanvas
from vqclip.runs.rerun import rerun
from vqclip.runs.resume import resume

MINE = '''
from dataclasses import dataclass
import torch
from torch import nn

class Blocks:
    """Squares of one colour: no network."""
    def __init__(self, side, gain=1.0):
        self.factor, self.gain = side, gain
    def latent_shape(self, height, width):
        return 3, height // self.factor, width // self.factor
    def decode(self, z):
        return torch.sigmoid(self.gain * z).repeat_interleave(self.factor, -1).repeat_interleave(self.factor, -2)

class Deep(Blocks, nn.Module):
    """Has a weight of five dimensions, which modulates as StyleGAN2's, and one of four."""
    def __init__(self, side):
        nn.Module.__init__(self)
        Blocks.__init__(self, side)
        self.modulated, self.plain = nn.Parameter(torch.ones(1, 3, 3, 2, 2)), nn.Conv2d(3, 3, 2)

class Linear(nn.Module):
    """A decoder of one layer, whose width its file tells."""
    factor = 4
    def __init__(self, channels):
        super().__init__()
        self.channels, self.up = channels, nn.ConvTranspose2d(channels, 3, 4, 4)
    @staticmethod
    def arguments_from(shapes):
        return {"channels": shapes["net.up.weight"][0]}
    @staticmethod
    def tensor_names(names):
        return {name: name.removeprefix("net.") for name in names if name.startswith("net.")}
    def latent_shape(self, height, width):
        return self.channels, height // 4, width // 4
    def decode(self, z):
        return self.up(z).sigmoid()

@dataclass(slots=True)
class Slotted:
    """Decodes codes of its own form, has words of ours as its own, and no place for others'."""
    factor: int = 4
    origin: tuple = (0.1, 0.2)
    def latent_shape(self, height, width):
        return 3, height // 4, width // 4
    def decode(self, codes):
        z, shift = codes
        return torch.sigmoid(z + self.origin[0] + shift).repeat_interleave(4, -1).repeat_interleave(4, -2)

class Codes:
    def __call__(self, z, generator):
        return z, 0.0

class Shifted(nn.Module):
    factor, latent_shape, decode = 4, Slotted.latent_shape, Slotted.decode
    def __init__(self):
        super().__init__()
        self.origin = nn.Parameter(torch.zeros(2))

class Reader(Blocks):
    """Reads its file itself."""
    def __init__(self, path):
        super().__init__(int(open(path).read()))

class Colours:
    """Compares mean colours; its own size, its own tokenizer."""
    input_size = 8
    def encode_text(self, texts):
        return torch.tensor([[t.count(colour) + 0.1 for colour in "rgb"] for t in texts])
    def encode_image(self, crops):
        assert crops.shape[1:] == (3, 8, 8)
        return crops.mean((2, 3))

class Wrong(Colours):
    """Gives something else than a perceptor should."""
    def __init__(self, how):
        self.how = how
        self.input_size = {"pair": (8, 8), "float": 8.0}.get(how, 8)
    def encode_text(self, texts):
        vectors = super().encode_text(texts)
        wrong = {
            "wide": vectors.repeat(1, 2), "one": vectors.sum(0), "numpy": vectors.numpy(), "undefined": vectors / 0 * 0,
            "half": vectors.half(),
        }
        return wrong.get(self.how, vectors)
    def encode_image(self, crops):
        vectors = super().encode_image(crops)
        wrong = {
            "deep": vectors[:, None], "detached": vectors.detach(), "object": {"image_embeds": vectors},
            "half": vectors.bfloat16(),
        }
        return wrong.get(self.how, vectors)

class WrongBlocks(Blocks):
    """Gives something else than a generator should."""
    def __init__(self, how, side=4):
        super().__init__(side)
        self.how = how
    def decode(self, z):
        image = super().decode(z)
        wrong = {
            "grey": image[:, :1], "tuple": (image,), "wide": image.repeat(1, 1, 1, 2), "detached": image.detach(),
        }
        return wrong[self.how]

class Forgetful(Colours):
    """Holds a network that is another one while it learns."""
    def __init__(self):
        self.net = nn.Sequential(nn.Dropout(), nn.Linear(3, 3))
    def encode_image(self, crops):
        return self.net(crops.mean((2, 3)))

class Deaf:
    input_size = 8
    def encode_image(self, crops):
        return crops.mean((2, 3))

def no_generator():
    return object()
'''

BLOCKS = ["~checkpoints.generator", "+checkpoints.generator={_target_: outsider.Blocks, side: 4}"]
COLOURS = ["~checkpoints.perceptors", "+checkpoints.perceptors={mine: {_target_: outsider.Colours}}"]
SHORT = ["size=[32,32]", "steps=4", "snapshot_every=2", "augmentations.crops.count=4", "logger=none", "callbacks=none"]
START = ["checkpoints.prior=null", "init=sine"]
WHOLE = ["augmentations.pad=0", "augmentations.crops.max=1", "augmentations.affine=null"]
WRONG = "+checkpoints.perceptors={mine: {_target_: outsider.Wrong, how: HOW}}"
RUN = [*BLOCKS, *COLOURS, *START, *WHOLE, *SHORT]


@pytest.fixture(autouse=True)
def outside(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("outside")
    (folder / "outsider.py").write_text(MINE)
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("outsider", None)


def test_a_run_of_two_classes_of_ones_own_moves_towards_its_text(tmp_path):
    result = run("rrrr", [*RUN, "optimizer.lr=1", "loss.anchor=0", "steps=12"], tmp_path / "run")
    report = json.loads((tmp_path / "run" / "run.json").read_text())
    assert result.folder == tmp_path / "run" and report["pictures"][0]["final"]["include"] > 0.9
    assert set(report["weights"]) == {"generator", "mine"} and all(len(v) == 64 for v in report["weights"].values())


def test_weights_of_any_dimensions_are_taken_and_those_of_four_are_channels_last(tmp_path, monkeypatch):
    monkeypatch.setenv("VQCLIP_TRUST", "outsider")
    card = {"_target_": "outsider.Deep", "side": 4}
    assert run("rrrr", [*RUN, "checkpoints.generator._target_=outsider.Deep"], tmp_path / "run").status == "finished"
    plain = load_generator(card).plain.weight
    assert plain.is_contiguous(memory_format=torch.channels_last) and not plain.is_contiguous()
    assert interpolate([str(tmp_path / "run"), str(tmp_path / "run"), "--frames", "4"]) == 0


@pytest.mark.parametrize("name", ["Slotted", "Shifted"])
def test_a_generator_has_names_and_codes_of_its_own(tmp_path, name):
    own = [f"checkpoints.generator={{_target_: outsider.{name}}}", "latent={_target_: outsider.Codes}"]
    words = ["~checkpoints.generator", f"+{own[0]}", own[1], *RUN[len(BLOCKS) :]]
    assert run("rrrr", words, tmp_path / "run").status == "finished"


def test_a_class_that_was_defined_anew_is_loaded_anew(outside):
    card = {"_target_": "outsider.Blocks", "side": 4}
    first = load_generator(card)
    assert load_generator(card) is first
    (outside / "outsider.py").write_text(MINE.replace("torch.sigmoid(self.gain * z)", "(0 * z)"))
    importlib.reload(sys.modules["outsider"])
    second = load_generator(card)
    assert second.decode(torch.ones(1, 3, 2, 2)).sum() == 0 < first.decode(torch.ones(1, 3, 2, 2)).sum()


def test_resume_and_rerun_work_once_the_package_is_trusted(tmp_path, monkeypatch):
    run("rrrr", RUN, tmp_path / "run")
    with pytest.raises(UserError, match="VQCLIP_TRUST=outsider"):
        rerun(tmp_path / "run", folder=tmp_path / "no")
    with pytest.raises(UserError, match="VQCLIP_TRUST=outsider"):
        resume(tmp_path / "run", ["steps=6"])
    monkeypatch.setenv("VQCLIP_TRUST", "outsider")
    assert rerun(tmp_path / "run", folder=tmp_path / "again")[1]
    resume(tmp_path / "run", ["steps=6"])
    assert interpolate([str(tmp_path / "run"), str(tmp_path / "again"), "--frames", "4"]) == 0
    assert (tmp_path / "run" / "interpolate.mp4").is_file()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["pictures"][0]["final"]["step"] == 6


@pytest.mark.parametrize(
    "card,words",
    [
        ("_target_: outsider.Blocks", "checkpoints.generator.side: missing"),
        ("_target_: outsider.Blocks, side: 4, sides: 3", "Did you mean side?"),
        ("_target_: outsider.Block, side: 4", "Did you mean Blocks?"),
        ("_target_: outsiders.Blocks, side: 4", "PYTHONPATH=FOLDER"),
        ("_target_: outsider.Colours", "no generator, it has no decode and no latent_shape"),
        ("_target_: outsider.Linear", "checkpoints.generator.channels: missing"),
        ("_target_: 7", "a class by its dotted name"),
        ("_target_: outsider.Linear, path: nowhere.pt", "checkpoints.generator.path=nowhere.pt: no such file"),
        ("_target_: outsider.no_generator", "what it makes has no decode, latent_shape, factor"),
    ],
)
def test_a_wrong_class_is_a_sentence_before_anything_loads(card, words, tmp_path):
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        run("r", [*RUN[:1], f"+checkpoints.generator={{{card}}}", *RUN[2:]], tmp_path / "run")


def test_a_perceptor_without_text_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"checkpoints.perceptors.mine._target_=outsider.Deaf: no perceptor"):
        run("r", [*RUN, "checkpoints.perceptors.mine._target_=outsider.Deaf"], tmp_path / "run")


@pytest.mark.parametrize(
    "how,words",
    [
        ("pair", r"\.input_size is \(8, 8\)\. Allowed: a whole number, 1 or more"),
        ("float", r"\.input_size is 8\.0\. Allowed: a whole number"),
        ("wide", r"\.encode_image gave \[4, 3\]\. Allowed: vectors of \[4, 6\], as long as those of encode_text"),
        ("one", r"\.encode_text gave \[3\]\. Allowed: vectors of \[1, D\]"),
        ("numpy", r"\.encode_text gave ndarray\. Allowed: vectors of \[1, D\]"),
        ("undefined", r"\.encode_text gave 'rrrr' a vector with NaN or infinity"),
        ("deep", r"\.encode_image gave \[4, 1, 3\]\. Allowed: vectors of \[4, 3\]"),
        ("object", r"\.encode_image gave dict\. Allowed: vectors of \[4, 3\]"),
        ("detached", r"\.encode_image gave vectors without a gradient"),
    ],
)
def test_what_a_perceptor_gives_is_looked_at(how, words, tmp_path):
    with pytest.raises(UserError, match=r"checkpoints\.perceptors\.mine: outsider\.Wrong" + words):
        run("rrrr", [*RUN[:3], WRONG.replace("HOW", how), *RUN[4:]], tmp_path / "run")


@pytest.mark.parametrize(
    "how,words",
    [
        ("grey", r"\.decode gave \[1, 1, 32, 32\]\. Allowed: pictures of \[1, 3, 32, 32\]"),
        ("tuple", r"\.decode gave tuple\. Allowed: pictures"),
        ("wide", r"\.decode gave \[1, 3, 32, 64\]\. Allowed: pictures of \[1, 3, 32, 32\]"),
        ("detached", r"\.decode gave pictures without a gradient"),
        ("grey, side: 64", r"\.latent_shape\(32, 32\) gave \(3, 0, 0\)\. .* Try: 'size=\[64,64\]'"),
        ("grey, side: 0.5", r"\.factor is 0\.5\. Allowed: a whole number"),
    ],
)
def test_what_a_generator_gives_is_looked_at(how, words, tmp_path):
    own = f"+checkpoints.generator={{_target_: outsider.WrongBlocks, how: {how}}}"
    with pytest.raises(UserError, match=r"checkpoints\.generator: outsider\.WrongBlocks" + words):
        run("rrrr", [RUN[0], own, *RUN[2:]], tmp_path / "run")


def test_a_perceptor_in_half_precision_is_compared_in_float32(tmp_path):
    half, whole = (
        run("rrgb", [*RUN[:3], WRONG.replace("HOW", how), *RUN[4:]], tmp_path / how) for how in ("half", "whole")
    )
    assert half.score == pytest.approx(whole.score, abs=2e-3)
    assert half.scores[0]["final"]["include"] != torch.tensor(half.scores[0]["final"]["include"]).bfloat16().item()


def test_a_network_that_an_object_holds_is_frozen_and_does_not_learn(tmp_path):
    words = [*RUN, "checkpoints.perceptors.mine._target_=outsider.Forgetful"]
    first, second = (run("rrrr", words, tmp_path / name).images for name in "ab")
    assert torch.equal(first, second)
    held = load_perceptor("mine", {"_target_": "outsider.Forgetful"}).net
    assert not held.training and not any(weight.requires_grad for weight in held.parameters())


@pytest.mark.parametrize(
    "override,words",
    [
        ("latent=quantised", "latent: vqclip.latent.Quantised needs the generator's quantise"),
        ("init=codebook", "init: vqclip.init.Codebook needs the generator's codebook"),
        ("+loss/terms=[codebook]", r"loss.terms.codebook: .* needs the generator's quantise"),
    ],
)
def test_a_part_that_needs_more_of_the_generator_says_so(override, words, tmp_path):
    with pytest.raises(UserError, match=words):
        run("r", [*RUN, override], tmp_path / "run")


@pytest.mark.parametrize("kind", ["safetensors", "pickle"])
def test_a_file_gives_a_class_its_shape_and_its_tensors(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("VQCLIP_HOME", str(tmp_path / "home"))
    tensors = {"net.up.weight": torch.randn(5, 3, 4, 4), "net.up.bias": torch.randn(3), "other.weight": torch.ones(2)}
    path = tmp_path / "mine.file"
    save_file(tensors, path) if kind == "safetensors" else torch.save(tensors, path)
    generator = load_generator({"_target_": "outsider.Linear", "path": str(path)})
    assert generator.latent_shape(32, 32) == (5, 8, 8) and len(generator.sha256) == 64
    assert torch.equal(generator.up.weight, tensors["net.up.weight"]) and not generator.up.weight.requires_grad
    del tensors["net.up.bias"]
    save_file(tensors, path)
    with pytest.raises(UserError, match=r"1 of 2 tensors are missing: up\.bias"):
        load_generator({"_target_": "outsider.Linear", "path": str(path), "about": kind})
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(UserError, match="is not one of its own"):
        load_generator({"_target_": "outsider.Linear", "path": str(path), "about": kind * 2})


def test_a_class_that_takes_path_reads_its_file_itself(tmp_path):
    (tmp_path / "side.txt").write_text("16")
    card = "{_target_: outsider.Reader, path: " + str(tmp_path / "side.txt") + "}"
    result = run("r", [*RUN[:1], f"+checkpoints.generator={card}", *RUN[2:]], tmp_path / "run")
    assert result.latents[0].shape[-2:] == (2, 2)


# Canvases.


@pytest.mark.parametrize("canvas", [PixelCanvas(), MultiResolutionCanvas(1), MultiResolutionCanvas(5)])
@pytest.mark.parametrize("size", [(32, 48), (17, 31)])
def test_a_canvas_gives_back_what_it_encodes(canvas, size):
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05
    z = canvas.encode(image)
    assert z.shape[1:] == canvas.latent_shape(*size)
    assert torch.allclose(canvas.decode(z), image, atol=1e-5)


def test_a_coarse_layer_moves_whole_areas():
    canvas = MultiResolutionCanvas(4)
    z = torch.zeros(1, *canvas.latent_shape(32, 32), requires_grad=True)
    canvas.decode(z)[0, 0, 16, 16].backward()
    finest, *_, coarsest = z.grad[0].unflatten(0, (4, 3))[:, 0]
    assert (finest != 0).sum() == 1 and (coarsest != 0).sum() >= 64


@pytest.mark.parametrize("name", ["pixels", "multi_resolution"])
def test_a_run_on_a_canvas_and_from_a_picture(name, small_pair, tmp_path):
    chosen = [f"checkpoints/generator={name}", *[o for o in small_pair if "generator" not in o]]
    folder = run("a fox", chosen, tmp_path / "run").folder
    assert rerun(folder, folder=tmp_path / "again")[1]  # the package's own classes need no trust
    picture = folder / "picture-00" / "final.png"
    again = run("a fox", [*chosen, "init=image", f"init.path={picture}", "loss.anchor=1"], tmp_path / "from")
    assert again.latents.shape[-2:] == (32, 32)
