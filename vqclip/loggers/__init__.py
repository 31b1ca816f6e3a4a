"""Loggers: views of the run folder elsewhere, one module a logger, as in ``conf/logger``."""

from vqclip.loggers.base import Media, RunView, close, log_begin, log_result, log_step
from vqclip.loggers.mlflow import mlflow_logger
from vqclip.loggers.wandb import wandb_logger

__all__ = ["Media", "RunView", "close", "log_begin", "log_result", "log_step", "mlflow_logger", "wandb_logger"]
