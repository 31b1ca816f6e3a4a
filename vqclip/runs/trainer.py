"""Sets up Lightning's trainer for a run."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
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

__all__ = ["callbacks_of", "hastened", "make_trainer", "one_order", "one_process", "usual_torch"]


def callbacks_of(trainer: pl.Trainer) -> list[pl.Callback]:
    """The trainer's callbacks, in the order it calls them; the list itself."""
    return trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]  # Lightning's connector sets it


def make_trainer(
    config: Mapping[str, Any], folder: Path, callbacks: Sequence[pl.Callback], loggers: Sequence[Logger]
) -> pl.Trainer:
    """A trainer of one epoch over all steps, whose validation is the snapshot.

    So whoever watches a validation (EarlyStopping, ModelCheckpoint, a search's pruning) sees every snapshot.

    Args:
        config: the whole resolved config; of ``trainer`` Lightning gets all but our own keys, objects in it made.
        folder: the run folder.
        callbacks: the recorder first, so that the others find what it has written.
    """
    arguments = instantiate({key: value for key, value in config["trainer"].items() if key not in OURS})
    limit = arguments.pop("limit_train_batches", None)  # Lightning would begin its range again and again
    plugins = arguments.pop("plugins", None) or []
    plugins = [*plugins] if isinstance(plugins, list) else [plugins]
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):  # Lightning takes one
        plugins.append(WholeFiles())
    if not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        plugins.append(LightningEnvironment())  # Slurm's would refuse a script of several tasks
    return pl.Trainer(
        **arguments,
        plugins=plugins,
        default_root_dir=str(folder.absolute()),
        max_steps=steps_within(limit, config["steps"]),
        max_epochs=-1,
        val_check_interval=config["snapshot_every"],
        check_val_every_n_epoch=None,  # else a snapshot a step is taken for a validation an epoch
        num_sanity_val_steps=0,
        logger=list(loggers) or False,
        callbacks=list(callbacks),
        # last.ckpt and the bar are our own; Lightning's stand beside them where somebody asks for them.
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=any(isinstance(callback, ModelSummary) for callback in callbacks),
    )


@contextmanager
def one_process() -> Iterator[None]:
    """Have Lightning take this process for all there is: as the second task of ``srun`` it would log nothing."""
    lightning: Any = rank_zero_only  # a function, which keeps the rank
    before, lightning.rank = lightning.rank, 0
    try:
        yield
    finally:
        lightning.rank = before


@contextmanager
def usual_torch() -> Iterator[None]:
    """torch as a process of our own has it, whatever the notebook around a run has set: its bytes are the config's."""
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
    """Begin without ``deterministic``, and give back what Lightning sets by it for the rest of the process."""
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
    """Have oneDNN do a CPU's products, in float32; how exact a GPU's are is the business of ``trainer.tf32``."""
    mkldnn: Any = torch.backends.mkldnn
    enabled, mkldnn.enabled = mkldnn.enabled, True
    parts = [mkldnn.matmul, mkldnn.conv, mkldnn.rnn] if hasattr(mkldnn, "matmul") else []
    # One that says what all of oneDNN does says nothing of its own.
    before = ["none" if part.fp32_precision == mkldnn.fp32_precision else part.fp32_precision for part in parts]
    for part in parts:
        part.fp32_precision = "ieee"
    older = torch.get_float32_matmul_precision() if not parts else ""  # before torch 2.9 all that there is
    if older == "medium":  # bfloat16 on a CPU; on a GPU the same as "high"
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        mkldnn.enabled = enabled
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision
        if older == "medium":
            torch.set_float32_matmul_precision(older)


def _set_order(mode: int) -> None:
    torch.set_deterministic_debug_mode(mode)
    if "torch._inductor.config" in sys.modules:  # the compiler has a setting of its own, which this sets too
        torch.use_deterministic_algorithms(mode > 0, warn_only=mode == 1)


@contextmanager
def one_order() -> Iterator[None]:
    """Name what ``trainer.deterministic=true`` does not allow.

    Raises:
        UserError: a part of the step has no way to add up in one order here.
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
def hastened(networks: Networks, trainer: Mapping[str, Any]) -> Iterator[None]:
    """Compute as ``trainer.tf32`` and ``trainer.compile`` ask; afterwards as before, since jobs share the networks."""
    compiled: dict[Any, str] = {}
    if trainer.get("compile") is not None:
        compiled = {networks.generator: "decode"} | {g.perceptor: "encode_image" for g in networks.guides.values()}
    try:
        for network, name in compiled.items():
            # A run has few shapes; for a symbolic one the compiler fails on these networks (torch 2.14, on a CPU).
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
    """Have torch use it or not; None for as it is.

    torch has an older and a newer way to say so.  The older sets both, but cannot be read once somebody has used the
    newer, so that is what is kept where torch has it (from 2.9).  Lightning reads the older on a GPU.
    """
    backends: Any = torch.backends
    matmul, cudnn = backends.cuda.matmul, backends.cudnn
    newer = [matmul, cudnn.conv, cudnn.rnn] if hasattr(matmul, "fp32_precision") else []
    precisions = [part.fp32_precision for part in newer]
    older = [_older(flag) for flag in (matmul, cudnn)]
    if wanted is None and older[0] is not None:
        yield
        return
    matmul.allow_tf32 = precisions[0] == "tf32" if wanted is None else wanted
    if wanted is not None:
        cudnn.allow_tf32 = wanted
    try:
        yield
    finally:
        for flag, was, precision in zip((matmul, cudnn), older, precisions[:2] or ("", ""), strict=True):
            flag.allow_tf32 = precision != "tf32" if was is None else was
        for part, precision in zip(newer, precisions, strict=True):
            part.fp32_precision = precision


def _older(flag: Any) -> bool | None:
    """What the older way says; None where it says other than the newer, which is when torch refuses to read it."""
    try:
        return flag.allow_tf32
    except RuntimeError:
        return None
