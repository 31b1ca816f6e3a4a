"""The optimisation: what is trained, what the gradient is, and that memory settings do not change it."""

import copy
import multiprocessing
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from checkpoint_files import SMALL_VQGAN, random_vqgan
from conftest import fit

from vqclip import run
from vqclip.augmentations import Augmentations
from vqclip.errors import UserError
from vqclip.latent import Quantised
from vqclip.loss import Objective, TotalVariation
from vqclip.memory import Chunks, bytes_kept
from vqclip.module import Networks
from vqclip.noise import Noise
from vqclip.search import Search
from vqclip.terms import PixelAnchor


def many_crops() -> Augmentations:
    crops = {"count": 4000, "mean": 1.0, "std": 0.1, "min": 0.5, "max": 1.0, "antialias": False}
    return Augmentations(pad=0.0, flip=0.0, affine=None, crops=crops)


def gradient(module, step=0):
    """The latent's gradient at ``step``, through the module's own training step."""
    kept = {}

    class Keep(pl.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            kept[trainer.global_step] = module.latent.grad.clone()

    fit(module, Keep(), steps=step + 1)
    return kept[step]


def test_the_latent_is_the_one_trainable_parameter_and_all_of_the_state(make_module):
    module = make_module()
    assert [n for n, p in module.named_parameters() if p.requires_grad] == ["latent"]
    assert sorted(module.state_dict()) == ["latent", "start"]


def test_frozen_networks_get_no_gradient(make_module):
    module = make_module()
    gradient(module)
    frozen = [*module.generator.parameters(), *module.guides["small"].perceptor.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in frozen)


@pytest.mark.parametrize("chunk", [1, 4, 5])
def test_chunks_of_crops_give_the_same_gradient(make_module, chunk):
    whole = gradient(make_module())
    torch.testing.assert_close(gradient(make_module(crop_chunk=chunk)), whole, rtol=1e-4, atol=1e-7)


def test_checkpointed_decoder_gives_the_same_gradient(make_module, generator):
    whole = gradient(make_module())
    generator.checkpointed = True
    try:
        assert torch.equal(gradient(make_module()), whole)
    finally:
        generator.checkpointed = False


def test_a_picture_in_a_batch_gets_the_gradient_it_gets_alone(make_module):
    batch = gradient(make_module(prompts=["a fox", "an owl", "a fox"], seeds=[0, 0, 1]), step=1)
    for i, (prompt, seed) in enumerate([("a fox", 0), ("an owl", 0), ("a fox", 1)]):
        alone = gradient(make_module(prompts=[prompt], seeds=[seed]), step=1)[0]
        torch.testing.assert_close(batch[i], alone, rtol=1e-3, atol=1e-6)


def test_pictures_worked_on_one_by_one_are_the_bytes_they_are_alone(make_module):
    prompts, seeds = ["a fox", "an owl", "a fox"], [0, 0, 1]
    module = make_module(prompts=prompts, seeds=seeds, picture_chunk=1)
    gradient(module, step=1)
    for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        alone = make_module(prompts=[prompt], seeds=[seed])
        gradient(alone, step=1)
        assert torch.equal(module.latent[i], alone.latent[0])
        assert torch.equal(module.metrics["loss"][i], alone.metrics["loss"][0])
        (images, _, crops), (image, _, crop) = module.snapshot(), alone.snapshot()
        assert torch.equal(images[i], image[0]) and torch.equal(crops[i], crop[0])


def test_as_many_pictures_in_one_go_as_half_of_the_memory_holds(make_module, monkeypatch):
    module = make_module(prompts=["a fox"] * 4, seeds=range(4))
    monkeypatch.setattr("vqclip.module.device_memory", lambda device: 0)
    module.snapshot()[0]
    assert module.chunks.picture_chunk == 1
    roomy = make_module(prompts=["a fox"] * 4, seeds=range(4))
    monkeypatch.undo()
    roomy.snapshot()[0]
    assert roomy.chunks.picture_chunk >= 4 and roomy.latent.grad is None


def test_as_many_pictures_fit_into_a_resumed_run(make_module, monkeypatch):
    """It asks in a step, maybe in mixed precision; an unbroken one in its first snapshot, without."""
    monkeypatch.setattr("vqclip.module.device_memory", lambda device: 10**9)
    counts = []
    for mixed in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            counts.append(make_module(prompts=["a fox"] * 4, seeds=range(4))._pictures_that_fit())
    assert counts[0] == counts[1]


def test_as_many_pictures_fit_as_at_the_full_size_which_follows_a_coarse_stage(make_module, monkeypatch):
    monkeypatch.setattr("vqclip.module.device_memory", lambda device: 10**9)
    stages = Search(stages=[{"size": (8, 8), "share": 0.5}])
    counts = [make_module(["a fox"] * 2, range(2), search=search)._pictures_that_fit() for search in (stages, Search())]
    assert counts[0] == counts[1]


def test_the_weights_are_no_part_of_what_a_step_keeps():
    network = torch.nn.Linear(1000, 1000).requires_grad_(False)
    x = torch.ones(1, 1000, requires_grad=True)
    assert bytes_kept(lambda: network(x).square().sum(), [network]) < 100_000


def test_terms_that_look_at_the_start_go_with_as_many_pictures_as_fit(make_module):
    objective = Objective(1, 0.5, 0, {"pixels": PixelAnchor(1.0)})
    module = make_module(prompts=["a fox", "an owl"], seeds=range(2), objective=objective)
    gradient(module, step=1)
    alone = make_module(prompts=["an owl"], seeds=[1], objective=objective)
    gradient(alone, step=1)
    assert module.chunks.picture_chunk >= 2
    assert torch.equal(module.start_images()[1], alone.start_images()[0])


def test_quantised_decodes_codes_and_passes_the_gradient_straight_through(make_module, generator):
    module = make_module(latent_kind=Quantised())
    seen = module.latent_kind(module.latent, generator)
    torch.testing.assert_close(seen, generator.quantise(module.latent))
    seen.sum().backward()
    assert torch.equal(module.latent.grad, torch.ones_like(module.latent))
    assert gradient(module).abs().max() > 0


def test_the_nearest_code_is_looked_for_in_float32_whatever_the_precision():
    generator = random_vqgan(SMALL_VQGAN | {"n_embed": 4096})
    z = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        brief = generator.quantise(z)
        from_brief = generator.quantise(z.bfloat16())
    assert torch.equal(brief, generator.quantise(z))
    assert torch.equal(from_brief, generator.quantise(z.bfloat16().float()))


def test_anchor_and_further_terms_reach_the_gradient(make_module):
    plain = gradient(make_module(), step=1)
    for objective in (Objective(1, 0.5, 5, None), Objective(1, 0.5, 0, {"tv": TotalVariation(1.0)})):
        assert not torch.allclose(gradient(make_module(objective=objective), step=1), plain)


def test_anchor_holds_the_latent(make_module):
    def distance(weight):
        module = make_module(objective=Objective(1, 0.5, weight, None))
        gradient(module, step=5)
        return (module.latent - module.start).square().mean().item()

    assert distance(0) > distance(10) > distance(1000)


def test_alpha_alone_is_cancelled_by_adam_but_not_beside_another_term(make_module):
    def after(alpha, **kwargs):
        module = make_module(objective=Objective(alpha, 0.5, 0, None), **kwargs)
        gradient(module, step=2)
        return module.latent.detach()

    def differ(a, b):
        return ((a - b).abs() > 0.01).float().mean()

    assert differ(after(1, exclude=()), after(4, exclude=())) < 0.02  # Adam's epsilon shows where the gradient is ~0
    assert differ(after(1), after(4)) > 0.1


def test_look_scores_with_the_same_crops_every_time(make_module):
    module = make_module(prompts=["a fox", "an owl"], seeds=[0, 0])
    images, scores, crops = module.snapshot()
    again = module.snapshot()[1]
    assert images.shape == (2, 3, 32, 32) and crops.shape == (2, 3, 32, 32)
    assert images.min() >= 0 and images.max() <= 1
    assert set(scores) == {"score", "include", "exclude"}
    torch.testing.assert_close(scores["score"], scores["include"] - 0.5 * scores["exclude"])
    assert torch.equal(scores["score"], again["score"])


def test_the_crop_shown_has_the_noise_of_its_step(make_module):
    rising, strong = (make_module(noise=Noise(factor, 0)) for factor in ({"start": 0, "end": 5}, 5))
    assert not torch.equal(rising.snapshot()[2], strong.snapshot()[2])
    for module in (rising, strong):
        module._trainer = type("At", (), {"global_step": 4})()  # all steps are done
    assert torch.equal(rising.snapshot()[2], strong.snapshot()[2])


def test_callbacks_find_the_numbers_of_a_step_in_the_trainer(make_module):
    found = {}

    class See(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            for kind in ("callback_metrics", "logged_metrics"):
                found[kind] = set(getattr(trainer, kind))

    module = fit(make_module(), See())
    assert found["callback_metrics"] == found["logged_metrics"] == set(module.metrics)


def test_a_step_begins_with_the_picture_of_the_snapshot_before_it(make_module):
    looked, plain = make_module(), make_module()
    decoded = []
    for module in (looked, plain):
        module.picture = lambda z, module=module, real=module.picture: decoded.append(module) or real(z)
    optimizers = [module.configure_optimizers() for module in (looked, plain)]
    for step, moved in enumerate((0.0, 0.1)):  # the second time somebody moves the latents in between
        looked.snapshot()
        assert copy.deepcopy(looked).picture_cache.take(looked.latent) is None
        decoded.clear()
        for module, optimizer in zip((looked, plain), optimizers, strict=True):
            module.latent.data += moved
            module.optimise(step, optimizer)
        assert decoded == ([looked, plain] if moved else [plain])
        assert torch.equal(looked.latent, plain.latent)


def test_no_picture_is_kept_for_a_step_of_fewer(make_module):
    module = make_module(prompts=["a fox", "an owl"], seeds=[0, 1], picture_chunk=2)
    module.snapshot()
    module.chunks.halve()
    module.snapshot()
    assert module.picture_cache.take(module.latent) is None


def in_little_memory(make_module, megabytes, prepared):
    """Work on a module, ``prepared``, with an address space too small for all crops at once, and without a limit."""

    def found(limit):
        module = make_module(augmentations=many_crops(), noise=Noise(0, 0))
        work = prepared(module)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + limit if limit else -1, -1))
        return work(), module.chunks

    torch.set_num_threads(1)
    prepared(make_module())()  # what oneDNN once had no memory to make it does not try again
    (little, chunks), (whole, one) = found(megabytes * 2**20), found(None)
    assert chunks.crop_chunk is not None and chunks.picture_chunk == 1
    assert one.crop_chunk is None
    torch.testing.assert_close(little, whole, rtol=1e-3, atol=1e-7)


