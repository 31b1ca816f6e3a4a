"""The command line: prompts and Hydra overrides, or one of the tools.

Bare words are include prompts.  Overrides and Hydra's flags are passed on to Hydra, flags first.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqclip.cli.arguments import Command, allow_lazy_help, parse_arguments, take_flag
from vqclip.cli.beforehand import check_before_hydra, check_shown, show_config
from vqclip.cli.faults import result_of
from vqclip.cli.launchers import hide_launchers
from vqclip.cli.lazy_imports import collect_as_usual, collect_rarely, defer_imports
from vqclip.cli.streams import as_text, read_in_utf_8, set_up_streams, tell_what_was_lost
from vqclip.cli.summary import job_line, print_result
from vqclip.errors import NO_ROOM, Diverged, UserError, explain_refusals, printable
from vqclip.paths import conf_dir
from vqclip.runs.status import DIVERGED

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["TOOLS", "main"]

#: Tools: name → module with ``main(argv) -> exit status``.
TOOLS = {
    "models": "vqclip.cli.models",
    "evaluate": "vqclip.cli.evaluate",
    "compare": "vqclip.cli.compare",
    "dashboard": "vqclip.cli.dashboard",
    "interpolate": "vqclip.cli.interpolate",
    "rerun": "vqclip.cli.rerun",
    "show": "vqclip.cli.show",
    "sync": "vqclip.cli.sync",
    "film": "vqclip.cli.film",
    "import": "vqclip.cli.imports",
    "completion": "vqclip.cli.completion",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``vqclip``.  Exits with 2 on a user's mistake, 1 if a job failed, 141 on a closed pipe."""
    if argv is None:  # called as a command
        read_in_utf_8()
    set_up_streams()
    try:
        try:
            _main(list(sys.argv[1:] if argv is None else argv))
        finally:
            tell_what_was_lost()
    except KeyboardInterrupt:  # before a run or in a tool; a run handles it itself
        sys.exit(130)
    except OSError as error:  # not about a file: stdout is closed or full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python fails at exit
        # 141 is a shell's exit status for SIGPIPE.
        look = ". Try: df -h" if error.errno in NO_ROOM else ""
        sys.exit(141 if isinstance(error, BrokenPipeError) else f"vqclip: the system refuses it: {error}{look}")


