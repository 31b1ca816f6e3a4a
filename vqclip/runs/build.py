"""From a checked config to the module that is optimised."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from vqclip.checkpoints.cards import make_card
from vqclip.checkpoints.load import load_generator, load_perceptor
from vqclip.checkpoints.words import known_words, unknown_words
from vqclip.config.instantiate import instantiate
from vqclip.config.parts import require_of
from vqclip.config.resolve import resolved
from vqclip.init import InitContext, best_of
from vqclip.module import Guide, LatentOptimisation
from vqclip.prompts import parse_prompts, texts_of
from vqclip.rng import StepRandom
from vqclip.schedules import schedule
from vqclip.targets import targets_of


def build(cfg: DictConfig, prompts: Sequence[str | Mapping], seeds: Sequence[int]) -> LatentOptimisation:
    """The module of a checked config: models loaded, prompts encoded, latents at their start.

    Args:
        prompts, seeds: the include entry and the seed of each picture.
    """
    # The jobs of a process share the networks.  Texts and starts are computed on the CPU and channels-last, however the
    # last job left them: the first picture of a process is the same bytes as it would be as its tenth.
    at_start = {"device": "cpu", "memory_format": torch.channels_last}
    generator = load_generator(cfg.checkpoints.generator).to(**at_start)
    require_of(generator, cfg)
    shape = generator.latent_shape(*cfg.size)
    made = (shape[1] * generator.factor, shape[2] * generator.factor)
    if made != tuple(cfg.size):
        print(
            f"size: {cfg.size[0]}×{cfg.size[1]} asked for, {made[0]}×{made[1]} made: "
            f"sides are whole codes of {generator.factor} pixels"
        )

    asked = resolved(cfg)["prompts"]
    include, extras, exclude = map(parse_prompts, (list(prompts), asked["extras"], asked["exclude"]))
    _say_unknown_words(cfg.checkpoints.perceptors, texts_of(*include, *extras, *exclude))
    eyes = {}
    total = sum(card.get("weight", 1) for card in cfg.checkpoints.perceptors.values())
    with torch.no_grad():
        for name, card in cfg.checkpoints.perceptors.items():
            perceptor = load_perceptor(name, card).to(**at_start)
            targets = targets_of(perceptor, include, extras, exclude, asked)
            eyes[name] = Guide(perceptor, card.get("weight", 1) / total, targets)

    optimizer = OmegaConf.to_container(cfg.optimizer, resolve=True)
    lr, clip = schedule(optimizer.pop("lr")), optimizer.pop("clip", None)
    generator.checkpointed = cfg.memory.checkpoint_decoder
    make = partial(
        LatentOptimisation,
        generator=generator,
        eyes=eyes,
        seeds=seeds,
        steps=cfg.steps,
        latent_kind=instantiate(cfg.latent),
        augmentations=instantiate(cfg.augmentations, _convert_="all"),
        noise=instantiate(cfg.noise, _convert_="all"),
        objective=instantiate(cfg.loss, _convert_="all"),
        optimizer=instantiate({**optimizer, "lr": lr.start, "_partial_": True}, _convert_="all"),
        lr=lr,
        clip=clip,
        **{key: cfg.memory[key] for key in ("picture_chunk", "crop_chunk")},
    )
    prior = cfg.checkpoints.get("prior")
    start = InitContext(
        generator=generator,
        shape=shape,
        texts=[", ".join(texts_of(own, *extras, at=0.0)) for own in include],
        rng=StepRandom(seeds, 0),
        prior=prior.path if prior else None,
        score=lambda z: make(z0=z).look()[1]["score"],
    )
    return make(**_start(cfg, start))


@torch.no_grad()
def _start(cfg: DictConfig, start: InitContext) -> dict[str, Any]:
    """The latents that the run begins at, and what of a picture stays as it is."""
    own = OmegaConf.to_container(cfg.init, resolve=True)
    tries = own.pop("best_of", 1)
    init = instantiate(own)
    keep = init.keep(start) if hasattr(init, "keep") else None
    return {"z0": best_of(init, start, tries) if tries > 1 else init(start), "keep": keep}


def _say_unknown_words(perceptors: Mapping[str, Mapping], texts: Sequence[str]) -> None:
    """One line about the words that a small perceptor was never taught: it draws something else for them."""
    for name, card in perceptors.items():
        path = None if "_target_" in card else make_card("perceptor", name, card).local
        if missing := unknown_words(texts, known_words(path)) if path else None:
            near = (f'"{word}"' + (f" (nearest: {other})" if other else "") for word, other in missing.items())
            print(f"prompts: no word that {name} knows, it may draw something else: {', '.join(near)}", file=sys.stderr)
            return
