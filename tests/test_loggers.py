"""Loggers: what W&B's own reader finds on disk, and what a server that is not there costs."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
import pytorch_lightning as pl
import wandb
from pytorch_lightning.loggers import Logger
from test_resume import FORKS, wait_for_rows
from test_sweep import sweep
from wandb_records import records, rows_of

from vqclip import UserError, run
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve
from vqclip.loggers import wandb_logger
from vqclip.loggers.base import RunView, numbers_of, run_name
from vqclip.loggers.open import _more, open_loggers
from vqclip.loggers.sweep import SweepView, end_sweep
from vqclip.loggers.wandb import _arguments
from vqclip.loggers.wandb_sweep import _column
from vqclip.runs.checkpoint import read_checkpoint
from vqclip.runs.folder import RunFolder


def test_every_job_of_a_sweep_is_a_run_of_its_own(wandb_pair, tmp_path, capsys):
    good = Path(wandb_pair[0].partition("=")[2])
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(good.read_bytes()[:-1000])
    folder = tmp_path / "multirun" / "foxes"
    generators = f"checkpoints.generator.path={good},{broken}"
    words = [f"hydra.sweep.dir={folder}", "loss.beta=0,.5", "prompts.exclude=blurry", "tags=[try]", "a fox"]
    assert sweep(*words, generators, pair=wandb_pair[1:]) == 1
    out = capsys.readouterr().out
    assert out.count("wandb leet") == 1 and f"vqclip sync {folder}" in out  # once, for all

    found = {n: records(folder / str(n)) for n in range(4)}
    runs = {n: found[n]["run"][0] for n in range(4)}
    assert len({own["run_id"] for own in runs.values()}) == 4
    assert len({own["run_group"] for own in runs.values()}) == 1
    for n, own in runs.items():
        assert own["job_type"] == "sweep" and own["tags"] == ["try"] and own["project"] == "vqclip"
        config = own["config"]["update"]
        swept = config["sweep"]["swept"]
        assert own["display_name"].startswith("beta=") and len(own["display_name"]) <= 64
        assert config["loss"]["beta"] == float(swept["loss.beta"]) and config["prompts"]["exclude"] == "blurry"
        status = json.loads((folder / str(n) / "run.json").read_text())["status"]
        assert found[n]["exit"][0].get("exit_code", 0) == (0 if status == "finished" else 1)
    good_runs = [n for n in range(4) if found[n]["exit"][0].get("exit_code", 0) == 0]
    assert len(good_runs) == 2

    for n in good_runs:
        report = json.loads((folder / str(n) / "run.json").read_text())
        rows = rows_of(found[n])
        assert sorted(rows) == [0, 1, 2, 3, 4]
        for step, row in rows.items():
            assert (step == 0) or {"loss", "include", "exclude", "anchor", "lr", "noise"} <= set(row)
            pictures = {key for key in row if key.endswith("._type") and row[key] == "image-file"}
            assert ({"picture/00._type", "crop/00._type"} <= pictures) == (step in (0, 2, 4))
        summary = {k: v for entry in found[n]["summary"] for k, v in entry.get("update", {}).items()}
        last = rows[4]
        assert last["result._type"] == "table-file" and last["result.nrows"] == 1
        assert last["timelapse/00._type"] == "video-file"
        [files] = (folder / str(n)).glob("wandb/offline-run-*/files")
        table = json.loads((files / last["result.path"]).read_text())
        values = dict(zip(table["columns"], table["data"][0], strict=True))
        assert values["judge"] == summary["judge"] == report["pictures"][0]["judge"]
        assert values["prompt"] == "a fox" and values["score"] == report["pictures"][0]["best"]["score"]
        assert values["loss.beta"] in (0, 0.5) and json.loads(values["settings"])["steps"] == 4
        for kind in ("best", "final"):
            assert summary[f"{kind}/score"] == report["pictures"][0][kind]["score"]
        contents = {c["path"]: c["local_path"] for a in found[n]["artifact"] for c in a["manifest"].get("contents", [])}
        assert contents["picture-00/latents.safetensors"] == str(folder / str(n) / "picture-00" / "latents.safetensors")
        assert "config.yaml" in contents

    whole = records(folder)
    [own] = whole["run"]
    assert own["run_id"] == json.loads((folder / "sweep.json").read_text())["wandb"]
    assert own["job_type"] == "comparison" and own["run_group"] == own["display_name"] == runs[0]["run_group"]
    [row] = [record["item"] for record in whole["history"]]
    assert row["comparison.nrows"] == 4 and row["finished"] == 2 and row["judge.best"] >= row["judge.mean"]
    assert row["sheet._type"] == "image-file" and row["page._type"] == "html-file"
    [made] = [artifact for artifact in whole["artifact"] if artifact["type"] == "comparison"]
    assert {c["path"] for c in made["manifest"]["contents"]} == {"compare.png", "compare.html", "results.csv"}


def test_a_table_of_a_sweep_over_null_and_a_number_has_its_column_as_text(wandb_pair, tmp_path, capsys):
    """W&B's table takes no column of both: the sweep ended in a traceback, its jobs done."""
    assert sweep(f"hydra.sweep.dir={tmp_path}", "optimizer.clip=null,1", "a fox", pair=wandb_pair) == 0
    said = capsys.readouterr().err
    assert "next: vqclip" in said and "the comparison is not there" not in said
    assert [record["item"]["comparison.nrows"] for record in records(tmp_path)["history"]] == [2]
    assert _column(["1984", "", "-.5"]) == [1984, None, -0.5] and _column(["1984", "", "a"]) == ["1984", None, "a"]


