"""Checkpoints in the true formats load, agree with taming's and openai-clip's own classes, and say what is wrong."""

import hashlib
import json
import re
import shlex
import shutil
import time

import clip
import pytest
import torch
import yaml
from checkpoint_files import (
    SMALL_GUMBEL,
    SMALL_RESNET,
    SMALL_VIT,
    SMALL_VQGAN,
    card,
    random_clip,
    random_vqgan,
    tensors_of,
    write_converted,
    write_openai,
    write_taming,
)
from clip.model import build_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from taming.modules.diffusionmodules.model import Decoder, Encoder
from taming.modules.vqvae.quantize import VectorQuantizer
from torch import nn

from vqclip import run
from vqclip.checkpoints.architecture import SHAPES, construction
from vqclip.checkpoints.cards import local_path, make_card
from vqclip.checkpoints.catalogue import cards, pairs
from vqclip.checkpoints.check import _read_metadata, factor_of, validate_cards, weights_sha256
from vqclip.checkpoints.load import load_generator, load_perceptor, load_prior
from vqclip.checkpoints.tensors import Weights, digest
from vqclip.errors import UserError
from vqclip.io.files import sha256
from vqclip.models.canvas import PixelCanvas
from vqclip.paths import conf_dir


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VQCLIP_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VQCLIP_OFFLINE", raising=False)
    return tmp_path / "cache"


def read(name):
    found = next(c for c in cards() if c.name == name)
    return found.architecture


class Taming(nn.Module):
    """taming's VQModel and GumbelVQ, from its own modules: what their ``encode`` and ``decode`` do."""

    def __init__(self, ddconfig, n_embed, embed_dim, gumbel):
        super().__init__()
        self.encoder, self.decoder = Encoder(**ddconfig), Decoder(**ddconfig)
        self.quantize = VectorQuantizer(n_embed, embed_dim, beta=0.25)
        if gumbel:
            self.quantize = nn.ModuleDict(
                {"proj": nn.Conv2d(embed_dim, n_embed, 1), "embed": nn.Embedding(n_embed, embed_dim)}
            )
        self.quant_conv = nn.Conv2d(ddconfig["z_channels"], embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, ddconfig["z_channels"], 1)
        self.gumbel = gumbel

    def encode(self, x):
        h = self.quant_conv(self.encoder(x))
        if not self.gumbel:
            return h, self.quantize(h)[0]
        one_hot = nn.functional.one_hot(self.quantize["proj"](h).argmax(1), self.quantize["embed"].num_embeddings)
        return h, torch.einsum("bhwn,nd->bdhw", one_hot.float(), self.quantize["embed"].weight)

    def decode(self, z):
        return self.decoder(self.post_quant_conv(z))


def check_generator(path, architecture, side):
    """Ours from the file against taming's own modules from the file's own state dict."""
    weights = torch.load(path, map_location="cpu", weights_only=False)["state_dict"]
    theirs = Taming(**architecture).eval().requires_grad_(False)
    theirs.load_state_dict({k: v for k, v in weights.items() if not k.startswith("loss.")})
    ours = load_generator(card(path=str(path)))

    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(3))
    h, z_q = theirs.encode(image * 2 - 1)
    expected = z_q if architecture["gumbel"] else h
    torch.testing.assert_close(ours.encode(image), expected, rtol=1e-5, atol=1e-5)
    if not architecture["gumbel"]:
        torch.testing.assert_close(ours.quantise(h), z_q, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.quantise(z_q), z_q, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.decode_raw(z_q), theirs.decode(z_q), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.decode(z_q), (theirs.decode(z_q).clip(-1, 1) + 1) / 2, rtol=1e-5, atol=1e-5)
    assert ours.sha256 == sha256(path)
    return ours, weights


