"""Beside other people's parts: stock callbacks, limits, optimisers, a profiler, and numbers that are none any more."""

import csv
import json
import math
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from test_sweep import report, sweep
from wandb_records import records, rows_of

from vqclip import UserError, load, run
from vqclip.cli import main
from vqclip.loss import Objective
from vqclip.module import optimisation
from vqclip.runs.endings import divergence
from vqclip.runs.rerun import rerun
from vqclip.terms import TotalVariation

HABITS = Path(__file__).parents[1] / "experiments" / "habits"
sys.path.insert(0, str(HABITS))

from habits import HABITS as ENTRIES  # noqa: E402
from run import try_out  # noqa: E402

CALLBACKS = "pytorch_lightning.callbacks"
#: A latent that grows by its anchor's pull a million times a step.
DIVERGING = ["optimizer={_target_:torch.optim.SGD,lr:1e6}", "loss.anchor=1e6", "steps=8"]


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


class EndsAt(pl.Callback):
    """Asks for the end after a step, and notes what every validation finds."""

    def __init__(self, step):
        self.step, self.seen = step, {}

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.should_stop or trainer.global_step == self.step

    def on_validation_end(self, trainer, pl_module):
        self.seen[trainer.global_step] = dict(pl_module.scores), trainer.callback_metrics["score"].item()


@pytest.mark.parametrize("step", [1, 3, 4])
def test_whoever_ends_a_run_between_snapshots_finds_the_scores_of_its_last_picture(small_pair, tmp_path, step):
    words, ends = [*small_pair, "steps=6"], EndsAt(step)
    result = run("a fox", words, tmp_path / "run", callbacks=[ends])
    last = result.report["pictures"][0]["final"]
    assert last.pop("step") == step == max(ends.seen) and set(ends.seen) == {*range(2, step, 2), step}
    assert ends.seen[step] == (last, pytest.approx(last["score"]))
    assert (result.folder / f"picture-00/steps/{step:06d}.png").is_file()
    resumed, whole = run(resume=result.folder), run("a fox", words, tmp_path / "whole")
    assert torch.equal(resumed.images, whole.images) and resumed.history == whole.history


@pytest.mark.parametrize("logger", ["none", "wandb", "tensorboard", "mlflow"])
def test_a_run_that_is_stopped_before_its_first_step_is_whole(small_pair, tmp_path, monkeypatch, logger):
    """Lightning comes to no step then, and tells no callback that it ended."""
    pytest.importorskip(logger) if logger != "none" else None
    monkeypatch.chdir(tmp_path)  # MLflow's database
    words = [f"logger={logger}", "+trainer.max_time=00:00:00:00"]
    result = run("a fox", [*small_pair, *words], tmp_path / "run")
    found = report(result.folder)
    assert found["status"] == "stopped early" and "max_time" in found["reason"] and found["steps"] == 0
    assert found["pictures"][0]["best"]["step"] == 0 and result.images.shape == (1, 3, 32, 32)
    assert result.history == load(result.folder).history == []


def test_a_resumed_run_that_is_stopped_before_a_step_is_not_finished(small_pair, tmp_path):
    run("a fox", [*small_pair, "+trainer.limit_train_batches=2"], tmp_path / "run")
    run(overrides=[f"resume={tmp_path}/run"])
    found = report(tmp_path / "run")
    assert found["status"] == "stopped early" and "limit_train_batches" in found["reason"] and found["steps"] == 2


def test_lightnings_bar_ends_a_resumed_run_that_has_no_step_left(small_pair, tmp_path):
    run("a fox", [*small_pair, "+trainer.limit_train_batches=2"], tmp_path / "run")
    again = run(overrides=[f"resume={tmp_path}/run"], callbacks=[pl.callbacks.TQDMProgressBar()])
    assert again.status == "stopped early" and again.report["steps"] == 2


