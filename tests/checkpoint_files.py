"""Checkpoint files in the true formats, with random weights.

A taming ``last.ckpt`` is what Lightning wrote in 2020: besides the weights, the loss's networks, two optimisers'
states and callback objects.  An OpenAI CLIP file is a TorchScript archive of a mostly-fp16 CLIP with three buffers
that say its sizes.
"""

import json
import warnings
from pathlib import Path

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from safetensors.torch import save_file
from torch import nn

from vqclip.checkpoints.tensors import digest
from vqclip.models.clip_fast import CLIP
from vqclip.models.vqgan import VQGAN

SMALL_VQGAN = {
    "ddconfig": {
        "double_z": False,
        "z_channels": 16,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 2, 2, 4],
        "num_res_blocks": 1,
        "attn_resolutions": [16],
        "dropout": 0.0,
    },
    "n_embed": 64,
    "embed_dim": 16,
    "gumbel": False,
}
SMALL_GUMBEL = SMALL_VQGAN | {
    "ddconfig": SMALL_VQGAN["ddconfig"] | {"ch_mult": [1, 1, 2, 4], "attn_resolutions": [32]},
    "gumbel": True,
}
SMALL_VIT = {
    "embed_dim": 32,
    "image_resolution": 32,
    "vision_layers": 2,
    "vision_width": 64,
    "vision_patch_size": 8,
    "context_length": 77,
    "vocab_size": 49408,
    "transformer_width": 64,
    "transformer_heads": 1,
    "transformer_layers": 2,
}
SMALL_RESNET = SMALL_VIT | {
    "image_resolution": 64,
    "vision_layers": [1, 1, 1, 1],
    "vision_width": 16,
    "vision_patch_size": None,
}


def random_vqgan(architecture, seed=0):
    """A VQGAN whose codes are spread like its encoder's vectors."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = VQGAN(**architecture).eval().requires_grad_(False)
        model.codebook.normal_()
    return model


def random_clip(architecture):
    """A CLIP in the precision of the OpenAI files, with a ResNet's statistics off their start."""
    from clip.model import convert_weights

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIP(**architecture).eval().requires_grad_(False)
        for name, value in model.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(0, 0.1)
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
    convert_weights(model)
    return model


def tensors_of(model):
    """Its weights as a safetensors file takes them."""
    return {name: value.contiguous() for name, value in model.state_dict().items()}


def write_taming(path: Path, model: VQGAN, prefix="") -> Path:
    """A Lightning checkpoint."""
    weights = {prefix + name: value for name, value in model.state_dict().items()}
    discriminator = nn.Sequential(nn.Conv2d(3, 16, 4), nn.BatchNorm2d(16))
    weights |= {f"loss.discriminator.{name}": value for name, value in discriminator.state_dict().items()}
    optimiser = torch.optim.Adam(model.requires_grad_(True).parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    model.requires_grad_(False)
    content = {
        "epoch": 12,
        "global_step": 345_678,
        "pytorch-lightning_version": "1.0.8",
        "callbacks": {
            ModelCheckpoint: {"best_model_path": Path("logs/last.ckpt"), "best_model_score": torch.tensor(0.5)}
        },
        "optimizer_states": [optimiser.state_dict()],
        "lr_schedulers": [],
        "state_dict": weights,
        "hparams": ModelCheckpoint(dirpath=str(path.parent)),
    }
    torch.save(content, path)
    return path


def write_openai(path: Path, model, architecture) -> Path:
    """A TorchScript archive."""
    for name, value in (
        ("input_resolution", architecture["image_resolution"]),
        ("context_length", architecture["context_length"]),
        ("vocab_size", architecture["vocab_size"]),
    ):
        model.__dict__.pop(name, None)
        model.register_buffer(name, torch.tensor(value))
    side = architecture["image_resolution"]
    example = (torch.zeros(1, 3, side, side), torch.zeros(1, architecture["context_length"], dtype=torch.long))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(model, example, check_trace=False).save(str(path))
    for name in ("input_resolution", "context_length", "vocab_size"):
        del model._buffers[name]
    model.context_length, model.vocab_size = architecture["context_length"], architecture["vocab_size"]
    return path


def card(**facts):
    """A card as the config has it."""
    return {"name": "mine", "path": None, "architecture": None} | facts


def write_converted(path: Path, tensors, config, source: str) -> Path:
    """What vqclip makes of a checkpoint whose sha256 is ``source``."""
    metadata = {"config": json.dumps(config), "source_sha256": source}
    save_file(tensors, path, metadata | {"digest": digest(tensors, metadata)})
    return path