def check_perceptor(path, architecture):
    """Ours from the file against ``clip.load``'s model."""
    theirs, _ = clip.load(str(path), device="cpu")
    ours = load_perceptor("mine", card(path=str(path)))
    texts = ["a red apple", "watercolor paper, 猫"]
    images = torch.rand(2, 3, ours.input_size, ours.input_size, generator=torch.Generator().manual_seed(3))
    images.requires_grad_()
    normal = (images - torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)) / torch.tensor(
        [0.26862954, 0.26130258, 0.27577711]
    ).view(3, 1, 1)
    vectors, expected = ours.encode_image(images), theirs.encode_image(normal)
    torch.testing.assert_close(vectors, expected, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(x.square().sum(), images)[0] for x in (vectors, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(
            ours.encode_text(texts), theirs.encode_text(clip.tokenize(texts)), rtol=1e-5, atol=1e-5
        )
    assert ours.input_size == architecture["image_resolution"]
    assert ours.sha256 == sha256(path)
    return ours


@pytest.mark.parametrize("architecture", [SMALL_VQGAN, SMALL_GUMBEL], ids=["f16", "gumbel-f8"])
def test_taming_checkpoint(tmp_path, architecture):
    path = write_taming(tmp_path / "last.ckpt", random_vqgan(architecture))
    model, _ = check_generator(path, architecture, 64)
    assert model.factor == (8 if architecture["gumbel"] else 16)
    assert not any(p.requires_grad for p in model.parameters()) and not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("architecture", [SMALL_VIT, SMALL_RESNET], ids=["vit", "resnet"])
def test_openai_file(tmp_path, architecture):
    path = write_openai(tmp_path / "clip.pt", random_clip(architecture), architecture)
    model = check_perceptor(path, architecture)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_openai_state_dict(tmp_path):
    model = random_clip(SMALL_VIT)
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    ours = load_perceptor("mine", card(path=str(tmp_path / "plain.pt")))
    theirs = build_model(model.state_dict()).float()
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(ours.model.encode_image(image), theirs.encode_image(image), rtol=1e-5, atol=1e-5)


def test_transformer_checkpoint_gives_its_first_stage(tmp_path):
    model = random_vqgan(SMALL_VQGAN)
    path = write_taming(tmp_path / "last.ckpt", model, prefix="first_stage_model.")
    ours = load_generator(card(path=str(path)))
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), model.state_dict().values(), strict=True))


def test_conversion_is_bit_for_bit_and_small(tmp_path, cache, capsys):
    path = write_taming(tmp_path / "last.ckpt", random_vqgan(SMALL_VQGAN))
    load_generator(card(path=str(path)))
    said = capsys.readouterr().out
    [kept] = (cache / "own").glob("*.safetensors")
    assert re.search(r"converted to .* of safetensors", said) and "Working with z" not in said
    source = torch.load(path, weights_only=False)["state_dict"]
    tensors = load_file(kept)
    assert set(tensors) == {name for name in source if not name.startswith("loss.")}
    assert all(
        torch.equal(tensors[name], source[name]) and tensors[name].dtype == source[name].dtype for name in tensors
    )
    assert kept.stat().st_size < 0.6 * path.stat().st_size
    with safe_open(kept, "pt") as file:
        metadata = file.metadata()
    assert metadata["source_sha256"] == sha256(path) and metadata["digest"] == digest(tensors, metadata)

    load_generator(card(path=str(path), about="another card, so another load"))
    assert capsys.readouterr().out == ""  # the second run finds it


def test_clip_keeps_its_precision_on_disk(tmp_path, cache):
    model = random_clip(SMALL_VIT)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    path = write_openai(tmp_path / "clip.pt", model, SMALL_VIT)
    ours = load_perceptor("mine", card(path=str(path)))
    [kept] = (cache / "own").glob("*.safetensors")
    tensors = load_file(kept)
    assert set(tensors) == set(weights)
    assert all(
        torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype for name, value in weights.items()
    )
    assert {torch.float16, torch.float32} <= {value.dtype for value in tensors.values()}
    texts = {name: value for name, value in ours.model.state_dict().items() if not name.startswith("visual.")}
    assert texts and all(torch.equal(value, weights[name].float()) for name, value in texts.items())


class Talking(PixelCanvas):
    def __init__(self):
        print("made")


def test_what_a_class_of_ones_own_prints_is_seen(capsys):
    load_generator(card(_target_=f"{__name__}.Talking"))
    assert "made" in capsys.readouterr().out