def test_a_job_of_a_sweep_over_nothing_is_named_by_its_prompt():
    """It had no name at all."""
    job = {"prompts": {"include": "a fox"}, "sweep": {"group": "g", "swept": {}}}
    assert run_name(job) == "a fox" and run_name(job | {"sweep": {"group": "g", "swept": {"seed": "1"}}}) == "seed=1"


class Refusing(SweepView):
    def end(self, report):
        raise TypeError("no such table")


def test_what_a_logger_makes_of_a_finished_sweep_fails_nothing(tmp_path, capsys):
    end_sweep([Refusing("mine", {}, "group")], tmp_path, [])
    assert capsys.readouterr().err == "logger.mine: the comparison is not there: no such table\n"


def test_a_run_from_another_one_and_a_file_of_a_long_name_are_artifacts(wandb_pair, small_pair, tmp_path):
    first = run("a fox", small_pair, tmp_path / "first").folder
    long = tmp_path / f"{'x' * 150}.png"
    long.write_bytes((first / "picture-00/best.png").read_bytes())
    extra, start = f"prompts.extras={{image: '{long}'}}", ["init=run", f"init.run={first}"]
    words = [*(word for word in wandb_pair if not word.startswith("init=")), *start, extra]
    folder = run("a fox", words, tmp_path / "second").folder
    used = {one["name"]: one for one in records(folder)["artifact"]}
    assert [one["path"] for one in used["input-first"]["manifest"]["contents"]] == ["sha256.json"]
    digest = json.loads((folder / "run.json").read_text())["inputs"][str(long)]
    [name] = [name for name in used if name.startswith("input-xxx")]
    assert name == f"input-{'x' * 100}-{digest[:8]}"
    known = json.loads((folder / "run.json").read_text())["wandb"]
    run(None, [f"resume={folder}", "steps=6", "logger=none"])
    assert json.loads((folder / "run.json").read_text())["wandb"] == known  # where the next resume goes on


class Stubborn(RunView, Logger):
    closed: ClassVar = []
    name, version = "stubborn", 0

    def __init__(self, fails):
        self.fails = fails

    def log_hyperparams(self, params, *args, **kwargs):
        pass

    def log_metrics(self, metrics, step=None):
        pass

    def close(self, error):
        self.closed.append(self.fails)
        if self.fails:
            raise OSError("the server is gone")


def test_a_logger_that_cannot_be_closed_keeps_no_other_open(tmp_path):
    Stubborn.closed.clear()
    own = {name: {"_target_": f"{__name__}.Stubborn", "fails": name == "one"} for name in ("one", "two")}
    config = {"logger": own, "paths": {"output_dir": str(tmp_path)}}
    with pytest.raises(OSError, match="the server is gone"), open_loggers(config, config, {}):
        pass
    assert Stubborn.closed == [True, False]


