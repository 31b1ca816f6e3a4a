"""Beside other people's parts: stock callbacks, limits, optimisers, a profiler, and numbers that are none any more."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from test_sweep import sweep

from vqclip import UserError, run
from vqclip.cli import main

HABITS = Path(__file__).parents[1] / "experiments" / "habits"
sys.path.insert(0, str(HABITS))

from habits import HABITS as ENTRIES  # noqa: E402
from run import try_out  # noqa: E402

CALLBACKS = "pytorch_lightning.callbacks"
#: A latent that grows by its anchor's pull a million times a step.
DIVERGING = ["optimizer={_target_:torch.optim.SGD,lr:1e6}", "loss.anchor=1e6", "steps=8"]


def report(folder):
    return json.loads((folder / "run.json").read_text())


STOPPED = {
    "EarlyStopping": [f"+callbacks.s={{_target_:{CALLBACKS}.EarlyStopping,monitor:loss,mode:max,patience:0}}"],
    "max_time": ["+trainer.max_time=00:00:00:01", "steps=100000"],
    "limit_train_batches": ["+trainer.limit_train_batches=3"],
}


@pytest.mark.parametrize("what", STOPPED)
def test_a_run_that_ends_early_says_who_ended_it(small_pair, tmp_path, what, monkeypatch):
    result = run("a fox", [*small_pair, "steps=40", *STOPPED[what]], tmp_path / "run")
    found = report(result.folder)
    assert found["status"] == "stopped early" and what in found["reason"]
    assert 0 < found["steps"] < 100000 and found["pictures"][0]["final"]["step"] == found["steps"]
    assert (result.folder / "picture-00" / "final.png").is_file() and (result.folder / "last.ckpt").is_file()


def test_a_sweep_says_that_a_job_stopped_early(small_pair, tmp_path):
    words = [f"hydra.sweep.dir={tmp_path}", "seed=0,1", "+trainer.limit_train_batches=2", "a fox"]
    sweep(*words, pair=small_pair)
    rows = (tmp_path / "results.csv").read_text()
    assert rows.count("stopped early") == 2 and "limit_train_batches" in rows


def test_a_run_that_diverges_keeps_its_last_good_picture(small_pair, tmp_path):
    run("a fox", [*small_pair, *DIVERGING, "snapshot_every=1"], tmp_path / "run")
    found = report(tmp_path / "run")
    assert found["status"] == "diverged" and "Try: loss.anchor=1" in found["reason"]
    kept = sorted(path.stem for path in (tmp_path / "run/picture-00/steps").glob("*.png"))
    assert kept[0] == "000000" and int(kept[-1]) < found["steps"]


def test_the_clip_bounds_the_gradient_of_a_picture(small_pair, tmp_path):
    """SGD's step is rate times gradient: with a short enough one, the latent stays where it was."""
    start = ["optimizer={_target_:torch.optim.SGD,lr:1}", "noise=none"]
    free = run("a fox", [*small_pair, *start], tmp_path / "free")
    held = run("a fox", [*small_pair, *start, "optimizer.clip=1e-9"], tmp_path / "held")
    begun = run("a fox", [*small_pair, *start, "optimizer.lr=0"], tmp_path / "begun")
    assert (held.latents - begun.latents).norm() < 1e-6 < (free.latents - begun.latents).norm()


@pytest.mark.parametrize("name", ["LBFGS", "SGD", "Rprop", "Adagrad"])
def test_any_optimiser_of_torch_makes_steps(small_pair, tmp_path, name):
    result = run("a fox", [*small_pair, f"optimizer={{_target_:torch.optim.{name},lr:0.1}}"], tmp_path / "run")
    assert report(result.folder)["status"] == "finished"


def test_an_optimiser_that_takes_no_dense_gradient_is_refused_by_name(small_pair, tmp_path):
    with pytest.raises(UserError, match=r"torch\.optim\.SparseAdam does not take it"):
        run("a fox", [*small_pair, "optimizer={_target_:torch.optim.SparseAdam,lr:0.1}"], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_profiler_prints_its_table(small_pair, tmp_path, capfd):
    run("a fox", [*small_pair, "+trainer.profiler=simple"], tmp_path / "run")
    assert "Profiler Report" in capfd.readouterr().out


def test_a_launcher_without_its_cluster_is_one_line(small_pair, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = ["-m", f"hydra.sweep.dir={tmp_path}", "hydra/launcher=slurm", "seed=0,1", "a fox", *small_pair]
    done = subprocess.run([sys.executable, "-m", "vqclip", *words], capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if line.startswith("vqclip: ")]
    assert done.returncode == 2 and "hydra/launcher=slurm" in said[-1] and "Traceback" not in done.stderr


@pytest.mark.parametrize("habit", [own for own in ENTRIES if own.refused], ids=str)
def test_what_is_not_done_here_is_answered_in_a_line(habit, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["hydra.run.dir=run", *shlex.split(habit.command.removeprefix("vqclip "))])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and all(word in said for word in habit.refused), said
    assert said.count("vqclip: ") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("habit", [pytest.param(h, marks=() if h.fast else pytest.mark.slow) for h in ENTRIES], ids=str)
def test_habit(habit):
    """``experiments/habits``: what users of Hydra, Lightning, W&B and Python type, and what they expect."""
    good, seen = try_out(habit)
    assert good, seen