def test_safetensors_with_metadata(tmp_path):
    """The embedded pair's own form: fp16, a small vocabulary, fewer groups."""
    architecture = SMALL_VQGAN | {"norm_groups": 8}
    model = random_vqgan(architecture)
    save_file(
        {name: value.half() for name, value in tensors_of(model).items()},
        tmp_path / "g.safetensors",
        {"config": json.dumps(architecture)},
    )
    ours = load_generator(card(path=str(tmp_path / "g.safetensors")))
    assert ours.decoder.norm_out.num_groups == 8
    assert torch.equal(ours.codebook, model.codebook.half().float())

    ids = torch.tensor([*range(512), 49406, 49407])
    architecture = SMALL_VIT | {"vocab_size": len(ids), "context_length": 16}
    eye = random_clip(architecture)
    weights = tensors_of(eye) | {"token_ids": ids}
    save_file(weights, tmp_path / "p.safetensors", {"config": json.dumps(architecture)})
    assert load_perceptor("mine", card(path=str(tmp_path / "p.safetensors"))).encode_text(["a fox"]).shape == (1, 32)


def test_equal_cards_share_one_model(tmp_path):
    save_file(tensors_of(random_vqgan(SMALL_VQGAN)), tmp_path / "g.safetensors")
    mine = card(path=str(tmp_path / "g.safetensors"))
    assert load_generator(mine) is load_generator(dict(mine))


def test_other_weights_of_a_file_are_loaded_anew(tmp_path):
    """In one process a training may save one after another to it."""
    path = tmp_path / "g.safetensors"
    made = []
    for seed in (0, 1):
        vqgan = random_vqgan(SMALL_VQGAN, seed)
        save_file(tensors_of(vqgan), path)
        made.append(load_generator(card(path=str(path))))
        assert made[-1].sha256 == sha256(path)
        torch.testing.assert_close(made[-1].codebook, vqgan.quantize.embedding.weight)
    assert made[0].sha256 != made[1].sha256


def test_another_prior_of_a_file_is_loaded_anew(tmp_path):
    path = shutil.copy(local_path("pkg://vqclip/embedded/prior.safetensors"), tmp_path / "prior.safetensors")
    first = load_prior(str(path))
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(
        {name: 2 * value if value.is_floating_point() else value for name, value in load_file(path).items()},
        path,
        metadata,
    )
    second = load_prior(str(path))
    assert first.sha256 != second.sha256 == sha256(path)
    assert load_prior(str(path)) is second


def test_loading_leaves_the_random_numbers_alone(tmp_path):
    save_file(tensors_of(random_vqgan(SMALL_VQGAN)), tmp_path / "r.safetensors")
    before = torch.get_rng_state()
    load_generator(card(path=str(tmp_path / "r.safetensors")))
    assert torch.equal(before, torch.get_rng_state())


# What is wrong is named.


def message(function, *args):
    with pytest.raises(UserError) as error:
        function(*args)
    return str(error.value)


def test_another_architecture_is_named(tmp_path):
    """One official architecture under the card of another: which tensors, what it looks like, what to type."""
    shapes = random_vqgan_shapes("openimages_f8_8192")
    torch.save({"state_dict": shapes}, tmp_path / "last.ckpt")
    said = message(
        load_generator,
        card(name="imagenet_f16_16384", path=str(tmp_path / "last.ckpt"), architecture=read("imagenet_f16_16384")),
    )
    assert "encoder.down.3.block.0.conv1.weight is [512, 256, 3, 3] in the file, [256, 256, 3, 3] by the" in said
    assert "99 of 343 tensors are missing: encoder.down.3.downsample.conv.weight, " in said
    assert "It looks like openimages_f8_8192" in said
    assert (
        f"Try: vqclip checkpoints/generator=openimages_f8_8192 checkpoints.generator.path={tmp_path}/last.ckpt" in said
    )


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_a_block_that_the_architecture_lacks_is_named(tmp_path, suffix):
    """Without it the network would load, and compute something else."""

    def given(model):
        path = tmp_path / f"own.{suffix}"
        save_file(tensors_of(model), path) if suffix == "safetensors" else torch.save(model.state_dict(), path)
        return path

    path = given(random_vqgan(SMALL_VQGAN))
    lacking = SMALL_VQGAN | {"ddconfig": SMALL_VQGAN["ddconfig"] | {"attn_resolutions": []}}
    said = message(load_generator, card(path=str(path), architecture=lacking))
    assert "30 tensors of the file have no place in it: " in said and ".attn.0." in said
    assert f"Try: vqclip checkpoints.generator.path={path} checkpoints.generator.architecture=null" in said
    path = given(random_clip(SMALL_VIT))
    lacking = SMALL_VIT | {"vision_layers": 1, "transformer_layers": 1}
    said = message(load_perceptor, "mine", card(path=str(path), architecture=lacking))
    assert "24 tensors of the file have no place in it: " in said and "resblocks.1." in said


