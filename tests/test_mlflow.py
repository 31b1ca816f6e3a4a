"""MLflow, against its own server on loopback: runs, curves, pictures, files, a sweep as a run above its jobs."""

import csv
import io
import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from test_sweep import sweep

from vqclip import UserError, run
from vqclip.config.grammar import quote

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of MLflow's with a database of its own; its address."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    places = ["--backend-store-uri", f"sqlite:///{folder}/db", "--artifacts-destination", str(folder / "files")]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", *places]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def pair(small_pair, server):
    return [
        *(word for word in small_pair if word != "logger=none"),
        "logger=mlflow",
        f"logger.mlflow.tracking_uri={server}",
    ]


@pytest.fixture
def client(server):
    return mlflow.MlflowClient(server)


def files(client, run, path=None):
    found = []
    for file in client.list_artifacts(run, path):
        found += files(client, run, file.path) if file.is_dir else [file.path]
    return found


def test_a_secret_of_the_environment_is_not_in_its_record(small_pair, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "hunter2-hunter2")
    monkeypatch.chdir(tmp_path)
    link = "checkpoints.generator.urls=['http://127.0.0.1:9/x?token=${oc.env:MY_SECRET}']"
    logger = ["logger=mlflow", f"logger.mlflow.tracking_uri=sqlite:///{tmp_path}/mlflow.db"]
    run("a fox", [*small_pair, *logger, "steps=1", link], tmp_path / "run")
    assert b"${oc.env:MY_SECRET}" in (tmp_path / "mlflow.db").read_bytes()
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        assert b"hunter2" not in path.read_bytes(), path


def test_a_run_has_its_curves_pictures_and_files(pair, client, tmp_path):
    folder = run(
        "a fox", [*pair, "callbacks.timelapse={_target_:vqclip.callbacks.Timelapse,fps:5}"], tmp_path / "run"
    ).folder
    report = json.loads((folder / "run.json").read_text())
    own = client.get_run(report["mlflow"])
    assert own.info.status == "FINISHED" and own.info.run_name == "a fox"
    assert own.data.params["loss.alpha"] == "1" and own.data.params["prompts.include"] == "['a fox']"
    assert own.data.tags["vqclip.weights.generator"] == report["weights"]["generator"]
    curve = client.get_metric_history(report["mlflow"], "loss")
    assert [point.step for point in curve] == [1, 2, 3, 4]
    for name in ("best.score", "final.include"):
        kind, score = name.split(".")
        assert own.data.metrics[name] == pytest.approx(report["pictures"][0][kind][score])
    assert own.data.metrics["judge"] == pytest.approx(report["pictures"][0]["judge"])
    found = files(client, report["mlflow"])
    assert {"config.yaml", "last.ckpt", "run.json", "picture-00/best.png", "picture-00/latents.safetensors"} <= set(
        found
    )
    assert sum("picture" in name and name.startswith("images/") and "thumb" not in name for name in found) >= 3


def test_a_resumed_run_goes_on_in_the_one_it_had(pair, client, tmp_path):
    folder = run("a fox", pair, tmp_path / "run").folder
    before = json.loads((folder / "run.json").read_text())["mlflow"]
    run(None, [f"resume={folder}", "steps=6", *pair[-2:]])
    assert json.loads((folder / "run.json").read_text())["mlflow"] == before
    assert [point.step for point in client.get_metric_history(before, "loss")] == [1, 2, 3, 4, 5, 6]
    assert client.get_run(before).info.status == "FINISHED"


def test_a_sweep_is_a_run_above_its_jobs(pair, client, tmp_path):
    folder = tmp_path / "multirun" / "it's birds"
    assert sweep(f"hydra.sweep.dir={quote(str(folder))}", "seed=0,1", "an owl", pair=pair) == 0
    known = json.loads((folder / "sweep.json").read_text())
    parent = client.get_run(known["mlflow"])
    place = [parent.info.experiment_id]
    jobs = client.search_runs(place, f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert {job.info.run_name for job in jobs} == {"seed=0", "seed=1"} and parent.info.status == "FINISHED"
    assert {job.data.params["sweep.seed"] for job in jobs} == {"0", "1"}
    assert {"compare.png", "compare.html", "results.csv", "results.json"} <= set(files(client, parent.info.run_id))
    judged = [job.data.metrics["judge"] for job in jobs]
    assert parent.data.metrics["judge.best"] == pytest.approx(max(judged)) and parent.data.metrics["finished"] == 2
    assert sweep(f"hydra.sweep.dir={quote(str(folder))}", "seed=0,1,2", "an owl", pair=pair) == 0
    assert len(client.search_runs(place, f"tags.mlflow.parentRunId = '{parent.info.run_id}'")) == 3
    assert client.load_table("1", "results.json", [parent.info.run_id])["seed"].tolist() == [0, 1, 2]  # once each


def test_a_run_that_fails_is_marked(pair, client, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"x")
    with pytest.raises(Exception):  # noqa: B017
        run("a fox", [*pair, f"checkpoints.generator.path={broken}", "tags=[broken]"], tmp_path / "run")
    [own] = client.search_runs(["1"], "tags.`vqclip.tag.broken` = 'true'")
    assert own.info.status == "FAILED"


def test_a_server_that_is_not_there_is_said_in_a_line(small_pair, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [*small_pair, "logger=mlflow", f"logger.mlflow.tracking_uri=http://127.0.0.1:{port}"]
    with pytest.raises(UserError, match=r"the server does not answer.*Try: mlflow server"):
        run("a fox", words, tmp_path / "run")


def test_every_swept_key_is_on_every_dashboard(pair, client, tmp_path):
    """Groups as well as numbers: in the table, on the page, in W&B's table and in MLflow's."""
    folder = tmp_path / "multirun" / "smoke"
    swept = {"noise": ["default", "sfumato"], "loss.alpha": ["0.5", "1"]}
    both = ["logger=[wandb,mlflow]" if word == "logger=mlflow" else word for word in pair]
    words = [f"{key}={','.join(values)}" for key, values in swept.items()]
    assert sweep(f"hydra.sweep.dir={folder}", *words, "logger.wandb.mode=offline", "an owl", pair=both) == 0
    with open(folder / "results.csv", newline="") as file:
        found = list(csv.DictReader(file))
    page = (folder / "compare.html").read_text()
    page = json.loads(re.search(r'type="application/json"[^>]*>(.*?)</script>', page)[1])
    tables = folder.glob("wandb/offline-*/files/media/table/comparison*.json")
    [shown] = [json.loads(path.read_text()) for path in tables]
    parent = json.loads((folder / "sweep.json").read_text())["mlflow"]
    table = json.loads(Path(client.download_artifacts(parent, "results.json", str(tmp_path))).read_text())
    tables = {
        "csv": found,
        "page": list(csv.DictReader(io.StringIO(page["csv"]))),
        "wandb": [dict(zip(shown["columns"], row, strict=True)) for row in shown["data"]],
        "mlflow": [dict(zip(table["columns"], row, strict=True)) for row in table["data"]],
    }
    for name, rows in tables.items():
        values = {(row["noise"], float(row["loss.alpha"])) for row in rows}
        assert values == {(noise, alpha) for noise in swept["noise"] for alpha in (0.5, 1.0)}, name
    jobs = client.search_runs(["1"], f"tags.mlflow.parentRunId = '{parent}'")
    assert {job.data.params["sweep.noise"] for job in jobs} == set(swept["noise"])