def a_step(module):
    optimizer = module.configure_optimizers()  # which imports more than a step takes

    def gradient():
        module.optimise(0, optimizer)
        return module.latent.grad

    return gradient


def a_snapshot(module):
    return lambda: module.snapshot()[1]["score"]


@pytest.mark.parametrize(("megabytes", "prepared"), [(300, a_step), (120, a_snapshot)])
def test_out_of_memory_halves_the_chunk_and_goes_on(make_module, capfd, megabytes, prepared):
    """In a fresh process: the free memory that other tests left in this one would do for all crops."""
    arguments = (make_module, megabytes, prepared)
    for _ in range(3):  # where malloc fails within a native library, it may end the process or never try that again
        child = multiprocessing.get_context("spawn").Process(target=in_little_memory, args=arguments)
        child.start()
        child.join(120)
        child.kill()  # a child that hangs fails the line below
        child.join()
        if child.exitcode == 0:
            break
    assert child.exitcode == 0, capfd.readouterr().err


def test_a_chunk_larger_than_all_crops_is_halved_from_them():
    chunks = Chunks(2, 16, 2, 1000, lambda: 2)
    sizes = []
    for _ in range(3):
        chunks.halve()
        sizes.append((chunks.picture_chunk, len(chunks.crops(1))))
    assert sizes == [(1, 1), (1, 2), (1, 4)]


