"""Executes one run, from a config to a folder of pictures."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger, MLFlowLogger, WandbLogger

from vqclip.config.own_classes import parts_on
from vqclip.config.resolve import picture_config, resolved, without_secrets
from vqclip.errors import Diverged, UserError
from vqclip.io.quiet import quiet_lightning
from vqclip.loggers.base import RunView, log_result
from vqclip.loggers.open import open_loggers
from vqclip.module import LatentOptimisation, optimisation
from vqclip.runs.build import build, instantiate_part
from vqclip.runs.checkpoint import read_checkpoint
from vqclip.runs.digests import callback_weights
from vqclip.runs.evaluate import judge_guided, judge_pictures
from vqclip.runs.folder import RunFolder
from vqclip.runs.overwrite import clean_up, refuse_overwrite, refuse_own_inputs
from vqclip.runs.plan import RunPlan
from vqclip.runs.provenance import Provenance
from vqclip.runs.recorder import Recorder
from vqclip.runs.report import Report, keep_report
from vqclip.runs.result import Result
from vqclip.runs.rollback import start_over
from vqclip.runs.schema import FORMAT
from vqclip.runs.signals import Signals
from vqclip.runs.status import DIVERGED, FINISHED, STOPPED_EARLY, is_pruned
from vqclip.runs.trainer import callbacks_of, hastened, make_trainer, one_order, one_process, usual_torch

__all__ = ["execute", "threads"]

#: One thread at a time runs: torch's settings are the process's, and so are the networks that runs share.
_ALONE = threading.RLock()


@dataclass(frozen=True)
class Past:
    """A run that is resumed: its report and its last checkpoint."""

    report: Mapping[str, Any]
    checkpoint: Mapping[str, Any]

    @property
    def step(self) -> int:
        return self.checkpoint["global_step"]


def execute(
    cfg: DictConfig | Mapping[str, Any],
    folder: Path,
    resume: bool = False,
    callbacks: Sequence[pl.Callback] = (),
    record_format: int = FORMAT,
) -> Result:
    """Run a config and write everything into ``folder``; while another thread does so, wait for it.

    Args:
        resume: go on from the folder's last checkpoint, where it has one.
        callbacks: besides those of the config.
        record_format: of the records in the PNGs.

    Returns:
        The run, also where it stopped early or diverged.

    Raises:
        UserError: the config has mistakes, all are named, and no model was loaded; or the folder is in use, holds a
            run that is not to be overwritten, or cannot be written.
        Stopped: a signal ended the run.  What it has done is on disk.
        optuna.TrialPruned: a callback of Optuna's ended the run, which stopped early, for the study that asked for it.
    """
    config = resolved(cfg) if isinstance(cfg, DictConfig) else dict(cfg)
    recorded = without_secrets(cfg, config) if isinstance(cfg, DictConfig) else config
    plan = RunPlan.of(config, callbacks, record_format, recorded)
    run = RunFolder(folder)
    with _ALONE, quiet_lightning(), one_process(), usual_torch(), Signals() as signals, clean_up(run, plan), run.open():
        past, module = _past(run) if resume else None, None
        if past is None:
            if not resume:  # then it is known that the folder is this run's
                refuse_overwrite(run, bool(config.get("overwrite")))
            if run.pictures():  # they are given up for a run that can begin
                refuse_own_inputs(run, config)
                module = build(plan)
            start_over(run)
        with threads(past.report["machine"]["threads"] if past else None):
            return _execute(plan, run, past, module, signals)


def _execute(
    plan: RunPlan, run: RunFolder, past: Past | None, module: LatentOptimisation | None, signals: Signals
) -> Result:
    before = past.report if past else {}
    recorder = None
    with (
        keep_report(run, plan, before, past.step if past else None) as report,
        suppress(Diverged),  # a result too; the loggers are told of it
        open_loggers(plan.config, plan.recorded, before) as loggers,
    ):
        module = module or build(plan)
        trainer = make_trainer(plan.config, run.path, _callbacks(plan), list(loggers.values()))
        provenance = Provenance.of(module, plan.config, trainer.strategy.root_device)
        if past:
            _require_fit(run, past, plan, module, provenance)
        log_every = plan.config["trainer"].get("log_every_n_steps", 1)
        recorder = Recorder(run, _records(plan, provenance), plan.config["snapshot_every"], log_every, signals)
        callbacks_of(trainer).insert(0, recorder)  # it writes before others look; only now is its device known
        callbacks_of(trainer).append(recorder.checkpointer)
        _begin(report, plan.config, provenance, trainer, loggers)
        with _kept_outcome(report, recorder, trainer), one_order(), hastened(module.networks, plan.config["trainer"]):
            _optimise(run, trainer, module, past)
        report.add(pictures=_judged(plan, run, report.content))
        for logger in loggers.values():
            log_result(logger, run.path, report.content, plan.recorded)
    if recorder and recorder.pruned:
        raise recorder.pruned
    return _result(run, report, recorder)


def _past(run: RunFolder) -> Past | None:
    checkpoint = read_checkpoint(run)
    return Past(run.report(), checkpoint) if checkpoint else None


def _require_fit(run: RunFolder, past: Past, plan: RunPlan, module: LatentOptimisation, provenance: Provenance) -> None:
    provenance.require_same(run, past.report)
    before, now = ([(p["prompt"], p["seed"]) for p in part] for part in (past.report["pictures"], plan.pictures))
    run.require_count(past.report, len(now))
    for prompt, one, other in zip(plan.prompts, before, now, strict=True):
        # What is called by its picture's path may be called by another now: its files are known by their sha256.
        if one[1:] != other[1:] if prompt.files else one != other:
            what = f"it is of {one}, and config.yaml of {other}"
            raise run.damaged(run.report_file, f"{what}: one belongs to another run")
    kept = past.checkpoint["state_dict"]["latent"]
    other = None
    if tuple(kept.shape) != tuple(module.latent.shape):
        other = f"its latent is {tuple(kept.shape)}, and the config's {tuple(module.latent.shape)}"
    if past.step > module.steps:
        other = f"it is of step {past.step}, and the config has {module.steps} steps"
    if other:
        raise UserError(f"{run.checkpoint_file}: {other}: it belongs to another run. Try: {run.rerun_command}")
    for i in range(len(kept)):
        run.picture(i).require_shape(kept.shape[1:])


def _records(plan: RunPlan, provenance: Provenance) -> list[dict[str, Any]]:
    """What the PNGs of each picture carry."""
    record = {"format": plan.record_format} if plan.record_format else {}
    made_with = asdict(provenance)
    record |= {"version": made_with["versions"]["vqclip"], "config": picture_config(plan.recorded)}
    return [
        {**record, "made_with": made_with, "prompt": picture["prompt"], "seed": picture["seed"], "picture": i}
        for i, picture in enumerate(plan.pictures)
    ]


def _callbacks(plan: RunPlan) -> list[pl.Callback]:
    configured = parts_on(plan.config, "callbacks")
    return [
        *(instantiate_part(one, "callbacks", f"callbacks.{name}") for name, one in configured.items()),
        *plan.callbacks,
    ]


def _begin(
    report: Report,
    config: Mapping[str, Any],
    provenance: Provenance,
    trainer: pl.Trainer,
    loggers: Mapping[str, Logger],
) -> None:
    """All that is known now, on disk and to the loggers before the first step."""
    ids = {name: one.version for name, one in loggers.items() if isinstance(one, WandbLogger | MLFlowLogger)}
    known = report.content  # of a run that goes on, those of before
    report.add(**{name: ids.pop(name, known.get(name)) for name in ("wandb", "mlflow")})
    if others := {**known.get("loggers", {}), **ids}:
        report.add(loggers=others)
    made_with = asdict(provenance)
    made_with["weights"] |= callback_weights(config)
    report.add(**made_with, device=str(trainer.strategy.root_device))
    report.write()
    for logger in loggers.values():
        if isinstance(logger, RunView):
            logger.begin(report.content)


def _optimise(run: RunFolder, trainer: pl.Trainer, module: LatentOptimisation, past: Past | None) -> None:
    """All steps, or as many as Lightning's callbacks let it make, or until the numbers fail."""
    module.to_device(trainer.strategy.root_device)
    recorder = Recorder.of(trainer)
    resumed = {"ckpt_path": run.checkpoint_file, "weights_only": True} if past else {}
    # Tensors, since Lightning asks a batch for its size when a callback logs means over the epoch.
    trainer.fit(module, torch.arange(module.steps), torch.arange(1), **resumed)
    if not recorder.began:
        # Nothing is left to train, or somebody ended it before a step: Lightning called nobody.
        module.to_device(trainer.strategy.root_device)  # from where it is taken after a fit
        for callback in callbacks_of(trainer):
            callback.on_train_start(trainer, module)  # Lightning's bars cannot end what they did not begin
        for callback in callbacks_of(trainer):
            callback.on_train_end(trainer, module)


