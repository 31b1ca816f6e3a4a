"""What users of Hydra, Lightning and W&B type, and what they expect: one entry a habit."""

from __future__ import annotations

import csv
import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refused import LIGHTNING, REFUSED, callback
from wandb_records import records, rows_of, sent_config

RATE = f"+callbacks.rate._target_={LIGHTNING}.LearningRateMonitor +callbacks.rate.logging_interval=step"
DEVICE = f"+callbacks.device._target_={LIGHTNING}.DeviceStatsMonitor +callbacks.device.cpu_stats=true"
OWN_CONFIG = (
    "import pathlib; made = {"
    "'loss/mine.yaml': 'defaults: [default, _self_]\\nalpha: 2\\n', "
    "'experiment/mine.yaml': '# @package _global_\\ndefaults: [{override /loss: mine}]\\nsteps: 3\\n', "
    "'experiment/more.yaml': '# @package _global_\\nsteps: 2\\n', "
    "'whole.yaml': 'defaults: [config, _self_]\\nsteps: 1\\n'}; "
    "[(pathlib.Path('own', n).parent.mkdir(parents=True, exist_ok=True), pathlib.Path('own', n).write_text(t)) "
    "for n, t in made.items()]"
)
NOT_A_NUMBER = "'optimizer={_target_:torch.optim.SGD,lr:1e6}' loss.anchor=1e6 steps=8"


LOGGERS = "pytorch_lightning.loggers"


@dataclass(frozen=True)
class Habit:
    """One command, or several with ``;`` between them, of which the last counts.

    ``vqclip`` is the tool, with the small run's overrides where ``small``; ``python:`` begins a script that may use
    ``small``, its list of overrides.  ``{root}`` is the repository, ``{port}`` a port where nobody listens.
    """

    part: str
    command: str
    expected: str
    check: Callable[[Any], Any]  #: takes what was seen; True or None where it is as expected, else what is not
    environment: dict[str, str] = field(default_factory=dict)
    small: bool = True
    needs_server: bool = False
    fast: bool = False  #: runs no model, and so in every run of the tests
    refused: tuple[str, ...] = ()  #: words of the one message that answers it; such a habit runs nothing

    def __str__(self) -> str:
        return re.sub(r"[^\w=.-]+", " ", self.command).strip()[:60]

    def commands(self, small: list[str], root: Path, port: int) -> list[list[str]]:
        if self.command.startswith("python: "):
            script = f"from vqclip import *; small = {[*small, 'logger=none']!r}; {self.command[len('python: ') :]}"
            return [[sys.executable, "-c", script.replace("; ", "\n")]]
        found = []
        for one in self.command.split(" ; "):
            tool, *words = shlex.split(one.replace("{root}", str(root)).replace("{port}", str(port)), comments=True)
            alone = words[0] in ("sync", "evaluate") or any(word.startswith("resume=") for word in words)
            typed = {word.lstrip("+").partition("=")[0] for word in words}
            ours = [*small, *(["logger=none"] if self.part != "W&B" else [])] if self.small and not alone else []
            more = [word for word in ours if word.partition("=")[0] not in typed]
            found.append([sys.executable, "-m", tool, *words, *more])
        return found


# What is looked at.


def report(seen: Any, folder: str = "run") -> dict[str, Any]:
    return json.loads((seen.folder / folder / "run.json").read_text())


