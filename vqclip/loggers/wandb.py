"""Weights & Biases.  ``step`` is the x-axis metric of all curves; W&B's own step counter is not set.

So other callbacks can log too: with explicit steps, W&B drops rows that come after a higher step.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger

from vqclip.config.resolve import picture_config
from vqclip.errors import Diverged, UserError
from vqclip.io.run_files import RunFiles
from vqclip.io.wandb_server import has_key, is_reachable, known_settings, wandb_mode
from vqclip.loggers.base import Media, RunView, mean_scores, numbers_of, run_name
from vqclip.loggers.wandb_files import last_step, mark_uploaded, records_of
from vqclip.loggers.wandb_process import forget, process_errors, unless_gone
from vqclip.loggers.wandb_startup import keep_artifacts, speed_up_start

__all__ = ["WandbRun", "finish", "wandb_logger"]

#: Seconds to wait for W&B's server when a run starts, and for its remaining data when it ends.
PATIENCE = 10


class WandbRun(RunView, WandbLogger):
    """A W&B run: rows and pictures by ``step``, a table, artifacts with lineage."""

    #: W&B's step of the next row, if this process does not know of all earlier rows.
    first_step: int | None = None
    is_gone = False  #: whether W&B's process ended before the run

    @unless_gone
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics of other callbacks with Lightning's step and ours, so that their curves have our axis."""
        axes = {} if step is None else {"step": step, "trainer/global_step": step}
        self._log({**metrics, **axes})

    def _log(self, row: Mapping[str, Any]) -> None:
        first, self.first_step = self.first_step, None
        self.experiment.log(dict(row), step=first, commit=True)

    @unless_gone
    def begin(self, report: Mapping[str, Any]) -> None:
        """Log weights and versions in the config, and weights and input pictures as used artifacts."""
        import wandb

        known = {key: report[key] for key in ("identity", "versions", "machine", "weights", "inputs")}
        self.experiment.config.update(known, allow_val_change=True)
        for name, digest in report["weights"].items():
            weight = {"name": name, "sha256": digest}
            weights = wandb.Artifact(_artifact_name("weights", name, digest), "weights", metadata=weight)
            _add_note(weights, weight)
            self._use(weights)
        for path, digest in report["inputs"].items():
            name = _artifact_name("input", Path(path).name, digest)
            used = wandb.Artifact(name, "picture", metadata={"sha256": digest})
            if Path(path).is_dir():  # the run of ``init=run``: the digest is of its latents
                _add_note(used, {"name": path, "sha256": digest})
            else:
                used.add_file(path)
            self._use(used)

    @unless_gone
    def show(self, step: int, numbers: Mapping[str, float], media: Media | None) -> None:
        import wandb

        shown: dict[str, Any] = {}
        if media:
            for name, (_, caption, file) in media.pictures().items():
                shown[name] = wandb.Image(str(file), caption=caption)  # reuse the PNG on disk
            for i, latent in enumerate(media.latents):
                values = latent.float().flatten().numpy()  # W&B accepts arrays, though annotated as lists
                shown[f"latent/{i:02d}"] = wandb.Histogram(values)  # pyright: ignore[reportArgumentType]
        self._log({**numbers, **shown, "step": step})

    @unless_gone
    def result(self, folder: Path, report: Mapping[str, Any]) -> None:
        """Log the table, videos, summary, latents and the checkpoint."""
        pictures = report["pictures"]
        self._log({**self._media(folder, report), "step": report["steps"]})
        for name, mean in mean_scores(report).items():
            self.experiment.summary[name.replace(".", "/")] = mean
        run = RunFiles(folder)
        latents = [run.picture(i).latents_file for i in range(len(pictures))]
        self._made("latents", run, [run.config_file, *latents], {"pictures": pictures})
        if run.checkpoint_file.is_file():  # missing if stopped before the first step
            self._made("checkpoint", run, [run.checkpoint_file], {"steps": report["steps"]})

    @unless_gone
    def close(self, error: BaseException | None) -> None:
        """Mark the run as failed if there was an error; if it diverged, also send a W&B alert."""
        if isinstance(error, Diverged):
            self.experiment.summary["reason"] = str(error)
            self.experiment.alert("vqclip: a run diverged", f"{self.experiment.name}: {error}", level="ERROR")
        finish(self.experiment, 1 if error else 0)

    def _media(self, folder: Path, report: Mapping[str, Any]) -> dict[str, Any]:
        """A table with one row per picture, the best pictures, and the videos."""
        import wandb

        config, pictures, run = self.experiment.config.as_dict(), report["pictures"], RunFiles(folder)
        swept = numbers_of((config.get("sweep") or {}).get("swept", {}))
        scores = list(pictures[0]["best"])
        table = wandb.Table(["picture", "prompt", "seed", "settings", *swept, "judge", *scores, "seconds"])
        shown: dict[str, Any] = {"result": table}
        settings = json.dumps(picture_config(config), ensure_ascii=False)
        for i, picture in enumerate(pictures):
            place = run.picture(i)
            best = wandb.Image(str(place.best), caption=f"{picture['prompt']} · {_shown(picture)}")
            judge = picture.get("judge")
            values = [picture["prompt"], picture["seed"], settings, *swept.values(), judge, *picture["best"].values()]
            table.add_data(best, *values, report["seconds"])
            shown[f"best/{i:02d}"] = best
            if (video := place.timelapse).is_file():
                shown[f"timelapse/{i:02d}"] = wandb.Video(str(video), format="mp4")
        if (video := run.interpolation).is_file():
            shown["interpolation"] = wandb.Video(str(video), format="mp4")
        return shown

    def _made(self, kind: str, run: RunFiles, files: list[Path], metadata: dict[str, Any]) -> None:
        import wandb

        artifact = wandb.Artifact(f"{kind}-{self.experiment.id}", kind, metadata=metadata)
        for path in files:
            # Immutable: W&B uploads from the run folder instead of copying the files first.
            artifact.add_file(str(path), str(path.relative_to(run.path)), policy="immutable")
        self.experiment.log_artifact(artifact)

    def _use(self, artifact: Any) -> None:
        if self.experiment.disabled:  # _log_artifact does not check it
            return
        # use_artifact raises offline and waits for the server online; this is what it calls for a new artifact.
        try:
            self.experiment._log_artifact(artifact, is_user_created=True, use_after_commit=True)
        except (AttributeError, TypeError):  # a private method, which another version of W&B may not have
            print("note: this version of W&B is told of no inputs; run.json has their sha256", file=sys.stderr)


