"""Builds the LightningModule of a run from its plan."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vqclip.checkpoints.cards import make_card
from vqclip.checkpoints.load import load_generator, load_perceptor
from vqclip.checkpoints.vocabulary import known_words, unknown_words
from vqclip.classes import instantiate
from vqclip.config.grammar import as_typed
from vqclip.config.own_classes import parts_on, require_of
from vqclip.config.signatures import role_errors
from vqclip.errors import UserError
from vqclip.guidance import Guide
from vqclip.init import best_of
from vqclip.memory import check_devices, move_to
from vqclip.models.vqgan import VQGAN
from vqclip.module import LatentOptimisation, Networks
from vqclip.own_parts import part_name, require_tensor, require_whole
from vqclip.prompts import Prompt, parse_prompts, texts_of
from vqclip.protocols import InitContext
from vqclip.rng import StepRandom
from vqclip.runs.plan import RunPlan
from vqclip.schedules import AnySchedule, Schedule, schedule
from vqclip.targets import targets_of

__all__ = ["build", "instantiate_part", "start_of"]

_log = logging.getLogger(__name__)


@torch.no_grad()
def build(plan: RunPlan) -> LatentOptimisation:
    """Build the module of a plan: load models, encode prompts, initialise latents.

    Raises:
        UserError: weights are missing or do not fit.
    """
    config = plan.config
    # An earlier job of this process may have left it on a GPU; the bytes must not depend on that.
    generator = move_to(load_generator(config["checkpoints"]["generator"]), "cpu")
    require_of(generator, config)
    parts = _parts(config)
    generator.checkpointed = config["memory"]["checkpoint_decoder"]
    generator.strip = config["memory"].get("strip")
    prompts = config["prompts"]
    include, extras, exclude = plan.prompts, *map(parse_prompts, (prompts["extras"], prompts["exclude"]))
    cards = parts_on(config["checkpoints"], "perceptors")
    said = texts_of(*include, *extras, *exclude)
    _say_unknown_words(cards, said)
    _say_what_wants_places(
        config, [entry.text or "" for prompt in include for entry in prompt.entries if not entry.region]
    )
    total = sum(card.get("weight", 1) for card in cards.values())
    guides = {}
    for name, card in cards.items():
        perceptor = move_to(load_perceptor(name, card), "cpu")
        _say_what_is_not_read(name, perceptor, said)
        targets = targets_of(perceptor, include, extras, exclude, prompts)
        guides[name] = Guide(perceptor, card.get("weight", 1) / total, targets)
    networks = Networks(generator, guides, check_devices(config["memory"].get("devices")))
    if hasattr(parts["search"], "require_of"):
        parts["search"].require_of(networks)
    for name, term in getattr(parts["objective"], "terms", {}).items():
        if hasattr(term, "require_of"):
            with _of_term(name):
                term.require_of(networks)
    make = partial(LatentOptimisation, networks=networks, seeds=plan.seeds, **parts)
    start = _start(config, _init_context(plan, generator, _wanted(prompts, include, extras)), make)
    with torch.enable_grad():
        return make(**start)


def instantiate_part(settings: Mapping[str, Any], group: str, path: str = "") -> Any:
    """Instantiate a config group, or the part at ``path`` in it, and check what a factory function returned."""
    part = instantiate(settings)
    if errors := list(role_errors(type(part), settings["_target_"], group, path or group)):
        raise UserError("\n".join(errors))
    return part


@contextmanager
def _of_term(name: str) -> Iterator[None]:
    """Add the key to a term's UserError, since a class does not know its name in the config."""
    try:
        yield
    except UserError as error:
        raise UserError(f"loss.terms.{name}: {error}, or loss.terms.{name}=null") from None


def _objective(settings: Mapping[str, Any]) -> Any:
    terms = {}
    for name, term in (settings.get("terms") or {}).items():
        with _of_term(name):
            terms[name] = instantiate(term)
    return instantiate_part({**settings, **({"terms": terms} if terms else {})}, "loss")


def _nominal(lr: AnySchedule) -> float:
    """The rate passed to the optimizer's constructor, where some refuse a warm-up's 0; every step sets its own."""
    return lr.start if isinstance(lr, Schedule) else lr(0.0)


def _parts(config: Mapping[str, Any]) -> dict[str, Any]:
    """The module's arguments that are instantiated groups or plain numbers."""
    optimizer = dict(config["optimizer"])
    lr, clip = schedule(optimizer.pop("lr")), optimizer.pop("clip", None)
    augmentations = instantiate_part(config["augmentations"], "augmentations")
    require_whole(augmentations, "count", part_name(augmentations, "augmentations"))
    noise = instantiate_part(config["noise"], "noise")
    if not callable(getattr(noise, "factor", None)):  # a method, or an attribute with a schedule
        who = part_name(noise, "noise")
        raise UserError(f"{who} has no factor(t). Allowed: a class with draw and factor, as vqclip/protocols.py says")
    return {
        "steps": config["steps"],
        "latent_kind": instantiate_part(config["latent"], "latent"),
        "augmentations": augmentations,
        "noise": noise,
        "objective": _objective(config["loss"]),
        "optimizer": instantiate({**optimizer, "lr": _nominal(lr), "_partial_": True}),
        "lr": lr,
        "clip": clip,
        "search": instantiate_part(config["search"], "search") if config.get("search") else None,
        "picture_chunk": config["memory"]["picture_chunk"],
        "crop_chunk": config["memory"]["crop_chunk"],
    }


