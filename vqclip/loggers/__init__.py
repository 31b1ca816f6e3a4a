"""Loggers, which show the run folder elsewhere; one module per logger, as in ``conf/logger``."""

from vqclip.loggers.mlflow import mlflow_logger
from vqclip.loggers.wandb import wandb_logger

__all__ = ["mlflow_logger", "wandb_logger"]
