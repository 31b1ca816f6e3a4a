"""Checks classes that a config names by ``_target_``, and their arguments, before a model is loaded.

Classes in :data:`vqclip.config.schema.CLASSES` are checked by the schema instead, without an import.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vqclip.classes import find, parameters_of
from vqclip.errors import closest, shown

__all__ = ["PASSED_ON", "argument_errors", "is_for", "refusal", "role_errors"]

_STEPS = "a run has as many steps as `steps` says. Try: steps=100"
_ONE_DEVICE = "one job uses one device; more devices are more jobs. Try: -m hydra/launcher=workers seed=0,1,2"
_NO_DATA = "there is no data set: every step looks at the same latent. Try: steps=100"
_ONE_EPOCH = "a run is one epoch, and a snapshot its validation. Try: snapshot_every=5"
_RECORDED = "every run keeps its whole config and last.ckpt. Try: resume=RUN"
_ADAM = {
    "params": "it is the latent.",
    "capturable": "no step goes into a CUDA graph. Try: '~optimizer.capturable'",
    "differentiable": "nothing is differentiated through a step. Try: '~optimizer.differentiable'",
}

#: Callable → argument that vqclip sets itself → why, and which key to use instead.
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
        **dict.fromkeys(("model_registry", "enable_autolog_hparams"), _RECORDED),
    },
    "wandb.init": {
        "config": "the whole config is sent as it is. Try: +vars.mine=3",
        "dir": "it is the run folder. Try: hydra.run.dir=outputs/mine",
        "reinit": "every run of a sweep is a run of its own.",
        "settings": "vqclip sets them. Try: WANDB_SILENT=false vqclip …",
        "resume": "a resumed run goes on in its own W&B run. Try: resume=RUN",
    },
    "torch.optim.Adam": _ADAM,
    "torch.optim.AdamW": _ADAM,
    "pytorch_lightning.callbacks.Timer": {"interval": _ONE_EPOCH},
    "pytorch_lightning.callbacks.ModelCheckpoint": {
        "every_n_epochs": "a run is one epoch, and a snapshot its validation. Try: every_n_train_steps=10",
    },
    "pytorch_lightning.callbacks.EarlyStopping": {"check_on_train_epoch_end": _ONE_EPOCH},
}  # fmt: skip

_AVERAGE = "what is shown of an average is the search's. Try: search.average=0.9"
_NO_LAYERS = "there is one parameter, the latent, and no layer."

#: Lightning classes that (like their subclasses) have no effect or a harmful one here → what to use instead.
_REFUSED = {
    "StochasticWeightAveraging": _AVERAGE,
    "WeightAveraging": _AVERAGE,
    "EMAWeightAveraging": _AVERAGE,
    "GradientAccumulationScheduler": "a step sees all its crops at once. Try: augmentations.crops.count=64",
    "LearningRateFinder": "one latent has no data to try rates on. Try: -m optimizer.lr=0.03,0.1,0.3",
    "BatchSizeFinder": "as many pictures are worked on at once as fit. Try: memory.picture_chunk=null",
    "OnExceptionCheckpoint": "last.ckpt is the point to go on from. Try: resume=RUN, and snapshot_every=5",
    "SpikeDetection": "a run whose numbers fail ends as diverged, and its best snapshot stays. Try: optimizer.clip=1",
    "ModelPruning": _NO_LAYERS,
    "BaseFinetuning": _NO_LAYERS,
    "BasePredictionWriter": "nothing is predicted; pictures are in the run folder. Try: vqclip compare RUN",
}

#: Keys of ours that are also passed to the class as arguments.
PASSED_ON = ("lr", "weight")


#: Config group → prefixes of its classes' names, if not ``vqclip.GROUP.``.
_HOMES = {
    "optimizer": ("torch.optim.", "vqclip.optimizer."),
    "logger": ("vqclip.loggers.", "pytorch_lightning.loggers."),
    "loss": ("vqclip.loss.Objective",),
    "terms": ("vqclip.terms.", "vqclip.loss.TotalVariation"),
}

#: The methods that classes of a group must have; those of the first rows are in :mod:`vqclip.protocols`.
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
    "callbacks": ("on_train_start", "on_train_batch_end", "state_dict"),
    "logger": ("log_metrics", "log_hyperparams", "finalize"),
}


_IN_PROTOCOLS = ("generator", "perceptor", "init", "latent", "augmentations", "noise", "terms")
_SEARCH = "vqclip.search.Search"


def is_for(target: str, group: str) -> bool:
    """Whether a class of the schema belongs to a config group."""
    return target.startswith(_HOMES.get(group, (f"vqclip.{group}.",)))


def role_errors(part: Any, target: str, group: str, path: str) -> Iterator[str]:
    """Messages about methods that a class lacks for its group; none for functions, which may return anything."""
    if not isinstance(part, type):
        return
    bases = {f"{base.__module__}.{base.__qualname__}" for base in part.__mro__}
    if group == "search" and _SEARCH not in bases:  # the step uses all of it
        yield f"{path}._target_={target}: no search. Allowed: {_SEARCH}, and classes derived from it"
    needed = _METHODS.get(group, ())
    if lacks := [name for name in needed if not any(name in vars(base) for base in part.__mro__)]:
        what = group if group in ("generator", "perceptor") else f"class for {path}"
        shapes = " (vqclip/protocols.py says with which shapes)" if group in _IN_PROTOCOLS else ""
        yield (
            f"{path}._target_={target}: no {what}, it has no {' and no '.join(lacks)}. Allowed: a class with "
            f"{', '.join(needed)}{shapes}"
        )


def refusal(part: Any) -> str:
    """Why a class of Lightning's, or a subclass, is refused; empty if it is allowed."""
    for base in getattr(part, "__mro__", ()):
        if base.__module__.startswith("pytorch_lightning.") and base.__name__ in _REFUSED:
            return f"vqclip decides it, since {_REFUSED[base.__name__]}"
    return ""