def _wanted(prompts: Mapping[str, Any], include: Sequence[Prompt], extras: Sequence[Prompt]) -> list[str]:
    """The text of each picture's target at the beginning, for the init; empty if no text has a positive weight."""
    to_all = extras if prompts["extras_weight"] > 0 else []
    own = [[prompt] if prompts["include_weight"] > 0 else [] for prompt in include]
    return [", ".join(texts_of(*entries, *to_all, at=0.0)) for entries in own]


def _init_context(plan: RunPlan, generator: VQGAN, texts: list[str]) -> InitContext:
    height, width = plan.config["size"]
    shape = generator.latent_shape(height, width)
    if len(shape) != 3 or min(shape) < 1:
        larger = as_typed("size", [max(n, generator.factor) for n in (height, width)])
        raise UserError(
            f"{part_name(generator, 'checkpoints.generator')}.latent_shape({height}, {width}) gave {shape}. "
            f"Allowed: (C, h, w), each 1 or more. Try: {larger}"
        )
    made = (shape[1] * generator.factor, shape[2] * generator.factor)
    if made != (height, width):
        _log.warning(
            "size: %d×%d asked for, %d×%d made: sides are whole codes of %d pixels",
            *(height, width, *made, generator.factor),
        )
    prior = plan.config["checkpoints"].get("prior")
    return InitContext(
        generator=generator,
        shape=shape,
        texts=texts,
        rng=StepRandom(plan.seeds, 0),
        prior=prior["path"] if prior else None,
    )


def start_of(config: Mapping[str, Any]) -> tuple[Any, int]:
    """The init of a config, and its ``best_of``."""
    settings = dict(config["init"])
    tries = settings.pop("best_of", 1)
    return instantiate_part(settings, "init"), tries


def _start(config: Mapping[str, Any], context: InitContext, make: Callable[..., LatentOptimisation]) -> dict[str, Any]:
    """The initial latents, and the mask composite that keeps part of the picture, as arguments of the module."""
    init, tries = start_of(config)
    keep = init.keep(context) if hasattr(init, "keep") else None
    fits: dict[str, Any] = {}  # the first candidate measures how many pictures fit

    def score(z: Tensor) -> Tensor:
        module = make(z0=z, keep=keep, **fits)
        _, scores, _ = module.snapshot()
        fits["picture_chunk"] = module.chunks.picture_chunk
        return scores["score"]

    def of_picture(z: Tensor) -> Tensor:
        if not (config.get("search") or {}).get("stages"):
            return z
        module = make(z0=z, keep=keep)
        return module.search.encode(module, module.start_images(), 0.0)

    context = replace(context, score=score, of_picture=of_picture)

    def latents(start: InitContext) -> Tensor:
        """Call the init; a custom one may return anything."""
        shape, who = (len(start.texts), *start.shape), f"init: {config['init']['_target_']}"
        return require_tensor(init(start), shape, who, "latents", form="[B,C,h,w]").float()  # numpy makes float64

    return {
        "z0": best_of(latents, context, tries) if tries > 1 else latents(context),
        "keep": keep,
        # Negative steps, which the candidates of best_of do not use.
        "starts": lambda number: latents(replace(context, rng=StepRandom(context.rng.seeds, -number))),
    }


def _say_unknown_words(perceptors: Mapping[str, Mapping], texts: Sequence[str]) -> None:
    """Print a note about words that a small perceptor was not trained on, since it draws something else for them."""
    for name, card in perceptors.items():
        path = None if "_target_" in card else make_card("perceptor", name, card).local
        if missing := unknown_words(texts, known_words(path)) if path else None:
            near = (f'"{word}"' + (f" (nearest: {other})" if other else "") for word, other in missing.items())
            print(
                f"prompts: {name} may draw something else for words it does not know: {', '.join(near)}",
                file=sys.stderr,
            )
            return


def _say_what_is_not_read(name: str, perceptor: Any, texts: Sequence[str]) -> None:
    """Print a note about texts that are longer than a perceptor's context."""
    tokenize: Any = getattr(perceptor, "tokenize", None)
    if not (hasattr(tokenize, "encode") and hasattr(tokenize, "context_length")):  # openai-clip's, open_clip's
        return
    most = tokenize.context_length - 2  # without the start and end tokens
    if long := [f'"{text[:40]}…"' for text in texts if len(tokenize.encode(text)) > most]:
        what = f"prompts: {name} reads the first {most} tokens of a text (a word is one or more), and not the end of"
        print(f"{what} {', '.join(long)}. Try: its last words in prompts.extras", file=sys.stderr)


def _say_what_wants_places(config: Mapping[str, Any], texts: Sequence[str]) -> None:
    """Print a note about a text of several things, which are rarely all drawn from noise unless each has a region.

    Measured in experiments/embedded: both of two things in none of twelve pictures, with a region each in eleven.
    """
    reads = any(term.get("guidance_scale") for term in parts_on(config["loss"], "terms").values())
    if not reads or config["init"]["_target_"] != "vqclip.init.Noise":
        return
    if found := next(((text, keys) for text in texts if (keys := _each_in_its_place(text))), None):
        print(f'prompts: "{found[0]}": things are drawn where each has its place. Try: {found[1]}', file=sys.stderr)


def _each_in_its_place(text: str) -> str:
    """The overrides that give every thing in a text a region of its own; empty if there is only one thing."""
    for between, key in ((r",? and |, | next to | beside ", "row"), (r" above | over ", "column")):
        things = re.split(between, text)
        if 1 < len(things) <= 6 and all(re.match(r"an? \S", thing) for thing in things):
            size = [128, 128 * len(things)] if key == "row" else [128 * len(things), 128]
            return f"{as_typed('size', size)} {as_typed('prompts.include', [{key: things}])}"
    return ""