def test_another_network_beside_the_one_that_is_wanted_is_left_out(tmp_path):
    """A generator and the transformer that draws its codes in one module, a CLIP and a decoder trained with it."""
    file, extra = tmp_path / "own.ckpt", torch.zeros(2)
    torch.save(random_vqgan(SMALL_VQGAN).state_dict() | {"transformer.blocks.0.weight": extra}, file)
    load_generator(card(path=str(file), architecture=SMALL_VQGAN))
    torch.save(random_clip(SMALL_VIT).state_dict() | {"decoder.conv_in.weight": extra}, file)
    load_perceptor("mine", card(path=str(file), architecture=SMALL_VIT))


@pytest.mark.parametrize("stated", ["by the card", "in the metadata"])
def test_a_block_that_no_architecture_has_is_no_fault_of_the_stated_one(tmp_path, stated):
    file, tensors = tmp_path / "own.safetensors", tensors_of(random_vqgan(SMALL_VQGAN))
    metadata = {"config": json.dumps(SMALL_VQGAN)} if stated == "in the metadata" else None
    save_file(tensors | {"encoder.more.weight": torch.zeros(2)}, file, metadata=metadata)
    given = card(path=str(file), architecture=None if metadata else SMALL_VQGAN)
    said = message(load_generator, given)
    assert "1 tensors of the file have no place in it: encoder.more.weight. The file is damaged, or has blocks" in said
    assert " Try: checkpoints/generator=" in said


def random_vqgan_shapes(name):
    """Tensors of an official architecture's shapes that take no room: one number, seen as often as needed."""
    from vqclip.models.vqgan import VQGAN

    with torch.device("meta"):
        model = VQGAN(**read(name))
    return {key: torch.zeros(1).expand(value.shape) for key, value in model.state_dict().items()}


def test_number_of_codes_is_named(tmp_path):
    torch.save(random_vqgan_shapes("imagenet_f16_1024"), tmp_path / "x.ckpt")
    said = message(
        load_generator,
        card(name="imagenet_f16_16384", path=str(tmp_path / "x.ckpt"), architecture=read("imagenet_f16_16384")),
    )
    assert "quantize.embedding.weight is [1024, 256] in the file, [16384, 256] by the architecture" in said
    assert "It looks like faceshq (or imagenet_f16_1024, sflckr, wikiart_f16_1024, built alike)" in said


def test_unknown_architecture_is_described(tmp_path):
    path = write_taming(tmp_path / "last.ckpt", random_vqgan(SMALL_VQGAN))
    said = message(load_generator, card(name="coco", path=str(path), architecture=read("coco")))
    assert "none of the known architectures" in said and '"n_embed": 64' in said
    assert f"Try: vqclip checkpoints.generator.path={path} checkpoints.generator.architecture=null" in said


def test_halves_swapped(tmp_path):
    eye = write_openai(tmp_path / "clip.pt", random_clip(SMALL_VIT), SMALL_VIT)
    assert "It looks like an OpenAI CLIP. Try: checkpoints.perceptors.NAME.path=" in message(
        load_generator, card(path=str(eye))
    )
    generator = write_taming(tmp_path / "last.ckpt", random_vqgan(SMALL_VQGAN))
    assert "It looks like a VQGAN in taming's names. Try: checkpoints.generator.path=" in message(
        load_perceptor, "mine", card(path=str(generator))
    )


def test_other_tensors(tmp_path):
    torch.save({"unet.in.weight": torch.zeros(2)}, tmp_path / "x.pt")
    assert "is not a VQGAN in taming's names: its tensors are unet.in.weight" in message(
        load_generator, card(path=str(tmp_path / "x.pt"))
    )


