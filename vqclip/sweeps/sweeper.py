"""Runs sweeps: determines the jobs, which of them are done, and runs the others.

Jobs are identified by their config (:func:`vqclip.config.resolve.identity`), not by their number.  In the folder of an
earlier sweep, only missing, failed and interrupted jobs run, and new jobs are numbered after the old.  Changed input
files are noticed by their sha256; another version of vqclip is not, but other shipped weights are reported.

Nothing here imports torch, so that a sweep that is already done says so at once.
"""

from __future__ import annotations

import itertools
import logging
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, env_override
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict

from vqclip.config.check import errors_in
from vqclip.config.compose import COMPOSING, job_environment, parse_overrides
from vqclip.config.grammar import job_name, nested, quote_where_needed, unquoted
from vqclip.config.hydra_errors import explain
from vqclip.config.own_classes import parts_on
from vqclip.config.plain import plain_dict
from vqclip.config.resolve import now_in_picture, resolve
from vqclip.config.shorthand import expand_shorthand
from vqclip.errors import UserError, message_of
from vqclip.io.files import atomic_write
from vqclip.io.progress import counted
from vqclip.runs.lock import lock_folder
from vqclip.runs.status import WITH_PICTURES
from vqclip.sweeps.hparams_search import distributions_of, plot, require_score, score_of, search
from vqclip.sweeps.inert import inert_warnings
from vqclip.sweeps.jobs import Job, done_jobs, group_name, is_done, job_folders, numbered_folders, read_report
from vqclip.sweeps.launch import launch, require_processes

if TYPE_CHECKING:
    from vqclip.loggers.sweep import SweepView

__all__ = ["SweepRunner"]


