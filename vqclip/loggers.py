"""Loggers: views of the run folder elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

__all__ = ["log_step", "wandb_logger"]


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
        logger.experiment.log({**numbers, **shown, "step": step})
        return
    logger.log_metrics(numbers, step)
    if isinstance(logger, TensorBoardLogger):
        for name, x in media.items():
            logger.experiment.add_image(name, x, step)


def wandb_logger(save_dir: str, config: dict, mode: str | None, **kwargs) -> WandbLogger:
    """Lightning's WandbLogger with the whole config at its start, and no question asked.

    Args:
        save_dir: the run folder.
        config: the resolved config.
        mode: online, offline or disabled; None is online where a key is known (``WANDB_API_KEY`` or ``wandb
            login``), else offline.
        kwargs: go to ``wandb.init`` (project, entity, name, group, tags, job_type, …).
    """
    import wandb

    if mode is None:
        mode = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")
    settings = wandb.Settings(silent=True, console="off")
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    logger = WandbLogger(save_dir=save_dir, config=config, mode=mode, settings=settings, **kwargs)
    logger.experiment.define_metric("*", step_metric="step")
    if mode == "offline":
        print(
            f"W&B offline: look with `wandb leet {logger.experiment.dir.rsplit(os.sep, 1)[0]}`, "
            f"upload with `wandb sync` on the same folder"
        )
    return logger
