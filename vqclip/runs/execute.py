"""Executes a run: from a config to a folder of pictures."""

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
from vqclip.config.resolve import picture_config, resolve, without_secrets
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
from vqclip.runs.trainer import (
    accelerated,
    callbacks_of,
    explain_nondeterminism,
    make_trainer,
    rank_zero,
    torch_defaults,
)

__all__ = ["execute", "threads"]

#: Held by a thread during a run, since torch's settings and the shared networks belong to the process.
_LOCK = threading.RLock()


@dataclass(frozen=True)
class Past:
    """The report and last checkpoint of a run that is resumed."""

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
    """Run a config and write everything into ``folder``.  Threads of a process run one after another.

    Args:
        resume: continue from the folder's last checkpoint, if it has one.
        callbacks: in addition to those of the config.
        record_format: of the records in the PNGs.

    Returns:
        The run, even if it stopped early or diverged.

    Raises:
        UserError: the config has mistakes (all are named, and no model was loaded); or the folder is in use, holds a
            run that must not be overwritten, or cannot be written.
        Stopped: a signal ended the run.  Its state is on disk.
        optuna.TrialPruned: Optuna's callback stopped the run early, for the study to handle.
    """
    config = resolve(cfg) if isinstance(cfg, DictConfig) else dict(cfg)
    recorded = without_secrets(cfg, config) if isinstance(cfg, DictConfig) else config
    plan = RunPlan.of(config, callbacks, record_format, recorded)
    run = RunFolder(folder)
    with _LOCK, quiet_lightning(), rank_zero(), torch_defaults(), Signals() as signals, clean_up(run, plan), run.open():
        past, module = _past(run) if resume else None, None
        if past is None:
            if not resume:  # resume has checked that the folder is this run's
                refuse_overwrite(run, bool(config.get("overwrite")))
            if run.pictures():  # replaced only once the new run can start
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
        suppress(Diverged),  # also a result, which loggers get
        open_loggers(plan.config, plan.recorded, before) as loggers,
    ):
        module = module or build(plan)
        trainer = make_trainer(plan.config, run.path, _callbacks(plan), list(loggers.values()))
        provenance = Provenance.of(module, plan.config, trainer.strategy.root_device)
        if past:
            _require_fit(run, past, plan, module, provenance)
        log_every = plan.config["trainer"].get("log_every_n_steps", 1)
        recorder = Recorder(run, _records(plan, provenance), plan.config["snapshot_every"], log_every, signals)
        callbacks_of(trainer).insert(0, recorder)  # first, so that others find its files
        callbacks_of(trainer).append(recorder.checkpointer)
        _begin(report, plan.config, provenance, trainer, loggers)
        with (
            _kept_outcome(report, recorder, trainer),
            explain_nondeterminism(),
            accelerated(module.networks, plan.config["trainer"]),
        ):
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
        # A prompt's picture may have moved: its content is compared by sha256, not its path.
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
    """The records in the PNGs of each picture."""
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
    """Write everything known before the first step to disk and to the loggers."""
    ids = {name: one.version for name, one in loggers.items() if isinstance(one, WandbLogger | MLFlowLogger)}
    known = report.content  # of a resumed run, from before
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
    """Train until the last step, a callback's stop, or divergence."""
    module.to_device(trainer.strategy.root_device)
    recorder = Recorder.of(trainer)
    resumed = {"ckpt_path": run.checkpoint_file, "weights_only": True} if past else {}
    # Tensors, since Lightning asks for a batch's size when a callback logs epoch means.
    trainer.fit(module, torch.arange(module.steps), torch.arange(1), **resumed)
    if not recorder.began:
        # No steps left, or stopped before the first one: Lightning has called no callbacks.
        module.to_device(trainer.strategy.root_device)  # as after a fit
        for callback in callbacks_of(trainer):
            callback.on_train_start(trainer, module)  # Lightning's progress bars fail without it
        for callback in callbacks_of(trainer):
            callback.on_train_end(trainer, module)


@contextmanager
def _kept_outcome(report: Report, recorder: Recorder, trainer: pl.Trainer) -> Iterator[None]:
    """Write the outcome of the steps into the report, whatever it is."""
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
        with suppress(OSError):  # disk full; single latent files can be read and resumed too
            taken.join_latents()


def _judged(plan: RunPlan, run: RunFolder, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The report's pictures with the judge's score of each best snapshot, unless the judge guided the run."""
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
        return Result(run.path, content)  # reads files on access
    return Result(run.path, content, newest.images.float().cpu(), newest.latents.float())


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute with ``count`` threads (None: unchanged), since the last digits of sums depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