class SweepRunner:
    """Runs every combination of the swept values, like Hydra's basic sweeper, except jobs that are already done.

    With ``hparams_search``, runs the combinations that a search proposes (:mod:`vqclip.sweeps.hparams_search`).

    Args:
        config: of the sweep, including Hydra's own.
        loader: composes the config of each job.
        launcher: runs the jobs.
        max_batch_size: jobs passed to the launcher at a time; None: all.
        params: overrides from the config, before those of the command line.
    """

    def __init__(
        self,
        config: DictConfig,
        loader: ConfigLoader,
        launcher: Launcher,
        max_batch_size: int | None,
        params: Mapping[str, Any] | None,
    ):
        self.config, self.loader, self.launcher, self.max_batch_size = config, loader, launcher, max_batch_size
        # Strings are overrides as typed, possibly with several values; other YAML values are single values.
        self.params = [f"{key}={v if isinstance(v, str) else nested(v)}" for key, v in (params or {}).items()]
        self.views: list[SweepView] = []  # the loggers' views of the sweep, from the first job that runs
        self.swept: list[str] = []  # keys of the jobs that ran
        self.faults: dict[str, str] = {}  # job folder → error of its process, if run.json does not have it

    def run(self, arguments: list[str]) -> None:
        """Run what is left of the sweep, then write the comparison; exit with 1 if a job did not finish."""
        folder, arguments = Path(self.config.hydra.sweep.dir), [*self.params, *arguments]
        words = [word for word in sys.argv[1:] if not word.startswith("hydra.sweep.dir=")]
        again = shlex.join(["vqclip", *words, f"hydra.sweep.dir={quote_where_needed(str(folder))}"])
        try:
            require_processes(self.launcher)
            # Check every combination before creating the folder; a search's proposals are not known yet.
            jobs = None if self.config.get("hparams_search") else self._grid(arguments)
            if jobs is None:
                distributions_of(self._space(arguments)[0])
            from vqclip.compare.write import OF_A_COMPARISON, refuse_others

            with lock_folder(folder):
                refuse_others(folder, [*OF_A_COMPARISON, "multirun.yaml", *(["search.png"] if jobs is None else [])])
                atomic_write(folder / "multirun.yaml", OmegaConf.to_yaml(self.config).encode())
                try:
                    unfinished = self._search(folder, arguments) if jobs is None else self._run(folder, jobs)
                finally:
                    self._compare(folder)
                    self._show(folder)
        except (KeyboardInterrupt, SystemExit):  # SystemExit: from a job in this process
            elsewhere = "" if isinstance(self.launcher, BasicLauncher) else " Jobs that a cluster has go on there."
            print(f"vqclip: stopped.{elsewhere} To continue: {again}", file=sys.stderr)
            raise
        except UserError as error:  # Hydra would print its traceback
            print(f"vqclip: {error}", file=sys.stderr)
            sys.exit(2)
        except OSError as error:
            what = f"{error.filename or folder}: {error.strerror or error}"
            print(f"vqclip: {what}. To continue: {again}", file=sys.stderr)
            sys.exit(1)
        if unfinished:
            print(f"vqclip: {unfinished} did not finish. Try: {again}", file=sys.stderr)
            sys.exit(1)
        print(f"next: {again}   (with more values, only the new jobs run)", file=sys.stderr)

    def _grid(self, arguments: list[str]) -> list[Job]:
        """The checked jobs of all combinations."""
        choices, swept = {}, []
        for key, override in self._parsed(arguments).items():
            if not override.is_sweep_override():
                choices[key] = [override.get_value_element_as_str()]
            elif override.is_discrete_sweep():
                choices[key] = list(override.sweep_string_iterator())
                swept.append(key)
            else:
                raise UserError(
                    f"{override.input_line}: a range to search. Allowed in a sweep: {key}=1,2,3. "
                    f"Try: hparams_search=optuna {shlex.quote(str(override.input_line))}"
                )
        jobs = self._checked(
            [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())], swept
        )
        for line in inert_warnings(jobs):
            print(f"note: {line}", file=sys.stderr)
        return jobs

    def _search(self, folder: Path, arguments: list[str]) -> int:
        """Run the search's proposals; return the number of trials that did not finish."""
        settings = plain_dict(self.config.hparams_search)
        space, fixed = self._space(arguments)
        chosen = self.config.hydra.runtime.choices  # group → choice; other keys have their values in the config
        start = {key: chosen.get(key, OmegaConf.select(self.config, key)) for key in space}
        made: list[tuple[str, Path]] = []  # name and folder of each trial

        def run(proposed: list[dict[str, str]]) -> list[float | None]:
            jobs = self._checked([{**fixed, **values} for values in proposed], list(space))
            require_score(settings["score"], [job.config for job in jobs])
            self._run(folder, jobs)
            found = job_folders(folder, jobs)
            scores = []
            for job in jobs:
                place = found[job.identity]
                report = read_report(place)
                done = is_done(place, report, job.identity)
                scores.append(score_of(place, report, settings["score"]) if done else None)
                made.append((job_name(job.swept), place))
                shown = f"{settings['score']} {scores[-1]}" if done else "did not finish"
                print(f"{shown}: {job_name(job.swept)}")
            return scores

        study = search(settings, space, start, run)
        done = [trial for trial in study.trials if trial.value is not None]
        if done:
            plot(study, folder / "search.png", settings["score"])
            name, place = made[study.best_trial.number]
            print(f"best: {settings['score']} {study.best_value:.4f}: {name}: {place}")
            print(folder / "search.png")
        return len(study.trials) - len(done)

    def _space(self, arguments: Sequence[str]) -> tuple[dict[str, Override], dict[str, str]]:
        """The searched keys, and the values of the others."""
        named = self._parsed([*plain_dict(self.config.hparams_search)["space"], *arguments])
        space = {key: override for key, override in named.items() if override.is_sweep_override()}
        return space, {key: o.get_value_element_as_str() for key, o in named.items() if key not in space}

    def _parsed(self, arguments: Sequence[str]) -> dict[str, Override]:
        """Parsed overrides by key; the last one of several for a key."""
        return {override.get_key_element(): override for override in parse_overrides(arguments, self.loader)}

    def _checked(self, combinations: Sequence[Mapping[str, str]], swept: Sequence[str]) -> list[Job]:
        """The job of each combination of overrides; one error for all mistakes in them."""
        jobs, errors = [], {}
        for values in counted(combinations, len(combinations), "checking"):
            jobs.append(self._compose(values, swept))
            errors |= dict.fromkeys(errors_in(jobs[-1].config))
        if errors:
            raise UserError("\n".join(errors))
        return jobs

    def _compose(self, values: Mapping[str, str], swept: Sequence[str]) -> Job:
        overrides = expand_shorthand([f"{key}={value}" for key, value in values.items()])
        try:
            cfg = self.loader.load_sweep_config(self.config, overrides)
        except COMPOSING as error:
            raise UserError(explain(error, overrides=overrides)) from None
        with env_override(job_environment(cfg, overrides)), open_dict(cfg):
            del cfg["hydra"]
            cfg.paths.output_dir = "."  # not known yet, and does not affect the picture
            config = resolve(cfg)
            late = next(now_in_picture(cfg), "")
        if late:
            raise UserError(
                f"{late}: the time, and with it the picture, is another in every command, so that the sweep would "
                "never be finished. Allowed: a value, and ${now:…} in tags and hydra.sweep.dir. Try: "
                "'hydra.sweep.dir=multirun/${now:%H-%M}'"
            )
        return Job(overrides, {key.lstrip("+"): unquoted(values[key]) for key in swept}, config)

    def _run(self, folder: Path, jobs: Sequence[Job]) -> int:
        """Run the jobs that are not done; return how many did not finish."""
        places = job_folders(folder, jobs)
        jobs = list({job.identity: job for job in reversed(jobs)}.values())[::-1]
        done = done_jobs(folder, jobs, places)
        left = [job for job in jobs if job.identity not in done]
        if len(left) < len(jobs) and len(jobs) > 1:
            print(f"{len(jobs) - len(left)} of {len(jobs)} jobs are done already in {folder}, {len(left)} to run")
        elif len(jobs) > 1:
            print(f"{len(jobs)} jobs to run in {folder}", flush=True)
        self._launch(folder, left, places)
        unfinished = 0
        for job in left:
            place = places[job.identity]
            report = read_report(place)
            if not is_done(place, report, job.identity):
                unfinished += 1
                reason = self._why_unfinished(job, place, report)
                print(f"vqclip: {job_name(job.swept) or place}: {reason}", file=sys.stderr)
        return unfinished

    def _why_unfinished(self, job: Job, place: Path, report: Mapping[str, Any]) -> str:
        if report.get("status") in WITH_PICTURES and place.name not in self.faults:  # else not the last run's report
            if report.get("identity") != job.identity:
                return f"{place} has another config: files of the config changed while the sweep ran"
            return f"{place}: a picture of it is missing or damaged. Try: the same command again"
        error = report.get("error") or self.faults.get(place.name) or report.get("reason")
        error = error or ("it was killed, or still runs" if report.get("started") else "it did not begin")
        log = place / "vqclip.log"
        return f"{error}\n  log: {log}" if log.exists() and log.stat().st_size else error

    def _launch(self, folder: Path, jobs: Sequence[Job], places: Mapping[str, Path]) -> None:
        if not jobs:
            return
        from vqclip.loggers.sweep import begin_sweep

        self.swept = list(dict.fromkeys([*self.swept, *jobs[0].swept]))
        if not self.views:
            loggers = dict(item for job in jobs[::-1] for item in parts_on(job.config, "logger").items())
            self.views = begin_sweep(loggers, folder, group_name(folder))
        for launchers in ("hydra._internal.core_plugins.basic_launcher", "hydra_plugins"):
            logging.getLogger(launchers).setLevel(logging.WARNING)  # launchers would log every override of every job
        name = self.config.hydra.runtime.choices.get("hydra/launcher", "basic")
        where = [places[job.identity] for job in jobs]
        for done in launch(self.launcher, name, jobs, where, group_name(folder), self.max_batch_size):
            self._take_fault(done)

    def _take_fault(self, job: JobReturn) -> None:
        """Print why a job failed, with the traceback if its run had not started."""
        error = job._return_value
        if not isinstance(error, Exception) or job.hydra_cfg is None:
            return
        folder = Path(job.hydra_cfg.hydra.runtime.output_dir)
        self.faults[folder.name] = message_of(error)
        if not (folder / "run.json").exists():
            with suppress(OSError), open(folder / "vqclip.log", "a", encoding="utf-8") as file:
                traceback.print_exception(error, file=file)

    def _compare(self, folder: Path) -> None:
        from vqclip.compare.write import compare
        from vqclip.io.inline import show

        if not any((path / "config.yaml").exists() for path in numbered_folders(folder)):
            return
        written = compare([folder], folder)
        for path in written:
            print(path)
        show(written[:1])

    def _show(self, folder: Path) -> None:
        """Log the comparison to the loggers that support sweeps."""
        if self.views:
            from vqclip.loggers.sweep import end_sweep

            end_sweep(self.views, folder, self.swept)
