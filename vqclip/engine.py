"""The engine: one run, from a config to a folder of pictures."""

from __future__ import annotations

import json
import logging
import platform
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import yaml
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger, WandbLogger
from torch import Tensor

from vqclip.callbacks import Recorder, picture_folder
from vqclip.checkpoints import load_generator, load_perceptor, load_prior
from vqclip.config import check, identity, picture_config, resolved
from vqclip.files import write_json, write_whole
from vqclip.init import Start, fit, read_image
from vqclip.loggers import log_result
from vqclip.loss import Targets, combine_texts
from vqclip.module import Eye, LatentOptimisation
from vqclip.perceptors import CLIPPerceptor
from vqclip.prompts import Prompt, entries, parse
from vqclip.resume import Signals, command, cut_back, inputs, locked, read_checkpoint, same_inputs
from vqclip.rng import Draws
from vqclip.schedules import schedule

__all__ = ["Result", "execute"]

#: Packages whose version may change a picture.
VERSIONED = ("vqclip", "torch", "torchvision", "openai-clip", "taming-transformers", "pytorch-lightning")


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
    with Signals() as signals, locked(folder):
        return _execute(cfg, config, folder, signals, resume)


def _execute(cfg: DictConfig, config: dict, folder: Path, signals: Signals, resume: bool) -> Result:
    checkpoint = read_checkpoint(folder) if resume else None
    past = json.loads((folder / "run.json").read_text()) if checkpoint else {}
    if past:
        torch.set_num_threads(past["machine"]["threads"])
    else:
        cut_back(folder)
    write_whole(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())

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
        write_json(folder / "run.json", report)
    began = time.perf_counter() - past.get("seconds", 0)
    with _outcome(folder, report, began), _loggers(cfg, config, past.get("wandb")) as loggers:
        module = build(cfg, prompts, seeds)
        report["weights"] = _weights(module, config)
        report["inputs"] = inputs(config)
        if checkpoint:
            same_inputs(folder, past, report)
        recorder = _recorder(folder, config, report, signals)  # its records share report's parts, the device to come
        trainer = _trainer(cfg, config, folder, recorder, loggers)
        device = trainer.strategy.root_device
        report["device"] = str(device)
        report["machine"]["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        report["wandb"] = next((logger.version for logger in loggers if isinstance(logger, WandbLogger)), None)
        write_json(folder / "run.json", report)
        module.place(device)
        ckpt = {"ckpt_path": folder / "last.ckpt", "weights_only": True} if checkpoint else {}
        trainer.fit(module, train_dataloaders=range(module.steps), **ckpt)
        if checkpoint and checkpoint["global_step"] == module.steps:
            # Stopped after the last step: Lightning found nothing to train and called nobody.
            for callback in trainer.callbacks:
                callback.on_train_end(trainer, module)
        report["steps"] = trainer.global_step
        for own, best, final in zip(report["pictures"], recorder.best, recorder.last, strict=True):
            own |= {"best": best, "final": final}
        report["sha256"] = dict(sorted(recorder.digests.items()))
        report["seconds"] = round(time.perf_counter() - began, 3)
        for logger in loggers:
            log_result(logger, folder, report)
    module.place(device)  # Lightning took the latent back to the CPU
    images = module.decode().float().cpu()
    return Result(folder, images, module.latent.detach().float().cpu(), report["pictures"])


def build(cfg: DictConfig, prompts: Sequence[str | Mapping], seeds: Sequence[int]) -> LatentOptimisation:
    """The module of a checked config: models loaded, prompts encoded, latents at their start.

    Args:
        prompts, seeds: the include entry and the seed of each picture.
    """
    # The jobs of a process share the networks.  Texts and starts are computed on the CPU and channels-last, however the
    # last job left them: the first picture of a process is the same bytes as it would be as its tenth.
    at_start = {"device": "cpu", "memory_format": torch.channels_last}
    generator = load_generator(cfg.checkpoints.generator).to(**at_start)
    height, width = cfg.size
    shape = generator.latent_shape(height, width)
    made = (shape[1] * generator.factor, shape[2] * generator.factor)
    if made != (height, width):
        print(
            f"size: {height}×{width} asked for, {made[0]}×{made[1]} made: "
            f"sides are whole codes of {generator.factor} pixels"
        )

    include, extras, exclude = (
        entries(value) for value in (list(prompts), *(resolved(cfg)["prompts"][key] for key in ("extras", "exclude")))
    )
    eyes = {}
    total = sum(card.get("weight", 1) for card in cfg.checkpoints.perceptors.values())
    with torch.no_grad():
        for name, card in cfg.checkpoints.perceptors.items():
            perceptor = load_perceptor(name, card).to(**at_start)
            towards = combine_texts(
                _vectors(perceptor, include),
                _vectors(perceptor, extras).sum(0) if extras else None,
                cfg.prompts.include_weight,
                cfg.prompts.extras_weight,
            )
            away = _vectors(perceptor, exclude).sum(0).expand_as(towards) if exclude else None
            targets = Targets(towards, away)
            eyes[name] = Eye(perceptor, card.get("weight", 1) / total, targets)

        prior = cfg.checkpoints.get("prior")
        start = Start(
            generator=generator,
            shape=shape,
            texts=[", ".join(p.text for p in [own, *extras] if p.text and p.weight > 0) for own in include],
            rng=Draws(seeds, 0),
            prior=prior.path if prior else None,
        )
        init = instantiate(cfg.init)
        z0 = init(start)
        keep = init.keep(start) if hasattr(init, "keep") else None

    optimizer = OmegaConf.to_container(cfg.optimizer, resolve=True)
    lr = schedule(optimizer.pop("lr"))
    generator.checkpointed = cfg.memory.checkpoint_decoder
    return LatentOptimisation(
        generator=generator,
        eyes=eyes,
        z0=z0,
        keep=keep,
        seeds=seeds,
        steps=cfg.steps,
        latent_kind=instantiate(cfg.latent),
        augmentations=instantiate(cfg.augmentations, _convert_="all"),
        noise=instantiate(cfg.noise, _convert_="all"),
        objective=instantiate(cfg.loss, _convert_="all"),
        optimizer=instantiate({**optimizer, "lr": lr.start, "_partial_": True}, _convert_="all"),
        lr=lr,
        picture_chunk=cfg.memory.picture_chunk,
        crop_chunk=cfg.memory.crop_chunk,
    )


def _vectors(perceptor: CLIPPerceptor, prompts: Sequence[Prompt]) -> Tensor:
    """Vectors [n,D] of the prompts, times their weights.

    Pictures' vectors take the length of the empty text's, so that a weight means the same for texts and pictures.
    """
    texts = [prompt.text for prompt in prompts if prompt.text]
    encoded = iter(perceptor.encode_text(texts) if texts else ())
    vectors = []
    for prompt in prompts:
        if prompt.text:
            vector = next(encoded)
        else:
            image = fit(read_image(prompt.image), perceptor.input_size, perceptor.input_size)
            vector = F.normalize(perceptor.encode_image(image.to(perceptor.mean))[0], dim=-1)
            vector = vector * perceptor.encode_text([""])[0].norm()
        vectors.append(prompt.weight * vector)
    return torch.stack(vectors)


def _weights(module: LatentOptimisation, config: Mapping) -> dict[str, str]:
    """sha256 of every weight file that had a say in the pictures."""
    weights = {"generator": module.generator.sha256}
    weights |= {name: eye.perceptor.sha256 for name, eye in module.eyes.items()}
    if config["init"]["_target_"] == "vqclip.init.Prior" and config["checkpoints"].get("prior"):
        weights["prior"] = load_prior(config["checkpoints"]["prior"]["path"]).sha256
    return weights


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


def _trainer(cfg: DictConfig, config: Mapping, folder: Path, recorder: Recorder, loggers: list[Logger]) -> pl.Trainer:
    callbacks = [instantiate(callback, _convert_="all") for callback in (cfg.callbacks or {}).values() if callback]
    return pl.Trainer(
        **config["trainer"],
        default_root_dir=str(folder),
        max_steps=config["steps"],
        max_epochs=-1,
        logger=loggers or False,
        callbacks=[recorder, *callbacks],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@contextmanager
def _outcome(folder: Path, report: dict, began: float) -> Iterator[None]:
    """Keep ``run.json`` true, however the run ends."""
    try:
        yield
        report["status"] = "finished"
    except (KeyboardInterrupt, SystemExit):
        report["status"] = "interrupted"
        print(f"stopped. To go on: {command(folder)}", file=sys.stderr)
        raise
    except BaseException as error:
        report |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        with open(folder / "vqclip.log", "a") as file:
            traceback.print_exc(file=file)
        raise
    finally:
        report["seconds"] = round(time.perf_counter() - began, 3)
        write_json(folder / "run.json", report)


@contextmanager
def _loggers(cfg: DictConfig, config: Mapping, wandb_id: str | None) -> Iterator[list[Logger]]:
    """The loggers of a run.  W&B's run ends with it, marked failed where it failed: the next job gets its own."""
    loggers: list[Logger] = []
    code = 1
    try:
        for name, logger in (cfg.logger or {}).items():
            if logger:
                make = instantiate(logger, _convert_="all", _partial_=True)
                # W&B takes the config when it starts; what is sent later gets lost offline.
                own_id = {"id": wandb_id} if wandb_id else {}
                loggers.append(make(config=dict(config), **own_id) if name == "wandb" else make())
        yield loggers
        code = 0
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish(exit_code=code)


def _quiet() -> None:
    """No advice from the libraries that does not concern a user of ours."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for words in ("does not have many workers", "GPU available but not used", "treespec", "before the epoch ended"):
        warnings.filterwarnings("ignore", f".*{words}.*")