def test_a_model_yaml_beside_a_file_does_not_count(tmp_path):
    """The shapes tell; the YAML may be of another model, of which nothing else would tell."""
    path = write_taming(tmp_path / "last.ckpt", random_vqgan(SMALL_VQGAN))
    other = SMALL_VQGAN | {"ddconfig": SMALL_VQGAN["ddconfig"] | {"attn_resolutions": []}}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump({"model": {"params": other}}))
    assert len(load_generator(card(path=str(path))).decoder.up[4].attn)


def test_an_architecture_that_is_none_is_a_message_with_its_origin(tmp_path):
    state = tensors_of(random_vqgan(SMALL_VQGAN))
    path = tmp_path / "g.safetensors"
    for strange in ({"model_type": "vq"}, [1]):  # of another program: the shapes tell
        save_file(state, path, {"config": json.dumps(strange)})
        assert load_generator(card(path=str(path))).factor == 16
    ddconfig = SMALL_VQGAN["ddconfig"]
    save_file(state, path, {"config": json.dumps(SMALL_VQGAN | {"ddconfig": ddconfig | {"ch": "x"}})})
    said = message(load_generator, card(path=str(path)))
    assert "the architecture by `config` in its metadata makes no generator (TypeError" in said
    assert "Try: correct `config` in its metadata, or remove it" in said
    said = message(load_generator, card(path=str(path), architecture=SMALL_VQGAN | {"ddconfig": {}}))
    assert "by checkpoints.generator.architecture makes no generator (KeyError: 'ch_mult')" in said
    assert "checkpoints.generator.architecture=null" in said
    save_file(state, path, {"config": json.dumps(SMALL_VQGAN | {"ddconfig": ddconfig | {"ch": 64}})})
    said = message(load_generator, card(path=str(path)))
    assert "does not fit the architecture of mine by `config` in its metadata: " in said
    assert "Try: correct `config` in its metadata, or remove it" in said and "architecture=null" not in said


def test_tensors_that_are_no_weights(tmp_path):
    state = tensors_of(random_vqgan(SMALL_VQGAN))
    path = tmp_path / "g.safetensors"
    save_file(state | {"decoder.conv_out.weight": state["decoder.conv_out.weight"].to(torch.int8)}, path)
    assert "decoder.conv_out.weight is torch.int8. Allowed: torch.float32" in message(
        load_generator, card(path=str(path))
    )
    save_file(state | {"decoder.conv_out.bias": torch.tensor([0, float("nan"), 0])}, path)
    assert "decoder.conv_out.bias holds nan or infinity" in message(load_generator, card(path=str(path)))


def test_batch_norms_counts_may_be_floats(tmp_path):
    """A state dict is often saved as ``{name: value.half()}``."""
    state = random_clip(SMALL_RESNET).state_dict()
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "rn.pt")
    assert load_perceptor("mine", card(path=str(tmp_path / "rn.pt"))).input_size == 64


def test_no_memory_is_not_the_architectures_fault(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "g.safetensors")
    mine = make_card("generator", "mine", card(path=str(tmp_path / "g.safetensors")))
    weights = Weights(tmp_path / "g.safetensors", {}, None, {}, SHAPES, "")
    with pytest.raises(RuntimeError, match="can't allocate memory"), construction(mine, weights):
        torch.empty(2**60, dtype=torch.uint8)


def test_a_vocabulary_without_its_words(tmp_path):
    save_file(tensors_of(random_clip(SMALL_VIT | {"vocab_size": 1000})), tmp_path / "p.safetensors")
    assert "it has 1,000 tokens, and 49,408 are known" in message(
        load_perceptor, "mine", card(path=str(tmp_path / "p.safetensors"))
    )