@pytest.mark.parametrize("limit", ["limit_train_batches=2", "max_time=00:00:00:00"])
def test_the_next_command_of_a_run_at_its_limit_takes_the_steps_that_are_left(small_pair, tmp_path, capsys, limit):
    main([*small_pair, f"trainer.{limit}", f"hydra.run.dir={tmp_path}/run", "a fox"])
    (told,) = re.findall("next: (.*)   ", capsys.readouterr().err)
    with warnings.catch_warnings(record=True) as warned, pytest.raises(SystemExit, match="0"):
        main(shlex.split(told)[1:])
    assert report(tmp_path / "run")["status"] == "finished" and report(tmp_path / "run")["steps"] == 4 and not warned
    whole = run("a fox", small_pair, tmp_path / "whole").latents
    assert torch.equal(load(tmp_path / "run").latents, whole)
    if limit.startswith("limit"):
        lines, _ = rerun(tmp_path / "run", folder=tmp_path / "again")
        assert lines[-2] == "  all pixels agree: the run was given more steps after these pictures"


def test_checkpoints_may_be_written_by_a_plugin_of_ones_own(small_pair, tmp_path):
    own = "+trainer.plugins={_target_: pytorch_lightning.plugins.io.TorchCheckpointIO}"
    result = run("a fox", [*small_pair, "steps=2", own], tmp_path / "run")
    assert report(result.folder)["status"] == "finished" and (result.folder / "last.ckpt").is_file()


class Loses(pl.Callback):
    """Takes the run's last picture away."""

    def on_train_end(self, trainer, pl_module):
        (Path(trainer.default_root_dir) / "picture-00/final.png").unlink()


def test_a_sweep_says_that_a_job_stopped_early(small_pair, tmp_path, capsys):
    words = [f"hydra.sweep.dir={tmp_path}", "seed=0,1", "+trainer.limit_train_batches=2", "a fox"]
    sweep(*words, pair=small_pair)
    rows = (tmp_path / "results.csv").read_text()
    assert rows.count("stopped early") == 2 and "limit_train_batches" in rows
    words[1] = "seed=2"
    assert sweep(*words, f"+callbacks.p._target_={__name__}.Loses", pair=small_pair) == 1
    assert "final.png: it was removed while the run went on" in capsys.readouterr().err


def test_a_run_that_diverges_keeps_its_last_good_picture(small_pair, tmp_path):
    run("a fox", [*small_pair, *DIVERGING, "snapshot_every=1"], tmp_path / "run")
    found = report(tmp_path / "run")
    assert found["status"] == "diverged" and "Try: loss.anchor=1" in found["reason"]
    kept = sorted(path.stem for path in (tmp_path / "run/picture-00/steps").glob("*.png"))
    assert kept[0] == "000000" and int(kept[-1]) < found["steps"]


@pytest.mark.parametrize("term,said", [("include", "Try: optimizer.lr="), ("tv", "Try: '~loss.terms.tv'")])
def test_the_advice_of_a_run_that_diverged_names_a_key_that_there_is(make_module, term, said):
    module = make_module(objective=Objective(1, 0.5, 0.1, {"tv": TotalVariation(1.0)}))
    trainer = pl.Trainer(barebones=True, max_steps=1, accelerator="cpu")
    trainer.fit(module, range(1))
    numbers = {**dict.fromkeys(module.objective.weights, 1.0), "lr": 0.1, "noise": 0.1, term: math.nan}
    assert said in divergence(module, 1, numbers)


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


