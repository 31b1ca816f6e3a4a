"""The schema of ``trainer``: Lightning's arguments that are checked here, and our own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from vqclip.config.kinds import Anything, Choice, Flag, Whole
from vqclip.config.nodes import Group, Key

__all__ = ["OURS", "TRAINER"]


@dataclass
class Duration:
    """A length of time, as Lightning's Trainer takes it."""

    allowed: str = "DD:HH:MM:SS, or {hours: 1, minutes: 30}"

    def check(self, value: Any) -> None:
        try:
            if isinstance(value, str) and re.fullmatch(r"\d+(:\d\d){3}", value):
                days, hours, minutes, seconds = map(int, value.split(":"))
                timedelta(days, hours=hours, minutes=minutes, seconds=seconds)  # raises if there are too many days
                return
            positive = isinstance(value, Mapping) and timedelta(**value) > timedelta(0)
        except (TypeError, ValueError, OverflowError):
            positive = False
        if not positive:
            raise ValueError


TRAINER = Group(
    "Device and precision.  Any argument of Lightning's Trainer that does not change the step can be added with +.",
    {
        "accelerator": Key(Choice(("auto", "cpu", "gpu", "cuda", "mps", "tpu")), "auto", "kind of device"),
        "devices": Key(Anything(), "1", "one per job; [2] is the third device"),
        "precision": Key(
            Choice(("32-true", "bf16-mixed", "32", 32, "bf16")),
            "32-true",
            "of the networks; bf16-mixed where the device has it",
        ),
        "max_time": Key(
            Duration(), "00:00:10:00", "the run stops early after this time", null="no limit", needed=False
        ),
        "log_every_n_steps": Key(Whole(1), "1", "steps between rows of metrics.csv", "steps", needed=False),
        "detect_anomaly": Key(Flag(), "true", "report the operation that produced a nan; slow", needed=False),
        "tf32": Key(Flag(), "true", "float32 matrix products on a GPU in TF32", null="torch's default", needed=False),
        "deterministic": Key(
            Choice((True, False, "warn")),
            "true",
            "on a GPU only what adds up in the same order every time; slower",
            null="torch's default",
            needed=False,
        ),
        "compile": Group(
            "torch.compile for the networks: costs a minute before the first step, gains on GPUs.",
            {
                "mode": Key(
                    Choice(("default", "reduce-overhead", "max-autotune")),
                    "reduce-overhead",
                    "reduce-overhead is CUDA graphs",
                    needed=False,
                )
            },
            others="torch.compile",
            null="not compiled",
            needed=False,
        ),
    },
    others="pytorch_lightning.Trainer",
)
#: Keys of ``trainer`` that are not Lightning's.
OURS = ("tf32", "compile")
