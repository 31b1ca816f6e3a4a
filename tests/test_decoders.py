"""Decoders of other families, from random files in the names and forms of the published ones."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from vqclip import UserError, run
from vqclip.checkpoints.load import load_generator

LLAMAGEN = "vqclip.models.llamagen.LlamaGen"
TINY = "vqclip.models.taesd.TAESD"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VQCLIP_HOME", str(tmp_path / "home"))


class File(dict):
    """Random tensors by name."""

    def __init__(self):
        self.rng = torch.Generator().manual_seed(0)

    def conv(self, name, inputs, outputs, size=3, bias=True):
        self[f"{name}.weight"] = torch.randn(outputs, inputs, size, size, generator=self.rng) / (inputs**0.5 * size)
        if bias:
            self[f"{name}.bias"] = torch.randn(outputs, generator=self.rng) / 10

    def norm(self, name, channels):
        self[f"{name}.weight"] = 1 + torch.randn(channels, generator=self.rng) / 10
        self[f"{name}.bias"] = torch.randn(channels, generator=self.rng) / 10


# LlamaGen: the names of its VQ-8 and VQ-16, narrower.


def llamagen_file(multipliers, ch=32, z=16, codes=40, dim=4, blocks=2):
    file = File()

    def residual(name, inputs, outputs):
        file.norm(f"{name}.norm1", inputs), file.conv(f"{name}.conv1", inputs, outputs)
        file.norm(f"{name}.norm2", outputs), file.conv(f"{name}.conv2", outputs, outputs)
        if inputs != outputs:
            file.conv(f"{name}.nin_shortcut", inputs, outputs, 1)

    def attention(name, channels):
        file.norm(f"{name}.norm", channels)
        for layer in ("q", "k", "v", "proj_out"):
            file.conv(f"{name}.{layer}", channels, channels, 1)

    def middle(name, channels):
        residual(f"{name}.mid.0", channels, channels)
        attention(f"{name}.mid.1", channels)
        residual(f"{name}.mid.2", channels, channels)

    levels, width = len(multipliers), ch
    file.conv("encoder.conv_in", 3, ch)
    for i, multiplier in enumerate(multipliers):
        for j in range(blocks):
            residual(f"encoder.conv_blocks.{i}.res.{j}", width, ch * multiplier)
            width = ch * multiplier
            if i == levels - 1:
                attention(f"encoder.conv_blocks.{i}.attn.{j}", width)
        if i < levels - 1:
            file.conv(f"encoder.conv_blocks.{i}.downsample.conv", width, width)
    middle("encoder", width)
    file.norm("encoder.norm_out", width), file.conv("encoder.conv_out", width, z)
    file.conv("decoder.conv_in", z, width)
    middle("decoder", width)
    for i, multiplier in enumerate(reversed(multipliers)):
        for j in range(blocks + 1):
            residual(f"decoder.conv_blocks.{i}.res.{j}", width, ch * multiplier)
            width = ch * multiplier
            if i == 0:
                attention(f"decoder.conv_blocks.{i}.attn.{j}", width)
        if i < levels - 1:
            file.conv(f"decoder.conv_blocks.{i}.upsample.conv", width, width)
    file.norm("decoder.norm_out", width), file.conv("decoder.conv_out", width, 3)
    file.conv("quant_conv", z, dim, 1), file.conv("post_quant_conv", dim, z, 1)
    file["quantize.embedding.weight"] = torch.randn(codes, dim, generator=file.rng)
    file["quantize.codebook_used"] = torch.zeros(65536)
    return dict(file)


def llamagen_decode(w, z):
    """The decoder by its tensors' names alone, deepest level first, as LlamaGen runs it."""

    def conv(name, x):
        weight = w[f"{name}.weight"]
        return F.conv2d(x, weight, w[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(name, x):
        return F.group_norm(x, 32, w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)

    def residual(name, x):
        h = conv(f"{name}.conv1", F.silu(norm(f"{name}.norm1", x)))
        h = conv(f"{name}.conv2", F.silu(norm(f"{name}.norm2", h)))
        return h + (conv(f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in w else x)

    def attention(name, x):
        h = norm(f"{name}.norm", x)
        q, k, v = (conv(f"{name}.{layer}", h).flatten(2) for layer in "qkv")
        share = (q.mT @ k / q.shape[1] ** 0.5).softmax(-1)
        return x + conv(f"{name}.proj_out", (v @ share.mT).view_as(x))

    def count(prefix):
        return len({name[len(prefix) :].split(".")[0] for name in w if name.startswith(prefix)})

    h = conv("decoder.conv_in", conv("post_quant_conv", z))
    h = residual("decoder.mid.2", attention("decoder.mid.1", residual("decoder.mid.0", h)))
    for i in range(levels := count("decoder.conv_blocks.")):
        for j in range(count(f"decoder.conv_blocks.{i}.res.")):
            h = residual(f"decoder.conv_blocks.{i}.res.{j}", h)
            if f"decoder.conv_blocks.{i}.attn.{j}.q.weight" in w:
                h = attention(f"decoder.conv_blocks.{i}.attn.{j}", h)
        if i < levels - 1:
            h = conv(f"decoder.conv_blocks.{i}.upsample.conv", F.interpolate(h, scale_factor=2.0))
    return conv("decoder.conv_out", F.silu(norm("decoder.norm_out", h)))


@pytest.mark.parametrize("multipliers,factor", [([1, 2, 2, 4], 8), ([1, 1, 2, 2, 4], 16)])
def test_llamagens_layout(multipliers, factor, tmp_path):
    file = llamagen_file(multipliers)
    torch.save({"model": file, "optimizer": {"state": {}}, "steps": 7}, tmp_path / "vq.pt")
    generator = load_generator({"_target_": LLAMAGEN, "path": str(tmp_path / "vq.pt")})
    assert generator.factor == factor and generator.latent_shape(64, 96) == (4, 64 // factor, 96 // factor)
    codes = F.normalize(file["quantize.embedding.weight"], dim=1)
    assert torch.allclose(generator.codebook, codes) and len(codes) == 40
    with torch.no_grad():
        z = generator.quantise(torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1)))
        wanted = (llamagen_decode(file, z).clamp(-1, 1) + 1) / 2
        assert wanted.std() > 0.05 and torch.allclose(generator.decode(z), wanted, atol=1e-5)
        latent = generator.encode(torch.rand(1, 3, 64, 64))
        assert torch.allclose(latent.norm(dim=1), torch.ones(1, 64 // factor, 64 // factor), atol=1e-5)
        assert torch.allclose(generator.decode(3 * latent), generator.decode(latent), atol=1e-5)  # direction alone


# TAESD.


def tiny_file(channels=4, encoder=True):
    """Both halves in the names of the original ``nn.Sequential``."""
    file = File()

    def block(name):
        for layer in (0, 2, 4):
            file.conv(f"{name}.conv.{layer}", 64, 64)

    file.conv("decoder.1", channels, 64)
    for i in (3, 4, 5, 8, 9, 10, 13, 14, 15, 18):
        block(f"decoder.{i}")
    for i in (7, 12, 17):
        file.conv(f"decoder.{i}", 64, 64, bias=False)
    file.conv("decoder.19", 64, 3)
    if encoder:
        file.conv("encoder.0", 3, 64)
        for i in (1, 3, 4, 5, 7, 8, 9, 11, 12, 13):
            block(f"encoder.{i}")
        for i in (2, 6, 10):
            file.conv(f"encoder.{i}", 64, 64, bias=False)
        file.conv("encoder.14", 64, channels)
    return dict(file)


def of_diffusers(file):
    def name(own):
        half, index, rest = own.split(".", 2)
        return f"{half}.layers.{int(index) - (half == 'decoder')}.{rest}"

    return {name(own): value for own, value in file.items()}


def tiny_decode(w, z):
    def conv(name, x):
        return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), padding=1)

    h = conv("decoder.1", 3 * torch.tanh(z / 3)).relu()
    for i in range(3, 19):
        if f"decoder.{i}.weight" in w:
            h = conv(f"decoder.{i}", F.interpolate(h, scale_factor=2.0))
        elif f"decoder.{i}.conv.0.weight" in w:
            h = (
                conv(f"decoder.{i}.conv.4", conv(f"decoder.{i}.conv.2", conv(f"decoder.{i}.conv.0", h).relu()).relu())
                + h
            ).relu()
    return conv("decoder.19", h).clamp(0, 1)


@pytest.mark.parametrize("form", ["both", "decoder", "diffusers"])
@pytest.mark.parametrize("channels", [4, 16])
def test_taesds_layouts(form, channels, tmp_path):
    file = tiny_file(channels)
    written = of_diffusers(file) if form == "diffusers" else file
    if form == "decoder":
        written = {name.removeprefix("decoder."): v for name, v in file.items() if name.startswith("decoder.")}
        torch.save(written, tmp_path / "tiny.pth")
    else:
        save_file(written, tmp_path / "tiny.pth")
    generator = load_generator({"_target_": TINY, "path": str(tmp_path / "tiny.pth"), "about": form})
    assert generator.latent_shape(64, 40) == (channels, 8, 5) and hasattr(generator, "encode") == (form != "decoder")
    z = torch.randn(2, channels, 4, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = tiny_decode(file, z)
        assert wanted.std() > 0.05 and torch.allclose(generator.decode(z), wanted, atol=1e-5)
        if form != "decoder":
            assert generator.encode(torch.rand(1, 3, 32, 24)).shape == (1, channels, 4, 3)


@pytest.mark.parametrize(
    "name,file", [("taesd", lambda: of_diffusers(tiny_file())), ("llamagen_f8", lambda: llamagen_file([1, 2, 2, 4]))]
)
def test_a_run_by_its_card(name, file, small_pair, tmp_path):
    save_file(file(), tmp_path / "own.safetensors")
    chosen = [f"checkpoints/generator={name}", f"checkpoints.generator.path={tmp_path / 'own.safetensors'}"]
    result = run("a fox", [*chosen, *[o for o in small_pair if "generator" not in o], "steps=2"], tmp_path / "run")
    assert result.latents.shape[-2:] == (4, 4)
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "finished"


def test_without_its_encoder_no_picture_is_a_start(small_pair, tmp_path):
    save_file({n.removeprefix("decoder."): v for n, v in tiny_file(encoder=False).items()}, tmp_path / "d.safetensors")
    chosen = ["checkpoints/generator=taesd", f"checkpoints.generator.path={tmp_path / 'd.safetensors'}"]
    rest = [o for o in small_pair if "generator" not in o and "init" not in o]
    with pytest.raises(UserError, match="needs the generator's encode, which taesd does not have"):
        run("a fox", [*chosen, *rest, "init=gradient"], tmp_path / "run")


def test_a_file_of_another_family_is_refused_by_name(tmp_path):
    save_file(tiny_file(), tmp_path / "tiny.safetensors")
    with pytest.raises(UserError, match=r"LlamaGen: a file with the tensors .* is not one of its own"):
        load_generator({"_target_": LLAMAGEN, "path": str(tmp_path / "tiny.safetensors")})