def test_a_sweep_has_a_run_where_one_of_its_jobs_has(wandb_pair, tmp_path):
    none, some = tmp_path / "none", tmp_path / "some"
    assert sweep(f"hydra.sweep.dir={none}", "logger=none,csv", "a fox", pair=wandb_pair) == 0
    assert not (none / "sweep.json").exists() and not list(none.rglob("wandb"))
    presets = tmp_path / "own" / "experiment"
    presets.mkdir(parents=True)
    for seed, logger in enumerate(("csv", "wandb")):
        lines = ["# @package _global_", f"defaults: [{{override /logger: {logger}}}]", f"seed: {seed}"]
        (presets / f"{logger}_{seed}.yaml").write_text("\n".join(lines))
    words = ["--config-dir", str(presets.parent), f"hydra.sweep.dir={some}"]
    assert sweep(*words, "experiment=csv_0,wandb_1", "a fox", pair=wandb_pair) == 0
    assert not (some / "0/wandb").exists() and len(records(some / "1")["run"]) == 1
    assert records(some)["history"][0]["item"]["comparison.nrows"] == 2


def test_loggers_of_one_class_stand_beside_each_other_and_go_on_in_their_own_runs(wandb_pair, tmp_path, monkeypatch):
    monkeypatch.setenv("VQCLIP_TRUST", "pytorch_lightning")
    lightning = f"{{_target_:pytorch_lightning.loggers.WandbLogger,offline:true,save_dir:{tmp_path}/theirs}}"
    ours = f"{{_target_:vqclip.loggers.wandb_logger,project:other,save_dir:{tmp_path}/ours}}"
    more = [f"+logger.second={ours}", f"+logger.third={lightning}"]
    run("a fox", [*wandb_pair, *more], tmp_path / "run")
    first = json.loads((tmp_path / "run/run.json").read_text())
    run(overrides=[f"resume={tmp_path}/run", "steps=6", "logger=wandb", *more])
    again = json.loads((tmp_path / "run/run.json").read_text())
    assert first["wandb"] == again["wandb"] and first["loggers"] == again["loggers"]
    ids = {"run": again["wandb"], "ours": again["loggers"]["second"], "theirs": again["loggers"]["third"]}
    assert len(set(ids.values())) == 3
    for folder, id in ids.items():
        found = records(tmp_path / folder, parts=2)
        assert {own["run_id"] for own in found["run"]} == {id}
        logged = [record["item"] for record in found["history"] if "loss" in record["item"]]
        axis = "trainer/global_step" if folder == "theirs" else "step"
        assert [row[axis] for row in logged] == list(range(1, 7)), folder


def test_every_job_is_a_run_of_its_own_with_lightnings_logger_too(wandb_pair, tmp_path):
    lightning = "+logger.w={_target_:pytorch_lightning.loggers.WandbLogger,offline:true,save_dir:'${paths.output_dir}'}"
    assert sweep(f"hydra.sweep.dir={tmp_path}", "seed=0,1", "logger=none", lightning, "a fox", pair=wandb_pair) == 0
    found = [records(tmp_path / job) for job in "01"]
    assert len({own["run"][0]["run_id"] for own in found}) == 2
    for own in found:
        logged = [record["item"]["trainer/global_step"] for record in own["history"] if "loss" in record["item"]]
        assert logged == [1, 2, 3, 4] and own["exit"]


def test_a_run_of_ones_own_around_ours_goes_on(wandb_pair, tmp_path):
    lightning = f"{{_target_:pytorch_lightning.loggers.WandbLogger,offline:true,save_dir:{tmp_path}/l}}"
    with wandb.init(mode="offline", project="mine", dir=tmp_path) as mine:
        ours = run("a fox", wandb_pair, tmp_path / "ours")
        run("a fox", [*wandb_pair, "logger=none", f"+logger.w={lightning}"], tmp_path / "theirs")  # Lightning takes it
        mine.log({"after": 1})
        assert wandb.run is mine and ours.report["wandb"] != mine.id
    logged = [record["item"] for record in records(tmp_path)["history"]]
    assert sum("loss" in row for row in logged) == 4 and "after" in logged[-1]