def test_open_clips_weights_are_told_how_they_are_given(tmp_path, capsys):
    """They have OpenAI's names: nothing in such a file tells the activation."""
    line = "mine: read as OpenAI's CLIP (QuickGELU). Is it of open_clip's own training: "
    for name, architecture, model in (("a b.bin", SMALL_VIT, "ViT-B-32"), ("r.safetensors", SMALL_RESNET, "RN50")):
        path, state = tmp_path / name, tensors_of(random_clip(architecture))
        save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
        for about in ("once", "twice"):
            load_perceptor("mine", card(path=str(path), about=about))
        said = capsys.readouterr().out
        assert said.count(line) == 1
        theirs = "checkpoints.perceptors.laion2b_vit_b_32"
        assert shlex.split(said.split(line)[1].split("\n")[0]) == [
            "checkpoints/perceptors=[laion2b_vit_b_32]",
            f"{theirs}.path={path}",
            f"{theirs}.model={model}",
        ]
    wide = SMALL_VIT | {"vision_width": 1280, "vision_layers": 1, "vision_patch_size": 14, "image_resolution": 28}
    torch.save(random_clip(wide).state_dict(), path)
    said = message(load_perceptor, "mine", card(path=str(path)))
    assert "no CLIP of OpenAI's is 1280 wide" in said and ".model=ViT-H-14" in said
    load_perceptor("mine", card(path=str(path), architecture=wide))  # the user knows what it is
    write_openai(tmp_path / "clip.pt", random_clip(SMALL_VIT), SMALL_VIT)
    load_perceptor("mine", card(path=str(tmp_path / "clip.pt")))
    assert "QuickGELU" not in capsys.readouterr().out


def test_what_a_file_is_read_as_is_said_once(tmp_path, capsys):
    save_file(tensors_of(random_clip(SMALL_VIT)), tmp_path / "a.safetensors")
    for job in range(2):  # of a sweep in this process
        load_perceptor("mine", card(path=str(tmp_path / "a.safetensors")))
        assert ("QuickGELU" in capsys.readouterr().out) == (job == 0)


def test_missing_file_offline_says_where_and_how(cache, monkeypatch):
    monkeypatch.setenv("VQCLIP_OFFLINE", "1")
    mine = yaml.safe_load((conf_dir() / "checkpoints/generator/imagenet_f16_16384.yaml").read_text())
    for said in (
        message(load_generator, mine),
        *validate_cards({"generator": mine, "perceptors": {"e": card(path=__file__)}}),
    ):
        assert str(cache / "imagenet_f16_16384.ckpt") in said
        assert "vqclip models fetch generator/imagenet_f16_16384" in said
        assert "980,092,370 bytes" in said and mine["sha256"] in said


# Cards.


def test_mistakes_in_cards_are_all_found_without_loading():
    said = validate_cards(
        {
            "generator": {
                "name": "g",
                "pth": "x",
                "path": "nowhere.ckpt",
                "architecture": {"ddconfig": {}, "n_embd": 1},
            },
            "perceptors": {"a": {"path": 3}, "b": {}, "c": {"urls": ["ftp://x"], "sha256": "12", "file": "../x"}},
            "prior": {"path": "nowhere.safetensors"},
        }
    )
    text = "\n".join(said)
    for part in (
        "checkpoints.generator.pth: no such key",
        "Did you mean path?",
        "architecture.n_embd: no such key",
        "Did you mean n_embed?",
        "checkpoints.generator.architecture.embed_dim: missing",
        "checkpoints.perceptors.a.path=3",
        "checkpoints.perceptors.b: neither path nor urls",
        "ftp://x is not a web link",
        "checkpoints.perceptors.c.sha256=12",
        "checkpoints.perceptors.c.file=../x",
        "checkpoints.prior.path=nowhere",
    ):
        assert part in text, part


def test_paths_are_looked_at_before_loading(tmp_path):
    eyes = {"e": card(path=__file__)}
    assert validate_cards({"generator": card(path=__file__), "perceptors": eyes}) == []
    assert "no such file" in validate_cards({"generator": card(path=str(tmp_path / "x")), "perceptors": eyes})[0]
    assert "no such file" in validate_cards({"generator": card(path="~nobody-here/x"), "perceptors": eyes})[0]
    assert "is a folder" in validate_cards({"generator": card(path=str(tmp_path)), "perceptors": eyes})[0]