@contextmanager
def _kept_outcome(report: Report, recorder: Recorder, trainer: pl.Trainer) -> Iterator[None]:
    """Whatever the steps come to, in the report."""
    try:
        yield
        recorder.snapshots.require_there()
        reason = recorder.stopped_early
        report.add(**({"status": STOPPED_EARLY, "reason": reason} if reason else {"status": FINISHED}))
    except Diverged as error:
        report.add(status=DIVERGED, reason=str(error))
        raise
    except Exception as error:
        if not is_pruned(error):
            raise
        done = f"after step {trainer.global_step} of {optimisation(trainer.lightning_module).steps}"
        report.add(status=STOPPED_EARLY, reason=f"pruned {done}: {error}")
        recorder.pruned = error
    finally:
        report.began = recorder.began
        taken = recorder.snapshots
        scored = zip(report.content["pictures"], taken.best, taken.last, strict=True)
        report.add(
            steps=trainer.global_step,
            pictures=[{**picture, **({"best": best, "final": last} if last else {})} for picture, best, last in scored],
            sha256=dict(sorted(taken.digests.items())),
        )
        with suppress(OSError):  # of a disk that is full; they can be read as they are, also by a run that goes on
            taken.join_latents()


def _judged(plan: RunPlan, run: RunFolder, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pictures of the report, with what the judge says of each best one, unless it guided them."""
    pictures = report["pictures"]
    if judge_guided(report["weights"]):
        return list(pictures)
    files = [run.picture(i).best for i in range(len(pictures))]
    scores = judge_pictures(files, [prompt.text for prompt in plan.prompts])
    both = zip(pictures, scores, strict=True)
    return [{**picture, **({} if score is None else {"judge": score})} for picture, score in both]


def _result(run: RunFolder, report: Report, recorder: Recorder | None) -> Result:
    newest, content = recorder.snapshots.newest if recorder else None, {"format": FORMAT, **report.content}
    if newest is None:
        return Result(run.path, content)  # it is read where somebody asks
    return Result(run.path, content, newest.images.float().cpu(), newest.latents.float())


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute with ``count`` threads, None for as many as now: sums over another number end in other last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