class LogsByItself(pl.Callback):
    """As many a script does: to whatever run W&B has open."""

    def on_train_batch_end(self, trainer, *_):
        wandb.log({"mine": trainer.global_step})


def test_a_callback_that_calls_wandb_itself_logs_to_our_run(wandb_pair, tmp_path):
    run("a fox", wandb_pair, tmp_path / "one", callbacks=[LogsByItself()])
    found = [record["item"] for record in records(tmp_path / "one")["history"]]
    assert [row["mine"] for row in found if "mine" in row] == [1, 2, 3, 4]
    assert [row["step"] for row in found if "loss" in row] == [1, 2, 3, 4]
    assert wandb.run is None  # the next run of this process gets its own


def end_wandbs_process():
    """What a cluster's signal to every process of a job does to it, or a machine without memory."""
    process = wandb.setup().assert_service()._proc._process
    process.kill()
    process.wait()


class EndsWandb(pl.Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 2:
            end_wandbs_process()


def test_a_run_goes_on_without_wandbs_process(wandb_pair, tmp_path, capsys):
    done = run("a fox", wandb_pair, tmp_path / "one", callbacks=[EndsWandb()])
    assert done.status == "finished" and len((done.folder / "metrics.csv").read_text().splitlines()) == 1 + 4
    assert capsys.readouterr().err.count("its process has ended") == 1
    run("a fox", wandb_pair, tmp_path / "two")  # has a process again
    end_wandbs_process()
    run("a fox", wandb_pair, tmp_path / "three")
    for name in ("two", "three"):
        found = records(tmp_path / name)
        assert [record["item"]["step"] for record in found["history"] if "loss" in record["item"]] == [1, 2, 3, 4]
        assert "exit" in found


def test_wandbs_process_of_another_program_may_have_ended(wandb_pair, tmp_path, monkeypatch):
    """A terminal, or the server of these tests' processes, keeps its address."""
    wandb.teardown()
    monkeypatch.setenv("WANDB_SERVICE", "3-1-unix-/nowhere")
    assert run("a fox", wandb_pair, tmp_path / "one").status == "finished"
    assert "exit" in records(tmp_path / "one")


def test_one_run_id_of_the_environment_is_an_id_a_job(monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    job = resolve(compose(["+sweep={group:g,threads:1,job:1,of:3,swept:{seed:1}}"], output_dir="grown/2"))
    assert _arguments(job, {})["id"] == "mine-2" and _arguments(job, {"id": "own"})["id"] == "own"
    assert "id" not in _arguments(resolve(compose([])), {})  # W&B reads it itself
    node = {"_target_": "vqclip.loggers.wandb_logger", "id": "own"}
    assert _more(node, job, None, False)["id"] == _more(node, job, "own-2", False)["id"] == "own-2"
    assert "id" not in _more(node, resolve(compose([])), None, False)
    assert "id" not in _more(node, job | {"paths": {"output_dir": "outputs/23-59-59"}}, None, False)  # of a rerun


def test_what_was_swept_is_a_number_where_one_was_typed():
    numbers = {"3": 3, "-1": -1, ".5": 0.5, "1e-3": 0.001, "+2.": 2.0}
    assert numbers_of(dict(zip(numbers, numbers, strict=True))) == numbers
    texts = ["007", "2026_11", "inf", "nan", "1e400", "\u0663", "", "true", "a fox", " 1"]
    assert list(numbers_of(dict(zip(texts, texts, strict=True))).values()) == texts


def test_a_single_run_asks_nothing_and_has_no_group(wandb_pair, tmp_path, capsys):
    folder = run(["a fox", "an owl"], wandb_pair, tmp_path / "run").folder
    assert "wandb leet" in capsys.readouterr().out
    own = records(folder)
    assert "run_group" not in own["run"][0] and own["run"][0]["job_type"] == "run"
    assert own["run"][0]["display_name"] == "a fox and 1 more" and own["run"][0]["project"] == "vqclip"
    row = rows_of(own)[4]
    assert {"include/00", "include/01", "picture/01._type", "best/01._type"} <= set(row)


def test_disabled_leaves_nothing_and_a_wrong_mode_is_a_sentence(wandb_pair, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert run("a fox", wandb_pair, tmp_path / "off").status == "finished" and not (tmp_path / "off/wandb").exists()
    monkeypatch.delenv("WANDB_MODE")
    assert run("a fox", [*wandb_pair, "logger.wandb.mode=disabled"], tmp_path / "key").status == "finished"
    monkeypatch.setenv("WANDB_MODE", "nonsense")
    code = "import sys; from vqclip.io.wandb_server import probe; probe(None)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=600).returncode == 0
    )  # the logger will say it


def test_online_without_a_key_is_refused(wandb_pair, tmp_path):
    with pytest.raises(UserError, match=r"mode=online: no API key is known.*Try: logger\.wandb\.mode=offline"):
        wandb_logger({"sweep": None}, "online", project="vqclip")


def test_a_project_may_have_settings_of_wandbs(wandb_pair, tmp_path):
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb/settings").write_text("[default]\nproject = mine\nbase_url = http://127.0.0.1:1\n")
    for name in ("config.yaml", "run.json"):
        (tmp_path / name).touch()
    command = [sys.executable, "-m", "vqclip", "a fox", *wandb_pair, "steps=1", "hydra.run.dir=run"]
    known = os.environ | {"WANDB_API_KEY": "x" * 40}

    def ran(*words):
        return subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True, env=known, timeout=600)

    done = ran()
    assert done.returncode == 2 and "W&B would send your key there" in done.stderr and "export" in done.stderr
    done = ran("logger.wandb.mode=offline")
    assert done.returncode == 0, done.stderr


def _with_a_server(port, folder, overrides):
    os.environ.update({"WANDB_API_KEY": "x" * 40, "WANDB_BASE_URL": f"http://127.0.0.1:{port}"})
    os.dup2(os.open(f"{folder}.err", os.O_CREAT | os.O_WRONLY), 2)
    began = time.perf_counter()
    experiment = wandb_logger({"sweep": None}, None, f"{folder}-alone", project="vqclip").experiment
    experiment.log({"loss": 1})
    experiment.finish()
    Path(f"{folder}.txt").write_text(str(time.perf_counter() - began))
    run("a fox", overrides, folder)


def test_a_server_is_asked_once_whether_it_answers(wandb_pair, tmp_path):
    """In the background while a command starts; the logger waits for that answer."""
    code = (
        "from vqclip.io.wandb_server import is_reachable, known_settings, probe; probe('online');"
        "print(is_reachable(known_settings().base_url))"
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:  # never answers
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        known = {**os.environ, "WANDB_API_KEY": "x" * 40, "WANDB_BASE_URL": url}
        asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=known, timeout=600)
        assert asked.stdout == "False\n"
        listening.setblocking(False)
        listening.accept()
        with pytest.raises(BlockingIOError):
            listening.accept()


@pytest.mark.parametrize("server", ["dead", "silent"])
def test_a_server_that_is_not_there_costs_a_second(wandb_pair, tmp_path, server):
    with socket.create_server(("127.0.0.1", 0)) as listening:  # takes connections, never answers
        port = listening.getsockname()[1]
        if server == "dead":
            listening.close()
        folder = tmp_path / "run"
        child = FORKS.Process(target=_with_a_server, args=(port, folder, wandb_pair))
        child.start()
        child.join(100)
        assert child.exitcode == 0
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
    assert records(folder)["exit"][0].get("exit_code", 0) == 0
    assert "does not answer; this run goes on offline" in (tmp_path / "run.err").read_text()
    # W&B alone would wait 90 seconds and then fail.  It starts in about one; a busy machine took ten.
    assert float((tmp_path / "run.txt").read_text()) < 30


def test_tensorboard_has_the_same_numbers_and_pictures(small_pair, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    overrides = [word for word in small_pair if not word.startswith("logger=")]
    folder = run("a fox", [*overrides, "logger=tensorboard"], tmp_path / "run").folder
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert {"loss", "include", "lr"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Images("picture/00")] == [0, 2, 4]


def test_tensorboard_has_a_table_of_a_sweeps_jobs(small_pair, tmp_path):
    """What was swept and the final scores, in HPARAMS: it had neither, of jobs that are called 0 and 1."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    overrides = [word for word in small_pair if not word.startswith("logger=")]
    words = [f"hydra.sweep.dir={tmp_path}", "loss.beta=0,.5", "logger=tensorboard", "a fox"]
    assert sweep(*words, pair=overrides) == 0
    for job, beta in (("0", 0), ("1", 0.5)):
        events = accumulator.EventAccumulator(str(tmp_path / job / "tensorboard"))
        events.Reload()
        begun = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        shown = HParamsPluginData.FromString(begun).session_start_info.hparams
        assert {key: value.number_value for key, value in shown.items()} == {"loss.beta": beta}
        [picture] = json.loads((tmp_path / job / "run.json").read_text())["pictures"]
        scores = {name: events.Scalars(name) for name in ("judge", "best/score", "final/include")}
        assert {name: [(one.step, round(one.value, 5)) for one in rows] for name, rows in scores.items()} == {
            "judge": [(4, round(picture["judge"], 5))],
            "best/score": [(4, round(picture["best"]["score"], 5))],
            "final/include": [(4, round(picture["final"]["include"], 5))],
        }
        assert "judge" not in (tmp_path / job / "metrics.csv").read_text()


class Minimal(Logger):
    """As little as Lightning asks of a logger, and a ``log_image`` of its own making."""

    name, version = "minimal", "1"

    made: ClassVar[list] = []

    def __init__(self):
        super().__init__()
        self.rows, self.shown, self.config = [], [], {}
        self.made.append(self)

    def log_hyperparams(self, params, *args, **kwargs):
        self.config = params

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, metrics))

    def log_image(self, picture, step):
        self.shown.append((picture, step))


class AsLightning(Minimal):
    def log_image(self, key, images, step=None, **kwargs):
        assert kwargs["caption"] and images[0].shape[0] == 3
        self.shown.append((key, step))


class Unlike(Minimal):
    log_image = "a folder"


class OfArrays(Minimal):
    def log_image(self, key, images, step=None, caption=None):
        raise OSError(f"{key} is no array")


def test_a_logger_of_ones_own_needs_no_more_than_lightning_asks(small_pair, tmp_path, caplog):
    """Pictures go where ``log_image`` takes what Lightning's takes; of another the run tells once, and goes on."""
    Minimal.made.clear()
    overrides = [word for word in small_pair if not word.startswith("logger=")]
    names = ("Minimal", "AsLightning", "Unlike", "OfArrays")
    loggers = ",".join(f"{name.lower()}:{{_target_:{__name__}.{name}}}" for name in names)
    run("a fox", [*overrides, f"logger={{{loggers}}}"], tmp_path / "run")
    for logger in Minimal.made:
        assert {"loss", "include", "lr"} <= set(dict(logger.rows)[4]) and logger.config["seed"] == 0
    minimal, as_lightning, unlike, _ = Minimal.made
    told = [line for line in caplog.messages if "log_image" in line]
    assert [line.partition(":")[0] for line in told] == ["Minimal", "OfArrays"] and "is no array" in told[1]
    assert minimal.shown == unlike.shown == []
    assert [step for name, step in as_lightning.shown if name == "picture/00"] == [0, 2, 4]


def test_no_two_write_one_metrics_file(small_pair, tmp_path):
    overrides = [word for word in small_pair if not word.startswith("logger=")]
    csv = "_target_: pytorch_lightning.loggers.CSVLogger, save_dir: '${paths.output_dir}'"
    for number, loggers in enumerate(
        [f"mine: {{{csv}, name: '', version: ''}}", f"one: {{{csv}, version: a}}, mine: {{{csv}, version: a}}"]
    ):
        with pytest.raises(UserError, match=r"logger.mine: .*metrics.csv is written already. Try: logger.mine.name"):
            run("a fox", [*overrides, f"logger={{{loggers}}}"], tmp_path / str(number))
    run("a fox", [*overrides, f"logger={{one: {{{csv}}}, mine: {{{csv}}}}}"], tmp_path / "run")
    assert len(list((tmp_path / "run").rglob("metrics.csv"))) == 3


STOCK = {
    "rate": "pytorch_lightning.callbacks.LearningRateMonitor,logging_interval:step",
    "device": "pytorch_lightning.callbacks.DeviceStatsMonitor,cpu_stats:true",
    "keeper": "pytorch_lightning.callbacks.ModelCheckpoint,monitor:score,mode:max,save_top_k:1",
    "bar": "pytorch_lightning.callbacks.TQDMProgressBar",
}


def stock(*names):
    return [f"+callbacks.{name}={{_target_:{STOCK[name]}}}" for name in names]


@pytest.mark.parametrize("names", [["rate"], list(STOCK)], ids=["alone", "together"])
def test_nothing_is_lost_beside_stock_callbacks(wandb_pair, tmp_path, names):
    """W&B drops what has a lower step than the row before: other callbacks' rows count as well."""
    pytest.importorskip("psutil")
    folder = run("a fox", [*wandb_pair, *stock(*names), "snapshot_every=2"], tmp_path / "run").folder
    own = records(folder)
    rows = rows_of(own)
    assert [step for step, row in sorted(rows.items()) if "loss" in row] == [1, 2, 3, 4]
    assert [step for step, row in sorted(rows.items()) if "picture/00._type" in row] == [0, 2, 4]
    assert [step for step, row in sorted(rows.items()) if "latent/00._type" in row] == [0, 2, 4]
    assert rows[4]["result._type"] == "table-file" and "lr-Adam" in rows[1]
    assert {"latents", "checkpoint", "weights"} <= {record["type"] for record in own["artifact"]}
    sent = {key: value for entry in own["config"] for key, value in entry["update"].items()}
    assert sent["weights"] == json.loads((folder / "run.json").read_text())["weights"]
    if "keeper" in names:
        assert list(folder.rglob("epoch=*.ckpt"))


def _resumed_by_wandb(folder, overrides, prompts):
    os.dup2(os.open(f"{folder}.err", os.O_CREAT | os.O_WRONLY), 2)
    run(prompts, overrides, folder)


@pytest.mark.parametrize("names", [["rate"], ["device"], list(STOCK)], ids=["rate", "device", "together"])
def test_nothing_is_lost_after_a_resume(wandb_pair, tmp_path, monkeypatch, names):
    """Two records, one run: every step, picture and table is in one or the other, and none was taken for old."""
    pytest.importorskip("psutil")
    folder, long = tmp_path / "run", ["steps=20", "snapshot_every=5"]
    child = FORKS.Process(target=_resumed_by_wandb, args=(folder, [*wandb_pair, *stock(*names), *long], "a fox"))
    child.start()
    wait_for_rows(child, folder, 8)
    child.terminate()
    child.join(60)
    assert child.exitcode == 128 + signal.SIGTERM
    done = read_checkpoint(RunFolder(folder))["global_step"]
    monkeypatch.setenv("VQCLIP_TRUST", "pytorch_lightning")
    run(None, [f"resume={folder}"])
    own = records(folder, parts=2)
    assert len({record["run_id"] for record in own["run"]}) == 1 and [r.get("resume") for r in own["run"]] == [
        None,
        True,
    ]
    assert [record.get("exit_code", 0) for record in own["exit"]] == [1, 0]
    rows = rows_of(own)
    assert [step for step, row in sorted(rows.items()) if "loss" in row] == list(range(1, 21))
    assert [step for step, row in sorted(rows.items()) if "picture/00._type" in row] == list(range(0, 21, 5))
    assert [step for step, row in sorted(rows.items()) if "latent/00._type" in row] == list(range(0, 21, 5))
    assert rows[20]["result._type"] == "table-file" and 8 <= done < 20
    # Theirs count from 0, Lightning's own step; the signal came before their turn in step ``done``.
    for name, key in {"rate": "lr-Adam", "device": "DeviceStatsMonitor.on_train_batch_start/cpu_percent"}.items():
        if name in names:
            assert [step for step, row in sorted(rows.items()) if key in row] == list(range(20)), key


def test_wandbs_environment_is_respected_and_an_explicit_key_wins(wandb_pair, tmp_path, monkeypatch):
    said = {"TAGS": "red,blue", "JOB_TYPE": "trial", "PROJECT": "birds", "NAME": "mine", "RUN_GROUP": "together"}
    for name, value in said.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    folder = run("a fox", wandb_pair, tmp_path / "run").folder
    assert not (folder / "wandb").exists()
    [own] = records(tmp_path / "elsewhere")["run"]
    assert own["tags"] == ["red", "blue"] and own["job_type"] == "trial" and own["project"] == "birds"
    assert own["display_name"] == "mine" and own["run_group"] == "together"
    keys = {"project": "foxes", "name": "first", "group": "alone", "save_dir": tmp_path / "here"}
    explicit = [*(f"logger.wandb.{key}={value}" for key, value in keys.items()), "tags=[green]"]
    run("a fox", [*wandb_pair, *explicit, "+logger.wandb.job_type=own"], tmp_path / "explicit")
    [own] = records(tmp_path / "here")["run"]
    assert own["tags"] == ["green"] and own["job_type"] == "own" and own["project"] == "foxes"
    assert own["display_name"] == "first" and own["run_group"] == "alone"


def test_a_sweep_in_a_group_of_ones_own_is_there_with_its_comparison(wandb_pair, tmp_path, monkeypatch):
    """The jobs were in it, the comparison in a group of the folder's name."""
    monkeypatch.setenv("WANDB_RUN_GROUP", "together")
    assert sweep(f"hydra.sweep.dir={tmp_path}", "seed=0,1", "a fox", pair=wandb_pair) == 0
    assert [records(tmp_path / job)["run"][0]["run_group"] for job in ("0", "1", ".")] == ["together"] * 3


def test_a_run_that_diverged_raises_an_alert(wandb_pair, tmp_path):
    overrides = [*wandb_pair, "steps=8", "optimizer={_target_:torch.optim.SGD,lr:1e6}", "loss.anchor=1e6"]
    assert run("a fox", overrides, tmp_path / "run").status == "diverged"
    own = records(tmp_path / "run")
    [alert] = own["alert"]
    assert "diverged" in alert["title"] and "loss.anchor=1" in alert["text"] and own["exit"][0]["exit_code"] == 1


class Undecodable(pl.Callback):
    def on_train_batch_end(self, *_):
        b"\xff".decode()  # whose error has a reason, too


def test_a_run_that_fails_for_a_reason_is_not_called_diverged(wandb_pair, tmp_path):
    with pytest.raises(UnicodeDecodeError):
        run("a fox", wandb_pair, tmp_path / "run", callbacks=[Undecodable()])
    own = records(tmp_path / "run")
    assert "alert" not in own and own["exit"][0]["exit_code"] == 1


def test_wandb_lists_the_installed_packages_as_it_does_itself():
    # In a process of its own: setuptools, once imported, puts its vendored packages on the path of this one.
    code = """
import wandb.util
from vqclip.loggers.wandb_startup import _installed
ours, theirs = ([(one.key, one.version) for one in found] for found in (_installed(), wandb.util.working_set()))
assert ours == theirs, (ours, theirs)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


@pytest.mark.parametrize(
    "place",
    [
        "wandb.sdk.lib.service.service_token.WandbServiceConnectionError",
        "wandb.sdk.mailbox.HandleAbandonedError",
        "wandb.util.InstalledDistribution",
    ],
)
def test_a_run_does_without_a_private_name_of_wandb(wandb_pair, tmp_path, monkeypatch, place):
    """Another version may not have it; the logger is the default's."""
    monkeypatch.delattr(place)
    result = run("a fox", [*wandb_pair, "steps=2"], tmp_path / "run")
    assert result.status == "finished" and records(result.folder)["history"]


def test_inputs_that_wandb_takes_in_another_way_end_no_run(wandb_pair, tmp_path, monkeypatch, capsys):
    log = wandb.Run._log_artifact

    def without_that_argument(self, *args, **kwargs):
        if "use_after_commit" in kwargs:
            raise TypeError("unexpected keyword argument 'use_after_commit'")
        return log(self, *args, **kwargs)

    monkeypatch.setattr(wandb.Run, "_log_artifact", without_that_argument)
    assert run("a fox", [*wandb_pair, "steps=2"], tmp_path / "run").status == "finished"
    assert "this version of W&B is told of no inputs" in capsys.readouterr().err