def test_every_shipped_card_is_whole():
    found = {(c.kind, c.name): c for c in cards()}
    names = {
        "imagenet_f16_1024",
        "imagenet_f16_16384",
        "wikiart_f16_1024",
        "wikiart_f16_16384",
        "coco",
        "faceshq",
        "sflckr",
        "openimages_f8_8192",
    }
    assert {n for (k, n), c in found.items() if k == "generator" and not c.target} == names | {"embedded"}
    eyes = {n for (k, n), c in found.items() if k == "perceptor" and not c.target}  # tests/test_open_clip.py has those
    assert eyes == {
        "embedded",
        "robust",
        "vit_b_32",
        "vit_b_16",
        "vit_l_14",
        "vit_l_14_336",
        "rn50",
        "rn101",
        "rn50x4",
        "rn50x16",
        "rn50x64",
    }
    for c in found.values():
        assert c.about and c.licence
        if c.name not in ("embedded", "robust") and not c.target:  # those come with the package
            assert c.urls and c.file and c.architecture
    urls = dict(zip(clip.available_models(), clip.clip._MODELS.values(), strict=True))
    assert {u for c in found.values() for u in c.urls} >= set(urls.values())
    assert set(pairs()) == names | {"embedded"}
    assert all(half in found for halves in pairs().values() for half in halves)


def test_cards_of_official_clips_have_the_architectures_of_openai_clip():
    """build_model reads the architecture off the shapes; ours is in the card."""
    from vqclip.checkpoints.architecture import _describe
    from vqclip.models.clip_fast import CLIP

    for c in cards():
        if c.kind == "perceptor" and c.architecture:
            with torch.device("meta"):
                shapes = {name: tuple(value.shape) for name, value in CLIP(**c.architecture).state_dict().items()}
            assert _describe(shapes) == ("perceptor", c.architecture)


def test_cards_of_ones_own(tmp_path):
    folder = tmp_path / "conf/checkpoints/generator"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("name: mine\nurls: ['https://example.org/mine.ckpt']\n")
    mine = next(c for c in cards(str(tmp_path / "conf")) if c.name == "mine")
    assert mine.source.name == "mine.ckpt" and mine.choice == "checkpoints/generator=mine"
    (folder / "two.yaml").write_text("name: two\nfile: mine.ckpt\nurls: ['https://example.org/two.ckpt']\n")
    two = next(c for c in cards(str(tmp_path / "conf")) if c.name == "two")
    assert two.source.name == "mine.ckpt" and two.kept != mine.kept  # nothing proves that they are one file
    (folder / "coco.yaml").write_text("defaults: [coco, _self_]\npath: my.ckpt\narchitecture: {n_embed: 7}\n")
    coco = next(c for c in cards(str(tmp_path / "conf")) if c.name == "coco")  # as Hydra composes it
    assert coco.path == "my.ckpt" and coco.architecture == read("coco") | {"n_embed": 7}
    (folder / "more.yaml").write_text("defaults: [coco]\nname: more\nabout: of a chain\n")
    more = next(c for c in cards(str(tmp_path / "conf")) if c.name == "more")
    assert more.path == "my.ckpt" and more.architecture == coco.architecture and more.about == "of a chain"
    (folder / "coco.yaml").write_text("defaults: [more]\n")
    assert "defaults: more: it leads back to itself" in message(cards, str(tmp_path / "conf"))
    (folder / "more.yaml").unlink()
    (folder / "coco.yaml").write_text("defaults: [cocoa]\npath: my.ckpt\n")
    assert "defaults: cocoa: no card of that name" in message(cards, str(tmp_path / "conf"))
    (folder / "coco.yaml").unlink()
    (folder / "mine.yaml").write_text("name: mine\nurl: https://example.org/mine.ckpt\n")
    assert "no such key" in message(cards, str(tmp_path / "conf"))


def test_ensemble_of_ones_own_cards(tmp_path):
    """Cards in a config folder of one's own; two perceptors of different input sizes, with weights."""
    from vqclip.config.compose import compose
    from vqclip.config.resolve import resolve
    from vqclip.runs.build import build
    from vqclip.runs.plan import RunPlan

    folder = tmp_path / "conf/checkpoints"
    (folder / "generator").mkdir(parents=True)
    (folder / "perceptors").mkdir()
    generator = write_taming(tmp_path / "last.ckpt", random_vqgan(SMALL_VQGAN))
    (folder / "generator/mine.yaml").write_text(yaml.safe_dump({"name": "mine", "path": str(generator)}))
    for name, architecture, weight in (("vit", SMALL_VIT, 3), ("resnet", SMALL_RESNET, 1)):
        path = write_openai(tmp_path / f"{name}.pt", random_clip(architecture), architecture)
        (folder / f"perceptors/{name}.yaml").write_text(yaml.safe_dump({name: {"path": str(path), "weight": weight}}))
    overrides = [
        "checkpoints/generator=mine",
        "checkpoints/perceptors=[vit,resnet]",
        "checkpoints.prior=null",
        "init=sine",
    ]
    cfg = compose(
        [*overrides, "prompts.include=[a fox]", "size=[64,64]", "augmentations.crops.count=2"], str(tmp_path / "conf")
    )
    module = build(RunPlan.of(resolve(cfg)))
    assert {name: (guide.weight, guide.perceptor.input_size) for name, guide in module.guides.items()} == {
        "vit": (0.75, 32),
        "resnet": (0.25, 64),
    }
    module.optimise(0, module.configure_optimizers())
    assert module.latent.grad.abs().sum() > 0