def table(seen: Any, folder: str = "sweep") -> list[dict[str, str]]:
    with open(seen.folder / folder / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def says(*words: str, code: int = 0) -> Callable[[Any], Any]:
    """Exit status and words that must be there."""

    def check(seen: Any) -> Any:
        missing = [word for word in words if word not in seen.out]
        return (seen.code == code and not missing) or f"without {missing}: {seen.last_line}"

    return check


def refused(*words: str) -> Callable[[Any], Any]:
    """One message of vqclip's, exit 2, no traceback, no folder."""

    def check(seen: Any) -> Any:
        if "Traceback" in seen.out or (seen.folder / "run").exists():
            return "a traceback, or a folder"
        return says(*words, code=2)(seen)

    return check


def jobs(count: int) -> Callable[[Any], Any]:
    return lambda seen: seen.code == 0 and len({row["run"] for row in table(seen)}) == count


def ended(status: str, *words: str, code: int = 0) -> Callable[[Any], Any]:
    """How run.json says that the run ended, and why."""

    def check(seen: Any) -> Any:
        found = report(seen)
        said = f"{found.get('reason')} {seen.out}"
        good = seen.code == code and found["status"] == status and all(word in said for word in words)
        return good or f"{found['status']}: {found.get('reason')}"

    return check


def whole_record(*kinds: str, parts: int = 1, steps: int = 4) -> Callable[[Any], Any]:
    """Every row, picture, histogram and the table of a run, in W&B's record."""

    def check(seen: Any) -> Any:
        rows = rows_of(records(seen.folder / "run", parts))
        found = [step for step, row in sorted(rows.items()) if "loss" in row]
        pictures = [step for step, row in sorted(rows.items()) if "picture/00._type" in row]
        there = all(any(kind in row for row in rows.values()) for kind in kinds)
        good = found == list(range(1, steps + 1)) and pictures == list(range(0, steps + 1, 2))
        return (good and there and "result._type" in rows[steps]) or f"rows {found}, pictures {pictures}, {there}"

    return check


def first_run(check: Callable[[dict, dict], Any]) -> Callable[[Any], Any]:
    """A check of W&B's run record and the config that it was sent."""

    def look(seen: Any) -> Any:
        found = records(seen.folder / "run")
        return check(found["run"][0], sent_config(found))

    return look


def captions(seen: Any) -> Any:
    texts = [row.get("picture/00.caption", "") for row in rows_of(records(seen.folder / "run")).values()]
    return all("a red fox" in text and "score" in text for text in texts if text) and any(texts)


def lineage(seen: Any) -> Any:
    kinds = [(own["type"], bool(own.get("use_after_commit"))) for own in records(seen.folder / "run")["artifact"]]
    return {("weights", True), ("latents", False), ("checkpoint", False)} <= set(kinds) or str(kinds)


def whole_sweep(seen: Any) -> Any:
    found = records(seen.folder / "sweep")
    row = found["history"][0]["item"]
    return row["comparison.nrows"] == 2 and "sheet._type" in row and "page._type" in row


def synced(seen: Any) -> Any:
    run = report(seen)["wandb"]
    rows = [row for row in seen.server.history(run) if "loss" in row]
    return (seen.code == 0 and [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]) or str([r["step"] for r in rows])


def an_agents_run(seen: Any) -> Any:
    (own,) = (json.loads(path.read_text()) for path in seen.folder.glob("outputs/*/*/run.json"))
    score = seen.server.summary("asked").get("judge")
    return (own["status"] == "finished" and own["wandb"] == "asked" and score == own["pictures"][0]["judge"]) or str(
        own
    )


def two_runs(seen: Any) -> Any:
    ours, theirs = (records(seen.folder / folder) for folder in ("run", "w"))
    losses = [sum("loss" in record["item"] for record in found["history"]) for found in (ours, theirs)]
    return (ours["run"][0]["run_id"] != theirs["run"][0]["run_id"] and losses == [4, 4]) or str(losses)


def diverged_in_a_sweep(seen: Any) -> Any:
    rows = {row["status"] for row in table(seen)}
    files = {path.name for path in (seen.folder / "sweep").iterdir()}
    return seen.code == 1 and rows == {"finished", "diverged"} and {"compare.png", "compare.html"} <= files


def same_twice(seen: Any) -> Any:
    return seen.code == 0 and "loss" in seen.out and "seed: 0" in seen.out


def _hydra() -> list[Habit]:
    part = "Hydra"
    shown = "the config as YAML; nothing runs"
    one_line = "one line with what to do, exit 2"
    two = "two jobs, their sheet, page and table"
    to = "hydra.sweep.dir=sweep"
    return [
        Habit(part, 'vqclip --cfg job "a red fox"', shown, same_twice, fast=True),
        Habit(part, 'vqclip "a red fox" --cfg job', shown, same_twice, fast=True),
        Habit(part, 'vqclip "a red fox" -c job --resolve', shown, same_twice),
        Habit(part, 'vqclip "a red fox" --info defaults', "Hydra's defaults list", says("Defaults List"), fast=True),
        Habit(part, 'vqclip --info searchpath "a red fox"', "where groups are looked for", says("Search path", "conf")),
        Habit(part, 'vqclip "a red fox" --help', "the help", says("vqclip sync"), small=False, fast=True),
        Habit(part, "vqclip --hydra-help", "Hydra's own help", says("--multirun"), small=False),
        Habit(part, f'vqclip -m seed=0,1 "a red fox" {to}', two, jobs(2)),
        Habit(part, f'vqclip "a red fox" seed=0,1 {to} -m', two, jobs(2)),
        Habit(part, f'vqclip hydra.mode=MULTIRUN seed=0,1 "a red fox" {to}', two, jobs(2)),
        Habit(part, 'vqclip -m seed=0,1 "a red fox" --cfg job', "the first job's config, and that it is the first",
              says("the first of 2 jobs", "seed: 0"), fast=True),
        Habit(part, f"vqclip -m 'latent=glob(*)' 'a red fox' {to}", "a job for every choice of the group", jobs(2)),
        Habit(part, 'vqclip -m seed=0,1 hydra.sweep.subdir=mine "a fox"', one_line,
              refused("hydra.sweep.subdir=mine", "Try: hydra.sweep.dir"), fast=True),
        Habit(part, 'vqclip "a red fox" logger=csv hydra.run.dir=run', "a run; metrics.csv as always",
              lambda seen: (seen.folder / "run" / "metrics.csv").is_file()),
        Habit(part, 'vqclip -m experiment=alpha_beta "a fox"', "the command that finds the study",
              refused("--config-dir"), small=False, fast=True),
        Habit(part, 'vqclip --config-dir {root}/experiments/alpha_beta experiment=alpha_beta --cfg job -m', shown,
              says("seed:"), small=False),
        Habit(part, f'vqclip -m seed=0,1,2 "a red fox" {to}', "how far it is, and how long it takes",
              says("of 3", "left")),
        Habit(part, f'vqclip -m seed=0,1 "a red fox" {to} hydra/launcher=workers', "two jobs, and how far it is",
              lambda seen: jobs(2)(seen) and "of 2" in seen.out and "checkpoints" not in seen.out),
        Habit(part, 'vqclip -m seed=0,1 hydra/launcher=nomad "a fox"', one_line,
              refused("hydra/launcher=nomad", "Allowed"), fast=True),
        Habit(part, f'vqclip -m seed=0,1 "a red fox" {to} hydra/launcher=slurm', "no Slurm here: a line, not forty",
              lambda seen: (seen.code != 0 and len(seen.out.splitlines()) <= 4 and "Traceback" not in seen.out)
              or f"{len(seen.out.splitlines())} lines: {seen.last_line}"),
        *(Habit(part, f"vqclip -m '{key}={values}' 'a fox' {to} steps=1", f"{count} jobs", jobs(count))
          for key, values, count in (("seed", "range(0,3)", 3), ("seed", "choice(0,1)", 2), ("seed", "sort(2,0,1)", 3),
                                     ("seed", "shuffle(range(0,3))", 3), ("noise", "glob([d*,n*])", 2),
                                     ("noise", "default,null", 2), ("size", "[64,64],[64,96]", 2),
                                     ("optimizer.lr", "0.1,{start:0.1,end:0}", 2), ("+vars.mine", "1,2", 2))),
        *(Habit(part, f"vqclip -m seed=0,1 'a fox' {to} steps=1 hydra/launcher={launcher}",
                "two jobs, and no overrides",
                lambda seen: jobs(2)(seen) and "crops.count=4" not in seen.out.partition("next: ")[0])
          for launcher in ("joblib", "submitit_local", "ray")),
        Habit(part, f"vqclip -m seed=0,1 'a fox' {to} hydra/sweeper=basic steps=1", "two jobs",
              lambda seen: len(list(seen.folder.glob("sweep/[01]/run.json"))) == 2),
        Habit(part, f"vqclip -m 'a fox' {to} '+hydra.sweeper.params={{noise: \"none,default\"}}' steps=1", "two jobs",
              jobs(2)),
        *(Habit(part, f"vqclip 'a fox' hydra.run.dir=run {words}", "a run", lambda seen: report(seen)["steps"] == 4)
          for words in ("hydra/job_logging=none", "hydra.verbose=true",
                        "hydra/hydra_logging=disabled", "search=null",
                        "hydra.output_subdir=null",
                        "'++loss.alpha=2'", "'tags=[\"${now:%H-%M}\"]'", "'loss.beta=${loss.alpha}'",
                        "prompts.exclude= ", "+noise@vars.mine=none")),
        *(Habit(part, f"python: {OWN_CONFIG}; import subprocess, sys; "
                f"words = ['a fox', 'hydra.run.dir=run', '--config-dir', 'own', *{words}, *small[1:]]; "
                "print(subprocess.run([sys.executable, '-m', 'vqclip', *words]).returncode == 0)", expected,
                lambda seen, steps=steps: says("True")(seen) is True and report(seen)["steps"] == steps)
          for words, expected, steps in ((["experiment=mine"], "a group of one's own with override /loss", 3),
                                         (["+experiment=[mine,more]"], "two of them", 2),
                                         (["-cn", "whole"], "a whole config of one's own", 1))),
        Habit(part, 'vqclip "a fox" --resolve --cfg job -p loss', "the group alone", says("alpha: 1"), fast=True),
        Habit(part, 'vqclip steps=3 sed=1 "a fox"', "did you mean seed", refused("sed", "seed"), small=False,
              fast=True),
    ]  # fmt: skip


def _wandb() -> list[Habit]:
    part, run = "W&B", 'vqclip "a red fox" hydra.run.dir=run'
    said = {"WANDB_TAGS": "red,blue", "WANDB_JOB_TYPE": "trial", "WANDB_PROJECT": "birds", "WANDB_DIR": "elsewhere"}
    dead = {"WANDB_BASE_URL": "http://127.0.0.1:{port}", "WANDB_API_KEY": "x" * 40}
    return [
        Habit(part, run, "named by its prompt", first_run(lambda own, _: own["display_name"] == "a red fox")),
        Habit(part, f"{run} tags=[]", "the prompt and scores under every picture", captions),
        Habit(part, f"{run} tags=[a]", "a histogram of the latent at every snapshot", whole_record("latent/00._type")),
        Habit(part, f"{run} tags=[b]", "sha256 of the weights, and versions, in the config",
              first_run(lambda _, config: len(config["weights"]["generator"]) == 64 and "torch" in config["versions"])),
        Habit(part, f"{run} tags=[c]", "artifacts: weights used, latents and checkpoint made", lineage),
        Habit(part, f"{run} # WANDB_TAGS, _JOB_TYPE, _PROJECT, _DIR", "the environment is respected",
              lambda seen: (lambda own: own["tags"] == ["red", "blue"] and own["job_type"] == "trial"
                            and own["project"] == "birds")(records(seen.folder / "elsewhere")["run"][0]),
              environment=said),
        Habit(part, f"{run} tags=[mine] logger.wandb.project=foxes +logger.wandb.job_type=own # the same environment",
              "an explicit key wins over the environment",
              lambda seen: (lambda own: own["tags"] == ["mine"] and own["job_type"] == "own"
                            and own["project"] == "foxes")(records(seen.folder / "elsewhere")["run"][0]),
              environment=said),
        Habit(part, 'vqclip -m seed=0,1 "a red fox" hydra.sweep.dir=sweep', "a run of the whole sweep", whole_sweep),
        Habit(part, "vqclip -m noise=default,sfumato 'a red fox' hydra.sweep.dir=sweep", "swept groups in the config",
              lambda seen: sent_config(records(seen.folder / "sweep" / "1"))["sweep"]["swept"] == {"noise": "sfumato"}),
        Habit(part, f"{run} {NOT_A_NUMBER}", "an alert", lambda seen: records(seen.folder / "run")["alert"][0]["title"]
              == "vqclip: a run diverged"),
        Habit(part, f"{run} ; vqclip resume=run steps=6 ; vqclip sync run", "all six steps on the server, each once",
              synced, needs_server=True, environment={"WANDB_MODE": "offline"}),
        Habit(part, "wandb sweep -p vqclip {root}/experiments/search/wandb_sweep.yaml ; wandb agent me/vqclip/s1",
              "the run that W&B asks for, with the judge's score", an_agents_run, needs_server=True, small=False),
        Habit(part, "vqclip -m logger=none,csv 'a red fox' hydra.sweep.dir=sweep steps=1", "no run of W&B's",
              lambda seen: seen.code == 0 and not list(seen.folder.rglob("wandb"))),
        Habit(part, f"{run} '+logger.w={{_target_: {LOGGERS}.WandbLogger, offline: true, save_dir: w}}'",
              "Lightning's logger beside ours, a run each", two_runs),
        Habit(part, "python: import wandb; mine = wandb.init(mode='offline', project='mine'); "
              "r = run('a red fox', small[:-1], 'run'); wandb.log({'mine': 1}); "
              "print(wandb.run is mine and r.report['wandb'] != mine.id)",
              "a run of one's own around it goes on", says("True")),
        Habit(part, f"{run} # WANDB_BASE_URL of a server that is not there", "one line, and the run goes on offline",
              says("does not answer; this run goes on offline"), environment=dead),
        Habit(part, f"{run} logger=mlflow", "a run of MLflow's in mlflow.db",
              lambda seen: report(seen)["mlflow"] and (seen.folder / "mlflow.db").is_file()),
        Habit(part, f"{run} logger=mlflow logger.mlflow.tracking_uri=http://127.0.0.1:{{port}}",
              "one line, exit 2", says("the server does not answer", "Try: mlflow server", code=2)),
    ]  # fmt: skip


def _lightning() -> list[Habit]:
    part, run = "Nothing lost", 'vqclip "a red fox" hydra.run.dir=run'
    logged = "logger=wandb"
    early = f"+callbacks.stop._target_={LIGHTNING}.EarlyStopping +callbacks.stop.patience=0"
    owned = {
        "max_steps=3": "steps",
        "max_epochs=3": "steps",
        "devices=2": "devices",
        "accumulate_grad_batches=2": "augmentations.crops.count",
        "gradient_clip_val=1": "optimizer.clip=1",
        "enable_checkpointing=false": "callbacks.checkpoint",
        "enable_progress_bar=false": "callbacks.progress=null",
    }
    return [
        Habit(part, f"{run} {logged} {RATE}", "every row, picture and table on W&B", whole_record("lr-Adam")),
        Habit(part, f"{run} {logged} {DEVICE}", "every row, picture and table on W&B",
              whole_record("DeviceStatsMonitor.on_train_batch_start/cpu_percent")),
        Habit(part, f"{run} {logged} {RATE} {DEVICE}", "both beside each other", whole_record("lr-Adam")),
        Habit(part, f"{run} {logged} {RATE} ; vqclip resume=run steps=6", "also after a resume",
              whole_record("lr-Adam", parts=2, steps=6), environment={"VQCLIP_TRUST": "pytorch_lightning"}),
        Habit(part, f"{run} {early} +callbacks.stop.monitor=loss +callbacks.stop.mode=max steps=20",
              "stopped early, and why",
              ended("stopped early", "EarlyStopping")),
        Habit(part, f"{run} steps=100000 +trainer.max_time=00:00:00:02", "stopped early, and why",
              ended("stopped early", "max_time")),
        Habit(part, f"{run} +trainer.limit_train_batches=2", "stopped early, and why",
              ended("stopped early", "limit_train_batches")),
        Habit(part, f"{run} +callbacks.keep._target_={LIGHTNING}.ModelCheckpoint +callbacks.keep.monitor=score",
              "its own checkpoint beside ours",
              lambda seen: len(list((seen.folder / "run").rglob("*.ckpt"))) >= 2),
        *(Habit(part, f"{run} {'+' if not key.startswith('devices') else ''}trainer.{key}", "refused, with our own key",
                refused(ours), fast=key.startswith(("max_steps", "gradient")))
          for key, ours in owned.items()),
        Habit(part, f"{run} optimizer.clip=1e-3", "a run with a clipped gradient", ended("finished")),
        Habit(part, f"{run} +trainer.profiler=simple", "its table", says("Profiler Report", "Total time")),
        Habit(part, f"{run} +callbacks.bar._target_={LIGHTNING}.TQDMProgressBar", "Lightning's bar",
              ended("finished", "it/s")),
        Habit(part, f"{run} 'optimizer={{_target_:torch.optim.LBFGS,lr:0.1}}'", "LBFGS with its closure",
              ended("finished")),
        Habit(part, f"{run} 'optimizer={{_target_:torch.optim.SparseAdam,lr:0.1}}'", "refused by name",
              lambda seen: (seen.code == 2 and "SparseAdam" in seen.out) or seen.last_line),
        Habit(part, f"{run} 'loss.terms={{smooth:{{_target_:vqclip.loss.TotalVariation,weight:0.1}}}}'",
              "a whole dict of terms", lambda seen: "smooth" in (seen.folder / "run/metrics.csv").read_text()),
        *(Habit(part, f"{run} 'optimizer={{_target_: torch.optim.{name}, lr: 0.01}}'", "a run", ended("finished"))
          for name in ("ASGD", "Adadelta", "Adafactor", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")),
        Habit(part, f"{run} {callback('ModelCheckpoint', monitor='loss', save_top_k=3)} steps=8",
              "the three best, beside last.ckpt",
              lambda seen: len(list((seen.folder / "run").rglob("epoch*.ckpt"))) == 3),
        Habit(part, f"{run} {callback('Timer', duration='00:00:00:01')} steps=100000", "stopped early, and why",
              ended("stopped early", "Timer")),
        Habit(part, f"{run} {callback('ModelSummary')}", "its table", says("Trainable params")),
        Habit(part, f"{run} {callback('EarlyStopping', monitor='loss', verbose='true')}", "what it has to say",
              says("Metric loss improved")),
        Habit(part, f"{run} '+trainer.profiler={{_target_: pytorch_lightning.profilers.SimpleProfiler}}'", "its table",
              says("Profiler Report")),
        Habit(part, f"{run} 'callbacks={{one: {{_target_: {LIGHTNING}.Timer}}, "
              f"two: {{_target_: {LIGHTNING}.ModelSummary}}}}'",
              "two callbacks by name", says("Trainable params")),
        *(Habit(part, f"{run} {key}", "none of them", ended("finished"))
          for key in ("callbacks=null", "logger=null", "logger=false", "~callbacks", "~noise", "~logger")),
        *(Habit(part, f"{run} +trainer.{key}", "a run", ended("finished"))
          for key in ("deterministic=true", "detect_anomaly=true", "benchmark=true", "profiler=advanced")),
        Habit(part, f"{run} trainer.precision=bf16-mixed trainer.log_every_n_steps=2", "a run, a row every second step",
              lambda seen: len((seen.folder / "run/metrics.csv").read_text().splitlines()) == 4),
        Habit(part, f"{run} 'logger={{a: {{_target_: {LOGGERS}.CSVLogger, save_dir: a}}, "
              f"b: {{_target_: {LOGGERS}.TensorBoardLogger, save_dir: b}}}}'", "both, with the config",
              lambda seen: len(list(seen.folder.glob("[ab]/**/hparams.yaml"))) == 2),
        Habit(part, f"{run} '+logger.w={{_target_: {LOGGERS}.WandbLogger, offline: true, save_dir: w}}'",
              "Lightning's own logger, with the pictures",
              lambda seen: len(list(seen.folder.glob("w/wandb/offline-run-*/files/media/images/picture/*.png"))) == 3),
        Habit(part, f"{run} {NOT_A_NUMBER}", "diverged, with the likely cause, the last good picture kept",
              lambda seen: ended("diverged", "Likely cause", code=1)(seen)
              and (seen.folder / "run/picture-00/final.png").is_file()),
        Habit(part, "vqclip -m loss.anchor=0,1e6 'optimizer={_target_:torch.optim.SGD,lr:1e6}' steps=8 'a fox' "
              "hydra.sweep.dir=sweep", "page, sheet and table; the cell says diverged", diverged_in_a_sweep),
    ]  # fmt: skip


def _python() -> list[Habit]:
    part = "Python"
    made = 'r = run("a red fox", small, "run"); '
    good = says("True")
    return [
        Habit(part, f"python: {made}print(r.images.shape == (1, 3, 64, 64))", "a result", good),
        Habit(part, 'python: r = run("a red fox", {"steps": 2, "size": [64, 64], "logger": "none"}, "run"); '
              'print(r.config["steps"] == 2)', "overrides as a dict", good),
        Habit(part, 'python: r = run("a red fox", small[1:], "run", steps=3, batch_size=2); '
              'print(len(r.pictures) == 2)',
              "keys as keywords", good),
        Habit(part, 'python: import pytorch_lightning as pl; t = pl.callbacks.Timer(); '
              'r = run("a red fox", small, "run", callbacks=[t]); print(t.time_elapsed() > 0)', "callbacks as objects",
              good),
        Habit(part, 'python: import pathlib; p = pathlib.Path("mine/prompts"); p.mkdir(parents=True); '
              '_ = (p / "own.yaml").write_text("include: [a red fox]\\nexclude: \\"\\"\\nextras: \\"\\"\\n'
              'include_weight: 1\\nextras_weight: 1\\n"); '
              'r = run(None, ["prompts=own", *small], "run", config_dir="mine"); '
              'print("red fox" in r.scores[0]["prompt"])', "config_dir=", good),
        Habit(part, f'python: {made}q = load("run"); print(q.score == r.score)', "load(folder)", good),
        Habit(part, 'python: s = sweep("a red fox", small, folder="sweep", seed=[0, 1]); print(len(s.runs) == 2)',
              "sweep(…)", good),
        Habit(part, f'python: {made}print("<img" in r._repr_html_() and "run" in r._repr_html_())',
              "picture, score and folder in a notebook", good),
        Habit(part, f'python: {made}print([row["step"] for row in r.history] == [1, 2, 3, 4])', "history, a table",
              good),
        Habit(part, f"python: {made}print(r.best[0].size == (64, 64) and r.final[0].size == (64, 64))",
              "best and final by name", good),
        Habit(part, f"python: {made}\ntry:\n run('a red fox', small, 'run')\n"
              "except UserError as e:\n print('overwrite' in str(e))",
              "a finished run is not overwritten", good),
        Habit(part, f"python: {made}r = run('a red fox', small, 'run', overwrite=True); print(r.status == 'finished')",
              "unless told to", good),
        Habit(part, "python: \ntry:\n run('a fox', ['optimizer._target_=torch.optim.Adm', *small], 'run')\n"
              "except UserError as e:\n print('Adam' in str(e))", "one exception for a user's mistake", good,
              fast=True),
    ]  # fmt: skip


def _refused() -> list[Habit]:
    """What would do nothing here, or other than it says: a sentence with the key to use instead."""
    one_line = "one line with what to do, exit 2"
    return [
        Habit(part, f'vqclip "a fox" {words}', one_line, refused(*said.split("|")), refused=tuple(said.split("|")))
        for part, rows in REFUSED.items()
        for words, said in rows.items()
    ]


HABITS: list[Habit] = [*_hydra(), *_wandb(), *_lightning(), *_python(), *_refused()]
