"""The reference preset against the original loop, rebuilt here from algorithm.md in its own words.

The loop below shares the random numbers with ours and nothing else: it pads, turns, crops and scores one picture and
one crop at a time, with torchvision's and torch's own functions and openai-clip's own model.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.functional import InterpolationMode, affine, hflip

from vqclip.classes import instantiate
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve
from vqclip.guidance import Guide
from vqclip.rng import StepRandom
from vqclip.schedules import schedule

SIZE = 48
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)


def original_step(generator, clip, z, include, extras, exclude, draw, r, field):
    """Crops, loss and gradient of one step of the original recipe for one prompt."""
    z = z.clone().requires_grad_()
    image = (torch.clip(generator.decoder(generator.post_quant_conv(z)), -1, 1) + 1) / 2
    padded = F.pad(image, (SIZE // 2,) * 4)
    if draw.flip[0]:
        padded = hflip(padded)
    shift = [float(draw.shift[0, 0]) * 2 * SIZE, float(draw.shift[0, 1]) * 2 * SIZE]
    angle = float(draw.angle[0].rad2deg())
    padded = affine(padded, angle, shift, 1.0, [0.0], interpolation=InterpolationMode.NEAREST, fill=[0.0])
    crops = []
    for n in range(32):
        side, top, left = int(draw.side[0, n]), int(draw.top[0, n]), int(draw.left[0, n])
        crop = padded[:, :, top : top + side, left : left + side]
        crop = F.interpolate(crop, (clip.visual.input_resolution,) * 2, mode="bilinear", align_corners=True)
        crops.append(crop + 0.22 * r[0, 0, n] * field[0, n])
    crops = torch.cat(crops)
    vectors = clip.encode_image((crops - MEAN.to(crops)) / STD.to(crops))
    target = 1 * include + 1 * extras
    target = target / target.norm(dim=-1, keepdim=True)
    towards = torch.cosine_similarity(target, vectors)
    away = torch.cosine_similarity(exclude, vectors)
    loss = (-1 * towards + 0.5 * away).mean()
    loss.backward()
    return crops.detach(), loss.detach(), z.grad


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_reference_is_the_original_loop(make_module, generator, perceptor, step):
    config = resolve(compose(["experiment=reference", f"size=[{SIZE},{SIZE}]"]))
    seed, shape = 3, generator.latent_shape(SIZE, SIZE)
    z0 = torch.sin(0.5 * StepRandom([seed], 0).normal("init", *shape))
    ours = make_module(
        prompts=["a castle"],
        extras=["watercolor paper"],
        exclude=["blurry"],
        seeds=[seed],
        z0=z0,
        steps=config["steps"],
        augmentations=instantiate(config["augmentations"]),
        noise=instantiate(config["noise"]),
        objective=instantiate(config["loss"]),
        lr=schedule(config["optimizer"]["lr"]),
    )
    guide = ours.guides["small"]
    quick = copy.deepcopy(guide.perceptor)
    quick.fuse_for_inference()  # as a run has it, against openai-clip's own below
    ours.guides["small"] = Guide(quick, guide.weight, guide.targets)
    rng = ours.rng(step)
    draw = ours.augmentations.draw(rng, SIZE, SIZE)
    size = perceptor.input_size
    r = rng.uniform("noise.strength", 1, 32)
    field = rng.normal(f"noise.field.{size}", 32, 3, size, size)
    texts = [perceptor.encode_text([text]) for text in ("a castle", "watercolor paper", "blurry")]
    crops, loss, grad = original_step(generator, perceptor.model, z0, *texts, draw, r, field)

    image = ours.picture(ours.latent)
    leaf = image.detach().requires_grad_()
    terms = ours.on_crops(leaf, rng, 0.0, slice(None), backward=True)
    image.backward(leaf.grad)
    seen = ours.guidance.crops(
        ours.augmentations.transform(image, draw), draw, ours.noise.draw(rng, 32, size, 0.0), size, slice(None)
    )

    def relative(a, b):
        return ((a - b).norm() / b.norm()).item()

    assert relative(seen, crops) < 1e-5
    assert relative(ours.objective.total(terms, 0.0)[0], loss) < 1e-5
    assert relative(ours.latent.grad, grad) < 1e-5


def test_reference_config_is_the_recipe():
    """algorithm.md's table, key for key."""
    cfg = compose(["experiment=reference"])
    assert (cfg.steps, list(cfg.size), cfg.snapshot_every, cfg.batch_size) == (1000, [450, 450], 100, 1)
    assert cfg.init._target_.endswith("Sine") and cfg.init.std == 0.5
    assert cfg.latent._target_.endswith("Continuous")
    assert dict(cfg.optimizer) == {"_target_": "torch.optim.AdamW", "lr": 0.5, "weight_decay": 0.1}
    a = cfg.augmentations
    assert (a.pad, a.flip, a.affine.degrees, a.affine.translate) == (0.5, 0.5, 30, 0.2)
    assert (a.crops["count"], a.crops["mean"], a.crops["std"], a.crops["min"], a.crops["max"]) == (
        32,
        1.2,
        0.3,
        0.43,
        1.9,
    )
    assert (cfg.noise.factor, cfg.noise.num_rands) == (0.22, 0)
    assert (cfg.loss.alpha, cfg.loss.beta, cfg.loss.anchor) == (1, 0.5, 0)
    assert (cfg.prompts.include_weight, cfg.prompts.extras_weight) == (1, 1)
