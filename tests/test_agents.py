"""W&B's own sweep and agent, against its server's part on loopback: what is typed there is run here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SWEEP = Path(__file__).parents[1] / "experiments" / "search" / "wandb_sweep.yaml"
WANDB = shutil.which("wandb", path=str(Path(sys.executable).parent)) or "wandb"


@pytest.mark.slow
def test_an_agent_runs_what_its_sweep_asks_for(wandb_pair, tmp_path, wandb_server):
    settings = yaml.safe_load(SWEEP.read_text())
    tool, *words = settings["command"]
    assert tool == "vqclip" and words[-1] == "${args_no_hyphens}"
    settings["command"] = [sys.executable, "-m", "vqclip", "a fox", *words[:-1], *wandb_pair, words[-1]]
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(settings))
    account = {"WANDB_BASE_URL": wandb_server.url, "WANDB_API_KEY": "x" * 40}

    def wandb(*words):
        done = subprocess.run(
            [WANDB, *words], cwd=tmp_path, env=os.environ | account, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    assert "wandb agent me/vqclip/s1" in wandb("sweep", "--project", "vqclip", "sweep.yaml")
    asked = {"one": {"loss.alpha": 0.5, "loss.beta": 1}, "two": {"loss.alpha": 2.0, "loss.beta": 0.25}}
    arguments = {id: {key: {"value": value} for key, value in values.items()} for id, values in asked.items()}
    wandb_server.commands = [
        {"type": "run", "run_id": id, "program": "vqclip", "args": args} for id, args in arguments.items()
    ]
    wandb("agent", "me/vqclip/s1")

    reports = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/*/*/run.json")]
    assert {report["wandb"]: report["status"] for report in reports} == dict.fromkeys(asked, "finished")
    for report in reports:
        own, config = wandb_server.runs[report["wandb"]], json.loads(wandb_server.runs[report["wandb"]]["config"])
        alpha, beta = (config["loss"]["value"][key] for key in ("alpha", "beta"))
        assert own["sweep"] == "s1" and [alpha, beta] == list(asked[report["wandb"]].values())
        assert wandb_server.summary(report["wandb"])[settings["metric"]["name"]] == report["pictures"][0]["judge"]
        assert [row["step"] for row in wandb_server.history(report["wandb"]) if "loss" in row] == [1, 2, 3, 4]
    assert wandb_server.unknown == []
