"""The prior: what the shipped file does, and what any prior must."""

from dataclasses import replace
from importlib.resources import files

import pytest
import torch

from vqclip import init
from vqclip.checkpoints.load import load_generator
from vqclip.models.prior import Prior
from vqclip.protocols import InitContext
from vqclip.rng import StepRandom

FOLDER = files("vqclip") / "embedded"


@pytest.fixture(scope="module")
def prior():
    return Prior.load(FOLDER / "prior.safetensors")


@torch.no_grad()
def test_texts_become_latents_of_the_native_size_one_by_one_as_in_a_batch(prior):
    texts = ["a fox", "a red apple on a blue background", "E=mc², a café (at night), it's #1, 猫", ""]
    latents = prior(prior.tokenize(texts))
    assert latents.shape == (4, prior.channels, prior.side, prior.side) and latents.isfinite().all()
    for text, latent in zip(texts, latents, strict=True):
        torch.testing.assert_close(prior(prior.tokenize([text]))[0], latent, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_exclamation_marks_cut_nothing_off(prior):
    """In a run of them each but the last is token 0, which also pads a row."""
    texts = ["a red fox on a blue background", "!!!! a red fox on a blue background"]
    for logits in prior.parse(prior.tokenize(texts)).values():
        assert torch.equal(*logits.argmax(-1))


@torch.no_grad()
def test_every_part_of_a_text_changes_its_place_of_the_latent(prior):
    fox, on_blue, owl, pair, swapped = prior(
        prior.tokenize(["a fox", "a fox on a blue background", "an owl", "a fox and an owl", "an owl and a fox"])
    )
    assert (fox - owl).abs().mean() > 0.1
    assert (fox - on_blue)[:, :2].abs().mean() > 0.1  # the picture's upper edge: background
    half = prior.side // 2
    torch.testing.assert_close(
        pair[:, 6:10, 1 : half - 1], swapped[:, 6:10, half + 1 : -1], atol=1.0, rtol=0
    )  # the fox, moved by whole latents
    assert (pair - swapped).abs().mean() > 0.1


def test_gradients_reach_every_parameter_that_is_not_memory_alone():
    torch.manual_seed(0)
    tiny = Prior(
        vocab_size=600,
        context_length=8,
        concepts=5,
        colours=3,
        backgrounds=4,
        styles=2,
        style_sets=[0, 1],
        channels=4,
        side=8,
        text_width=16,
        paint_width=8,
    )
    for head in (
        tiny.tint.head,
        tiny.finish.head,
        *(b.second for part in (tiny.tint, tiny.finish) for b in part.blocks),
    ):
        torch.nn.init.normal_(head.weight)  # they begin at zero and let nothing through
    logits = tiny.parse(torch.randint(1, 600, (4, 8)))

    def index(*values):
        return torch.tensor(values)

    latent = tiny.paint(
        index([0, 5], [1, 2], [3, 4], [4, 0]),
        index([0, 3], [1, 2], [3, 3], [0, 0]),
        index(0, 1, 2, 3),
        index(0, 1, 2, 1),
        index(0, 1, 0, 1),
    )
    (latent.square().mean() + sum(v.square().mean() for v in logits.values())).backward()
    assert [name for name, p in tiny.named_parameters() if p.grad is None] == []


@torch.no_grad()
def test_a_start_of_another_size_is_the_same_alone_and_in_a_batch():
    card = {"path": f"{FOLDER}/generator.safetensors", "name": "embedded"}
    generator, rng = load_generator(card), StepRandom([0, 0, 0], 0)
    texts = ["a fox", "an owl", "a red apple"]
    context = InitContext(generator, generator.latent_shape(64, 96), texts, rng, prior=f"{FOLDER}/prior.safetensors")
    together = init.Prior(0.1)(context)
    for i, text in enumerate(texts):
        alone = init.Prior(0.1)(replace(context, texts=[text], rng=StepRandom([0], 0)))
        assert torch.equal(alone[0], together[i])
