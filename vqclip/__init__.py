"""vqclip: text-to-image experiments by latent optimisation, driven by config.

>>> from vqclip import run
>>> result = run("a red apple", overrides=["seed=3"])
>>> result.images.shape, result.folder
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqclip.errors import UserError, explain_refusals
from vqclip.machine import set_up_openmp
from vqclip.paths import dated_folder
from vqclip.runs.signals import interrupts

if TYPE_CHECKING:
    from vqclip.runs.result import Result
    from vqclip.sweeps.python import Sweep

# Before anything imports torch, which reads the variables once.
set_up_openmp()
# Run operations that torch lacks on Apple's GPUs on the CPU, such as the gradient of grid_sample before 2026.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
# A container's user may have no home; W&B's import fails without one.
if os.path.expanduser("~") == "~":
    os.environ["HOME"] = "/"

__all__ = ["UserError", "__version__", "load", "run", "sweep"]


def __getattr__(name: str) -> str:
    # Looked up on access, since it takes a hundredth of a second.
    if name == "__version__":
        from importlib.metadata import version

        return version("vqclip")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@interrupts()
@explain_refusals()
def run(
    prompt: str | Sequence[str] | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    folder: str | Path | None = None,
    *,
    config_dir: str | Path | None = None,
    callbacks: Sequence[Any] = (),
    overwrite: bool = False,
    **keys: Any,
) -> Result:
    """Compose a config, run it and read the result, as the command line does.

    Args:
        prompt: what the picture should show, or several texts for several pictures; None for the default prompts.
        overrides: as on the command line, ``["steps=50", "loss.beta=1", "experiment=reference"]``, or as a mapping,
            ``{"loss.beta": 1, "size": [128, 192]}``.
        folder: where the run goes; default ``outputs/<date>/<time>``.
        config_dir: a folder of your own config groups, as ``--config-dir``.
        callbacks: Lightning callbacks, besides those of the config.
        overwrite: start over if the folder already holds a run.
        keys: more overrides, for keys without a dot: ``steps=50, seed=3, resume=folder``.

    Returns:
        The run, even if it stopped early or diverged: see ``status`` and ``reason``.

    Raises:
        UserError: a mistake in the config, before any model is loaded; or the folder already holds a run.
    """
    from vqclip.config.compose import compose
    from vqclip.runs.arguments import as_callbacks, as_folder, as_overrides
    from vqclip.runs.execute import execute
    from vqclip.runs.resume import resume, run_to_resume

    keys |= {} if overwrite is False else {"overwrite": overwrite}
    words, callbacks = as_overrides(prompt, overrides, keys), as_callbacks(callbacks)
    if found := run_to_resume(words, folder, config_dir):
        return resume(*found, callbacks=callbacks) or load(found[0])
    place = as_folder("folder", dated_folder("outputs") if folder is None else folder)
    directory = None if config_dir is None else str(as_folder("config_dir", config_dir, there=True))
    return execute(compose(words, directory, output_dir=str(place.absolute())), place, callbacks=callbacks)


@explain_refusals()
def load(folder: str | Path) -> Result:
    """Read a run that has ended.

    Raises:
        UserError: it is no run folder, is damaged, or its run is not finished.
    """
    from vqclip.runs.arguments import as_folder
    from vqclip.runs.result import Result

    return Result(as_folder("folder", folder))


@explain_refusals()
def sweep(
    prompt: str | Sequence[str] | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    folder: str | Path | None = None,
    *,
    config_dir: str | Path | None = None,
    **keys: Any,
) -> Sweep:
    """Run every combination of some values, as ``vqclip -m`` does, in a process of its own.

    Args:
        prompt, config_dir: as for ``run``.
        overrides: as for ``run``; ``"loss.beta=0,.5"``, ``{"loss.beta": "0,.5"}`` or ``{"loss.beta": [0, 0.5]}``
            are swept.  A list is several values, a tuple is one: ``{"size": [(64, 64), (64, 96)]}`` are two sizes,
            ``{"size": (64, 96)}`` is one.
        folder: where the jobs go; default ``multirun/<date>/<time>``.  One that holds an earlier sweep is completed.
        keys: more overrides, ``seed=[0, 1, 2]``.

    Returns:
        The runs, with the contact sheet, the page and the table, also where some jobs failed.

    Raises:
        UserError: a mistake, before any job began.
    """
    from vqclip.sweeps.python import run_sweep

    return run_sweep(prompt, overrides, folder, config_dir, keys)