def _main(argv: list[str]) -> None:
    defer_imports()
    try:
        with explain_refusals():
            _do([*map(as_text, argv)])
    except UserError as error:
        print(f"vqclip: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


def _do(argv: list[str]) -> None:
    flags, words = _flags_before(argv)
    if words[:1] == ["help"]:
        return _do([*flags, "--help", *words[1:]])
    if words and words[0] in TOOLS and "--version" not in flags:
        _refuse_flags(words, flags)
        sys.exit(importlib.import_module(TOOLS[words[0]]).main(_with_flags(words[1:], flags)))
    _refuse_slip(words)
    command = parse_arguments(argv)
    if answer := _at_once(command):
        print(answer)
        sys.exit(0)
    for note in command.notes:
        print(f"note: {note}", file=sys.stderr)
    if run := _asked_to_resume(command):
        sys.exit(_resume(*run))
    _hydra(command)


def _flags_before(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split off the flags, with their values, before the first other word."""
    words = list(argv)
    while words and re.match("--?[a-z]", words[0]):
        take_flag(words.pop(0), words)
    return [*argv[: len(argv) - len(words)]], words


def _refuse_flags(words: list[str], flags: list[str]) -> None:
    """Refuse flags before a tool's name that no tool knows; the name may have been meant as a prompt."""
    if others := [flag for flag in parse_arguments(flags).flags if flag not in ("--help", "--config-dir")]:
        prompt = shlex.join(["vqclip", *flags, *words[1:], "--", words[0]])
        raise UserError(f"{others[0]}: not with {words[0]}. A prompt: {prompt}")


def _with_flags(words: list[str], flags: list[str]) -> list[str]:
    """A tool's words with the flags typed before its name, except ``--offline``, which tools need not know."""
    end = words.index("--") if "--" in words else len(words)
    given = [*words[:end], *flags]
    if "--offline" in given:
        os.environ["VQCLIP_OFFLINE"] = "1"
    return [*(word for word in given if word != "--offline"), *words[end:]]


def _refuse_slip(argv: Sequence[str]) -> None:
    """Refuse a mistyped tool name before a file name, since both would be taken for prompts."""
    if list(argv) == ["resume"]:
        raise UserError("resume: a key. Try: vqclip resume=RUN, with a run folder. A prompt: vqclip -- resume")
    near = difflib.get_close_matches(argv[0], [*TOOLS, "resume"], n=1, cutoff=0.75) if argv else []
    if path := next((word for word in argv[1:] if os.path.exists(word)), ""):
        if near == ["resume"]:
            raise UserError(f"{argv[0]}: a key. Try: vqclip resume={shlex.quote(path)}")
        if near:
            raise UserError(f"{argv[0]}: there is no such tool. Try: {shlex.join(['vqclip', *near, *argv[1:]])}")


def _at_once(command: Command) -> str:
    """The output of ``--version`` and ``--help``, which need neither Hydra nor a config; else empty."""
    if "--version" in command.flags:
        from vqclip import __version__

        return f"vqclip {__version__}"
    if "--help" in command.flags:
        from vqclip.cli.help import help_page

        return help_page(command.prompts)
    return ""


def _asked_to_resume(command: Command) -> tuple[Path, list[str]] | None:
    if not any(word.startswith("resume=") for word in command.overrides):
        return None
    from vqclip.runs.resume import run_to_resume

    return run_to_resume(command.words)


def _resume(run: Path, overrides: Sequence[str]) -> int:
    from vqclip.runs.folder import RunFolder
    from vqclip.runs.resume import resume

    result = result_of(lambda: resume(run, overrides), run, study=False)
    if result is None:
        print(printable(f"{run} is finished. More steps: {RunFolder(run).resume_command} steps=N"))
        return 0
    print_result(result)
    return int(result.status == DIVERGED)


def _hydra(command: Command) -> None:
    """Check what will run, then hand it to Hydra."""
    collect_rarely()
    if command.shows:
        check_shown(command)
    else:
        check_before_hydra(command)
    allow_lazy_help()
    import hydra

    sys.argv = [sys.argv[0], *command.words]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise exceptions instead of printing them
    run = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(_job)
    if command.shows:
        if command.flags.get("--cfg") == "job":  # shows no launcher
            hide_launchers()
        show_config(command, run)
        return
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        run()
    except (HydraException, OmegaConfBaseException) as error:  # in Hydra's own keys: hydra.run.dir=${nope}
        raise UserError(" ".join(str(error).split()) + ". All keys with their values: vqclip --cfg all") from None


def _job(cfg: DictConfig) -> float:
    """Run one job, called by Hydra; return its score."""
    set_up_streams()  # a launcher's worker starts here
    defer_imports()
    collect_rarely()
    if logger := (cfg.logger or {}).get("wandb"):
        from vqclip.io.wandb_server import probe

        probe(logger.get("mode"))
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from vqclip.runs.execute import execute

    collect_as_usual()
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    folder = Path(HydraConfig.get().runtime.output_dir)
    if sweep and cfg.sweep:
        _as_in_the_sweep(cfg, HydraConfig.get())
    _announce(cfg, folder, sweep)
    try:
        with explain_refusals():
            if sweep and cfg.sweep and _is_anothers(cfg, folder):  # changed since the sweep began
                raise UserError(
                    f"{folder}: belongs to another config: files or variables that the config reads changed while "
                    "the sweep ran. Try: the same command again"
                )
            result = result_of(lambda: execute(cfg, folder, resume=bool(cfg.sweep)), folder, study=sweep)
    except UserError as error:
        if sweep:
            raise  # Hydra continues with the other jobs
        _forget_command(cfg, folder, HydraConfig.get().output_subdir)
        print(f"vqclip: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    if result.status == DIVERGED and sweep:
        raise Diverged(str(result.reason))  # Hydra counts the job as failed and continues
    print_result(result, sweep)
    if result.status == DIVERGED:
        sys.exit(1)
    return result.score


def _as_in_the_sweep(cfg: DictConfig, hydra: Any) -> None:
    """Use the working directory and threads of the sweep's process, since a cluster's worker has others."""
    import torch

    from vqclip.machine import job_threads

    with suppress(OSError):  # it may not exist on this machine
        os.chdir(hydra.runtime.cwd)
    torch.set_num_threads(job_threads(cfg.sweep.threads, torch.get_num_threads()))


def _is_anothers(cfg: DictConfig, folder: Path) -> bool:
    """Whether the folder holds a run with another config."""
    from vqclip.config.resolve import identity, resolve
    from vqclip.sweeps.jobs import read_report

    known = read_report(folder).get("identity")
    return known is not None and known != identity(resolve(cfg))


def _forget_command(cfg: DictConfig, folder: Path, records: str | None) -> None:
    """Remove Hydra's record of a refused command beside the run that was kept, which it does not describe."""
    if records and _is_anothers(cfg, folder):
        for name in ("config", "hydra", "overrides"):
            (folder / records / f"{name}.yaml").unlink(missing_ok=True)


def _announce(cfg: DictConfig, folder: Path, sweep: bool) -> None:
    """Print which job of a sweep starts, and what the run will make (for a sweep, in the first job)."""
    from vqclip.config.resolve import resolve
    from vqclip.runs.cost import sizes

    if sweep and cfg.sweep:
        print(job_line(folder, cfg.sweep), flush=True)
    if not sweep or (cfg.sweep and cfg.sweep.get("job", 1) == 1):
        print(sizes(resolve(cfg)), file=sys.stderr)