def argument_errors(
    target: str, arguments: Mapping[str, Any], path: str, known: Sequence[str], group: str = ""
) -> Iterator[str]:
    """Messages about a callable and its arguments by its signature; missing classes are reported elsewhere.

    Args:
        arguments: by name.
        known: names that have been checked already.
        group: the config group.
    """
    try:
        part = find(target)
    except LookupError:  # reported for all classes together
        return
    if reason := refusal(part):
        yield f"{path}._target_={target}: {reason}"
    elif wrong := list(role_errors(part, target, group, path)):
        yield from wrong
    else:
        try:
            accepted = parameters_of(part)
        except (TypeError, ValueError):  # built in, without a signature
            return
        yield from _names_errors(target, accepted, arguments, path, known, group)


def _names_errors(
    target: str, accepted: Mapping[str, inspect.Parameter], arguments: Mapping, path: str, known: Sequence, group: str
) -> Iterator[str]:
    names = [p.name for p in accepted.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    given_by_us = names[:1] if group == "optimizer" else []  # the list of parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    for name, value in arguments.items():
        if name in OWNED.get(target, {}):
            yield f"{path}.{name}={shown(value)}: vqclip decides it, since {OWNED[target][name]}"
        elif name in given_by_us:
            yield f"{path}.{name}: vqclip gives it itself. Try: '~{path}.{name}'"
        elif name not in names and name not in known and not open_ended:
            near = closest(name, names) or f" Allowed: {', '.join(names[:12]) or 'none'}"
            yield f"{path}.{name}: {target} takes no such argument.{near}"
    if group:
        missing = [
            name
            for name in names[len(given_by_us) :]
            if accepted[name].default is inspect.Parameter.empty and name not in arguments
        ]
        yield from (f"{path}.{name}: missing; {target} needs it. Try: +{path}.{name}=VALUE" for name in missing)
