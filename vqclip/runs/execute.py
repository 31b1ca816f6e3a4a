"""The engine: one run, from a config to a folder of pictures."""

from __future__ import annotations

import base64
import html
import json
import logging
import platform
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path

import pytorch_lightning as pl
import torch
import yaml
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger, MLFlowLogger, WandbLogger
from torch import Tensor

from vqclip.config.check import check
from vqclip.config.instantiate import instantiate
from vqclip.config.resolve import identity, picture_config, resolved
from vqclip.io.files import atomic_write, write_json
from vqclip.loggers import close, log_begin, log_result
from vqclip.prompts import parse
from vqclip.runs.build import build
from vqclip.runs.evaluate import judge_pictures
from vqclip.runs.folder import command, lock_folder, picture_folder, read_checkpoint, rollback
from vqclip.runs.provenance import VERSIONED, inputs, own_weights, same_inputs, weight_hashes
from vqclip.runs.recorder import Recorder
from vqclip.runs.signals import Signals
from vqclip.runs.status import DIVERGED, FAILED, FINISHED, INTERRUPTED, STOPPED_EARLY, Diverged
from vqclip.runs.trainer import make_trainer

__all__ = ["Result", "execute"]


@dataclass(frozen=True)
class Result:
    """A finished run."""

    folder: Path
    images: Tensor  #: final pictures [P,3,H,W] in [0,1], prompt by prompt, seed by seed
    latents: Tensor  #: their latents [P,C,h,w]
    scores: list[dict]  #: of each picture, see run.json

    @property
    def score(self) -> float:
        """Mean of the best scores, the objective of a search."""
        return sum(own["best"]["score"] for own in self.scores) / len(self.scores)

    @property
    def pictures(self) -> list[Path]:
        """The best snapshot of each picture, as files."""
        return [picture_folder(self.folder, i) / "best.png" for i in range(len(self.scores))]

    def _repr_html_(self) -> str:
        """The best pictures with their scores, where a notebook shows the result."""
        shown = []
        for path, own in zip(self.pictures, self.scores, strict=True):
            data = base64.b64encode(path.read_bytes()).decode()
            words = html.escape(f"{own['prompt']}  {own['best']['score']:.3f}")
            shown.append(f'<img alt="{words}" title="{words}" src="data:image/png;base64,{data}">')
        return " ".join(shown)


def execute(cfg: DictConfig, folder: Path, resume: bool = False) -> Result:
    """Run ``cfg`` and write everything into ``folder``.

    Args:
        resume: go on from the folder's last checkpoint, where it has one.

    Raises:
        UserError: the config has mistakes; all are named, and no model was loaded.
        Stopped: a signal ended the run.  What it has done is on disk.
    """
    config = resolved(cfg)
    check(config)
    _quiet()
    with Signals() as signals, lock_folder(folder):
        return _execute(cfg, config, folder, signals, resume)


