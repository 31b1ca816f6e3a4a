"""Weights & Biases.  ``step`` is the metric of every axis, and W&B's own counter is left alone.

So any other callback may log too: with an explicit step, W&B drops every row that comes after a higher one.
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
from vqclip.io.run_files import PictureFolder, RunFiles
from vqclip.io.wandb_server import has_key, is_reachable, known_settings, wandb_mode
from vqclip.loggers.base import Media, RunView, mean_scores, numbers_of, run_name
from vqclip.loggers.wandb_files import last_step, mark_uploaded, records_of
from vqclip.loggers.wandb_process import forget, gone, while_it_lives
from vqclip.loggers.wandb_startup import keep_artifacts, speed_up_start

__all__ = ["WandbRun", "finish", "wandb_logger"]

#: Seconds that W&B's server may take to begin a run, and to take the rest of its data when it ends.
PATIENCE = 10


class WandbRun(RunView, WandbLogger):
    """One run of W&B: rows and pictures by ``step``, a table, artifacts with their lineage."""

    #: W&B's own step of the next row, where the run has rows that W&B does not know of here.
    first_step: int | None = None
    is_gone = False  #: whether W&B's process ended before the run

    @while_it_lives
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """What other callbacks log: Lightning's own step beside ours, so that their curves have our axis."""
        axes = {} if step is None else {"step": step, "trainer/global_step": step}
        self._log({**metrics, **axes})

    def _log(self, row: Mapping[str, Any]) -> None:
        first, self.first_step = self.first_step, None
        self.experiment.log(dict(row), step=first, commit=True)

    @while_it_lives
    def begin(self, report: Mapping[str, Any]) -> None:
        """Weights and versions into the config; weights and input pictures as artifacts that the run used."""
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
            if Path(path).is_dir():  # the run that ``init=run`` starts from: its latents, by their sha256
                _add_note(used, {"name": path, "sha256": digest})
            else:
                used.add_file(path)
            self._use(used)

    @while_it_lives
    def show(self, step: int, numbers: Mapping[str, float], media: Media | None) -> None:
        import wandb

        shown: dict[str, Any] = {}
        if media:
            for name, (_, caption, file) in media.pictures().items():
                shown[name] = wandb.Image(str(file), caption=caption)  # no second PNG of the same
            for i, latent in enumerate(media.latents):
                values = latent.float().flatten().numpy()  # as numpy has it: W&B's annotation knows lists only
                shown[f"latent/{i:02d}"] = wandb.Histogram(values)  # pyright: ignore[reportArgumentType]
        self._log({**numbers, **shown, "step": step})

    @while_it_lives
    def result(self, folder: Path, report: Mapping[str, Any]) -> None:
        """Table, videos, summary, latents and the resume point."""
        pictures = report["pictures"]
        self._log({**self._media(folder, report), "step": report["steps"]})
        for name, mean in mean_scores(report).items():
            self.experiment.summary[name.replace(".", "/")] = mean
        run = RunFiles(folder)
        latents = [PictureFolder(run, i).latents_file for i in range(len(pictures))]
        self._made("latents", run, [run.config_file, *latents], {"pictures": pictures})
        if run.checkpoint_file.is_file():  # not where a run was stopped before its first step
            self._made("checkpoint", run, [run.checkpoint_file], {"steps": report["steps"]})

    @while_it_lives
    def close(self, error: BaseException | None) -> None:
        """Mark the run failed where there was an error; of a divergence also send an alert of W&B's."""
        if isinstance(error, Diverged):
            self.experiment.summary["reason"] = str(error)
            self.experiment.alert("vqclip: a run diverged", f"{self.experiment.name}: {error}", level="ERROR")
        finish(self.experiment, 1 if error else 0)

    def _media(self, folder: Path, report: Mapping[str, Any]) -> dict[str, Any]:
        """A table with a row a picture, the best pictures, the videos."""
        import wandb

        config, pictures, run = self.experiment.config.as_dict(), report["pictures"], RunFiles(folder)
        swept = numbers_of((config.get("sweep") or {}).get("swept", {}))
        scores = list(pictures[0]["best"])
        table = wandb.Table(["picture", "prompt", "seed", "settings", *swept, "judge", *scores, "seconds"])
        shown: dict[str, Any] = {"result": table}
        settings = json.dumps(picture_config(config), ensure_ascii=False)
        for i, picture in enumerate(pictures):
            place = PictureFolder(run, i)
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
            # Immutable: W&B reads the run folder's own files when it uploads, and keeps no copy of them.
            artifact.add_file(str(path), str(path.relative_to(run.path)), policy="immutable")
        self.experiment.log_artifact(artifact)

    def _use(self, artifact: Any) -> None:
        if self.experiment.disabled:  # all else of W&B's knows it by itself
            return
        # use_artifact refuses offline, and online waits for the server; this is what it does with a new artifact.
        self.experiment._log_artifact(artifact, is_user_created=True, use_after_commit=True)