def wandb_logger(config: dict, mode: str | None = None, save_dir: str | None = None, **kwargs) -> WandbRun:
    """Make Lightning's logger of a new W&B run with the whole config, without asking questions.

    If the server does not answer within a second (``vqclip.io.wandb_server``), the run is offline.  If it stops
    answering during the run, the end of the run waits for :data:`PATIENCE` seconds.

    Args:
        config: the resolved config.
        mode: online, offline or disabled; None: online if a key is known (``WANDB_API_KEY`` or ``wandb login``), else
            offline.
        save_dir: where W&B stores its files; None: ``WANDB_DIR``, else the run folder.
        kwargs: arguments of ``wandb.init`` (project, entity, name, group, tags, job_type, …).  Those that are None or
            empty come from W&B's environment variables (``WANDB_PROJECT``, ``WANDB_TAGS``, ``WANDB_JOB_TYPE``, …).  By
            default, a run is named by its prompt, and a sweep's job by its swept keys, in the sweep's group.

    Raises:
        UserError: online, without a key, or with a server that only the working folder's W&B settings name.
    """
    known = known_settings(mode)
    mode = wandb_mode(mode, known)
    if mode == "online" and not has_key(known):
        raise UserError(
            "logger.wandb.mode=online: no API key is known. Allowed: after `wandb login` or with WANDB_API_KEY set. "
            "Try: logger.wandb.mode=offline"
        )
    if mode == "online" and not is_reachable(known.base_url):
        mode = _went_offline(f"{known.base_url} does not answer")
    save_dir = save_dir or os.environ.get("WANDB_DIR") or config["paths"]["output_dir"]
    run = _begin(save_dir, config, mode, _arguments(config, kwargs))
    run.define_metric("step", hidden=True)
    run.define_metric("*", step_metric="step")
    if run.offline and not config.get("sweep"):  # a sweep prints it once, at the end
        look, where = shlex.quote(str(Path(run.dir).parent)), shlex.quote(str(save_dir))
        print(f"W&B offline. Look: wandb leet {look}   Upload: vqclip sync {where}")
    logger = WandbRun(experiment=run, save_dir=save_dir, project=run.project, name=run.name)
    logger.first_step = _next_step(run, Path(save_dir))
    return logger


