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
    try:
        with _kept_precision():
            parts = _newer(mkldnn, "matmul", "conv", "rnn")
            for part in parts:
                part.fp32_precision = "ieee"
            # Before torch 2.9 there is the word alone; medium is bfloat16 on a CPU, on a GPU the same as high.
            if not parts and torch.get_float32_matmul_precision() == "medium":
                torch.set_float32_matmul_precision("high")
            yield
    finally:
        mkldnn.enabled = enabled


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
    """Have torch use it or not; None for as it is, said so that Lightning, which reads the older way, can read it."""
    backends: Any = torch.backends
    with _kept_precision():
        if wanted is not None:
            backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = wanted
        elif _read(lambda: backends.cuda.matmul.allow_tf32) is None:
            backends.cuda.matmul.allow_tf32 = backends.cuda.matmul.fp32_precision == "tf32"
        yield


@contextmanager
def _kept_precision() -> Iterator[None]:
    """Give back how exactly torch makes products of float32, whatever is set within.

    torch has an older way to say so, a word and a flag, and from 2.9 on a newer one, a precision for each part.  The
    older sets the newer too, and so is given back first.  Where the two contradict each other torch does not read the
    older; then it is left so that they do again.
    """
    backends: Any = torch.backends
    matmul, cudnn, mkldnn = backends.cuda.matmul, backends.cudnn, backends.mkldnn
    parts = [*_newer(backends.cuda, "matmul"), *_newer(cudnn, "conv", "rnn")]
    precisions = [part.fp32_precision for part in parts]
    onednn = _newer(mkldnn, "matmul", "conv", "rnn")
    # One that says what all of oneDNN does says nothing of its own.
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
    """Parts of a backend that have a precision of their own; none before torch 2.9."""
    parts = [getattr(backend, name, None) for name in names]
    return [part for part in parts if hasattr(part, "fp32_precision")]


def _read(older: Callable[[], Any]) -> Any:
    """What the older way says; None where it says other than the newer, which is when torch refuses to read it."""
    try:
        return older()
    except RuntimeError:
        return None
