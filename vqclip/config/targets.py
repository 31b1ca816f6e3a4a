"""Classes that a config names by ``_target_``: found, and their arguments bound, before a model is loaded.

What is in :data:`vqclip.config.schema.CLASSES` needs no import and is not asked here.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vqclip.classes import find
from vqclip.errors import closest
from vqclip.paths import conf_dir

__all__ = ["OWNED", "argument_errors", "choices_of", "class_errors", "is_for"]

_STEPS = "a run has as many steps as `steps` says. Try: steps=100"
_ONE_DEVICE = "one job uses one device; more devices are more jobs. Try: -m hydra/launcher=workers seed=0,1,2"
_NO_DATA = "there is no data set: every step looks at the same latent. Try: steps=100"

#: callable → argument → why vqclip decides it itself, and the key to use instead.
OWNED: dict[str, dict[str, str]] = {
    "pytorch_lightning.Trainer": {
        **dict.fromkeys(("max_steps", "max_epochs", "min_steps", "min_epochs"), _STEPS),
        **dict.fromkeys(("num_nodes", "sync_batchnorm", "use_distributed_sampler", "strategy"), _ONE_DEVICE),
        "accumulate_grad_batches": "a step sees all its crops at once. Try: augmentations.crops.count=64, and "
        "memory.crop_chunk=8 where that does not fit",
        "gradient_clip_val": "the gradient is that of one latent. Try: optimizer.clip=1",
        "gradient_clip_algorithm": "the gradient's length is clipped. Try: optimizer.clip=1",
        "enable_checkpointing": "last.ckpt is written at every snapshot, and resume=RUN goes on from it. "
        "Try: +callbacks.checkpoint._target_=pytorch_lightning.callbacks.ModelCheckpoint",
        "enable_progress_bar": "the bar is a callback. Try: callbacks.progress=null",
        "enable_model_summary": "there is one parameter, the latent. "
        "Try: +callbacks.summary._target_=pytorch_lightning.callbacks.ModelSummary",
        "callbacks": "they are a group of their own. Try: +callbacks.NAME._target_=CLASS",
        "logger": "they are a group of their own. Try: logger=none",
        "default_root_dir": "the run folder is Hydra's. Try: hydra.run.dir=outputs/mine",
        "fast_dev_run": "a short run of ours leaves a whole run folder. Try: debug=fast",
        "barebones": "it would switch the run folder off. Try: logger=none callbacks=none",
        **dict.fromkeys(("overfit_batches", "limit_val_batches", "limit_test_batches"), _NO_DATA),
        "limit_predict_batches": _NO_DATA,
        **dict.fromkeys(("val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps"), _NO_DATA),
        "reload_dataloaders_every_n_epochs": _NO_DATA,
        "inference_mode": "there is nothing but training. Try: steps=100",
    },
    "wandb.init": {
        "config": "the whole config is sent as it is. Try: +vars.mine=3",
        "dir": "it is the run folder. Try: hydra.run.dir=outputs/mine",
        "reinit": "every run of a sweep is a run of its own.",
        "settings": "vqclip sets them. Try: WANDB_SILENT=false vqclip …",
        "resume": "a resumed run goes on in its own W&B run. Try: resume=RUN",
    },
}  # fmt: skip

#: What vqclip gives itself when it makes one: role → names.
_GIVEN = {"optimizer": 1, "wandb.init": 0}


def choices_of(group: str) -> list[str]:
    """The choices of a config group as shipped."""
    folder = conf_dir() / group.replace(".", "/")
    return sorted(path.stem for path in folder.glob("*.yaml")) if folder.is_dir() else []


#: Group of the config → what its own classes' names begin with, where that is not ``vqclip.GROUP.``.
_HOMES = {
    "optimizer": ("torch.optim.", "vqclip.optimizer."),
    "logger": ("vqclip.loggers.", "pytorch_lightning.loggers."),
    "terms": ("vqclip.terms.", "vqclip.loss.TotalVariation"),
}

#: The methods that a class of anybody's must have to be of use in a group (:mod:`vqclip.protocols`).
_METHODS = {
    "generator": ("decode", "latent_shape"),
    "perceptor": ("encode_text", "encode_image"),
    "init": ("__call__",),
    "latent": ("__call__",),
    "augmentations": ("draw", "transform", "cut"),
    "noise": ("draw",),
    "loss": ("on_crops", "on_picture", "total"),
    "terms": ("__call__",),
    "optimizer": ("step", "zero_grad", "state_dict"),
    "search": ("before", "after", "progress"),
    "callbacks": ("on_train_start", "on_train_batch_end", "state_dict"),
    "logger": ("log_metrics", "log_hyperparams", "finalize"),
}


def _role(group: str, path: str) -> str:
    return "terms" if group == "loss" and path != "loss" else group


def is_for(target: str, group: str, path: str) -> bool:
    """Whether a class of the schema's is one for the key ``path`` of a group."""
    role = _role(group, path)
    return target.startswith(_HOMES.get(role, (f"vqclip.{role}.",)))


def class_errors(part: Any, target: str, group: str, path: str) -> Iterator[str]:
    """That a class lacks what its place needs; nothing of a function, which may make anything."""
    needed = _METHODS.get(_role(group, path), ()) if isinstance(part, type) else ()
    if lacks := [name for name in needed if not any(name in vars(base) for base in part.__mro__)]:
        what = group if group in ("generator", "perceptor") else f"class for {path}"
        yield (
            f"{path}._target_={target}: no {what}, it has no {' and no '.join(lacks)}. Allowed: a class with "
            f"{', '.join(needed)} (vqclip/protocols.py says with which shapes)"
        )


def argument_errors(
    target: str, arguments: Mapping[str, Any], path: str, known: Sequence[str], group: str = ""
) -> Iterator[str]:
    """What is wrong with the arguments of a callable by its signature.

    Args:
        arguments: by name.
        known: names that were checked already.
        group: the config group it is made for.
    """
    try:
        part = find(target)
    except LookupError as error:
        yield f"{path}._target_={target}: {error}"
        return
    if wrong := list(class_errors(part, target, group, path)):
        yield from wrong
        return
    try:
        accepted = inspect.signature(part).parameters
    except (TypeError, ValueError):  # built in, without a signature
        return
    names = [p.name for p in accepted.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    given_by_us = names[: _GIVEN.get(group, 0)]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    for name in arguments:
        if name in given_by_us:
            yield f"{path}.{name}: vqclip gives it itself. Try: ~{path}.{name}"
        elif name not in names and name not in known and not open_ended:
            near = closest(name, names)
            yield f"{path}.{name}: {target} takes no such argument.{near or ' Allowed: ' + ', '.join(names[:12])}"
    if group:
        missing = [
            name
            for name in names[len(given_by_us) :]
            if accepted[name].default is inspect.Parameter.empty and name not in arguments
        ]
        yield from (f"{path}.{name}: missing; {target} needs it. Try: +{path}.{name}=VALUE" for name in missing)
