"""vqclip: text-to-image experiments by latent optimisation, driven by config.

>>> from vqclip import run
>>> result = run("a red apple", overrides=["seed=3"])
>>> result.images.shape, result.folder
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vqclip.errors import UserError
from vqclip.imports import put_off
from vqclip.threads import set_up_openmp

if TYPE_CHECKING:
    from vqclip.runs.execute import Result

set_up_openmp()  # before anything imports torch
put_off()

__all__ = ["UserError", "__version__", "run"]


def __getattr__(name: str) -> str:
    # Asked for when read: looking a version up takes a hundredth of a second that `import vqclip` need not pay.
    if name == "__version__":
        from importlib.metadata import version

        return version("vqclip")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def run(
    prompt: str | Sequence[str] | None = None, overrides: Sequence[str] = (), folder: str | Path | None = None
) -> Result | None:
    """Compose a config, run it and read the result, as the command line does.

    Args:
        prompt: what the picture should show, or several texts for several pictures; None for the default prompts.
        overrides: as on the command line: ``["steps=50", "loss.beta=1", "experiment=reference"]``.
        folder: where the run goes; default ``outputs/<date>/<time>``.

    Returns:
        The finished run; None where ``resume=`` named one that has nothing left to do.

    Raises:
        UserError: a mistake in the config, before any model is loaded.
    """
    from datetime import datetime

    from vqclip.config.compose import compose
    from vqclip.config.grammar import quote
    from vqclip.runs.execute import execute
    from vqclip.runs.resume import asked, resume

    if found := asked(overrides):
        return resume(*found)
    folder = Path(folder or datetime.now().strftime("outputs/%Y-%m-%d/%H-%M-%S-%f"))
    texts = [prompt] if isinstance(prompt, str) else list(prompt or [])
    include = [f"prompts.include=[{','.join(map(quote, texts))}]"] if texts else []
    return execute(compose([*overrides, *include], output_dir=str(folder)), folder)
