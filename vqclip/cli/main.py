"""The command line: prompts and Hydra overrides, or one of the tools.

Bare words are include prompts.  Everything Hydra knows (overrides, ``-m``, ``--cfg``, ``--help``, completion) is
passed on to it as it stands.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from vqclip.config.check import check
from vqclip.config.grammar import quote
from vqclip.config.resolve import resolved
from vqclip.errors import UserError, closest
from vqclip.paths import conf_dir

__all__ = ["main", "split"]

#: Tools: name → module with ``main(argv) -> exit status``.
TOOLS = {
    "models": "vqclip.cli.models",
    "evaluate": "vqclip.cli.evaluate",
    "compare": "vqclip.cli.compare",
    "dashboard": "vqclip.cli.dashboard",
    "interpolate": "vqclip.cli.interpolate",
    "rerun": "vqclip.cli.rerun",
    "show": "vqclip.cli.show",
    "completion": "vqclip.cli.completion",
}


_OVERRIDE = re.compile(r"[~+]{0,2}(?P<key>[a-z_][\w.@/]*)(=|$)")


#: Hydra's flags that take a word after them.
_FLAGS_WITH_VALUE = (
    "--cfg",
    "-c",
    "--package",
    "-p",
    "--config-dir",
    "-cd",
    "--config-name",
    "-cn",
    "--config-path",
    "-cp",
    "--info",
    "-i",
    "--shell-completion",
    "-sc",
    "--experimental-rerun",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``vqclip``.  Exits with 2 on a user's mistake, 1 where a job failed."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if argv and argv[0] in TOOLS:
            sys.exit(importlib.import_module(TOOLS[argv[0]]).main(argv[1:]))
        words = split(argv)
        if run := _asked_to_resume(words):
            sys.exit(_resume(*run))
        _hydra(words)
    except UserError as error:
        print(f"vqclip: {error}", file=sys.stderr)
        sys.exit(2)


def split(argv: Sequence[str]) -> list[str]:
    """Arguments as typed → arguments for Hydra, the prompts among them as one override."""
    prompts, rest = [], []
    words = iter(argv)
    for word in words:
        if word == "--":
            prompts += words
        elif word == "--offline":
            os.environ["VQCLIP_OFFLINE"] = "1"
        elif word.startswith("-") and len(word) > 1 and not word[1].isspace() and not word[1].isdigit():
            rest.append(word)
            if word in _FLAGS_WITH_VALUE:
                rest += [value for value in [next(words, None)] if value is not None]
        elif _is_override(word):
            rest.append(word)
        else:
            prompts.append(word)
    blank = [word for word in prompts if not word.strip()]
    if blank:
        raise UserError(
            'prompts.include: an empty prompt. Allowed: any text that is not blank. Try: vqclip "a red apple"'
        )
    if prompts:
        rest.append(f"prompts.include=[{','.join(map(quote, prompts))}]")
    return rest


def _is_override(word: str) -> bool:
    """Whether an argument is meant for Hydra rather than a prompt."""
    match = _OVERRIDE.match(word)
    if not match:
        return False
    key = match["key"]
    if match[2] != "=":
        return word.startswith("~")  # a deletion; a word alone is a prompt
    first = re.split(r"[./@]", key)[0]
    if first in _top_level() or first != key:
        return True
    # "colour=red apples" is a prompt; "steeps=3" and "sed=a b" are slips of the finger.
    return not re.search(r"\s", word) or bool(closest(first, _top_level()))


def _top_level() -> list[str]:
    """Keys and groups at the top of the config."""
    conf = conf_dir()
    groups = [path.name for path in conf.iterdir() if path.is_dir()]
    keys = re.findall(r"^(\w+):", (conf / "config.yaml").read_text(), flags=re.MULTILINE)
    return sorted({*groups, *keys, "hydra", "local"} - {"defaults"})


def _asked_to_resume(words: Sequence[str]) -> tuple[Path, list[str]] | None:
    if not any(word.startswith("resume=") for word in words):
        return None
    from vqclip.runs.resume import asked

    return asked(words)


def _resume(run: Path, overrides: Sequence[str]) -> None:
    from vqclip.runs.resume import resume

    result = resume(run, overrides)
    for path in result.pictures if result else ():
        print(path)


def _hydra(argv: list[str]) -> None:
    import hydra

    overrides = _overrides(argv)
    if overrides is not None:
        _check_before_hydra(argv, overrides)

    @hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
    def job(cfg):
        if logger := (cfg.logger or {}).get("wandb"):
            from vqclip.io.wandb_server import probe

            probe(logger.get("mode"))
        import torch
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        from vqclip.config.grammar import job_name
        from vqclip.runs.execute import execute

        sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        folder = Path(HydraConfig.get().runtime.output_dir)
        if sweep and cfg.sweep:
            torch.set_num_threads(cfg.sweep.threads)
            print(f"job {folder.name}: {job_name(cfg.sweep.swept)}")
        try:
            result = execute(cfg, folder, resume=bool(cfg.sweep))
        except UserError as error:
            if sweep:
                raise  # Hydra goes on with the other jobs
            print(f"vqclip: {error}", file=sys.stderr)
            sys.exit(2)
        for path in result.pictures:
            print(path)
        return result.score

    sys.argv = [sys.argv[0], *argv]
    job()


def _overrides(argv: Sequence[str]) -> list[str] | None:
    """The overrides of a command that runs something; None where Hydra only shows something."""
    overrides, words = [], iter(argv)
    for word in words:
        if not word.startswith("-"):
            overrides.append(word)
        elif word in ("-m", "--multirun", "--config-dir", "-cd", "--config-name", "-cn"):
            if word not in ("-m", "--multirun"):
                next(words, None)
        elif not word.startswith(("--config-dir=", "--config-name=")):
            return None
    return overrides


def _check_before_hydra(argv: Sequence[str], overrides: Sequence[str]) -> None:
    """Compose and check what will run, so that a mistake is answered before Hydra makes a folder."""
    from vqclip.config.compose import compose_all

    extra = [value for flag, value in pairwise(argv) if flag in ("--config-dir", "-cd")]
    extra += [word.split("=", 1)[1] for word in argv if word.startswith("--config-dir=")]
    for cfg in compose_all(overrides, extra[0] if extra else None):
        check(resolved(cfg))
        if cfg.get("hparams_search") and not {"-m", "--multirun"} & set(argv):
            raise UserError(f"hparams_search: a search runs many jobs. Try: {shlex.join(['vqclip', '-m', *argv])}")
