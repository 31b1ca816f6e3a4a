"""What is done to the latent between steps: each exact, and the same when a run is broken, resumed and made again."""

import json
import math
import os
import shlex
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from conftest import fit
from PIL import Image
from safetensors.torch import load_file
from ways import stands_break_and_rerun

from vqclip import load, run
from vqclip.callbacks import AutoStop
from vqclip.cli.summary import print_result
from vqclip.config.check import errors_in
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve, time_varying
from vqclip.errors import UserError
from vqclip.io.images import pixels
from vqclip.loss import Objective
from vqclip.models.vqgan import VQGAN
from vqclip.noise import Noise
from vqclip.rng import StepRandom
from vqclip.runs.build import build
from vqclip.runs.plan import RunPlan
from vqclip.runs.rerun import rerun
from vqclip.search import Search


def test_a_search_that_does_nothing_is_none(make_module):
    module = make_module(search=Search())
    assert sorted(module.state_dict()) == ["latent", "start"]
    assert torch.equal(fit(module).latent, fit(make_module()).latent)
    assert torch.equal(module.shown(), module.latent)


def test_a_clamp_holds_each_channel_in_the_range_of_the_codes(make_module, generator):
    free, held = (fit(make_module(search=Search(clamp=on), z0=3 * torch.ones(1, 8, 8, 8))) for on in (False, True))
    low, high = generator.codebook.amin(0).view(1, -1, 1, 1), generator.codebook.amax(0).view(1, -1, 1, 1)
    assert (free.latent > high).any() and ((held.latent >= low) & (held.latent <= high)).all()


