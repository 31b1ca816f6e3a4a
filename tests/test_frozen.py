"""Frozen layers that keep less give the same bits, and gradients to rounding."""

import pytest
import torch
from torch import nn

from vqclip.models import frozen
from vqclip.models.frozen import activated, convolved


@pytest.fixture(autouse=True)
def always(monkeypatch):
    monkeypatch.setattr(frozen, "LARGE", 0)


def layers(channels=32, out=32, kernel=3):
    torch.manual_seed(0)
    norm, conv = nn.GroupNorm(8, channels, eps=1e-6), nn.Conv2d(channels, out, kernel, padding=kernel // 2)
    nn.init.normal_(norm.weight)
    return norm.requires_grad_(False), conv.requires_grad_(False).to(memory_format=torch.channels_last)


def gradient(function, x):
    """The value and the gradient of its weighted sum, and the bytes that were kept."""
    kept = {}
    x = x.clone().requires_grad_()
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.update({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()}) or t, lambda t: t
    )
    with hooks:
        y = function(x)
    y.backward(torch.linspace(-1, 1, y.numel()).view_as(y))
    return y.detach(), x.grad, sum(kept.values())


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_same_bits_and_less_kept(kernel, form, monkeypatch):
    monkeypatch.setattr(frozen, "ROWS", 10)
    norm, conv = layers(kernel=kernel)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 32, 24, 20).contiguous(memory_format=form)
    for ours, plain, most in (
        (lambda x: convolved(conv, x), conv, 0),
        (lambda x: activated(norm, conv, x), lambda x: conv(nn.functional.silu(norm(x))), x.nbytes + 1000),
    ):
        (y, dy, kept), (z, dz, plainly) = gradient(ours, x), gradient(plain, x)
        assert torch.equal(y, z)
        torch.testing.assert_close(dy, dz, rtol=1e-4, atol=1e-5)
        assert kept <= most < plainly


def test_where_it_does_not_hold_the_layers_are_torchs_own():
    norm, conv = layers()
    x = torch.randn(1, 32, 8, 8)
    assert activated(norm, conv, x).grad_fn is None
    with torch.autocast("cpu", torch.bfloat16):
        assert activated(norm, conv, x.clone().requires_grad_()).dtype == torch.bfloat16
    conv.requires_grad_(True)
    convolved(conv, x).sum().backward()
    assert conv.weight.grad is not None


def test_a_decoder_keeps_less_than_half(small_pair, monkeypatch):
    from vqclip.checkpoints.load import load_generator
    from vqclip.memory import bytes_kept

    generator = load_generator({"path": small_pair[0].partition("=")[2]})
    z = torch.randn(1, *generator.latent_shape(64, 64)).requires_grad_()
    less = bytes_kept(lambda: generator.decode(z), [generator])
    picture = generator.decode(z)
    (grad,) = torch.autograd.grad(picture.square().sum(), z)
    monkeypatch.setattr(frozen, "LARGE", 2**62)
    again = generator.decode(z)
    assert torch.equal(picture, again)
    torch.testing.assert_close(grad, torch.autograd.grad(again.square().sum(), z)[0], rtol=1e-3, atol=1e-4)
    assert less < 0.6 * bytes_kept(lambda: generator.decode(z), [generator])
