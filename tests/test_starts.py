"""Starts: another run's latent to the last bit, pictures of colours and noise, the best of several."""

import json
import shutil
from dataclasses import replace
from importlib.resources import files
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vqclip import run
from vqclip.checkpoints.load import load_prior
from vqclip.cli import main
from vqclip.cli.interpolate import main as interpolate
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve
from vqclip.errors import UserError
from vqclip.init import Gradient, Noise, PixelNoise, Sine, best_of
from vqclip.init import Prior as PriorStart
from vqclip.init import Run as RunStart
from vqclip.io.masks import MaskComposite
from vqclip.protocols import InitContext
from vqclip.rng import StepRandom
from vqclip.runs.build import build
from vqclip.runs.plan import RunPlan


@pytest.fixture
def start(generator):
    return InitContext(generator, generator.latent_shape(32, 48), ["a", "b"], StepRandom([0, 1], 0), None)


@pytest.fixture(scope="module")
def first(small_pair, tmp_path_factory):
    """A run of two pictures that others start from."""
    return run(["a fox", "an owl"], small_pair, tmp_path_factory.mktemp("first") / "run").folder


def latents(folder, picture=0):
    return load_file(folder / f"picture-{picture:02d}" / "latents.safetensors")


def other(small_pair, *words):
    return [*[word for word in small_pair if word != "init=sine"], *words]


def from_run(small_pair, folder, *words):
    return other(small_pair, "init=run", f"init.run={folder}", *words)


class Pictures:
    """A generator that returns what it is given to encode."""

    factor, codebook = 1, torch.zeros(1)

    def encode(self, image):
        return image


def seen(init, height=64, width=96, seeds=(0, 1)):
    """The pictures that a start encodes."""
    return init(InitContext(Pictures(), (3, height, width), ["a"] * len(seeds), StepRandom(seeds, 0), None))


def test_a_run_starts_at_the_latent_of_another_to_the_last_bit_whatever_its_words(small_pair, first, tmp_path):
    best = [own["best"]["step"] for own in json.loads((first / "run.json").read_text())["pictures"]]
    for i, words in enumerate([["a blue cup", "a red cup"], ["a fox", "an owl"]]):
        made = run(words, from_run(small_pair, first), tmp_path / str(i)).folder
        for picture in (0, 1):
            assert torch.equal(latents(made, picture)["000000"], latents(first, picture)[f"{best[picture]:06d}"])
    made = run("a cup", from_run(small_pair, first, "init.picture=1", "init.step=2", "batch_size=3"), tmp_path / "3")
    for picture in range(3):
        assert torch.equal(latents(made.folder, picture)["000000"], latents(first, 1)["000002"])


def test_a_chain_of_two_runs_is_the_run_of_both_where_the_optimiser_has_no_memory(small_pair, tmp_path):
    plain = ["optimizer=default", "optimizer._target_=torch.optim.SGD", "optimizer.lr=0.5", "noise.factor=0"]
    once = run("a fox", [*small_pair, *plain, "steps=2", "snapshot_every=1"], tmp_path / "once").folder
    on = run("a fox", from_run(small_pair, once, *plain, "init.step=final", "steps=1"), tmp_path / "on").folder
    torch.testing.assert_close(latents(on)["000000"], latents(once)["000002"], rtol=0, atol=0)
    assert not torch.equal(latents(on)["000001"], latents(on)["000000"])


def test_a_sweep_starts_from_a_job_of_another(small_pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["-m", "a fox", "seed=0,1", *small_pair, "hydra.sweep.dir=one"])
    words = from_run(small_pair, "one/1", "init.step=final")
    main(["-m", "an owl", "noise.factor=0,.2", *words, "hydra.sweep.dir=two"])
    for job in ("0", "1"):
        assert torch.equal(latents(tmp_path / "two" / job)["000000"], latents(tmp_path / "one" / "1")["000004"])


def test_rerun_and_resume_know_the_latent_by_its_hash(small_pair, first, tmp_path, monkeypatch):
    from vqclip.runs.rerun import rerun
    from vqclip.runs.resume import resume

    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "copy"
    run("a fox", [*small_pair, "steps=2"], copy)
    made = run("a cup", from_run(small_pair, copy, "init.step=final"), tmp_path / "made").folder
    assert rerun(made, folder=tmp_path / "again")[1]
    assert rerun(made / "picture-00" / "final.png", folder=tmp_path / "png")[1]
    run("a cat", [*small_pair, "seed=5", "steps=2"], copy, overwrite=True)
    for again in (lambda: rerun(made, folder=tmp_path / "third"), lambda: resume(made, ["steps=6"])):
        with pytest.raises(UserError, match=r"init\.run: .*names the file .*not here as that run read it"):
            again()