def test_a_running_mean_is_what_is_shown_and_no_part_of_the_way(make_module):
    seen = []

    class See(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            seen.append(module.latent.detach().clone())

    plain, mean = fit(make_module(), See()), fit(make_module(search=Search(average=0.9)))
    assert torch.equal(mean.latent, plain.latent)
    expected = plain.start.clone()
    for step, z in enumerate(seen):
        expected.lerp_(z, 1 - min(0.9, (1 + step) / (10 + step)))
    torch.testing.assert_close(mean.shown(), expected)
    assert torch.equal(mean.snapshot()[0], mean.picture(mean.shown()))


def test_the_running_mean_after_restarts_is_as_old_as_the_start_that_went_on(make_module):
    means, latents = [], []

    class See(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            means.append(module.average.clone())
            latents.append(module.latent.detach().clone())

    search = Search(average=0.9, restarts={"count": 3, "steps": 2})
    module = make_module(search=search, steps=8, starts=lambda number: torch.full((1, 8, 8, 8), 0.1 * number))
    fit(module, See())
    # The seventh step is the third of the chosen start: its first two were one of the trials.
    expected = module.best.lerp(latents[6], 1 - min(0.9, (1 + 2) / (10 + 2)))
    torch.testing.assert_close(means[6], expected)


def test_a_coarse_stage_moves_only_its_places_and_the_next_goes_on_from_its_picture(make_module):
    search = Search(stages=[{"size": (16, 16), "share": 0.5}])
    module = make_module(search=search)
    step, optimizer = module.progress, module.configure_optimizers()
    assert [search.stage(step(i)) for i in range(4)] == [0, 0, 1, 1]
    z0 = module.latent.detach().clone()
    assert search.picture(module, module.latent, 0.0).shape == module.picture(module.latent).shape
    module._gradients(0, optimizer)
    moved = module.latent.grad.ne(0).any(1)[0]
    assert moved[1::2, 1::2].all() and moved.sum() == 16
    small = search.picture(module, z0, 0.0)
    expected = module.generator.encode(small)
    module._trainer = type("At", (), {"global_step": 2})()  # two steps are done
    search.before(module, 2, optimizer)
    torch.testing.assert_close(module.latent.detach(), expected)
    assert torch.equal(module.start, module.latent)


def test_the_full_size_begins_without_what_was_known_of_a_coarse_stage(make_module):
    module = make_module(search=Search(stages=[{"size": (16, 16), "share": 0.5}], average=0.9))
    optimizer = module.configure_optimizers()
    for step in (0, 1):
        module.optimise(step, optimizer)
    assert optimizer.state and not torch.equal(module.average, module.latent)
    module.search.before(module, 2, optimizer)
    assert not optimizer.state and torch.equal(module.average, module.latent)


def test_a_snapshot_of_a_coarse_stage_is_encoded_once(small_pair, tmp_path, monkeypatch):
    encoded, encode = [], VQGAN.encode
    monkeypatch.setattr(VQGAN, "encode", lambda self, image: (encoded.append(image), encode(self, image))[1])
    stages = "search.stages=[{size: [16,16], share: .5}]"
    run("a fox", [*small_pair, "steps=4", "snapshot_every=1", stages], tmp_path / "run")
    assert len(encoded) == 4  # snapshots after 0, 1 and 2 steps, and the end of the stage


@pytest.mark.parametrize("size", [(16, 16), (24, 16)])
def test_what_a_stage_encodes_it_decodes_again_place_by_place(make_module, size):
    search = Search(stages=[{"size": size, "share": 0.5}])
    module = make_module(search=search)
    image = torch.rand(1, 3, 32, 32)
    z = search.encode(module, image, 0.0)
    _, h, w = module.generator.latent_shape(*size)
    small = torch.nn.functional.interpolate(z, (h, w), mode="nearest-exact")
    again = torch.nn.functional.interpolate(small, z.shape[-2:], mode="nearest-exact")
    assert torch.equal(again, z)


def test_a_coarse_stage_after_another_begins_at_its_picture(make_module):
    """Encoded at the full size, the places of the next stage alone were another picture."""
    search = Search(stages=[{"size": (8, 8), "share": 0.3}, {"size": (16, 16), "share": 0.3}])
    module = make_module(search=search)
    t = [module.progress(i) for i in range(4)]
    assert [search.stage(at) for at in t] == [0, 1, 2, 2]
    ended = search.picture(module, module.latent.detach(), t[0])
    search.before(module, 1, module.configure_optimizers())
    assert torch.equal(module.latent.detach(), search.encode(module, ended, t[1]))
    assert torch.equal(module.start_images(), search.picture(module, module.latent.detach(), t[1]))
    search.before(module, 2, module.configure_optimizers())
    assert torch.equal(module.start_images(), module.picture(module.latent.detach()))


def moon(size=(32, 32)):
    """A thin disc on the dark: a picture with outlines to lose."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in size), indexing="ij")
    return ((x.square() + y.square() < 0.5).float() * torch.tensor([0.9, 0.8, 0.4])[:, None, None])[None]


@pytest.fixture
def staged_pair(small_pair, tmp_path):
    """Overrides of a run from a picture by way of a coarse stage."""
    Image.fromarray(pixels(moon()[0])).save(tmp_path / "moon.png")
    stages = "search.stages=[{size: [16,16], share: .5}]"
    picture = ["init=image", f"init.path={tmp_path}/moon.png"]
    return [*(word for word in small_pair if word != "init=sine"), *picture, "steps=6", "snapshot_every=1", stages]


def test_a_start_that_is_a_picture_is_encoded_for_the_first_stage(staged_pair):
    """Of a latent that was encoded at the full size, the stage's places alone are another picture."""
    module = build(RunPlan.of(resolve(compose(["prompts.include=a fox", *staged_pair]))))
    full = module.generator.encode(torch.from_numpy(pixels(moon()[0])).movedim(-1, 0)[None] / 255)
    expected = module.search.encode(module, module.picture(full), 0.0)
    assert torch.equal(module.latent.detach(), expected) and torch.equal(module.start, expected)
    shown = module.search.picture(module, expected, 0.0)
    assert torch.equal(module.start_images(), shown)  # what terms and overlays hold the run to
    assert torch.equal(module.starts(1), expected)
    module.begin_at(full)  # as after the stage
    assert torch.equal(module.start_images(), module.picture(full))


@pytest.mark.parametrize("init", ["sine", "noise", "codebook", "blank"])
def test_a_start_of_noise_begins_at_the_same_latent_with_stages_and_without(small_pair, init):
    def started(*stages):
        module = build(RunPlan.of(resolve(compose(["prompts.include=a fox", *small_pair, f"init={init}", *stages]))))
        return module.latent.detach(), module.start_images()

    with_stages = started("search.stages=[{size: [16,16], share: .5}]")
    assert all(torch.equal(*both) for both in zip(with_stages, started(), strict=True))


def test_a_picture_by_way_of_a_stage_is_the_same_alone_and_in_a_batch(staged_pair, tmp_path):
    words = [*staged_pair, "steps=4", "loss.anchor=1", "+loss/terms=[pixels]", "memory.picture_chunk=1"]
    both = run(["an owl", "a fox"], words, tmp_path / "both").folder
    alone = run("a fox", words, tmp_path / "alone").folder
    for one in sorted((alone / "picture-00/steps").iterdir()):
        assert Image.open(one).tobytes() == Image.open(both / "picture-01/steps" / one.name).tobytes()


def test_each_trial_begins_anew_and_the_rest_of_the_run_goes_on():
    search = Search(restarts={"count": 3, "steps": 2})
    assert [round(search.progress(step, 10) * 5) for step in range(10)] == [0, 1, 0, 1, 0, 1, 2, 3, 4, 5]
    assert Search().progress(3, 10) == 3 / 9


def test_the_run_goes_on_from_the_best_of_its_starts(make_module):
    scores, at, begun = [], [], []

    class See(pl.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            if trainer.global_step in (2, 4, 6):
                assert not optimizer.state  # of another start
                begun.append(torch.stack([module.latent.detach(), module.start]))

        def on_train_batch_end(self, trainer, module, *_):
            if trainer.global_step in (2, 4, 6):
                scores.append(module.snapshot()[1]["score"])
                at.append(module.latent.detach().clone())

    def starts(number):
        return torch.sin(0.5 * StepRandom([0, 1], -number).normal("init", 8, 8, 8))

    search = Search(restarts={"count": 3, "steps": 2})
    module = make_module(prompts=("a fox", "an owl"), seeds=(0, 1), steps=7, search=search, starts=starts)
    fit(module, See())
    scores = torch.stack(scores)
    assert torch.equal(module.best_score, scores.amax(0))
    for picture, best in enumerate(scores.argmax(0)):
        assert torch.equal(module.best[picture], at[best][picture])
        first = module.best_start[picture]
        assert best == 0 or torch.equal(first, starts(int(best))[picture])
    expected = [starts(1)] * 2, [starts(2)] * 2, [module.best, module.best_start]
    assert torch.equal(torch.stack(begun), torch.stack([torch.stack(both) for both in expected]))


def test_of_starts_of_one_score_the_first_is_the_best(make_module):
    search = Search(restarts={"count": 2, "steps": 2})
    objective = Objective(0, 0, 1)  # nothing is asked of the picture
    module = make_module(steps=6, objective=objective, search=search, starts=lambda number: torch.ones(1, 8, 8, 8))
    first = module.start.clone()
    assert torch.equal(fit(module).best_start, first)


@pytest.mark.parametrize("restarts", [None, {"count": 2, "steps": 2}])
def test_a_search_is_the_same_without_a_trainer(make_module, restarts):
    """A frame of a film has none, and its steps are told by their number."""
    stages = [{"size": [8, 8], "share": 0.3}, {"size": [16, 16], "share": 0.3}]

    def starts(number):
        return torch.sin(0.5 * StepRandom([0], -number).normal("init", 8, 8, 8))

    modules = [
        make_module(steps=9, starts=starts, search=Search(stages=stages, restarts=restarts), noise=Noise(0, 0))
        for _ in range(2)
    ]
    alone, optimizer = modules[0], modules[0].configure_optimizers()
    for step in range(alone.steps):
        alone.optimise(step, optimizer)
    assert torch.equal(alone.latent, fit(modules[1]).latent)


def test_an_overlay_brings_the_start_back(make_module):
    module = make_module(steps=6, search=Search(overlay={"every": 2, "strength": 1.0, "until": 0.5}))
    start = module.generator.encode(module.picture(module.start))
    optimizer = module.configure_optimizers()
    for step in (0, 1, 3, 4):  # 4 is past half of the run
        module.search.before(module, step, optimizer)
        assert torch.equal(module.latent, module.start)
    module.search.before(module, 2, optimizer)
    torch.testing.assert_close(module.latent.detach(), start)


def test_an_overlay_mixes_by_its_strength(make_module):
    module = make_module(steps=6, search=Search(overlay={"every": 2, "strength": 0.25}))
    module.latent.data += 0.3
    mixed = 0.75 * module.picture(module.latent.detach()) + 0.25 * module.start_images()
    module.search.before(module, 2, module.configure_optimizers())
    torch.testing.assert_close(module.latent.detach(), module.generator.encode(mixed))


def test_an_overlay_counts_the_steps_of_each_trial(make_module):
    search = Search(restarts={"count": 2, "steps": 2}, overlay={"every": 2, "strength": 0})
    module = make_module(steps=8, search=search, starts=lambda number: torch.zeros(1, 8, 8, 8))
    optimizer, begun = module.configure_optimizers(), []
    for step in range(4):
        search.before(module, step, optimizer)
        begun.append(torch.equal(module.latent, module.start))
        search.after(module, step)
    assert begun == [True] * 4  # of the second as of the first: nothing is decoded and encoded before its first step


@pytest.mark.parametrize(
    "search",
    [
        {"stages": [{"size": (16, 16), "share": 0.5}]},
        {"overlay": {"every": 2, "strength": 0.5}},
        {"restarts": {"count": 2, "steps": 2}},
    ],
)
def test_what_is_between_steps_is_in_full_precision_as_a_snapshot_is(make_module, search):
    def after(mixed):
        module = make_module(steps=6, search=Search(**search), starts=lambda number: torch.zeros(1, 8, 8, 8))
        module.latent.data += 0.1
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            module.search.before(module, 2, module.configure_optimizers())
            module.start_images()
        return module.latent, module.start_images(), module.state_dict().get("best_score")

    for mixed, full in zip(after(True), after(False), strict=True):
        assert mixed is full is None or torch.equal(mixed, full)


@pytest.mark.parametrize(
    "search,lacks",
    [
        ({"stages": [{"size": [8, 8], "share": 0.5}]}, "encode"),
        ({"overlay": {"every": 2, "strength": 0.5}}, "encode"),
        ({"clamp": True}, "codebook"),
    ],
)
def test_what_a_generator_lacks_is_told(search, lacks):
    with pytest.raises(UserError, match=rf"search\.{next(iter(search))}: needs the generator's {lacks}"):
        Search(**search).require_of(SimpleNamespace(generator=object()))


WRONG = {
    "search.stages=[{size: [64,64], share: 1}]": "the shares together below 1",
    "search.stages=[{size: [640,64], share: .5}]": "larger than the picture",
    "search.stages=[{size: [4,8], share: .5}]": "smaller than one code of the generator. Allowed: sides of at least 8",
    "search.stages=[{size: [64,64]}]": "{size: [height, width], share: NUMBER}",
    "search.restarts={count: 4, steps: 5}": "{count: 4, steps: 5}: 4 starts of 5 steps leave none of steps=20.",
    "search.restarts={count: 4}": "search.restarts.steps: missing",
    "search.average=1": "a number from 0 to 0.9999",
}


@pytest.mark.parametrize("override", WRONG)
def test_what_is_wrong_is_told_before_models_load(override):
    (wrong,) = errors_in(resolve(compose([override])))
    assert wrong.startswith(override.split("=")[0]) and WRONG[override] in wrong


def test_starts_after_which_a_limit_leaves_no_step_are_told():
    words = ["search.restarts={count: 3, steps: 5}", "trainer.limit_train_batches=0.75"]
    (wrong,) = errors_in(resolve(compose(words)))
    assert "leave none of trainer.limit_train_batches=0.75. Try: trainer.limit_train_batches=null, or" in wrong
    assert not errors_in(resolve(compose([words[0], "trainer.limit_train_batches=16"])))


@pytest.mark.parametrize(
    "word,keys",
    [
        ("search.stages=[{size: [64,64], share: .5}]", ["stages.0"]),
        ("search.overlay={every: 2, strength: .5, until: .5}", ["overlay"]),
        ("search.overlay={every: 2, strength: .5}", []),
    ],
)
def test_stages_and_an_overlay_that_ends_hang_on_the_number_of_steps(word, keys):
    assert [key for key, _ in time_varying(resolve(compose([word]))["search"])] == keys


@pytest.mark.parametrize(
    "overrides",
    [
        ["init=blank", "search.average=.9", "search.clamp=true", "search.stages=[{size: [16,16], share: .4}]"],
        ["search.restarts={count: 2, steps: 1}", "search.overlay={every: 3, strength: .5}", "loss.anchor=.1"],
        ["search.restarts={count: 3, steps: 1}", "search.average=.5", "search.stages=[{size: [16,16], share: .6}]"],
        ["batch_size=3", "init=noise", "+loss/terms=[pixels]", "search.stages=[{size: [16,16], share: .2}]"],
        [
            *("init=gradient", "init.best_of=2", "loss.anchor=.1", "+loss/terms=[pixels]"),
            *("search.restarts={count: 2, steps: 1}", "search.stages=[{size: [16,16], share: .9}]"),
        ],
    ],
    ids=["stages", "restarts", "all", "start's pictures", "a picture"],  # a blank sheet's latent lies channels-last
)
def test_a_searching_run_is_resumed_and_made_again_and_its_latents_are_its_pictures(small_pair, tmp_path, overrides):
    overrides = [*small_pair, *overrides, "snapshot_every=1", "steps=5"]
    result = stands_break_and_rerun(overrides, tmp_path)
    latents = load_file(result.folder / "picture-00" / "latents.safetensors")
    assert {z.shape for z in latents.values()} == {result.latents[0].shape}
    torch.testing.assert_close(latents["000005"], result.latents[0])


def test_a_run_at_rest_stops_says_so_and_its_last_picture_is_there(small_pair, tmp_path):
    stop = ["callbacks=auto_stop", "callbacks.auto_stop.window=2", "callbacks.auto_stop.threshold=100"]
    result = run(overrides=[*small_pair, *stop, "steps=30"], folder=tmp_path / "run")
    report = json.loads((tmp_path / "run" / "run.json").read_text())
    assert report["status"] == "stopped early" and report["steps"] == 4
    assert report["reason"].startswith("AutoStop after step 4 of 30: the loss fell by")
    assert (result.folder / "picture-00" / "steps" / "000004.png").is_file()


def test_a_run_does_not_come_to_rest_in_a_coarse_stage(small_pair, tmp_path):
    """Nor are the losses of a stage compared with those of the next."""
    stop = ["callbacks=auto_stop", "callbacks.auto_stop.window=2", "callbacks.auto_stop.threshold=100"]
    stages = "search.stages=[{size: [16,16], share: .5}]"  # steps 1 to 5 of 10: progress is 5/9 at the sixth
    assert run("a fox", [*small_pair, *stop, "steps=10", stages], tmp_path / "run").report["steps"] == 9


def test_a_loss_that_rises_is_at_rest(make_module):
    """As one does that is only the distance from the start."""
    stop = AutoStop(2, 0.0)
    fit(make_module(steps=9, objective=Objective(0, 0, 1)), stop)
    assert stop.ended_because.startswith("the loss fell by -")


def test_one_stop_serves_several_runs(small_pair, tmp_path):
    stop = AutoStop(2, 100.0)
    reports = [run("a fox", [*small_pair, "steps=9"], tmp_path / str(i), callbacks=[stop]).report for i in range(2)]
    assert [report["steps"] for report in reports] == [4, 4] and reports[0]["reason"] == reports[1]["reason"]


def test_a_run_at_rest_is_made_again_from_its_picture_and_goes_on_without_the_stop(small_pair, tmp_path, capsys):
    stop = ["callbacks=auto_stop", "callbacks.auto_stop.window=3", "callbacks.auto_stop.threshold=100"]
    folder = run("a fox", [*small_pair, *stop, "steps=9", "snapshot_every=4"], tmp_path / "run").folder
    print_result(load(folder))
    told = shlex.split(capsys.readouterr().err.partition("next: vqclip ")[2].partition("   (")[0])
    for name in ("final.png", "best.png", "crops/000006.png"):
        lines, same = rerun(folder / "picture-00" / name, folder=tmp_path / name)
        assert same, lines
    assert told == [f"resume={os.path.relpath(folder)}", "callbacks.auto_stop=null"]
    assert run(overrides=told).status == "finished"


def test_a_stop_remembers_its_losses():
    stop, again = AutoStop(3, 0.0), AutoStop(3, 0.0)
    stop.losses = [3.0, math.pi]
    again.load_state_dict(stop.state_dict())
    assert again.losses == stop.losses
