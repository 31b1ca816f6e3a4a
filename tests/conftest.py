"""Small models of the real classes, with random weights that are the same every time."""

import json
import shutil
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from checkpoint_files import SMALL_VIT, tensors_of
from safetensors.torch import save_file
from wandb_server import WandbServer

from vqclip.augmentations import Augmentations
from vqclip.guidance import Guide
from vqclip.latent import Continuous
from vqclip.loss import Objective
from vqclip.models.clip import CLIPPerceptor
from vqclip.models.vqgan import VQGAN
from vqclip.module import LatentOptimisation, Networks
from vqclip.noise import Noise
from vqclip.prompts import parse_prompts
from vqclip.rng import StepRandom
from vqclip.schedules import schedule
from vqclip.targets import targets_of

torch.set_num_threads(1)

VQGAN_CONFIG = {
    "ddconfig": {
        "double_z": False,
        "z_channels": 8,
        "resolution": 32,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 2],
        "num_res_blocks": 1,
        "attn_resolutions": [8],
        "dropout": 0.0,
    },
    "n_embed": 32,
    "embed_dim": 8,
}
CLIP_CONFIG = SMALL_VIT | {"embed_dim": 24, "transformer_layers": 1}


def frozen(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
    model.sha256 = "0" * 64
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def generator():
    model = frozen(lambda: VQGAN(**VQGAN_CONFIG))
    model.quantize.embedding.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    return model


@pytest.fixture(scope="session")
def perceptor():
    return frozen(lambda: CLIPPerceptor(CLIP_CONFIG))


def small_module(
    generator, perceptor, prompts=("a fox",), seeds=(0,), exclude=("blurry",), extras=(), size=(32, 32), **changes
):
    """A small run, any part of it changed by name."""
    texts = (parse_prompts(list(entries)) for entries in (prompts, extras, exclude))
    targets = targets_of(perceptor, *texts, {"include_weight": 1, "extras_weight": 1})
    shape = generator.latent_shape(*size)
    parts = dict(
        networks=Networks(generator, {"small": Guide(perceptor, 1.0, targets)}),
        z0=torch.sin(0.5 * StepRandom(seeds, 0).normal("init", *shape)),
        seeds=seeds,
        steps=4,
        latent_kind=Continuous(),
        augmentations=Augmentations(
            pad=0.5,
            flip=0.5,
            affine={"degrees": 30, "translate": 0.2, "interpolation": "bilinear"},
            crops={"count": 6, "mean": 1.2, "std": 0.3, "min": 0.43, "max": 1.9, "antialias": False},
        ),
        noise=Noise(0.22, 0),
        objective=Objective(1, 0.5, 0, None),
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=0.5, weight_decay=0.1),
        lr=schedule(0.5),
    )
    return LatentOptimisation(**(parts | changes))


def fit(module, *callbacks, steps=None):
    """The module after its own steps, or the first few of them, in Lightning's trainer alone."""
    steps = steps or module.steps
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, range(steps))
    return module


@pytest.fixture
def make_module(generator, perceptor):
    return partial(small_module, generator, perceptor)


@pytest.fixture(scope="session")
def small_pair(tmp_path_factory, generator, perceptor):
    """Overrides that run the small models from files, without a logger: a whole run takes a second."""
    folder = tmp_path_factory.mktemp("pair")
    files = {"generator": (generator, VQGAN_CONFIG), "perceptor": (perceptor.model, CLIP_CONFIG)}
    for name, (model, config) in files.items():
        save_file(tensors_of(model), folder / f"{name}.safetensors", metadata={"config": json.dumps(config)})
    return [
        f"checkpoints.generator.path={folder}/generator.safetensors",
        f"checkpoints.perceptors.embedded.path={folder}/perceptor.safetensors",
        "checkpoints.prior=null",
        "init=sine",
        "size=[32,32]",
        "steps=4",
        "snapshot_every=2",
        "augmentations.crops.count=4",
        "logger=none",
        "callbacks=none",
    ]


@pytest.fixture
def wandb_pair(small_pair, monkeypatch, tmp_path):
    """The small pair with W&B on, for a user without an account."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return [*(word for word in small_pair if not word.startswith(("logger=", "callbacks="))), "callbacks.progress=null"]


@pytest.fixture
def wandb_server():
    with WandbServer() as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser_path:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        yield browser
        browser.close()
