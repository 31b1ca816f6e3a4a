"""Runs on torch's lazy device, the one besides the CPU that every machine has: what a GPU would refuse, it refuses.

A tensor that was left on the CPU meets one of the device and fails, as on a GPU.  `python tests/other_device.py FOLDER`
reads lists of overrides from stdin, a line of JSON a run, and writes the runs to FOLDER/0, FOLDER/1, ….
"""

import json
import sys
from pathlib import Path

import torch
import torch._lazy.ts_backend
import torch.nn.functional as F
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch.utils._pytree import tree_map

DEVICE = torch.device("lazy:0")


def is_there(device):
    return torch.device(device).type == DEVICE.type


def use_it():
    """Let Lightning put runs on the device, and do on the CPU what the device cannot."""
    torch._lazy.ts_backend.init()
    begin = SingleDeviceStrategy.__init__
    SingleDeviceStrategy.__init__ = lambda self, *_, **words: begin(self, **(words | {"device": DEVICE}))
    CPUAccelerator.setup_device = lambda *_: None

    # It has no generators, and no storage to save.
    generator, save = torch.Generator, torch.save
    torch.Generator = lambda device="cpu": generator("cpu" if is_there(device) else device)
    for name in ("rand", "randn", "randint"):
        setattr(torch, name, on_the_cpu(getattr(torch, name)))
    torch.save = lambda values, *words, **more: save(tree_map(to_cpu, values), *words, **more)

    # Its views of parts go wrong.
    torch.Tensor.split = here_or_there(torch.Tensor.split, lambda x, size, dim=0: parts(x, size, dim))
    torch.Tensor.chunk = here_or_there(torch.Tensor.chunk, lambda x, n, dim=0: parts(x, -(-x.shape[dim] // n), dim))
    torch.Tensor.unbind = here_or_there(
        torch.Tensor.unbind, lambda x, dim=0: [y.squeeze(dim) for y in parts(x, 1, dim)]
    )
    torch.Tensor.__iter__ = lambda x: iter(x.unbind())
    F.scaled_dot_product_attention = here_or_there(F.scaled_dot_product_attention, attention)
    grid = F.affine_grid
    F.affine_grid = lambda theta, *words, **more: grid(theta.cpu(), *words, **more).to(theta.device)


def on_the_cpu(draw):
    def drawn(*words, device=None, **more):
        there = device is not None and is_there(device)
        x = draw(*words, device="cpu" if there else device, **more)
        return x.to(DEVICE) if there else x

    return drawn


def here_or_there(own, other):
    return lambda x, *words, **more: (other if x.device == DEVICE else own)(x, *words, **more)


def parts(x, size, dim):
    starts = range(0, x.shape[dim], size)
    return [x.index_select(dim, torch.arange(i, min(i + size, x.shape[dim])).to(DEVICE)) for i in starts]


def attention(q, k, v, attn_mask=None, **_):
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return (scores if attn_mask is None else scores + attn_mask).softmax(-1) @ v


def to_cpu(value):
    return value.detach().cpu() if isinstance(value, torch.Tensor) else value


if __name__ == "__main__":
    use_it()
    from vqclip import run

    torch.set_num_threads(1)
    for number, line in enumerate(sys.stdin):
        words = json.loads(line)
        run(None, words, None if words[0].startswith("resume=") else Path(sys.argv[1]) / str(number))