def test_factor_is_known_before_loading(tmp_path):
    assert factor_of(card(architecture=SMALL_GUMBEL)) == 8
    save_file({"x": torch.zeros(1)}, tmp_path / "g.safetensors", {"config": json.dumps(SMALL_VQGAN)})
    assert factor_of(card(path=str(tmp_path / "g.safetensors"))) == 16
    assert factor_of(card(path=__file__)) is None


# Full size.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["imagenet_f16_16384", "openimages_f8_8192"])
def test_full_size_generator(tmp_path, name):
    architecture = read(name)
    path = write_taming(tmp_path / "last.ckpt", random_vqgan(architecture))
    start = time.perf_counter()
    check_generator(path, architecture, 128)
    print(f"{name}: {path.stat().st_size / 1e6:.0f} MB, checked in {time.perf_counter() - start:.0f} s")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_b_32", "rn50"])
def test_full_size_perceptor(tmp_path, name):
    architecture = read(name)
    path = write_openai(tmp_path / "clip.pt", random_clip(architecture), architecture)
    check_perceptor(path, architecture)
    official = next(c for c in cards() if c.name == name).bytes
    assert abs(path.stat().st_size - official) < 0.01 * official  # the architecture is the official one


def test_a_file_is_hashed_again_only_where_it_changed(tmp_path):
    from vqclip.io.files import _sha256

    path = tmp_path / "weights"
    path.write_bytes(b"one")
    first, hits = sha256(path), _sha256.cache_info().hits
    assert sha256(path) == first and _sha256.cache_info().hits == hits + 1
    path.write_bytes(b"another")
    assert sha256(path) == hashlib.sha256(b"another").hexdigest() != first


def test_the_header_of_converted_weights_is_read_again_only_where_it_changed(tmp_path):
    path = tmp_path / "g.safetensors"
    for source in ("1" * 64, "2" * 64):
        write_converted(path, {"a": torch.ones(1)}, {}, source)
        assert weights_sha256(path) == source
        misses = _read_metadata.cache_info().misses
        assert weights_sha256(path) == source and _read_metadata.cache_info().misses == misses


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int8, torch.int64, torch.bool])
def test_converted_weights_are_those_of_their_source_as_long_as_nobody_changes_them(tmp_path, dtype):
    tensors = {"b": torch.arange(6).reshape(2, 3).to(dtype), "a": torch.zeros(0, dtype=dtype)}
    path = write_converted(tmp_path / "g.safetensors", tensors, {}, "1" * 64)
    assert weights_sha256(path) == "1" * 64
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(tensors | {"b": tensors["b"].flip(0)}, path, metadata)
    assert weights_sha256(path) == sha256(path) != "1" * 64


def test_a_perceptor_that_is_null_is_left_out(tmp_path):
    both = ["checkpoints/perceptors=[embedded,robust]", "checkpoints.perceptors.embedded=null", "logger=none"]
    run("a fox", [*both, "size=[32,32]", "steps=1", "callbacks=none"], tmp_path / "run")
    assert set(json.loads((tmp_path / "run" / "run.json").read_text())["weights"]) == {"generator", "robust", "prior"}


@pytest.mark.parametrize("line,words", [("=null", "none chosen"), (".weight=0", "nothing guides")])
def test_without_a_perceptor_nothing_runs(line, words, tmp_path):
    with pytest.raises(UserError, match=rf"checkpoints\.perceptors: .*{words}\. Try: "):
        run("a fox", [f"checkpoints.perceptors.embedded{line}"], tmp_path / "run")
