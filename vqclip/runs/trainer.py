"""Sets up Lightning's trainer for a run."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Checkpoint, ModelSummary, ProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.utilities import rank_zero_only

from vqclip.classes import instantiate
from vqclip.config.consistency import steps_within
from vqclip.config.schema_trainer import OURS
from vqclip.errors import UserError, shown
from vqclip.module import Networks
from vqclip.precision import full_precision
from vqclip.runs.checkpointer import WholeFiles

__all__ = [
    "accelerated",
    "callbacks_of",
    "explain_nondeterminism",
    "make_trainer",
    "rank_zero",
    "torch_defaults",
]


def callbacks_of(trainer: pl.Trainer) -> list[pl.Callback]:
    """The trainer's own list of callbacks, in the order of calls."""
    return trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]  # Lightning's connector sets it


def make_trainer(
    config: Mapping[str, Any], folder: Path, callbacks: Sequence[pl.Callback], loggers: Sequence[Logger]
) -> pl.Trainer:
    """Make a trainer with one epoch over all steps, whose validation is the snapshot.

    So callbacks that monitor validation (EarlyStopping, ModelCheckpoint, Optuna's pruning) see every snapshot.

    Args:
        config: the whole resolved config; Lightning gets the instantiated ``trainer`` without vqclip's own keys.
        folder: the run folder.
        callbacks: the recorder first, so that the others find its files.
    """
    arguments = instantiate({key: value for key, value in config["trainer"].items() if key not in OURS})
    limit = arguments.pop("limit_train_batches", None)  # Lightning would restart the epoch over and over
    plugins = arguments.pop("plugins", None) or []
    plugins = [*plugins] if isinstance(plugins, list) else [plugins]
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):  # Lightning accepts only one
        plugins.append(WholeFiles())
    if not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        plugins.append(LightningEnvironment())  # Slurm's environment refuses scripts with several tasks
    return pl.Trainer(
        **arguments,
        plugins=plugins,
        default_root_dir=str(folder.absolute()),
        max_steps=steps_within(limit, config["steps"]),
        max_epochs=-1,
        val_check_interval=config["snapshot_every"],
        check_val_every_n_epoch=None,  # else snapshot_every=1 is taken for a validation per epoch
        num_sanity_val_steps=0,
        logger=list(loggers) or False,
        callbacks=list(callbacks),
        # vqclip has its own last.ckpt and progress bar; Lightning's are added if the user configures them.
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=any(isinstance(callback, ModelSummary) for callback in callbacks),
    )


@contextmanager
def rank_zero() -> Iterator[None]:
    """Set Lightning's rank to 0, since it would log nothing in the second task of ``srun``."""
    lightning: Any = rank_zero_only  # a function with the rank as an attribute
    before, lightning.rank = lightning.rank, 0
    try:
        yield
    finally:
        lightning.rank = before


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Reset torch's global settings during a run, so that its bytes do not depend on the surrounding notebook."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    torch.set_default_dtype(torch.float32)
    try:
        with (
            _any_order(),
            _usual_onednn(),
            torch.device("cpu") if device.type != "cpu" else nullcontext(),
            torch.inference_mode(False),
            torch.enable_grad(),
            full_precision(),
        ):
            yield
    finally:
        torch.set_default_dtype(dtype)


@contextmanager
def _any_order() -> Iterator[None]:
    """Start without deterministic algorithms, and restore the setting that Lightning changes for the process."""
    mode, benchmark = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    _set_order(0)
    try:
        yield
    finally:
        _set_order(mode)
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@contextmanager
def _usual_onednn() -> Iterator[None]:
    """Enable oneDNN with float32 precision on the CPU; ``trainer.tf32`` is for the GPU."""
    mkldnn: Any = torch.backends.mkldnn
    enabled, mkldnn.enabled = mkldnn.enabled, True
    try:
        with _kept_precision():
            parts = _newer(mkldnn, "matmul", "conv", "rnn")
            for part in parts:
                part.fp32_precision = "ieee"
            # Before torch 2.9 there is one setting for all; medium is bfloat16 on a CPU, and like high on a GPU.
            if not parts and torch.get_float32_matmul_precision() == "medium":
                torch.set_float32_matmul_precision("high")
            yield
    finally:
        mkldnn.enabled = enabled