def wandb_logger(config: dict, mode: str | None = None, save_dir: str | None = None, **kwargs) -> WandbRun:
    """Lightning's logger around a W&B run of its own, with the whole config at its start, and no question asked.

    Where the server does not answer within a second (``vqclip.io.wandb_server``), the run goes offline.  One that stops
    answering while the run goes on costs :data:`PATIENCE` at its end.

    Args:
        config: the resolved config.
        mode: online, offline or disabled; None is online where a key is known (``WANDB_API_KEY`` or ``wandb
            login``), else offline.
        save_dir: where W&B keeps its files; None is ``WANDB_DIR``, else the run folder.
        kwargs: go to ``wandb.init`` (project, entity, name, group, tags, job_type, …).  One that is None or empty is
            what W&B's own environment says (``WANDB_PROJECT``, ``WANDB_TAGS``, ``WANDB_JOB_TYPE``, …); where that
            says nothing, a run is named by its prompt, and a job of a sweep by its swept keys, in the sweep's group.

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
    if run.offline and not config.get("sweep"):  # of a sweep it is said once, at its end
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
    # Where it is the one run of this process, it is wandb.run, which other people's callbacks log to.
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
    except gone():  # its process ended since the last run of this one
        forget()
        return begin(mode=mode)
    except WandbError as error:
        return begin(mode=_went_offline(str(error).splitlines()[0]))


#: wandb.init's argument → what says it in the environment.
_ENVIRONMENT = {
    "project": "WANDB_PROJECT",
    "name": "WANDB_NAME",
    "job_type": "WANDB_JOB_TYPE",
    "group": "WANDB_RUN_GROUP",
    "tags": "WANDB_TAGS",
}


def _arguments(config: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, then what W&B's environment says, then our own."""
    sweep = config.get("sweep")
    ours = {"project": "vqclip", "job_type": "sweep" if sweep else "run", "name": run_name(config)}
    ours["group"] = sweep["group"] if sweep else None
    if sweep and (run_id := os.environ.get("WANDB_RUN_ID")):  # else W&B would take all jobs for one run
        ours["id"] = f"{run_id}-{Path(config['paths']['output_dir']).name}"
    # Read here: W&B reads its environment once a process, a notebook may set it later.
    environment: dict[str, Any] = {key: os.environ.get(name) for key, name in _ENVIRONMENT.items()}
    environment["tags"] = [tag.strip() for tag in (environment["tags"] or "").split(",") if tag.strip()]
    found: dict[str, Any] = {}
    for source in (ours, environment, asked):
        found |= {key: value for key, value in source.items() if value not in (None, [], "")}
    return found


def _next_step(run: Any, folder: Path) -> int | None:
    """W&B's own step to go on with: offline it would begin at 0 again, and its server take the rows for old ones."""
    parts = [path for path in records_of(folder, run.id) if path.parent != Path(run.dir).parent]
    last = max(map(last_step, parts), default=-1)
    return last + 1 if last >= run.step else None


def finish(run: Any, status: int) -> None:
    """End a run; say so where its data are not all on the server yet."""
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
    # Else W&B's telemetry, which goes to the same server, holds the process up for ten seconds at its end.
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    print(f"W&B: {reason}; this run goes on offline", file=sys.stderr)
    return "offline"


def _artifact_name(kind: str, name: str, digest: str) -> str:
    """A name with only the characters that W&B allows in an artifact's, and of no more than its 128."""
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
    return f"{kind}-{plain if len(plain) <= 100 else f'{plain[:100]}-{digest[:8]}'}"


def _add_note(artifact: Any, note: Mapping[str, str]) -> None:
    """A file that says what an artifact is: W&B takes two artifacts without files for the same."""
    with artifact.new_file("sha256.json") as file:
        json.dump(note, file)


def _shown(picture: Mapping[str, Any]) -> str:
    scores = {"judge": picture["judge"]} if "judge" in picture else {}
    scores |= {name: value for name, value in picture["best"].items() if name != "step"}
    return " ".join(f"{name} {value:.3f}" for name, value in scores.items())