def _execute(cfg: DictConfig, config: dict, folder: Path, signals: Signals, resume: bool) -> Result:
    checkpoint = read_checkpoint(folder) if resume else None
    past = json.loads((folder / "run.json").read_text()) if checkpoint else {}
    if past:
        torch.set_num_threads(past["machine"]["threads"])
    else:
        rollback(folder)
    include = config["prompts"]["include"]
    include = include if isinstance(include, list) else [include]
    prompts = [own for own in include for _ in range(config["batch_size"])]
    seeds = [config["seed"] + i for _ in include for i in range(config["batch_size"])]
    report = {
        "status": "running",
        "identity": identity(config),
        "started": past.get("started", datetime.now().astimezone().isoformat(timespec="seconds")),
        "resumed": past.get("resumed", []) + ([checkpoint["global_step"]] if checkpoint else []),
        "seed": config["seed"],
        "steps": 0,
        "pictures": [{"prompt": parse(own).label, "seed": s} for own, s in zip(prompts, seeds, strict=True)],
        "versions": {name: metadata.version(name) for name in VERSIONED} | {"python": platform.python_version()},
        # Sums over another number of threads, or by other instructions, end in other last digits.
        "machine": {"threads": torch.get_num_threads(), "instructions": torch.backends.cpu.get_cpu_capability()},
    }
    if not checkpoint:
        # Before the config that names the files: a resumed record reads only files whose hashes it has.
        write_json(folder / "run.json", report | {"weights": own_weights(config), "inputs": inputs(config)})
    atomic_write(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())
    began = time.perf_counter() - past.get("seconds", 0)
    with _outcome(folder, report, began), _loggers(cfg, config, past) as loggers:
        module = build(cfg, prompts, seeds)
        report["weights"] = weight_hashes(module, config)
        report["inputs"] = inputs(config)
        if checkpoint:
            same_inputs(folder, past, report)
        recorder = _recorder(folder, config, report, signals)  # its records share report's parts, the device to come
        callbacks = [instantiate(callback, _convert_="all") for callback in (cfg.callbacks or {}).values() if callback]
        trainer = make_trainer(config, folder, [recorder, *callbacks], loggers)
        device = trainer.strategy.root_device
        report["device"] = str(device)
        report["machine"]["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        report["wandb"] = next((logger.version for logger in loggers if isinstance(logger, WandbLogger)), None)
        report["mlflow"] = next((logger.version for logger in loggers if isinstance(logger, MLFlowLogger)), None)
        write_json(folder / "run.json", report)
        for logger in loggers:
            log_begin(logger, report)
        module.place(device)
        ckpt = {"ckpt_path": folder / "last.ckpt", "weights_only": True} if checkpoint else {}
        try:
            trainer.fit(module, range(module.steps), range(1), **ckpt)
        except Diverged:
            _take_stock(report, trainer, recorder)
            raise
        if checkpoint and checkpoint["global_step"] == module.steps:
            # Stopped after the last step: Lightning found nothing to train and called nobody.
            for callback in trainer.callbacks:
                callback.on_train_end(trainer, module)
        _take_stock(report, trainer, recorder)
        if trainer.global_step < module.steps:
            report["reason"] = getattr(recorder, "stopped_early", None) or "Lightning ended the run"
        files = [picture_folder(folder, i) / "best.png" for i in range(len(prompts))]
        texts = [parse(entry).text for entry in prompts]
        for own, score in zip(report["pictures"], judge_pictures(files, texts), strict=True):
            own |= {} if score is None else {"judge": score}
        report["seconds"] = round(time.perf_counter() - began, 3)
        for logger in loggers:
            log_result(logger, folder, report)
    module.place(device)  # Lightning took the latent back to the CPU
    images = module.decode().float().cpu()
    return Result(folder, images, module.latent.detach().float().cpu(), report["pictures"])


def _take_stock(report: dict, trainer: pl.Trainer, recorder: Recorder) -> None:
    """What the run has come to, into its report."""
    report["steps"] = trainer.global_step
    for own, best, final in zip(report["pictures"], recorder.best, recorder.last, strict=True):
        own |= {"best": best, "final": final}
    report["sha256"] = dict(sorted(recorder.digests.items()))


def _recorder(folder: Path, config: Mapping, report: Mapping, signals: Signals) -> Recorder:
    record = {
        "version": metadata.version("vqclip"),
        "config": picture_config(config),
        "made_with": {key: report[key] for key in ("versions", "machine", "weights", "inputs")},
    }
    records = [
        {**record, "prompt": own["prompt"], "seed": own["seed"], "picture": i}
        for i, own in enumerate(report["pictures"])
    ]
    every = config["trainer"].get("log_every_n_steps", 1)
    return Recorder(folder, records, config["snapshot_every"], every, signals)


@contextmanager
def _outcome(folder: Path, report: dict, began: float) -> Iterator[None]:
    """Keep ``run.json`` true, however the run ends."""
    try:
        yield
        report["status"] = STOPPED_EARLY if "reason" in report else FINISHED
    except Diverged as error:
        report |= {"status": DIVERGED, "reason": error.reason}
        raise
    except (KeyboardInterrupt, SystemExit):
        report["status"] = INTERRUPTED
        print(f"stopped. To go on: {command(folder)}", file=sys.stderr)
        raise
    except BaseException as error:
        report |= {"status": FAILED, "error": f"{type(error).__name__}: {error}"}
        with open(folder / "vqclip.log", "a") as file:
            traceback.print_exc(file=file)
        raise
    finally:
        report["seconds"] = round(time.perf_counter() - began, 3)
        write_json(folder / "run.json", report)


#: Loggers that take the whole config when they start, and go on in the run they had: name → key in run.json.
_WITH_CONFIG = ("wandb", "mlflow")


@contextmanager
def _loggers(cfg: DictConfig, config: Mapping, past: Mapping) -> Iterator[list[Logger]]:
    """The loggers of a run.  W&B's run ends with it, marked failed where it failed: the next job gets its own.

    Args:
        past: ``run.json`` of the run that is resumed, else empty.
    """
    loggers: list[Logger] = []
    error: BaseException | None = None
    try:
        for name, logger in (cfg.logger or {}).items():
            if logger:
                make = instantiate(logger, _convert_="all", _partial_=True)
                own_id = {"id": past[name]} if past.get(name) else {}
                loggers.append(make(config=dict(config), **own_id) if name in _WITH_CONFIG else make())
        yield loggers
    except BaseException as raised:
        error = raised
        raise
    finally:
        for logger in loggers:
            close(logger, error)


def _quiet() -> None:
    """No advice from the libraries that does not concern a user of ours."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for words in ("does not have many workers", "GPU available but not used", "treespec", "before the epoch ended"):
        warnings.filterwarnings("ignore", f".*{words}.*")