WRONG = {
    "no folder": (["init.run=gone"], "init.run=gone: not a run folder, it has no run.json that vqclip wrote"),
    "picture": (["init.picture=2"], r"init.picture=2: .* has 2. Allowed: 0 to 1, or null"),
    "step": (
        ["init.step=3", "init.picture=0"],
        r"init.step=3: .* has no snapshot of it. Allowed: best, final, or one of 0, 2, 4. Try: ",
    ),
    "word": (["init.step=last"], r"init.step='last': not allowed here. Allowed: best, final, or a step"),
    "count": (["batch_size=3"], r"it has 2 pictures, and 3 are to be made. Allowed: as many, or one of them for all"),
    "size": (["size=[64,32]", "init.picture=0"], r"pictures are of 32×32 pixels, and size=\[64, 32\] is asked for"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_started_from_is_told_before_a_model_loads(small_pair, first, tmp_path, name):
    words, message = WRONG[name]
    with pytest.raises(UserError, match=message):
        run("a fox", from_run(small_pair, first, *words), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_latent_of_another_generator_is_refused_its_picture_is_not(small_pair, first, tmp_path):
    report = json.loads((first / "run.json").read_text())
    theirs = tmp_path / "theirs"
    shutil.copytree(first / "picture-00", theirs / "picture-00")
    report["weights"]["generator"], report["pictures"] = "f" * 64, report["pictures"][:1]
    (theirs / "run.json").write_text(json.dumps(report))
    with pytest.raises(UserError, match=r"belong to another generator \(ffffffffffff\).*Try: init.via=picture"):
        run("a fox", from_run(small_pair, theirs), tmp_path / "no")
    made = run("a fox", from_run(small_pair, theirs, "init.via=picture", "size=[48,64]"), tmp_path / "yes")
    assert made.images.shape[-2:] == (48, 64)
    decoder = InitContext(object(), (8, 8, 8), ["a fox"], StepRandom([0], 0), None)
    with pytest.raises(UserError, match=r"init\.via=picture: needs the generator's encode"):
        RunStart(str(theirs), 0, "best", "picture")(decoder)


def test_a_tiny_autoencoder_has_no_prior_whatever_its_channels(capsys):
    """TAEF1 has as many as the embedded VQGAN."""
    path = str(files("vqclip") / "embedded" / "prior.safetensors")
    start = InitContext(SimpleNamespace(encode=None), (16, 16, 16), ["a fox"], StepRandom([0], 0), path)
    assert torch.equal(PriorStart(0.0)(start), Sine(0.5)(start))
    assert "this generator has no prior" in capsys.readouterr().out


def test_a_gradient_goes_from_the_first_colour_to_the_last():
    down = seen(Gradient(["#ff0000", "lime", "#0000ff"], 0), 65, 33)
    torch.testing.assert_close(down[0, :, 0, 5], torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(down[0, :, 32, 5], torch.tensor([0, 1.0, 0]))
    torch.testing.assert_close(down[0, :, 64, 5], torch.tensor([0, 0, 1.0]))
    right = seen(Gradient(["black", "white"], 90))
    assert (right.diff(dim=-1) > 0).all() and right.diff(dim=-2).abs().max() < 1e-5
    drawn = seen(Gradient(None, 0), seeds=(0, 1, 0))
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])


def test_noise_has_the_mean_and_the_deviations_of_the_codes():
    normal = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    codes = normal * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 7
    start = InitContext(SimpleNamespace(codebook=codes), (4, 64, 64), ["a"], StepRandom([0], 0), None)
    z = Noise(2.0)(start)[0].flatten(1)
    torch.testing.assert_close(z.mean(1), codes.mean(0), rtol=0.05, atol=0)
    torch.testing.assert_close(z.std(1), 2 * codes.std(0), rtol=0.05, atol=0)


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_noise_has_the_slope_and_contrast_asked_for(slope):
    image = seen(PixelNoise(slope, 0.1, False), 128, 128)
    assert image.min() >= 0 and image.max() <= 1
    torch.testing.assert_close(image.mean(), torch.tensor(0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(image.std(), torch.tensor(0.1), atol=0.01, rtol=0)
    power = torch.fft.rfft2(image[0] - 0.5).abs().square().mean(0)
    low, high = power[0, 2:5].mean(), power[0, 32:56].mean()
    expected = (44 / 3.5) ** (2 * slope)
    assert expected / 5 < low / high < expected * 5
    assert torch.equal(image[0], seen(PixelNoise(slope, 0.1, False), 128, 128, seeds=(0,))[0])  # alone as in a batch
    grey = seen(PixelNoise(slope, 0.1, True), 32, 32)
    assert torch.equal(grey[:, 0], grey[:, 2])


def test_the_best_of_several_is_chosen_picture_by_picture(start):
    init, one = Sine(0.5), Sine(0.5)(start)
    wanted = torch.stack([init(replace(start, rng=StepRandom([s], step)))[0] for s, step in ((0, 3), (1, 0))])
    start = replace(start, score=lambda z: -(z - wanted).square().flatten(1).mean(1))
    assert torch.equal(best_of(init, start, 5), wanted)
    assert torch.equal(best_of(init, start, 1), one) and torch.equal(wanted[1], one[1])


def test_a_start_whose_score_is_no_number_is_never_the_best_and_of_equals_the_first_is(start):
    scores = iter([[torch.nan, 1.0], [0.5, torch.nan], [0.7, 1.0]])
    made = best_of(Sine(0.5), replace(start, score=lambda z: torch.tensor(next(scores))), 3)
    tries = [Sine(0.5)(replace(start, rng=StepRandom([0, 1], step))) for step in range(3)]
    assert torch.equal(made, torch.stack([tries[2][0], tries[0][1]]))


def test_the_best_of_n_is_the_first_snapshot_with_the_best_score(small_pair, tmp_path):
    """More tries never score less, one try is the plain start, and a run of two pictures picks as each alone does."""
    firsts = []
    for n in (1, 2, 6):
        made = run("a fox", [*small_pair, f"init.best_of={n}"], tmp_path / str(n)).folder
        image = Image.open(made / "picture-00" / "steps" / "000000.png")
        firsts.append(json.loads(image.text["vqclip"])["scores"]["score"])
    assert firsts == sorted(firsts) and firsts[0] < firsts[2]
    plain = run("a fox", small_pair, tmp_path / "plain").folder
    assert torch.equal(latents(plain)["000000"], latents(tmp_path / "1")["000000"])
    two = run(["an owl", "a fox"], [*small_pair, "init.best_of=6"], tmp_path / "two").folder
    assert torch.equal(latents(two, 1)["000000"], latents(tmp_path / "6")["000000"])
    assert interpolate([str(two), "--frames", "2"]) == 0


class Noted:
    """A start of one's own that keeps half of a white picture, and notes what it is told."""

    def __init__(self, jitter=0.0):
        self.texts, self.scores = [], []
        Noted.last = self

    def keep(self, start):
        mask = torch.ones(1, 1, 32, 32)
        mask[..., 16:] = 0
        return MaskComposite(torch.ones(1, 3, 32, 32), mask)

    def __call__(self, start):
        z = Sine(0.5)(start)
        self.texts.append(start.texts)
        self.scores.append(start.score(z).item())
        return z


def test_the_score_of_a_start_is_that_of_its_first_snapshot_with_what_is_kept(small_pair, tmp_path):
    made = run("a fox", other(small_pair, f"init._target_={__name__}.Noted", "init.best_of=3"), tmp_path / "run").folder
    first = json.loads(Image.open(made / "picture-00" / "steps" / "000000.png").text["vqclip"])["scores"]["score"]
    assert len(set(Noted.last.scores)) == 3 and max(Noted.last.scores) == pytest.approx(first)


@pytest.mark.parametrize(
    ("weights", "text"), [((1, 1), "a fox, paper"), ((1, 0), "a fox"), ((-1, 1), "paper"), ((1, -1), "a fox")]
)
def test_a_start_is_told_what_the_target_is_of(small_pair, weights, text):
    words = [f"init._target_={__name__}.Noted", "prompts.include=a fox", "prompts.extras=paper"]
    words += [f"prompts.{name}_weight={weight}" for name, weight in zip(("include", "extras"), weights, strict=True)]
    build(RunPlan.of(resolve(compose(other(small_pair, *words)))))
    assert Noted.last.texts == [[text]]


def test_the_jitter_of_a_predicted_start_depends_on_its_own_text():
    path = str(files("vqclip") / "embedded" / "prior.safetensors")
    prior = load_prior(path)
    generator = SimpleNamespace(codebook=torch.zeros(1), encode=None)
    start = InitContext(generator, (prior.channels, prior.side, prior.side), ["a fox"], StepRandom([0], 0), path)
    both = replace(start, texts=["a fox", "a red apple on a white background"], rng=StepRandom([0, 1], 0))
    assert torch.equal(PriorStart(0.5)(both)[0], PriorStart(0.5)(start)[0])
    noise, plain = PriorStart(0.5)(start) - PriorStart(0.0)(start), PriorStart(0.0)(start)
    assert noise.std() / plain.std() == pytest.approx(0.5, rel=0.05)


def test_what_a_start_places_is_where_the_generator_is():
    def device(generator):
        return InitContext(generator, (3, 8, 8), ["a"], StepRandom([0], 0), None).place(torch.zeros(1)).device.type

    coded = SimpleNamespace(codebook=torch.zeros(4, 3, device="meta"))
    assert [device(one) for one in (torch.nn.Linear(1, 1, device="meta"), coded, object())] == ["meta", "meta", "cpu"]


@pytest.mark.parametrize("name", ["gradient", "fractal", "pixels"])
def test_every_start_runs_and_reruns(small_pair, tmp_path, name):
    from vqclip.runs.rerun import rerun

    made = run("a fox", other(small_pair, f"init={name}"), tmp_path / "run").folder
    assert rerun(made, folder=tmp_path / "again")[1]
    assert torch.isfinite(latents(made)["000004"]).all()
