"""Mistakes that other programs of this method make, each by its name: that ours does not."""

import csv
import json
import random

import numpy as np
import pytest
import torch
import yaml
from conftest import CLIP_CONFIG
from PIL import Image
from test_starts import latents

from vqclip import run
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve
from vqclip.errors import UserError
from vqclip.init import Codebook, Gradient, PixelNoise, Sine
from vqclip.loss import Objective
from vqclip.paths import conf_dir
from vqclip.protocols import InitContext
from vqclip.rng import StepRandom
from vqclip.schedules import schedule


def rows(folder):
    return list(csv.DictReader((folder / "metrics.csv").open()))


def cards(kind):
    for path in sorted((conf_dir() / "checkpoints" / kind).glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for own in [content] if kind == "generator" else content.values():
            if own.get("urls"):
                yield path.stem, own


@pytest.mark.parametrize("init", [Sine(0.5), Codebook(), Gradient(None, 0), PixelNoise(1, 0.2, False)])
def test_vqgan_clip_1_the_seed_fixes_the_start_whatever_was_drawn_before(generator, init):
    """There the seed is set after the start was drawn; numpy's and Python's numbers are not seeded at all."""

    def start(seed):
        return init(InitContext(generator, generator.latent_shape(32, 32), ["a"], StepRandom([seed], 0), None))

    one = start(3)
    torch.manual_seed(99), np.random.seed(99), random.seed(99)
    torch.rand(7), np.random.rand(7), random.random()
    assert torch.equal(start(3), one) and not torch.equal(start(4), one)


def test_vqgan_clip_2_the_weight_of_the_start_pulls_to_the_start_and_does_not_fade(make_module):
    """There it pulls to zero, with a weight that falls as 1 / (2 i + 1)."""
    module = make_module(objective=Objective(0, 0, 1, None), exclude=(), steps=8)
    away = module.start + 0.1 * torch.sin(torch.arange(module.start.numel())).view_as(module.start)
    pulls = []
    for step in (0, 7):
        module.latent.data = away.clone()
        optimizer = torch.optim.SGD([module.latent], lr=0.0)
        module.optimise(step, optimizer)
        pull = -module.latent.grad
        assert torch.nn.functional.cosine_similarity(pull.flatten(), (module.start - away).flatten(), dim=0) > 0.999
        assert abs(torch.nn.functional.cosine_similarity(pull.flatten(), -away.flatten(), dim=0)) < 0.9
        pulls.append(pull.norm())
    torch.testing.assert_close(*pulls)


def test_vqgan_clip_3_the_picture_is_padded_and_turned_once_a_step_not_once_a_crop(make_module, monkeypatch):
    """There the same pooled picture is computed anew for every crop; and every number of a crop has an effect."""
    module, calls = make_module(), []
    transform = module.augmentations.transform
    monkeypatch.setattr(module.augmentations, "transform", lambda *a: (calls.append(1), transform(*a))[1])
    module.optimise(0, module.configure_optimizers())
    assert calls == [1] and module.augmentations.count == 6


@pytest.mark.parametrize("key", ["mean=.5", "std=.05", "min=1.3", "max=.8", "count=3"])
def test_vqgan_clip_3_no_key_of_the_crops_is_unused(small_pair, tmp_path, key):
    plain = run("a fox", [*small_pair, "steps=1"], tmp_path / "plain").folder
    other = run("a fox", [*small_pair, "steps=1", f"augmentations.crops.{key}"], tmp_path / "other").folder
    assert rows(plain)[0]["include"] != rows(other)[0]["include"]


def test_vqgan_clip_4_nothing_is_written_over_nor_beside_the_run_folder(small_pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, two = run("a fox", small_pair), run("a fox", small_pair)
    assert one.folder != two.folder
    assert {path.name for path in tmp_path.iterdir()} == {"outputs"}
    outputs = tmp_path / "outputs"
    written = {path for path in outputs.rglob("*") if path.is_file()}
    folders = {one.folder.resolve(), two.folder.resolve()}
    assert folders == {path.parent for path in outputs.rglob("run.json")}
    assert written and all(folders & set(path.parents) for path in written)


def test_vqgan_clip_4_a_value_behind_a_switch_is_read():
    from vqclip.peers.importer import read_settings

    assert read_settings("python generate.py -p a -d True")[1] == {"prompts": "a", "cudnn_determinism": True}


def test_pixray_5_every_perceptor_is_asked_for_every_prompt(small_pair, generator, perceptor, make_module):
    """There some prompts reach the last perceptor only."""
    from vqclip.guidance import Guide
    from vqclip.models.clip import CLIPPerceptor
    from vqclip.module import Networks
    from vqclip.prompts import parse
    from vqclip.targets import targets_of

    other = CLIPPerceptor(CLIP_CONFIG | {"image_resolution": 2 * perceptor.input_size}).eval().requires_grad_(False)
    guides = {}
    for name, own in (("one", perceptor), ("two", other)):
        prompts = [parse("a fox")], [], [parse("blurry")], {"include_weight": 1, "extras_weight": 1}
        guides[name] = Guide(own, 0.5, targets_of(own, *prompts))
    module = make_module(networks=Networks(generator, guides))
    both = module.on_crops(module.snapshot()[0], module.rng(0), 0.0, slice(None), backward=False)
    each = []
    for own in guides.values():
        alone = make_module(networks=Networks(generator, {"only": Guide(own.perceptor, 1.0, own.targets)}))
        each.append(alone.on_crops(alone.snapshot()[0], alone.rng(0), 0.0, slice(None), backward=False))
    for term in ("include", "exclude"):
        torch.testing.assert_close(both[term], (each[0][term] + each[1][term]) / 2)
        assert not torch.allclose(each[0][term], each[1][term])


def test_pytti_6_the_total_loss_is_the_sum_of_its_terms(small_pair, tmp_path):
    folder = run(
        "a fox", [*small_pair, "prompts.exclude=blurry", "loss.beta=.5", "loss.anchor=.3"], tmp_path / "r"
    ).folder
    for row in rows(folder):
        parts = -float(row["include"]) + 0.5 * float(row["exclude"]) + 0.3 * float(row["anchor"])
        assert float(row["loss"]) == pytest.approx(parts, rel=1e-4, abs=1e-6)
    assert len({row["loss"] for row in rows(folder)}) == 4


def test_pytti_6_and_jj_10_links_of_weights_lead_to_weights():
    """There a key ``weights`` leads to a YAML, and two links are swapped."""
    for kind in ("generator", "perceptors"):
        for name, card in cards(kind):
            for url in card["urls"]:
                assert not url.split("?")[0].endswith((".yaml", ".yml", ".json")), (name, url)


def test_pytti_6_all_that_is_random_follows_the_seed(small_pair, tmp_path):
    folders = []
    for noise in (0, 1):
        torch.manual_seed(noise), np.random.seed(noise), random.seed(noise)
        folders.append(run("a fox", small_pair, tmp_path / str(noise)).folder)
    one, two = ((folder / "picture-00" / "final.png").read_bytes() for folder in folders)
    assert one == two and (folders[0] / "metrics.csv").read_bytes() == (folders[1] / "metrics.csv").read_bytes()


def test_engine_7_what_one_run_sets_another_does_not_see():
    before = resolve(compose([]))
    compose(["loss.beta=3", "init=codebook", "steps=7"])
    assert resolve(compose([])) == before


def test_kcosta_8_a_weight_that_falls_is_applied_as_it_falls(small_pair, tmp_path):
    words = [*small_pair, "loss.anchor={start: 4, end: 0, shape: linear}", "loss.beta=0"]
    for i, row in enumerate(rows(run("a fox", words, tmp_path / "run").folder)):
        expected = -float(row["include"]) + 4 * (1 - i / 3) * float(row["anchor"])
        assert float(row["loss"]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_kcosta_8_one_step_and_a_schedule_without_a_change_divide_by_nothing(small_pair, tmp_path):
    words = ["steps=1", "loss.anchor={start: 1, end: 1, shape: cosine}", "optimizer.lr={start: .1, end: .1}"]
    assert len(rows(run("a fox", [*small_pair, *words], tmp_path / "run").folder)) == 1
    assert schedule({"start": 2, "end": 2, "shape": "exponential"})(0.5) == pytest.approx(2)


def test_tnwei_9_and_localvqgan_13_a_picture_prompt_has_its_own_weight(small_pair, tmp_path):
    """There it takes the last text's, or none."""
    Image.effect_mandelbrot((40, 40), (-2, -1.5, 1, 1.5), 30).convert("RGB").save(tmp_path / "a.png")
    seen = []
    for text, weight in ((1, 1), (1, 3), (3, 1)):
        extras = f"prompts.extras=['a dog:{text}',{{image: {tmp_path}/a.png, weight: {weight}}}]"
        seen.append(
            rows(run("a fox", [*small_pair, "steps=1", extras], tmp_path / f"{text}{weight}").folder)[0]["include"]
        )
    assert len(set(seen)) == 3


def test_jj_10_the_seed_of_a_picture_is_the_one_that_is_recorded(small_pair, tmp_path):
    both = run(["a fox", "an owl"], [*small_pair, "seed=5", "batch_size=2"], tmp_path / "both").folder
    report = json.loads((both / "run.json").read_text())
    assert [own["seed"] for own in report["pictures"]] == [5, 6, 5, 6]
    alone = run("an owl", [*small_pair, "seed=6"], tmp_path / "alone").folder
    assert torch.equal(latents(both, 3)["000000"], latents(alone)["000000"])


def test_huggingface_11_a_weight_multiplies_and_what_is_logged_has_a_step(small_pair, tmp_path):
    """There a weight divides, and pictures are logged by a call that does not exist."""
    one = rows(run("a fox", [*small_pair, "loss.alpha=1", "steps=1"], tmp_path / "1").folder)[0]
    two = rows(run("a fox", [*small_pair, "loss.alpha=2", "steps=1"], tmp_path / "2").folder)[0]
    assert float(two["loss"]) == pytest.approx(2 * float(one["loss"]), rel=1e-5) and one["step"] == "1"


def test_localvqgan_12_half_precision_that_overflows_is_refused(small_pair, tmp_path):
    for precision in ("16-mixed", "16-true", 16):
        with pytest.raises(UserError, match=r"trainer.precision=.*not allowed here. Allowed: one of .*bf16-mixed"):
            run("a fox", [*small_pair, f"trainer.precision={precision}"], tmp_path / "run")


def test_localvqgan_13_every_card_has_a_checksum_and_more_than_one_link_where_there_is_one():
    found = [card for kind in ("generator", "perceptors") for _, card in cards(kind)]
    known = [card for card in found if card.get("sha256")]
    assert len(known) >= 15 and all(len(card["sha256"]) == 64 for card in known)
    assert sum(len(card["urls"]) > 1 for card in found) >= 12
