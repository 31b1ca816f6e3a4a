"""The shipped pair, with its own files: what a new user gets."""

import argparse
import importlib
import json
import math
import subprocess
import sys
import zlib
from importlib import resources
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scripts import EXPERIMENTS

from vqclip import run
from vqclip.cli.evaluate import main
from vqclip.config.check import errors_in
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve
from vqclip.errors import UserError
from vqclip.models.denoiser import Denoiser
from vqclip.runs.evaluate import JUDGES, judge_runs

EMBEDDED = Path(str(resources.files("vqclip"))) / "embedded"
# Everyday things; the study in experiments/embedded draws its own prompts and names what comes out by eye.
PROMPTS = ["a strawberry", "a penguin", "a bicycle", "a sunflower on a red background"]


def test_the_files_are_small_and_say_what_they_are():
    files = sorted(EMBEDDED.glob("*.safetensors"))
    assert [f.stem for f in files] == [
        "denoiser", "generator", "judge", "perceptor", "photo_judge", "prior", "robust",
    ]  # fmt: skip
    assert sum(len(zlib.compress(f.read_bytes())) for f in files) < 60e6  # as a wheel has them
    for path in files:
        with safe_open(path, "pt") as file:
            about = file.metadata()
        assert json.loads(about["config"]) and about["licence"] and about["origin"]
    card = (EMBEDDED / "MODEL_CARD.md").read_text()
    for source in ("noto", "fluent", "twemoji", "Apache-2.0", "MIT", "CC-BY-4.0"):
        assert source in card


@pytest.fixture
def training(monkeypatch):
    """A script of the training as a module; they import one another by their names."""
    monkeypatch.syspath_prepend(EXPERIMENTS / "embedded")
    return importlib.import_module


@pytest.fixture
def denoiser_training(training):
    """The script, and what it names its files by."""
    return EXPERIMENTS / "embedded" / "train_denoiser.py", training("train_denoiser").MADE_BY


def test_latents_of_fewer_pictures_than_asked_for_are_not_trained_on(tmp_path, denoiser_training):
    script, made_by = denoiser_training
    latents = tmp_path / f"latents-{made_by}.pt"
    torch.save((torch.zeros(8, 16, 16, 16).half(), torch.zeros(8, 3, 256).half()), latents)
    words = ["--work", tmp_path, "--pool", "64", "--steps", "1", "--batch", "2"]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and f"{latents}: it holds 8 pictures, and --pool asks for 64" in done.stderr
    assert "Traceback" not in done.stderr and [*tmp_path.iterdir()] == [latents]


