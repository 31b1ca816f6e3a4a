"""The statuses of a run: ``status`` in run.json, with a ``reason`` where it did not simply finish.

==============  ==========================================================  =====================  ==============
status          meaning                                                     ``resume=RUN``         exit status
==============  ==========================================================  =====================  ==============
running         still running, or killed without warning                    continues              –
finished        every step done                                             only to more steps     0
stopped early   a callback or limit of Lightning's ended it, as asked       continues              0
diverged        the loss or the latent is NaN or infinite                   refused: the same      1
                                                                            steps end the same way
failed          an error; the traceback is in vqclip.log                    continues              1
interrupted     Ctrl-C, SIGTERM or SIGHUP                                   continues              130, 143, 129
==============  ==========================================================  =====================  ==============

The recorder raises :class:`vqclip.errors.Diverged` in the step at fault, and sets ``stopped_early`` to the reason if
Lightning ends the run before its last step.
"""

from __future__ import annotations

import sys

from vqclip.errors import UserError

__all__ = [
    "DIVERGED",
    "FAILED",
    "FINISHED",
    "INTERRUPTED",
    "RUNNING",
    "STOPPED_EARLY",
    "WITH_PICTURES",
    "RunError",
    "is_pruned",
]

RUNNING = "running"
FINISHED = "finished"
STOPPED_EARLY = "stopped early"
DIVERGED = "diverged"
FAILED = "failed"
INTERRUPTED = "interrupted"

#: Statuses with pictures and scores, which can be compared, judged and interpolated.
WITH_PICTURES = (FINISHED, STOPPED_EARLY)


class RunError(UserError):
    """A run that started and could not go on, for a reason outside of vqclip."""

    exit_status = 1


def is_pruned(error: Exception) -> bool:
    """Whether Optuna's callback pruned the run."""
    optuna = sys.modules.get("optuna")
    return optuna is not None and isinstance(error, optuna.TrialPruned)