def test_a_chunk_of_crops_counts_those_of_all_pictures():
    chunks = Chunks(4, 16, 4, 8, lambda: 4)
    assert [len(chunks.crops(pictures)) for pictures in (1, 2, 4, 16)] == [2, 4, 8, 16]


def test_a_large_picture_is_decoded_as_a_small_one_to_rounding(generator, monkeypatch):
    """Attention without the matrix of all pairs, and doubling in one with the convolution after it."""
    from vqclip.models import vqgan_fast

    z = torch.randn(2, generator.channels, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    exact = generator.decode_raw(z)
    (gradient,) = torch.autograd.grad(exact.square().sum(), z)
    torch.testing.assert_close(generator.decoder(generator.post_quant_conv(z)), exact, rtol=1e-5, atol=1e-5)  # taming's
    monkeypatch.setattr(vqgan_fast, "EXACT_PLACES", 0)
    for brief, picture, slope in ((False, 1e-5, 1e-4), (True, 1e-2, 5e-2)):
        monkeypatch.setattr(vqgan_fast, "BRIEF", brief)
        large = generator.decode_raw(z)
        torch.testing.assert_close(large, exact, rtol=picture, atol=picture)
        torch.testing.assert_close(torch.autograd.grad(large.square().sum(), z)[0], gradient, rtol=slope, atol=slope)


def test_perceptors_on_several_devices_add_their_gradients_on_the_picture(make_module, generator):
    guide = make_module().guides["small"]
    two = {name: replace(guide, weight=0.5) for name in ("one", "other")}
    found = []
    for devices in ((), ("cpu", "cpu")):
        module = make_module(networks=Networks(generator, dict(two), devices))
        module.to_device("cpu")
        found.append(gradient(module))
    torch.testing.assert_close(found[1], found[0], atol=1e-6, rtol=0)
    elsewhere = {"one": guide, "other": replace(guide, perceptor=copy.deepcopy(guide.perceptor))}
    module = make_module(networks=Networks(generator, elsewhere, ("cpu", "meta")))
    module.to_device("cpu")
    with pytest.raises(NotImplementedError, match="meta"):  # the second one's crops do go there; nothing comes back
        gradient(module)


def test_a_device_that_is_not_here_is_told_with_those_that_are(small_pair, tmp_path):
    with pytest.raises(UserError, match=r"memory.devices=cuda:9: .*Allowed: cpu"):
        run("a fox", [*small_pair, "memory.devices=[cpu,cuda:9]"], tmp_path)