def test_what_another_guide_has_read_is_neither_trained_on_nor_exported(tmp_path, denoiser_training):
    for name in ("latents-0f0f0f0f.pt", "denoiser-0f0f0f0f.ckpt"):
        (tmp_path / name).write_bytes(b"another's")
    script, made_by = denoiser_training
    words = ["denoiser", "--work", tmp_path, "--to", tmp_path / "shipped"]
    done = subprocess.run(
        [sys.executable, script.with_name("export.py"), *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and f"denoiser-{made_by}.ckpt: there is no checkpoint to export" in done.stderr
    assert "Traceback" not in done.stderr and not [*tmp_path.rglob("*.safetensors")]


def test_a_guide_is_exported_by_what_its_checkpoint_says(tmp_path, training, monkeypatch):
    """Sizes by its weights, batch and drawings by the flags it was trained with."""
    common, export, train_guide = map(training, ("common", "export", "train_guide"))
    sizes = {"vocab_size": 40, "vision_width": 8, "vision_layers": [1, 1, 2, 1], "image_resolution": 64}
    guide = train_guide.Guide(train_guide.CONFIG | sizes)
    args = argparse.Namespace(work=tmp_path, fresh=False, steps=0, minutes=0, batch=24, icons="guide")
    run = common.Run("guide", args, guide, torch.optim.SGD(guide.parameters()), 1)
    run.step = 7
    run.save()
    monkeypatch.setattr(export, "token_ids", lambda: torch.arange(40))
    monkeypatch.setattr(sys, "argv", ["export.py", "robust", "--work", str(tmp_path), "--to", str(tmp_path)])
    export.main()
    with safe_open(tmp_path / "robust.safetensors", "pt") as file:
        about = file.metadata()
    assert json.loads(about["config"]) == train_guide.CONFIG | sizes
    assert "7 steps of 24 pictures" in about["origin"] and about["licence"] == export.licence("guide")


def test_a_file_of_the_trainings_is_written_whole_or_not_at_all(tmp_path, training):
    common = training("common")
    common.save([1], tmp_path / "latents.pt")
    with pytest.raises(Exception, match=r"pickle|local object"):
        common.save([torch.zeros(9), lambda: 2], tmp_path / "latents.pt")
    assert torch.load(tmp_path / "latents.pt") == [1]


def test_matrices_of_eight_bits_are_within_half_a_step_of_their_row(tmp_path, training):
    common = training("common")
    sizes = {"channels": 16, "side": 4, "patch": 2, "width": 64, "depth": 1, "heads": 2, "words": 64}
    config = {**sizes, "reader": "0" * 64, "hidden": 64, "rank": 8}
    model = Denoiser(**config)
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.05)
    for way, large in (("half", False), ("eight", True)):
        common.export(tmp_path / way, model.state_dict(), config, eight_bits=large)
    assert (tmp_path / "eight").stat().st_size < 0.7 * (tmp_path / "half").stat().st_size
    half, eight = (Denoiser.load(tmp_path / way).state_dict() for way in ("half", "eight"))
    for name, value in model.state_dict().items():
        matrix = value.ndim == 2 and value.numel() >= 4096
        step = value.abs().amax(1, keepdim=True) / 127 if matrix else 0.002 * value.abs().clamp(min=1e-6)
        assert ((eight[name] - value).abs() <= 0.6 * step + 1e-7).all()  # of half precision near 0
        assert torch.equal(eight[name], half[name]) != matrix
    tensors = load_file(tmp_path / "eight")
    matrix, factors = (tensors.pop(f"read.0.weight{end}") for end in ("", ".scale"))
    whole = {"read.0.weight": matrix, "read.0.weight.scale": factors} | tensors
    for kept, message in (
        (tensors | {"read.0.weight": matrix}, r"8, and read\.0\.weight\.scale is missing"),
        (whole | {"read.0.weight": matrix.half()}, r"float16, and read\.0\.weight\.scale is there"),
        (whole | {"mean": tensors["mean"].long()}, r"mean is torch\.int64, expected torch\.float32"),
        (whole | {"mean": torch.full((16,), torch.nan)}, "mean holds nan or infinity"),
    ):
        save_file(kept, tmp_path / "damaged", {"config": json.dumps(config)})
        with pytest.raises(UserError, match=rf"no denoiser of vqclip's .*{message}"):
            Denoiser.load(tmp_path / "damaged")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """One short run of the default config."""
    overrides = ["logger=none", "callbacks=none", "steps=4", "snapshot_every=4"]
    return run(PROMPTS, overrides, tmp_path_factory.mktemp("run") / "run")


def test_pictures_show_their_prompts_to_a_judge_that_did_not_guide_them(pictures):
    verdicts = judge_runs([pictures.folder])
    assert [verdict.prompt for verdict in verdicts] == PROMPTS
    assert all(sum(v.opinions[name].rank == 1 for v in verdicts) >= 3 for name in JUDGES)


def test_evaluate_prints_a_line_for_each_picture(pictures, capsys):
    assert main([str(pictures.folder), "--final"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(PROMPTS) + len(JUDGES) and all("final.png" in line for line in lines[: len(PROMPTS)])


@pytest.mark.parametrize("size,made", [([128, 192], (128, 192)), ([64, 64], (64, 64)), ([100, 130], (96, 128))])
def test_the_prior_starts_pictures_of_any_size(size, made, tmp_path):
    overrides = [
        "logger=none",
        "callbacks=none",
        "steps=1",
        "augmentations.crops.count=2",
        f"size={size}".replace(" ", ""),
    ]
    result = run("a strawberry", overrides, tmp_path / "run")
    assert result.images.shape[-2:] == made
    red = result.images[0, 0].mean() - result.images[0, 1].mean()
    assert red > 0.05  # there is a strawberry in it


def test_a_generator_without_a_prior_starts_from_noise_and_says_so(small_pair, tmp_path, capsys):
    overrides = [o for o in small_pair if o not in ("init=sine", "checkpoints.prior=null")]
    run("a fox", overrides, tmp_path / "run")
    assert "starts from noise" in capsys.readouterr().out


def test_the_recipe_that_draws_out_of_noise_takes_it_out_whatever_its_steps():
    for steps in (10, 30):
        config = resolve(compose(["experiment=drawing", f"steps={steps}"]))
        rate, weight = config["optimizer"]["lr"], config["loss"]["terms"]["denoised"]["weight"]
        for end in ("start", "end"):
            assert steps * rate[end] * weight[end] == pytest.approx(math.log(20 / 0.1), rel=1e-3)
    assert (rate["start"], rate["end"]) == pytest.approx(
        (0.17667, 0.0035333), rel=1e-4
    )  # of the pictures that were named
    for wrong in ("0", "many", "null"):
        (error,) = errors_in(resolve(compose(["experiment=drawing", f"steps={wrong}"])))
        assert error.startswith("steps=")
    shown = [sys.executable, "-m", "vqclip", "experiment=drawing", "steps=60", "--cfg", "job", "--resolve"]
    assert "start: 0.0883333" in subprocess.run(shown, capture_output=True, text=True, timeout=600).stdout


@pytest.mark.parametrize("recipe", ["drawing", "recolour"])
def test_of_several_starts_each_has_the_rate_of_its_own_way(recipe, tmp_path):
    """Two that are given up after five steps each are no part of the way of the third: 40 steps are as 30 of one."""
    path = tmp_path / "photo.png"
    Image.new("RGB", (64, 64)).save(path)
    given = [f"experiment={recipe}", *([f"init.path={path}"] if recipe == "recolour" else [])]

    def rate(*more):
        return resolve(compose([*given, *more]))["optimizer"]["lr"]

    assert rate("steps=40", "search.restarts={count: 3, steps: 5}") == rate("steps=30") != rate("steps=40")
    assert rate("steps=30", "~search") == rate("steps=30")
    for wrong in ("{count: 4}", "{count: many, steps: 5}", "[1]", "3", "{count: 8, steps: 5}"):
        (error,) = errors_in(resolve(compose([*given, "steps=30", f"search.restarts={wrong}"])))
        assert error.startswith("search.restarts")


@pytest.mark.parametrize("recipe", ["from_blank", "drawing"])
def test_the_robust_guide_draws_on_an_empty_sheet(tmp_path, recipe):
    """The colour that was asked for comes into the middle, and the corners stay pale; no prior had a hand in it."""
    overrides = [f"experiment={recipe}", "steps=25", "augmentations.crops.count=4", "logger=none", "callbacks=none"]
    images = run(["a red apple", "a blue car"], overrides, tmp_path / "run").images
    middle, corner = images[:, :, 44:84, 44:84].mean((2, 3)), images[:, :, :8, :8].mean((2, 3))
    assert middle[0, 0] - middle[0, 2] > 0.15 and middle[1, 2] - middle[1, 0] > 0.15
    assert (corner.mean(1) > 0.75).all()