def _begin(folder: str, config: dict, mode: str, arguments: dict[str, Any]):
    import wandb
    from wandb.errors import Error as WandbError

    speed_up_start()
    Path(folder).mkdir(parents=True, exist_ok=True)
    keep_artifacts(Path(folder))
    # If it is the only run of this process, it becomes wandb.run, to which other callbacks log.
    arguments = {"reinit": "create_new" if wandb.run else "default"} | arguments
    begin = partial(
        wandb.init,
        dir=folder,
        config=config,
        resume="allow" if arguments.get("id") else None,
        settings=wandb.Settings(
            silent=True, console="off", init_timeout=PATIENCE, finish_timeout=PATIENCE, finish_timeout_raises=True
        ),
        **arguments,
    )
    try:
        return begin(mode=mode)
    except process_errors():  # W&B's process has ended since the last run
        forget()
        return begin(mode=mode)
    except WandbError as error:
        return begin(mode=_went_offline(str(error).splitlines()[0]))


#: Argument of wandb.init → environment variable.
_ENVIRONMENT = {
    "project": "WANDB_PROJECT",
    "name": "WANDB_NAME",
    "job_type": "WANDB_JOB_TYPE",
    "group": "WANDB_RUN_GROUP",
    "tags": "WANDB_TAGS",
}


def _arguments(config: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of wandb.init: given ones, else from W&B's environment, else our defaults."""
    sweep = config.get("sweep")
    ours = {"project": "vqclip", "job_type": "sweep" if sweep else "run", "name": run_name(config)}
    ours["group"] = sweep["group"] if sweep else None
    if sweep and (run_id := os.environ.get("WANDB_RUN_ID")):  # each job needs an id of its own
        ours["id"] = f"{run_id}-{Path(config['paths']['output_dir']).name}"
    # Read here, since W&B reads its environment once per process, and a notebook may set it later.
    environment: dict[str, Any] = {key: os.environ.get(name) for key, name in _ENVIRONMENT.items()}
    environment["tags"] = [tag.strip() for tag in (environment["tags"] or "").split(",") if tag.strip()]
    found: dict[str, Any] = {}
    for source in (ours, environment, asked):
        found |= {key: value for key, value in source.items() if value not in (None, [], "")}
    return found


def _next_step(run: Any, folder: Path) -> int | None:
    """W&B's step to continue with; offline it would restart at 0, and the server would drop the rows."""
    parts = [path for path in records_of(folder, run.id) if path.parent != Path(run.dir).parent]
    last = max(map(last_step, parts), default=-1)
    return last + 1 if last >= run.step else None


def finish(run: Any, status: int) -> None:
    """Finish a run, and print a note if its data are not all on the server yet."""
    record = Path(run.dir).parent / f"run-{run.id}.wandb"
    online = not run.offline and not run.disabled
    try:
        run.finish(exit_code=status)
    except TimeoutError:
        print(f"W&B: not everything is uploaded. Later: vqclip sync {shlex.quote(str(record.parent))}", file=sys.stderr)
        return
    if online and record.exists():
        mark_uploaded(record)


def _went_offline(reason: str) -> str:
    # W&B's telemetry goes to the same server and would delay the process's exit by ten seconds.
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    print(f"W&B: {reason}; this run goes on offline", file=sys.stderr)
    return "offline"


def _artifact_name(kind: str, name: str, digest: str) -> str:
    """A name with only the characters that W&B allows for artifacts, and at most 128 of them."""
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
    return f"{kind}-{plain if len(plain) <= 100 else f'{plain[:100]}-{digest[:8]}'}"


def _add_note(artifact: Any, note: Mapping[str, str]) -> None:
    """Add a file that identifies an artifact, since W&B takes artifacts without files for equal."""
    with artifact.new_file("sha256.json") as file:
        json.dump(note, file)


def _shown(picture: Mapping[str, Any]) -> str:
    scores = {"judge": picture["judge"]} if "judge" in picture else {}
    scores |= {name: value for name, value in picture["best"].items() if name != "step"}
    return " ".join(f"{name} {value:.3f}" for name, value in scores.items())
