"""Decoding in strips: the picture of the whole decoder, in less memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from checkpoint_files import SMALL_GUMBEL, random_vqgan
from PIL import Image
from taming.modules.diffusionmodules.model import AttnBlock

from vqclip import run
from vqclip.models.vqgan_fast import BRIEF


def both(model, z, rows):
    with torch.no_grad():
        model.strip = None
        whole = model.decode_raw(z)
        model.strip = rows
        strips = model.decode_raw(z)
        model.strip = None
    return whole, strips


@pytest.mark.parametrize("rows", [1, 2, 7, 16, 1000])
@pytest.mark.parametrize("size", [(4, 4), (5, 9)])
def test_strips_are_the_whole_to_rounding_everywhere(generator, rows, size):
    """Also at the picture's edges and where strips meet, for any number of rows."""
    z = torch.randn(2, 8, *size, generator=torch.Generator().manual_seed(0))
    for order in (torch.contiguous_format, torch.channels_last):
        whole, strips = both(generator.to(memory_format=order), z, rows)
        assert whole.shape == strips.shape
        torch.testing.assert_close(strips, whole, atol=2e-5, rtol=0)


@pytest.mark.parametrize("with_conv", [True, False])  # before a level of twice the size
def test_a_gumbel_model_and_one_that_enlarges_without_a_convolution(with_conv):
    model = random_vqgan(SMALL_GUMBEL | {"ddconfig": SMALL_GUMBEL["ddconfig"] | {"resamp_with_conv": with_conv}})
    z = torch.randn(1, model.channels, 6, 10, generator=torch.Generator().manual_seed(1))
    whole, strips = both(model, z, 5)
    torch.testing.assert_close(strips, whole, atol=2e-5, rtol=0)


def test_attention_of_a_level_holds_no_matrix_of_all_pairs(monkeypatch):
    """taming's own block does; the official decoders have such blocks outside the middle too."""
    ddconfig = SMALL_GUMBEL["ddconfig"] | {"ch_mult": [1, 1], "attn_resolutions": [128]}
    model = random_vqgan(SMALL_GUMBEL | {"ddconfig": ddconfig})
    z = torch.randn(1, model.channels, 65, 65, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(AttnBlock, "forward", None)
    whole, strips = both(model, z, 40)
    torch.testing.assert_close(strips, whole, atol=2e-5 if not BRIEF else 1e-2, rtol=0)


def test_a_gradient_takes_the_whole(generator):
    z = torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    generator.strip = 4
    generator.decode(z).sum().backward()
    generator.strip = None
    assert z.grad.abs().sum() > 0


def test_a_run_in_strips_makes_the_same_pictures(small_pair, tmp_path):
    one = run("a fox", small_pair, tmp_path / "one").folder
    two = run("a fox", [*small_pair, "memory.strip=8"], tmp_path / "two").folder
    for name in ("000000.png", "000004.png"):
        a, b = (np.asarray(Image.open(folder / "picture-00" / "steps" / name), int) for folder in (one, two))
        assert abs(a - b).max() <= 1
    assert (one / "picture-00/latents.safetensors").read_bytes() == (
        two / "picture-00/latents.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_2048_pixels_square_in_less_than_4_gb():
    code = """
import torch
torch.set_num_threads(1)
from vqclip.checkpoints.load import load_generator
from vqclip.config.compose import compose
from vqclip.config.resolve import resolved
model = load_generator(resolved(compose([]))["checkpoints"]["generator"]).to(memory_format=torch.channels_last)
model.strip = 128
z = torch.randn(1, model.channels, 256, 256, generator=torch.Generator().manual_seed(0)) * model.codebook.std()
with torch.no_grad():
    assert model.decode(z).shape == (1, 3, 2048, 2048)
print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    print(done.stdout)
    assert int(done.stdout) < 4 * 2**20  # KiB