def _set_order(mode: int) -> None:
    torch.set_deterministic_debug_mode(mode)
    if "torch._inductor.config" in sys.modules:  # also changes the compiler's own setting
        torch.use_deterministic_algorithms(mode > 0, warn_only=mode == 1)


@contextmanager
def explain_nondeterminism() -> Iterator[None]:
    """Explain torch's error for an operation that ``trainer.deterministic=true`` does not allow.

    Raises:
        UserError: an operation of the step has no deterministic implementation here.
    """
    try:
        yield
    except RuntimeError as error:
        if found := re.match(r"(\w+) does not have a deterministic implementation", str(error)):
            raise UserError(
                f"trainer.deterministic=true: {found[1]} adds up in another order every time on this device. Allowed: "
                "what has one order; or warn, which names what has not. Try: trainer.deterministic=warn"
            ) from None
        raise


@contextmanager
def accelerated(networks: Networks, trainer: Mapping[str, Any]) -> Iterator[None]:
    """Apply ``trainer.tf32`` and ``trainer.compile``; restore everything afterwards, since jobs share the networks."""
    compiled: dict[Any, str] = {}
    if trainer.get("compile") is not None:
        compiled = {networks.generator: "decode"} | {g.perceptor: "encode_image" for g in networks.guides.values()}
    try:
        for network, name in compiled.items():
            # Static shapes: a run has few, and the compiler fails with dynamic ones here (torch 2.14, CPU).
            setattr(network, name, torch.compile(getattr(network, name), **{"dynamic": False, **trainer["compile"]}))
        with _tf32(trainer.get("tf32")):
            yield
    except RuntimeError as error:
        if not (compiled and type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))):
            raise
        why = " ".join(str(getattr(error, "inner_exception", error)).split("\n\n")[0].split())
        raise UserError(
            f"trainer.compile={shown(trainer['compile'])}: torch.compile failed here ({why}). "
            "Allowed: what it can do with this machine's C++ compiler and GPU. Try: trainer.compile=null"
        ) from None
    finally:
        for network, name in compiled.items():
            vars(network).pop(name, None)


@contextmanager
def _tf32(wanted: bool | None) -> Iterator[None]:
    """Set TF32 for the duration; None keeps it, but in the older API, which Lightning reads."""
    backends: Any = torch.backends
    with _kept_precision():
        if wanted is not None:
            backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = wanted
        elif _read(lambda: backends.cuda.matmul.allow_tf32) is None:
            backends.cuda.matmul.allow_tf32 = backends.cuda.matmul.fp32_precision == "tf32"
        yield


@contextmanager
def _kept_precision() -> Iterator[None]:
    """Restore torch's precision of float32 matrix products afterwards, whatever is set within.

    torch has an older API for it (one setting and a flag) and, from 2.9 on, a newer one with a precision per backend.
    Setting the older changes the newer too, so the older is restored first.  If they contradict each other, torch
    refuses to read the older; this contradiction is restored as well.
    """
    backends: Any = torch.backends
    matmul, cudnn, mkldnn = backends.cuda.matmul, backends.cudnn, backends.mkldnn
    parts = [*_newer(backends.cuda, "matmul"), *_newer(cudnn, "conv", "rnn")]
    precisions = [part.fp32_precision for part in parts]
    onednn = _newer(mkldnn, "matmul", "conv", "rnn")
    # A part with oneDNN's common precision has none of its own.
    precisions += ["none" if p.fp32_precision == mkldnn.fp32_precision else p.fp32_precision for p in onednn]
    word, convolutions = _read(torch.get_float32_matmul_precision), _read(lambda: cudnn.allow_tf32)
    if word is None:
        allowed = _read(lambda: matmul.allow_tf32)
        word = "high" if (precisions[0] != "tf32" if allowed is None else allowed) else "highest"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(word)
        cudnn.allow_tf32 = precisions[1] != "tf32" if convolutions is None else convolutions
        for part, precision in zip([*parts, *onednn], precisions, strict=True):
            part.fp32_precision = precision


def _newer(backend: Any, *names: str) -> list[Any]:
    """The parts of a backend that have a precision of their own; empty before torch 2.9."""
    parts = [getattr(backend, name, None) for name in names]
    return [part for part in parts if hasattr(part, "fp32_precision")]


def _read(older: Callable[[], Any]) -> Any:
    """The value in the older API; None if it contradicts the newer, since torch then refuses to read it."""
    try:
        return older()
    except RuntimeError:
        return None