def test_a_run_is_one_process_in_a_slurm_script_of_several_tasks(small_pair, tmp_path):
    slurm = {"JOB_ID": "1", "JOB_NAME": "mine", "NTASKS": "2", "PROCID": "1", "LOCALID": "1"}
    task = os.environ | {f"SLURM_{name}": value for name, value in slurm.items()}
    command = [sys.executable, "-m", "vqclip", f"hydra.run.dir={tmp_path}", "a fox", *small_pair, "logger=[csv,wandb]"]
    done = subprocess.run(command, env=task, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 5 and len(rows_of(records(tmp_path))) >= 4


def test_a_launcher_without_its_cluster_is_one_line(small_pair, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = ["-m", f"hydra.sweep.dir={tmp_path}", "hydra/launcher=slurm", "seed=0,1", "a fox", *small_pair]
    done = subprocess.run([sys.executable, "-m", "vqclip", *words], capture_output=True, text=True, timeout=600)
    said = [line for line in done.stderr.splitlines() if line.startswith("vqclip: ")]
    assert done.returncode == 2 and "hydra/launcher=slurm" in said[-1] and "Traceback" not in done.stderr


def test_a_job_that_is_killed_is_told_and_the_others_go_on(small_pair, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = ["-m", f"hydra.sweep.dir={tmp_path}", "hydra/launcher=submitit_local", "seed=0,1", "a fox"]
    command = [sys.executable, "-m", "vqclip", *words, *small_pair, "steps=150"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as sweep:
        while not all((tmp_path / n / "last.ckpt").exists() for n in "01"):
            assert sweep.poll() is None
            time.sleep(0.05)
        process = next(path.name for path in (tmp_path / ".submitit").iterdir() if path.name.isdigit())
        job = Path(f"/proc/{process}/task/{process}/children").read_text().split()[0]
        os.kill(int(job), signal.SIGKILL)
        said = sweep.communicate(timeout=600)[0]
    states = [json.loads((tmp_path / n / "run.json").read_text())["status"] for n in "01"]
    assert sweep.returncode == 1 and sorted(states) == ["finished", "running"], said
    assert f"vqclip: hydra/launcher=submitit_local: Job {process}" in said and "Traceback" not in said
    assert f"seed={states.index('running')}: it was killed, or still runs\n" in said and "1 did not finish" in said
    assert "log: " not in said  # which is empty


def test_a_ray_cluster_that_was_started_elsewhere_writes_into_the_sweeps_folder(small_pair, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
    elsewhere.mkdir(), here.mkdir()
    Image.new("RGB", (32, 32), "red").save(here / "photo.png")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": f"127.0.0.1:{port}"}
    ray = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={port}", "--num-cpus=1"]
    ray += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={tempfile.mkdtemp(prefix='ray')}"]
    words = ["hydra.sweep.dir=sweep", "hydra/launcher=cluster", "seed=0,1", "a fox", *small_pair, "init=image"]
    command = [sys.executable, "-m", "vqclip", "-m", *words, "init.path=photo.png"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    cluster = subprocess.Popen(ray, cwd=elsewhere, env=environment, **quiet)
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        time.sleep(3)
        done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=300)
    finally:
        cluster.send_signal(signal.SIGTERM)
        cluster.wait(60)
    assert done.returncode == 0, done.stderr
    states = [json.loads((here / "sweep" / n / "run.json").read_text())["status"] for n in "01"]
    assert states == ["finished", "finished"] and not list(elsewhere.iterdir())


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


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there no Hydra program begins, up to Hydra 1.3.8")
def test_a_program_that_is_hydras_already_may_run_us(small_pair, tmp_path):
    program = tmp_path / "mine.py"
    program.write_text(f"""
import os, hydra, hydra.version, vqclip
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.1", config_path=None)
def main(cfg):
    assert os.getcwd() == HydraConfig.get().runtime.output_dir  # as that version has it, in every job
    theirs = GlobalHydra.instance().hydra
    folder = HydraConfig.get().runtime.output_dir + "/run"
    assert vqclip.run("a fox", {small_pair!r}, folder, seed=cfg.seed).status == "finished"
    assert GlobalHydra.instance().hydra is theirs and HydraConfig.get().job.name == "mine"
    assert hydra.version.getbase() == hydra.version._get_version("1.1")

main()
""")
    words = [sys.executable, str(program), "-m", "+seed=1,2", f"hydra.sweep.dir={tmp_path}/sweep"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    assert [report(tmp_path / f"sweep/{job}/run")["seed"] for job in range(2)] == [1, 2]


class UnreadableState(pl.Callback):
    """Its state is of a class of its own, which no checkpoint that is read as plain data can hold."""

    def __init__(self, state):
        self.state, self.resumed_with = state, None

    def state_dict(self):
        return {"state": self.state}

    def load_state_dict(self, state_dict):
        self.resumed_with = state_dict["state"]

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        checkpoint["beside"] = self.state


@pytest.mark.parametrize("state", [Path("a"), lambda: 1, 3], ids=["a class", "no pickle", "plain"])
def test_a_callbacks_state_that_cannot_be_read_costs_no_resume(small_pair, tmp_path, capsys, state):
    run("a fox", small_pair, tmp_path / "run", callbacks=[UnreadableState(state)])
    said = capsys.readouterr().err
    assert said.count("note: last.ckpt is without the state of UnreadableState,") == (state != 3)
    again = UnreadableState(None)
    run(overrides=[f"resume={tmp_path}/run", "steps=6"], callbacks=[again])
    assert report(tmp_path / "run")["steps"] == 6 and again.resumed_with == (3 if state == 3 else None)


class Keeping(torch.optim.SGD):
    """Keeps a tensor in its state, or a path."""

    def __init__(self, parameters, lr, plain):
        super().__init__(parameters, lr)
        # What an optimiser of the frequencies has, and one that saves memory.
        self.kept = [torch.fft.rfft(torch.ones(3)), torch.ones(1).to(torch.float8_e4m3fn)] if plain else Path("a")

    def step(self, closure=None):
        for latent in self.param_groups[0]["params"]:
            self.state[latent]["kept"] = self.kept
        return super().step(closure)


@pytest.mark.parametrize("plain", ["true", "false"])
def test_an_optimiser_whose_state_cannot_be_read_back_is_named(small_pair, tmp_path, capsys, monkeypatch, plain):
    monkeypatch.setenv("VQCLIP_TRUST", __name__)
    own = f"optimizer={{_target_: {__name__}.Keeping, lr: 0.1, plain: {plain}}}"
    made = run("a fox", [*small_pair, own], tmp_path / "run")
    told = f"note: this run cannot be resumed: optimizer: {__name__}.Keeping keeps more than tensors and plain data"
    said = capsys.readouterr().err
    assert said.count(told) == said.count("Unsupported global: GLOBAL pathlib.") == (plain == "false")
    with nullcontext() if plain == "true" else pytest.raises(UserError, match="more than tensors and plain data"):
        assert run(resume=made.folder, steps=6).status == "finished"


class Recorder(UnreadableState):
    """By the name of the class that writes our folders."""


@pytest.mark.parametrize("written", ["now", "of old"])
def test_a_callback_may_be_called_as_ours_is(small_pair, tmp_path, written):
    mine = [] if written == "of old" else [Recorder(3)]
    folder = run("a fox", small_pair, tmp_path / "run", callbacks=mine).folder
    if written == "of old":
        checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
        checkpoint["callbacks"]["Recorder"] = checkpoint["callbacks"].pop("vqclip.Recorder")
        torch.save(checkpoint, folder / "last.ckpt")
    again = [Recorder(None) for _ in mine]
    result = run(overrides=[f"resume={folder}", "steps=6"], callbacks=again)
    assert report(folder)["steps"] == 6 and [one.resumed_with for one in again] == [3 for _ in mine]
    torch.testing.assert_close(result.images, run("a fox", [*small_pair, "steps=6"], tmp_path / "whole").images)


class Exhausted(pl.Callback):
    """Asks an iterator that is exhausted for more, in one hook, as a term or a callback of one's own may."""

    def __init__(self, hook="", at=0, weight=1.0):
        self.hook, self.at, self.weight = hook, at, weight

    def __call__(self, view):
        return next(iter(()))

    def on_train_batch_start(self, trainer, *_):
        self._ask("on_train_batch_start", trainer)

    def on_train_batch_end(self, trainer, *_):
        self._ask("on_train_batch_end", trainer)

    def on_validation_end(self, trainer, *_):
        self._ask("on_validation_end", trainer)

    def _ask(self, hook, trainer):
        if (hook, trainer.global_step) == (self.hook, self.at):
            next(iter(()))


def test_an_iterator_of_a_term_that_is_exhausted_ends_the_run_by_its_line(small_pair, tmp_path, capsys):
    own = f"+loss.terms.mine={{_target_: {__name__}.Exhausted, weight: 1}}"
    with pytest.raises(SystemExit):
        main([*small_pair, own, f"hydra.run.dir={tmp_path}/run", "a fox"])
    assert re.search(f"{__file__}, line .*, in __call__: RuntimeError: StopIteration", capsys.readouterr().err)


@pytest.mark.parametrize("at", [2, 4])
@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_train_batch_end", "on_validation_end"])
def test_an_iterator_of_a_callback_that_is_exhausted_ends_the_run(small_pair, tmp_path, hook, at):
    at -= hook == "on_train_batch_start"
    with pytest.raises(RuntimeError, match=f"a callback raised StopIteration at step {at} of 4"):
        run("a fox", small_pair, tmp_path / "run", callbacks=[Exhausted(hook, at)])
    assert report(tmp_path / "run")["status"] == "failed"


class LogsMeans(pl.Callback):
    def on_train_batch_end(self, trainer, pl_module, *_):
        pl_module.log("mine", torch.tensor(float(trainer.global_step)), on_step=True, on_epoch=True)


def test_a_callback_may_log_means_over_the_epoch(small_pair, tmp_path):
    kept = pl.callbacks.LambdaCallback(on_train_end=lambda trainer, _: found.update(trainer.callback_metrics))
    found = {}
    run("a fox", small_pair, tmp_path / "run", callbacks=[LogsMeans(), kept])
    assert found["mine_epoch"] == 2.5 and found["mine_step"] == 4


class Bar(pl.callbacks.TQDMProgressBar):
    """A bar of Lightning's, and what it has to show."""

    def on_train_batch_end(self, trainer, pl_module, *args):
        super().on_train_batch_end(trainer, pl_module, *args)
        self.shown = self.get_metrics(trainer, pl_module)
        self.logged = {name: value.item() for name, value in trainer.logged_metrics.items()}


def test_callbacks_find_the_numbers_where_lightning_has_them(small_pair, tmp_path):
    bar = Bar()
    last = run("a fox", small_pair, tmp_path / "run", callbacks=[bar]).history[-1]
    assert bar.shown["loss"] == pytest.approx(last["loss"], rel=1e-2)  # its four digits
    assert bar.logged == pytest.approx({name: value for name, value in last.items() if name != "step"})


class Pruning(pl.Callback):
    """Ends a trial of anchor 1 after its second step, as Optuna's own callbacks do."""

    def on_validation_end(self, trainer, pl_module):
        import optuna

        if trainer.global_step >= 2 and optimisation(pl_module).objective.weights["anchor"](0) == 1:
            raise optuna.TrialPruned("Trial was pruned at step 2.")


def test_a_pruned_run_is_whole_for_us_and_pruned_for_its_study(small_pair, tmp_path):
    optuna = pytest.importorskip("optuna")
    with pytest.raises(optuna.TrialPruned):
        run("a fox", [*small_pair, "loss.anchor=1"], tmp_path / "run", callbacks=[Pruning()])
    found = report(tmp_path / "run")
    assert found["status"] == "stopped early" and found["reason"].startswith("pruned after step 2 of 4")
    assert found["pictures"][0]["final"]["step"] == 2 and found["pictures"][0]["judge"]
    assert load(tmp_path / "run").images.shape == (1, 3, 32, 32)


def test_a_pruned_run_outside_a_study_stopped_early(small_pair, tmp_path, capsys):
    pytest.importorskip("optuna")
    own = f"+callbacks.p._target_={__name__}.Pruning"
    main([*small_pair, "loss.anchor=1", own, f"hydra.run.dir={tmp_path / 'run'}", "a fox"])
    told = capsys.readouterr()
    assert "stopped early: pruned after step 2 of 4" in told.err and told.out.strip().endswith("best.png")


class Faulty(pl.Callback):
    def on_validation_end(self, trainer, pl_module):
        raise ValueError("what is that?")


def test_a_fault_in_an_own_part_is_told_by_its_line(small_pair, tmp_path, capsys):
    place = tmp_path / "run"
    own = [f"+callbacks.p._target_={__name__}.Faulty", "prompts.include=a fox"]
    with pytest.raises(SystemExit) as ended:
        main([*small_pair, *own, f"hydra.run.dir={place}"])
    assert ended.value.code == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith(f"vqclip: {__file__}, line ") and "in on_validation_end: ValueError: what is that?" in told
    assert "what is that?" in (place / "vqclip.log").read_text() and told.endswith(f"vqclip resume={place}")
    with pytest.raises(ValueError, match="what is that"):  # in Python it is what was raised
        run("a fox", small_pair, tmp_path / "again", callbacks=[Faulty()])


class Deaf(pl.Callback):
    def on_train_start(self, trainer):
        pass


def nothing():
    return None


def test_an_own_part_that_takes_other_arguments_is_told_by_its_name(small_pair, tmp_path, capsys, monkeypatch):
    place = tmp_path / "run"
    with pytest.raises(SystemExit) as ended:
        main([*small_pair, f"+callbacks.p._target_={__name__}.Deaf", f"hydra.run.dir={place}", "a fox"])
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 1 and "TypeError: Deaf.on_train_start() takes 2 positional arguments" in told
    assert f"parts of your own: callbacks.p._target_={__name__}.Deaf. The traceback: {place}/vqclip.log" in told
    monkeypatch.setenv("VQCLIP_TRUST", __name__)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="1"):
        main(["rerun", str(place)])
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "TypeError: Deaf.on_train_start()" in told and "The traceback: outputs/" in told


@pytest.mark.parametrize(
    "own,words",
    [
        ("+callbacks.p._target_=NAME.nothing", r"callbacks.p._target_=.*nothing: no class for callbacks.p"),
        ("init={_target_: NAME.Blank, shape: [3]}", r"init: .*Blank gave \[3\]. Allowed: latents of \[1, 8, 8, 8\]"),
        ("init={_target_: NAME.Blank, shape: null}", "init: .*Blank gave NoneType. Allowed: latents"),
        ("init={_target_: NAME.Blank, shape: [1,8,8,8], dtype: int64}", r"gave \[1, 8, 8, 8\] of torch.int64. Allowed"),
        (
            "augmentations={_target_: NAME.Whole, count: 4}",
            r"augmentations: .*Whole.cut gave \[1, 3, \d+, \d+\]\. .* of \[4",
        ),
        (
            "augmentations={_target_: NAME.Whole, count: null}",
            r"augmentations: .*Whole\.count is null\. Allowed: a whole",
        ),
        ("noise={_target_: NAME.Still, dims: 4}", r"noise: .*Still\.draw gave \[1, 3, .*\. Allowed: noise of \[1, "),
        ("noise={_target_: NAME.Still, dims: null}", r"noise: .*Still has no factor\(t\)\. Allowed: a class with"),
    ],
)
def test_what_an_own_part_gives_is_looked_at(small_pair, tmp_path, own, words):
    pair = [word for word in small_pair if not word.startswith("augmentations.")] if "Whole" in own else small_pair
    with pytest.raises(UserError, match=words):
        run("a fox", [*pair, own.replace("NAME", __name__)], tmp_path / "run")


class Whole:
    """The whole picture, once, however many crops are asked for."""

    def __init__(self, count):
        self.count = count

    def draw(self, rng, height, width):
        return None

    def transform(self, image, draw):
        return image

    def cut(self, padded, draw, input_size, chunk):
        return torch.nn.functional.interpolate(padded, (input_size, input_size))


class Still:
    """Noise of as many dimensions as asked for; None for one that does not say how strong it is."""

    def __init__(self, dims):
        self.dims = dims
        if dims:
            self.factor = lambda t: 0.1

    def draw(self, rng, count, input_size, progress):
        return torch.zeros([1, count, 3, input_size, input_size] if self.dims == 5 else [1, 3, input_size, input_size])


class Blank:
    def __init__(self, shape, dtype="float32"):
        self.shape, self.dtype = shape, getattr(torch, dtype)

    def __call__(self, start):
        return self.shape and torch.zeros(self.shape, dtype=self.dtype)


def test_a_start_of_numpys_numbers_is_taken(small_pair, tmp_path):
    own = f"init={{_target_: {__name__}.Blank, shape: [1,8,8,8], dtype: float64}}"
    assert run("a fox", [*small_pair, own], tmp_path / "run").latents.dtype == torch.float32


def test_the_next_command_of_a_run_with_own_parts_works(small_pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VQCLIP_TRUST", "another")
    own = f"+callbacks.p={{_target_: {__name__}.Bar}}"
    main([*small_pair, own, "+callbacks.kept._target_=pytorch_lightning.callbacks.ModelCheckpoint",
          f"hydra.run.dir={tmp_path}/run", "a fox"])  # fmt: skip
    (told,) = re.findall("next: (.*)   ", capsys.readouterr().err)
    trusted, _, *words = shlex.split(told)
    assert trusted == f"VQCLIP_TRUST=another,{__name__},pytorch_lightning"
    monkeypatch.setenv(*trusted.split("="))
    with warnings.catch_warnings(record=True) as warned, pytest.raises(SystemExit, match="0"):
        main(words)
    assert report(tmp_path / "run")["steps"] == 8
    assert not [one for one in warned if "dirpath has changed" in str(one.message)]


def test_what_lightning_refuses_is_a_sentence(small_pair, tmp_path):
    double = "+trainer.plugins={_target_: pytorch_lightning.plugins.Precision}"
    with pytest.raises(UserError, match="Lightning refuses it: Received both `precision=32-true`"):
        run("a fox", [*small_pair, double], tmp_path / "double")
    for monitor in (pl.callbacks.LearningRateMonitor(), pl.callbacks.DeviceStatsMonitor()):
        told = f"callbacks: {type(monitor).__name__} writes to a logger, .* Try: logger=tensorboard$"
        with pytest.raises(UserError, match=told):
            run("a fox", small_pair, tmp_path / "run", callbacks=[monitor])
    with pytest.raises(UserError, match=r"Lightning refuses it: .*`nope`.* use any of .*`loss`, `include`"):
        run("a fox", small_pair, tmp_path / "other", callbacks=[pl.callbacks.EarlyStopping("nope")])


class OwnObjective:
    """No more than what the check asks of an objective."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def on_crops(self, view):
        return {"mine": -torch.einsum("bnd,bd->b", view.vectors, view.targets.include)}

    def on_picture(self, view):
        time.sleep(0.15)  # so that the bar is drawn at every step
        return {}

    def total(self, terms, progress):
        return float(self.factor) * terms["mine"]


class OwnSearch:
    def before(self, module, step, optimizer): ...
    def after(self, module, step): ...
    def progress(self, step, steps):
        return 0.0


@pytest.mark.parametrize("factor,status", [(1, "finished"), ("nan", "diverged")])
def test_an_objective_of_ones_own_needs_no_weights(small_pair, tmp_path, monkeypatch, capsys, factor, status):
    """The bar in a terminal, and the search for the cause of a divergence, looked at them."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    loss = f"loss={{_target_: {__name__}.OwnObjective, factor: '{factor}'}}"
    words = [word for word in small_pair if not word.startswith("callbacks=")]
    assert run("a fox", [*words, loss, "steps=2", "callbacks=default"], tmp_path / "run").status == status
    assert "loss=" in capsys.readouterr().err or status == "diverged"


def test_a_search_of_another_make_is_refused(small_pair, tmp_path):
    with pytest.raises(
        UserError, match=r"search\._target_=.*OwnSearch: no search\. Allowed: vqclip\.search\.Search, and"
    ):
        run("a fox", [*small_pair, f"search={{_target_: {__name__}.OwnSearch}}"], tmp_path / "run")


@pytest.fixture(scope="module")
def searched(small_pair, tmp_path_factory):
    """A search of which some trials diverge and some are pruned."""
    pytest.importorskip("optuna")
    folder = tmp_path_factory.mktemp("search")
    words = ["hparams_search=optuna", "hparams_search.trials=12", "hparams_search.score=include", *DIVERGING]
    words += ["hparams_search.space=[]", "loss.anchor=choice(0,1,1e6)", f"+callbacks.p._target_={__name__}.Pruning"]
    pair = [word for word in small_pair if not word.startswith("steps=")]
    assert sweep(f"hydra.sweep.dir={folder}", *(w for w in words if w != "loss.anchor=1e6"), "a fox", pair=pair) == 1
    return folder


def test_a_search_shows_what_became_of_every_trial(searched, browser):
    with open(searched / "results.csv", newline="") as file:
        rows = {row["loss.anchor"]: row for row in csv.DictReader(file)}
    assert {anchor: row["status"] for anchor, row in rows.items()} == {
        "0": "finished", "1": "stopped early", "1000000": "diverged"
    }  # fmt: skip
    assert rows["1"]["error"].startswith("pruned after step 2") and "latent" in rows["1000000"]["error"]
    page = browser.new_page()
    page.goto((searched / "compare.html").as_uri())
    told = page.locator("figcaption").all_text_contents()
    assert sum("stopped early" in text for text in told) == 1
    assert page.locator(".gap").text_content().startswith("diverged: after step")
    page.close()
