"""Loggers: views of the run folder elsewhere."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from vqclip.config.grammar import job_name
from vqclip.config.resolve import picture_config
from vqclip.errors import UserError
from vqclip.io.wandb_server import has_key, is_reachable, wandb_mode

__all__ = ["log_result", "log_step", "wandb_logger"]

#: Seconds that W&B's server may take to begin a run, and to take the rest of its data when it ends.
PATIENCE = 10


def log_step(logger: Logger, step: int, numbers: dict, images: Sequence[Tensor], crops: Sequence[Tensor]) -> None:
    """Numbers and pictures of one step to one logger, in one call where it can take both.

    Args:
        images: pictures [3,H,W] in [0,1], or none.
        crops: a crop [3,S,S] of each, as the perceptor sees it.
    """
    media = {f"{kind}/{i:02d}": x for kind, xs in (("picture", images), ("crop", crops)) for i, x in enumerate(xs)}
    if isinstance(logger, WandbLogger):
        import wandb

        shown = {name: wandb.Image((x * 255).round().byte().movedim(0, -1).cpu().numpy()) for name, x in media.items()}
        logger.experiment.log({**numbers, **shown, "step": step}, step=step)
        return
    logger.log_metrics(numbers, step)
    if isinstance(logger, TensorBoardLogger):
        for name, x in media.items():
            logger.experiment.add_image(name, x, step)


def log_result(logger: Logger, folder: Path, report: Mapping[str, Any]) -> None:
    """What a finished run came to, from its folder: table, videos, summary, latents.  Only W&B has a place for it.

    Args:
        report: ``run.json`` as it will be.
    """
    if not isinstance(logger, WandbLogger):
        return
    import wandb

    run, pictures = logger.experiment, report["pictures"]
    config = run.config.as_dict()
    swept = (config.get("sweep") or {}).get("swept", {})
    scores = list(pictures[0]["best"])
    table = wandb.Table(["picture", "prompt", "seed", "settings", *swept, *scores, "seconds"])
    shown = {"result": table}
    for i, own in enumerate(pictures):
        place = folder / f"picture-{i:02d}"
        best = wandb.Image(str(place / "best.png"), caption=own["prompt"])
        settings = json.dumps(picture_config(config), ensure_ascii=False)
        table.add_data(
            best, own["prompt"], own["seed"], settings, *swept.values(), *own["best"].values(), report["seconds"]
        )
        shown[f"best/{i:02d}"] = best
        if (video := place / "timelapse.mp4").is_file():
            shown[f"timelapse/{i:02d}"] = wandb.Video(str(video))
    if (video := folder / "interpolation.mp4").is_file():
        shown["interpolation"] = wandb.Video(str(video))
    run.log({**shown, "step": report["steps"]}, step=report["steps"])
    for kind in ("best", "final"):
        for name in scores:
            run.summary[f"{kind}/{name}"] = sum(own[kind][name] for own in pictures) / len(pictures)
    artifact = wandb.Artifact(f"latents-{run.id}", "latents", metadata={"pictures": pictures})
    # Immutable: W&B reads the run folder's own files when it uploads, and keeps no copy of them.
    artifact.add_file(str(folder / "config.yaml"), policy="immutable")
    for i in range(len(pictures)):
        name = f"picture-{i:02d}/latents.safetensors"
        artifact.add_file(str(folder / name), name, policy="immutable")
    run.log_artifact(artifact)


def wandb_logger(save_dir: str, config: dict, mode: str | None, **kwargs) -> WandbLogger:
    """Lightning's logger around a W&B run of its own, with the whole config at its start, and no question asked.

    Where the server does not answer within a second (``vqclip.reach``), the run goes offline.  One that stops answering
    while the run goes on costs :data:`PATIENCE` at its end.

    Args:
        save_dir: the run folder.
        config: the resolved config.
        mode: online, offline or disabled; None is online where a key is known (``WANDB_API_KEY`` or ``wandb
            login``), else offline.
        kwargs: go to ``wandb.init`` (project, entity, name, group, tags, job_type, …).  In a sweep, the group is the
            sweep and the name is made of the swept keys, where they are None.

    Raises:
        UserError: online, without a key.
    """
    import wandb

    sweep = config.get("sweep")
    told = {"job_type": "run"}
    if sweep:
        told = {"job_type": "sweep", "group": sweep["group"], "name": job_name(sweep["swept"])}
    told |= {key: value for key, value in kwargs.items() if value is not None}
    known = wandb.setup().settings
    mode = wandb_mode(mode, known)
    if mode == "online" and not has_key(known):
        raise UserError(
            "logger.wandb.mode=online: no API key is known. Allowed: after `wandb login` or with WANDB_API_KEY set. "
            "Try: logger.wandb.mode=offline"
        )
    if mode == "online" and not is_reachable(known.base_url):
        mode = _went_offline(f"{known.base_url} does not answer")
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    begin = partial(
        wandb.init,
        dir=save_dir,
        config=config,
        resume="allow" if kwargs.get("id") else None,
        reinit="create_new",  # never into another run of this process
        settings=wandb.Settings(silent=True, console="off", init_timeout=PATIENCE, finish_timeout=PATIENCE),
        **told,
    )
    try:
        run = begin(mode=mode)
    except wandb.errors.Error as error:
        mode = _went_offline(str(error).splitlines()[0])
        run = begin(mode=mode)
    run.define_metric("*", step_metric="step")
    if mode == "offline":
        folder = Path(run.dir).parent
        print(f"W&B offline. Look: wandb leet {folder}   Upload: wandb sync {folder}")
    return WandbLogger(experiment=run, save_dir=save_dir, project=told.get("project"), name=run.name)


def _went_offline(reason: str) -> str:
    # Else W&B's telemetry, which goes to the same server, holds the process up for ten seconds at its end.
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    print(f"W&B: {reason}; this run goes on offline", file=sys.stderr)
    return "offline"
