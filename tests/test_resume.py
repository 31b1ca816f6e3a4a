"""A run that is stopped, however, and gone on with ends in the same bytes as one that was not."""

import json
import multiprocessing
import os
import random
import re
import shlex
import shutil
import signal
import sys
import time
from contextlib import nullcontext
from importlib.resources import files
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from ways import stands_break_and_rerun

from vqclip import UserError, run
from vqclip.cli import main
from vqclip.cli.arguments import parse_arguments
from vqclip.cli.interpolate import main as interpolate
from vqclip.cli.summary import print_result
from vqclip.errors import Diverged
from vqclip.io.latents import saved_latents
from vqclip.runs import checkpointer
from vqclip.runs.checkpoint import read_checkpoint
from vqclip.runs.folder import RunFolder
from vqclip.runs.lock import lock_folder
from vqclip.runs.resume import run_to_resume
from vqclip.runs.rollback import roll_back

#: The imports are paid once; every process forked from there starts at once, and has not used autograd before.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["vqclip.runs.execute", "vqclip.config.compose", "vqclip.io.video"])

LONG = ["steps=12", "snapshot_every=3", "callbacks=default", "prompts.exclude=blurry"]


def bytes_of(folder):
    """Every file of a run that has to be the same, with its content."""
    kinds = ["*.png", "latents.safetensors", "*.mp4", "metrics.csv"]
    return {str(p.relative_to(folder)): p.read_bytes() for kind in kinds for p in folder.rglob(kind)}


def _work(prompts, overrides, folder, kill=None):
    """Run or resume in a process of its own, which may kill itself.

    ``kill`` = (audit event, part of a path, count), and another signal than SIGKILL.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests under nohup have it ignored
    os.dup2(os.open(f"{folder}.err", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
    if kill:
        event, part, count, signum = (*kill, signal.SIGKILL)[:4]
        seen = 0

        def watch(name, args):
            nonlocal seen
            if name == event and part in str(args[-2 if name == "os.rename" else 0]) + str(args[1]):
                seen += 1
                if seen == count:
                    os.kill(os.getpid(), signum)

        sys.addaudithook(watch)
    run(prompts, overrides, folder)


def _in_a_process(*args):
    process = FORKS.Process(target=_work, args=args, daemon=True)
    process.start()
    return process


@pytest.fixture(scope="module")
def unbroken(small_pair, tmp_path_factory):
    """A run that nobody stopped."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    process = _in_a_process(["a fox", "an owl"], [*small_pair, *LONG], folder)
    process.join(600)
    assert process.exitcode == 0
    return folder


#: Moments that a random time rarely meets: just before a file is opened, or takes its final name.
MOMENTS = [
    ("os.rename", "config.yaml", 1),
    ("os.rename", "000000.png", 1),
    ("open", "metrics.csv", 1),
    ("os.rename", "steps/000003.png", 1),
    ("os.rename", "latents/000003.safetensors", 2),
    ("os.rename", "latents.safetensors", 2),
    ("os.remove", "latents/000006.safetensors", 1),
    ("os.rename", "last.ckpt", 1),
    ("os.rename", "last.ckpt", 2),
    ("os.rename", "best.png", 1),
    ("os.rename", "timelapse.mp4", 1),
    ("os.rename", "run.json", 2),
]


def test_twenty_kills_leave_no_trace(small_pair, tmp_path, unbroken):
    folder, dice = tmp_path / "run", random.Random(6)
    moments = [*MOMENTS, *[None] * 10]
    dice.shuffle(moments)
    killed = 0
    args = (["a fox", "an owl"], [*small_pair, *LONG])
    while killed < 20:
        moment = moments.pop() if moments else None
        process = _in_a_process(*args, folder, moment)
        if moment is None:
            process.join(dice.uniform(0.02, 0.6))
            process.kill()
        process.join(600)
        killed += process.exitcode == -signal.SIGKILL
        assert process.exitcode in (0, -signal.SIGKILL)
        if (folder / "config.yaml").exists():
            args = (None, [f"resume={folder}"])
        if process.exitcode == 0:  # it got through before its moment came: once more from the start
            assert bytes_of(folder) == bytes_of(unbroken)
            shutil.rmtree(folder)
            args = (["a fox", "an owl"], [*small_pair, *LONG])
    process = _in_a_process(*args, folder)
    process.join(600)
    assert process.exitcode == 0
    assert bytes_of(folder) == bytes_of(unbroken)
    assert not [p for p in folder.rglob(".*") if p.name != ".lock"], "something half written was left"
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS[1:], ids=lambda m: f"{m[0]}-{m[1].replace('/', '-')}-{m[2]}")
def test_a_kill_at_the_worst_moment_leaves_no_trace(small_pair, tmp_path, unbroken, moment):
    folder = tmp_path / "run"
    process = _in_a_process(["a fox", "an owl"], [*small_pair, *LONG], folder, moment)
    process.join(600)
    assert process.exitcode == -signal.SIGKILL
    process = _in_a_process(None, [f"resume={folder}"], folder)
    process.join(600)
    assert process.exitcode == 0
    assert bytes_of(folder) == bytes_of(unbroken)


def rows(folder):
    path = folder / "metrics.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def wait_for_rows(process, folder, count):
    while rows(folder) < count:
        assert process.is_alive()
        time.sleep(0.005)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_finishes_the_step_and_the_run_goes_on_as_if_nothing_was(small_pair, tmp_path, unbroken, signum):
    folder = tmp_path / "run"
    # From within, at a snapshot: a busy machine may let a run of twelve steps end before one from outside gets there.
    moment = ("os.rename", "steps/000006.png", 1, signum)
    process = _in_a_process(["a fox", "an owl"], [*small_pair, *LONG], folder, moment)
    process.join(600)
    assert process.exitcode == (1 if signum == signal.SIGINT else 128 + signum)  # of a KeyboardInterrupt
    report = json.loads((folder / "run.json").read_text())
    done = read_checkpoint(RunFolder(folder))["global_step"]
    assert report["status"] == "interrupted" and done == rows(folder) == 6
    _resumed(folder)
    assert bytes_of(folder) == bytes_of(unbroken)
    assert json.loads((folder / "run.json").read_text())["resumed"] == [done]


def _resumed(folder, *overrides):
    process = _in_a_process(None, [f"resume={folder}", *overrides], folder)
    process.join(600)
    assert process.exitcode == 0


@pytest.mark.parametrize("signum,status", [(signal.SIGTERM, "interrupted"), (signal.SIGKILL, "running")])
def test_a_run_that_ends_between_its_first_files_has_its_hashes(small_pair, tmp_path, signum, status):
    """Before the config that names the files, which are read for a record only where they are the same."""
    folder = tmp_path / "run"
    process = _in_a_process(["a fox"], [*small_pair, "steps=2"], folder, ("os.rename", "config.yaml", 1, signum))
    process.join(600)
    assert process.exitcode == (-signum if signum == signal.SIGKILL else 128 + signum)
    report = json.loads((folder / "run.json").read_text())
    assert report["status"] == status and "generator" in report["weights"]


#: A run opens its perceptor for its header and its hash before config.yaml is written, and the third time to load it.
LOADING = ("open", "perceptor.safetensors", 3, signal.SIGTERM)


def test_a_signal_before_a_resumed_run_makes_a_step_leaves_it_as_it_was(small_pair, tmp_path):
    folder = run("a fox", small_pair, tmp_path / "run").folder
    before = {name: (folder / name).read_bytes() for name in ("run.json", "config.yaml")}
    process = _in_a_process(None, [f"resume={folder}", "steps=6"], folder, LOADING)
    process.join(600)
    assert process.exitcode == 128 + signal.SIGTERM
    assert before == {name: (folder / name).read_bytes() for name in before}
    assert f"stopped before another step was made: {folder} is what it was\n" in (tmp_path / "run.err").read_text()
    _resumed(folder, "steps=6")
    assert json.loads((folder / "run.json").read_text())["steps"] == 6


def test_a_run_that_was_stopped_while_it_loaded_its_models_begins_again(small_pair, tmp_path):
    """Its own files are known by their hashes before: a record's are read only where they are the same."""
    folder, picture = tmp_path / "run", tmp_path / "start.png"
    Image.new("RGB", (32, 32), "red").save(picture)
    words = [*(word for word in small_pair if word != "init=sine"), "init=image", f"init.path={picture}"]
    process = _in_a_process(["a fox"], words, folder, LOADING)
    process.join(600)
    assert process.exitcode == 128 + signal.SIGTERM
    _resumed(folder)
    assert json.loads((folder / "run.json").read_text())["steps"] == 4


def test_a_second_signal_ends_at_once(small_pair, tmp_path):
    folder = tmp_path / "run"
    process = _in_a_process(["a fox"], [*small_pair, "steps=100000", "snapshot_every=100000"], folder)
    wait_for_rows(process, folder, 2)
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGTERM)
    process.join(20)
    assert process.exitcode == 128 + signal.SIGTERM


def test_a_stopped_run_names_the_command_that_goes_on(small_pair, tmp_path):
    folder = tmp_path / "a run"
    process = _in_a_process(["a fox"], [*small_pair, "steps=100000"], folder)
    wait_for_rows(process, folder, 2)
    os.kill(process.pid, signal.SIGINT)
    process.join(600)
    assert f"stopped. To continue: vqclip resume='{folder}'\n" in (tmp_path / "a run.err").read_text()


class Stops(pl.Callback):
    """Asks for the end after the third step."""

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.global_step == 3


@pytest.mark.parametrize(
    "words,callbacks", [([], [Stops()]), (["+trainer.limit_train_batches=3"], [])], ids=["callback", "limit"]
)
def test_a_run_that_ended_early_between_two_snapshots_is_kept_at_its_end(small_pair, tmp_path, words, callbacks):
    folder = run("a fox", [*small_pair, *words], tmp_path / "run", callbacks=callbacks).folder
    assert read_checkpoint(RunFolder(folder))["global_step"] == 3
    report = run(resume=folder, overrides=["steps=3"]).report
    assert report["status"] == "finished" and report["steps"] == report["pictures"][0]["final"]["step"] == 3


class Cut(pl.Callback):
    """Stops a run after a step, as a signal within it does, or as a kill after it."""

    def __init__(self, step, kill):
        self.step, self.kill = step, kill

    def on_train_batch_end(self, trainer, module, *_):
        if not self.kill and trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_train_batch_start(self, trainer, module, *_):
        if self.kill and trainer.global_step == self.step:
            raise KeyboardInterrupt


_EARLY = "{_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: score, mode: max, min_delta: 9, patience: 2}"
STOPS = {
    "loss": (["callbacks=auto_stop", "callbacks.auto_stop.window=4", "callbacks.auto_stop.threshold=9"], 8),
    "validation": ([f"+callbacks.stop={_EARLY}"], 9),  # the third of the snapshots of steps 3, 6, 9
}


@pytest.mark.parametrize("kill", [False, True], ids=["signal", "kill"])
@pytest.mark.parametrize("step", [3, 4, 6])
@pytest.mark.parametrize("watched", STOPS)
def test_a_resumed_run_stops_early_where_an_unbroken_one_does(small_pair, tmp_path, watched, step, kill):
    """Whoever watches the loss or the scores has seen the checkpoint's own step, too."""
    stop, end = STOPS[watched]
    words = [*small_pair, *stop, "steps=20", "snapshot_every=3"]
    with pytest.raises(SystemExit):
        run("a fox", words, tmp_path / "run", callbacks=[Cut(step, kill)])
    assert run(resume=tmp_path / "run").status == "stopped early"
    report = json.loads((tmp_path / "run" / "run.json").read_text())
    assert report["steps"] == end and report["resumed"] == [3 if kill and step == 4 else step]


class Look(pl.Callback):
    """Notes what there is of the latents after each step, and may break the run off at one."""

    def __init__(self, picture, error=None, step=7):
        self.picture, self.error, self.step, self.seen = picture, error, step, []

    def on_train_batch_end(self, trainer, *args):
        self.seen.append({p.name: p.stat().st_size for p in self.picture.rglob("*.safetensors")})
        if self.error and trainer.global_step == self.step:
            raise self.error


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), RuntimeError("mine"), Diverged("mine")], ids=repr)
def test_a_snapshot_writes_its_own_latent_and_the_end_of_a_run_one_file_of_them_all(small_pair, tmp_path, error):
    picture = tmp_path / "run/picture-00"
    look = Look(picture, error)
    with nullcontext() if error is None or isinstance(error, Diverged) else pytest.raises(BaseException):
        run("a fox", [*small_pair, "steps=8", "snapshot_every=2"], tmp_path / "run", callbacks=[look])
    assert [sorted(seen) for seen in look.seen[:4:2]] == [
        ["000000.safetensors"],
        [f"00000{i}.safetensors" for i in (0, 2)],
    ]
    assert len({size for seen in look.seen for size in seen.values()}) == 1, "what is written does not grow"
    steps = ["000000", "000002", "000004", "000006", *(["000008"] if error is None else [])]
    assert sorted(load_file(picture / "latents.safetensors")) == steps
    assert sorted(path.stem for path in (picture / "steps").iterdir()) == steps and not (picture / "latents").exists()


def test_latents_of_a_run_that_was_killed_are_there_for_a_start_and_needed_to_go_on(small_pair, tmp_path, unbroken):
    folder, keys = tmp_path / "run", [*small_pair, *LONG]
    process = _in_a_process(["a fox", "an owl"], keys, folder, ("os.rename", "last.ckpt", 3))
    process.join(600)
    assert process.exitcode == -signal.SIGKILL and not (folder / "picture-01/latents.safetensors").exists()
    start = ["init=run", f"init.run={folder}", "init.picture=1", "steps=1"]
    for step, at in (("final", "000009"), ("3", "000003")):
        made = run("an owl", [*small_pair, *start, f"init.step={step}"], tmp_path / step).folder
        begun = load_file(made / "picture-00/latents.safetensors")["000000"]
        assert torch.equal(begun, load_file(unbroken / "picture-01/latents.safetensors")[at])
    shutil.copytree(folder, tmp_path / "pruned")
    (tmp_path / "pruned/picture-01/latents/000003.safetensors").unlink()
    with pytest.raises(UserError, match=r"picture-01/latents/000003.safetensors: missing\. Try: vqclip rerun"):
        run(resume=tmp_path / "pruned")
    (folder / "picture-01/latents/notes.txt").write_text("theirs")
    run(resume=folder)
    assert bytes_of(folder) == bytes_of(unbroken)
    assert [path.name for path in (folder / "picture-01/latents").iterdir()] == ["notes.txt"]
    assert not (folder / "picture-00/latents").exists()


@pytest.fixture(scope="module")
def short(small_pair, tmp_path_factory):
    """A finished run that more steps can be asked of."""
    return run("a fox", small_pair, tmp_path_factory.mktemp("short") / "run").folder


def _at_work(short, folder):
    """A copy of a run's folder, with a file for each snapshot's latent, as while it was at work → its picture."""
    picture = RunFolder(shutil.copytree(short, folder)).picture(0)
    picture.new_latents.mkdir()
    for name, latent in load_file(picture.latents_file).items():
        save_file({name: latent}, picture.new_latent(int(name)))
    picture.latents_file.unlink()
    return picture


@pytest.mark.parametrize("name", ["000002", "mine"])
def test_where_latents_are_joined_no_other_file_counts(short, tmp_path, name):
    folder = shutil.copytree(short, tmp_path / "run")
    kept = load_file(folder / "picture-00/latents.safetensors")
    (folder / "picture-00/latents").mkdir()
    save_file({name: torch.zeros_like(kept["000002"])}, folder / "picture-00/latents/000002.safetensors")
    assert (saved_latents(folder, step=2)[0].read() == kept["000002"].numpy()).all()
    run(resume=folder, steps=6)
    now = load_file(folder / "picture-00/latents.safetensors")
    assert sorted(now) == [*kept, "000006"] and all(torch.equal(now[step], kept[step]) for step in kept)


class WithoutLatents(pl.Callback):
    """Somebody moves the latents of single snapshots away after a step, and may leave a link to others."""

    def __init__(self, picture, step, link=None):
        self.latents, self.step, self.link = picture / "latents", step, link

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            self.latents.rename(self.latents.with_name("moved"))
            if self.link:
                self.latents.symlink_to(self.link)


def test_nothing_behind_a_link_is_removed_at_the_end(small_pair, tmp_path):
    picture, theirs = tmp_path / "run/picture-00", tmp_path / "theirs"
    theirs.mkdir()
    for step in (2, 777):
        (theirs / f"{step:06d}.safetensors").write_text("theirs")
    run("a fox", small_pair, tmp_path / "run", callbacks=[WithoutLatents(picture, 3, theirs)])
    assert [(theirs / f"{step:06d}.safetensors").read_text() for step in (2, 777)] == ["theirs"] * 2
    assert sorted(load_file(picture / "latents.safetensors")) == ["000000", "000002", "000004"]


def test_latents_that_somebody_removed_are_written_at_the_end_of_a_resumed_run(short, tmp_path):
    folder = shutil.copytree(short, tmp_path / "run")
    run(resume=folder, steps=6, callbacks=[WithoutLatents(folder / "picture-00", 6)])
    assert sorted(load_file(folder / "picture-00/latents.safetensors")) == ["000000", "000002", "000004", "000006"]


def test_a_finished_run_without_its_latents_is_no_start_and_can_be_reproduced(short, tmp_path):
    folder = shutil.copytree(short, tmp_path / "run")
    (folder / "picture-00/latents.safetensors").unlink()
    with pytest.raises(UserError, match=r"latents\.safetensors: missing\. Try: vqclip rerun"):
        saved_latents(folder)


def test_latents_are_read_while_their_run_joins_them(short, tmp_path):
    picture, whole = _at_work(short, tmp_path / "run"), short / "picture-00/latents.safetensors"
    steps, saved = load_file(whole), saved_latents(tmp_path / "run", step=2)[0]

    def read(path):
        if path == picture.new_latent(2) and path.exists():
            shutil.copy(whole, picture.latents_file)
            shutil.rmtree(picture.new_latents)
        return load_file(path)

    found = picture.latents_by(read)
    assert {place for place, _ in found.values()} == {picture.latents_file} and sorted(found) == sorted(steps)
    assert not saved.file.exists() and (saved.read() == steps["000002"].numpy()).all()


@pytest.mark.parametrize(
    "content, what",
    [
        ({"000003": torch.zeros(3, 4, 4)}, "it has no latent of step 2"),
        ({"000002": torch.zeros(1, 1, 1)}, "000002 is (1, 1, 1), not "),
        (None, "Error while deserializing"),
    ],
)
def test_the_file_of_a_snapshot_whose_latent_is_wrong_is_named(short, tmp_path, content, what):
    picture = _at_work(short, tmp_path / "run")
    wrong = picture.new_latent(2)
    save_file(content, wrong) if content else wrong.write_text("no latent")
    starts = [lambda: run(resume=tmp_path / "run", steps=6)]
    if "(1, 1, 1)" not in what:  # of a shape of its own a start only looks at the step that it takes
        starts.append(lambda: saved_latents(tmp_path / "run", step=4))
    for start in starts:
        with pytest.raises(UserError, match=f"^{re.escape(f'{wrong}: damaged: {what}')}"):
            start()


def test_more_steps_are_the_steps_of_a_longer_run(small_pair, tmp_path):
    short, long = tmp_path / "short", tmp_path / "long"
    run("a fox", [*small_pair, "steps=6", "snapshot_every=3"], short)
    run(None, [f"resume={short}", "steps=12"])
    run("a fox", [*small_pair, "steps=12", "snapshot_every=3"], long)
    assert (short / "metrics.csv").read_bytes() == (long / "metrics.csv").read_bytes()
    for name in ("latents.safetensors", "steps/000009.png", "final.png"):
        assert (short / "picture-00" / name).read_bytes() == (long / "picture-00" / name).read_bytes()
    # The first half says what it was made with: a run of six steps, by which it can be reproduced.
    assert (short / "picture-00/steps/000003.png").read_bytes() != (long / "picture-00/steps/000003.png").read_bytes()
    assert yaml.safe_load((short / "config.yaml").read_text())["steps"] == 12


def test_a_moved_folder_goes_on_where_it_is(small_pair, tmp_path):
    run("a fox", [*small_pair, "logger=tensorboard"], tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    run(None, [f"resume={tmp_path}/new", "steps=6"])
    assert not (tmp_path / "old").exists()
    assert yaml.safe_load((tmp_path / "new/config.yaml").read_text())["paths"]["output_dir"] == str(tmp_path / "new")


def test_a_copy_that_goes_on_says_that_it_shares_the_run_in_wandb(small_pair, tmp_path, capsys):
    words = [word for word in small_pair if not word.startswith("logger")]
    made = run("a fox", [*words, "steps=1", "logger.wandb.mode=offline"], tmp_path / "run")
    shutil.copytree(made.folder, tmp_path / "copy")
    told = f"note: {tmp_path}/run is still there; if {tmp_path}/copy is a copy of it, both are one run in W&B, "
    told += f"{made.report['wandb']}. For one of its own: vqclip rerun {tmp_path}/copy logger=wandb\n"
    for steps, count in ((2, 1), (3, 0)):  # from then on it is its own folder
        capsys.readouterr()
        run(resume=tmp_path / "copy", overrides=[f"steps={steps}"])
        assert capsys.readouterr().err.count(told) == count
    made.folder.rename(tmp_path / "moved")
    run(resume=tmp_path / "moved", overrides=["steps=2"])
    assert "note: " not in capsys.readouterr().err


def test_words_stay_where_a_folder_of_their_name_moves(small_pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entry = {"parts": ["a fox", {"text": "a fox", "region": "left"}]}
    typed = "prompts.include=[a fox, {parts: [a fox, {text: a fox, region: left}]}]"
    run(None, [*small_pair, "steps=1", "tags=[a fox]", typed], "a fox")
    (tmp_path / "a fox").rename("new")
    monkeypatch.chdir("/")
    config = RunFolder(tmp_path / "new").config()
    assert config["prompts"]["include"] == ["a fox", entry] and config["tags"] == ["a fox"]
    assert config["paths"]["output_dir"] == str(tmp_path / "new")


def test_files_may_lie_elsewhere_now(small_pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32), "red").save("fox.png")
    shutil.copy(small_pair[0].partition("=")[2], "generator.safetensors")
    mine = ["init=image", "init.path=fox.png", "checkpoints.generator.path=generator.safetensors", "prompts.extras="]
    mine[-1] += "[{image: fox.png}]"
    run("a fox", [*small_pair, *mine, "steps=2"], "run")
    for name in ("fox.png", "generator.safetensors"):
        shutil.copy(name, tmp_path / f"moved-{name}")
    os.remove("generator.safetensors")
    moved = ["checkpoints.generator.path=moved-generator.safetensors", "steps=4"]
    Image.new("RGB", (32, 32), "blue").save("other.png")
    with pytest.raises(UserError, match=r"init\.path=other\.png: not what the run began with, fox\.png"):
        run(resume="run", overrides=["init.path=other.png", *moved])
    assert run(resume="run", overrides=["init.path=moved-fox.png", *moved]).status == "finished"
    os.remove("moved-fox.png")  # which only steps read
    assert interpolate(["run", "run", "--frames", "2"]) == 0


def test_what_prompts_read_may_lie_elsewhere_now(small_pair, tmp_path, monkeypatch):
    """The advice of each message led to the other one."""
    monkeypatch.chdir(tmp_path)
    for name, colour in (("photo.png", "red"), ("mask.png", "white"), ("other.png", "blue")):
        Image.new("RGB", (32, 32), colour).save(name)
    entry = "prompts.extras=[{{parts: [{{image: {}, weight: {}}}, {{text: photo.png, region: {}}}]}}]".format
    run("a fox", [*small_pair, entry("photo.png", 0.5, "mask.png"), "steps=2", "prompts.exclude=[{text: mask}]"], "run")
    Path("there").mkdir()
    for name in ("photo.png", "mask.png"):
        shutil.move(name, "there")
    with pytest.raises(UserError, match=r"prompts.extras: .* names the file photo.png, which is not here"):
        run(resume="run", overrides=["steps=4"])
    moved = entry("there/photo.png", 0.5, "there/mask.png")
    for word, told in (
        (entry("other.png", 0.5, "there/mask.png"), r"not what the run began with, photo\.png, by its sha256"),
        (entry("there/photo.png", 0.6, "there/mask.png"), "would change steps that are done"),
        (entry("there/photo.png", 0.5, "left"), "would change steps that are done"),
        ("prompts.exclude=[{text: photo.png}]", "would change steps that are done"),
    ):
        with pytest.raises(UserError, match=told):
            run(resume="run", overrides=[moved, word])
    assert run(resume="run", overrides=[moved, "steps=4"]).status == "finished"
    for name in ("photo.png", "mask.png"):
        shutil.move(f"there/{name}", name)
    config = Path("run/config.yaml")  # and as a kill leaves it before the next picture
    config.write_text(config.read_text().replace("there/", ""))
    back = entry("photo.png", 0.5, "mask.png")
    assert run(resume="run", overrides=[back, "steps=5"]).status == "finished"


def two_targets(red="red.png", blue="blue.png"):
    return f"prompts.extras=[{{image: {red}, weight: 0.2}}, {{image: {blue}, weight: 2}}]"


@pytest.fixture
def towards_two(small_pair, tmp_path, monkeypatch):
    """A run towards two pictures, one of which counts more; copies of them in another folder."""
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    for name in ("red", "blue"):
        Image.new("RGB", (32, 32), name).save(f"{name}.png")
        shutil.copy(f"{name}.png", "there")
    run("a fox", [*small_pair, two_targets(), "steps=2"], "run")


@pytest.mark.parametrize("typed", [[], [two_targets("there/blue.png", "there/red.png")]], ids=["", "typed"])
def test_pictures_of_prompts_that_are_exchanged_in_a_config_are_others(towards_two, typed):
    """All of them were there, by their sha256, and the run went on with each in the place of another."""
    config, folder = Path("run/config.yaml"), "there/" if typed else ""
    swapped = {"red.png": f"{folder}blue.png", "blue.png": f"{folder}red.png"}
    config.write_text(re.sub(r"(red|blue)\.png", lambda found: swapped[found[0]], config.read_text()))
    with pytest.raises(UserError, match=r"config\.yaml: damaged: prompts\.extras is .* it was changed"):
        run(resume="run", overrides=["steps=4", *typed])


def test_pictures_of_prompts_whose_files_are_exchanged_are_others(towards_two):
    """The same with the files, where their prompts are typed, as the advice for a changed file says."""
    for name, was in (("red", "blue"), ("blue", "red")):
        shutil.copy(f"there/{was}.png", f"{name}.png")
    with pytest.raises(UserError, match=r"inputs changed since the run began: (red\.png|blue\.png), "):
        run(resume="run", overrides=["steps=4", two_targets()])


def test_a_prompt_that_is_a_picture_may_lie_elsewhere_now(small_pair, tmp_path, monkeypatch):
    """It is called by its path, and the run was refused as another's."""
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Image.new("RGB", (32, 32), "red").save("photo.png")
    words = [*small_pair, "steps=2"]
    run(
        None,
        [*words, "prompts.include=[{image: photo.png}, {parts: [a fox, {image: photo.png, region: left}]}]"],
        "run",
    )
    shutil.move("photo.png", "there")
    there = "prompts.include=[{image: there/photo.png}, {parts: [a fox, {image: there/photo.png, region: left}]}]"
    assert run(resume="run", overrides=["steps=4", there]).status == "finished"
    assert run(resume="run", overrides=["steps=5"]).status == "finished"


def test_a_prior_that_this_start_does_not_ask_is_no_hindrance(small_pair, tmp_path):
    shutil.copy(files("vqclip") / "embedded/prior.safetensors", tmp_path / "prior.safetensors")
    mine = f"checkpoints.prior={{path: {tmp_path}/prior.safetensors}}"
    keys = [mine if word == "checkpoints.prior=null" else word for word in small_pair]
    made = run("a fox", [*keys, "init=sine"], tmp_path / "run").folder
    assert run(resume=made, overrides=["steps=6"]).status == "finished"


@pytest.mark.parametrize("name", ["é a=1, b", "é [1]", "a (é)", "猫, 'old'"])
def test_the_printed_command_names_the_folder_whatever_it_is_called(name):
    word = shlex.split(RunFolder(Path(name)).resume_command)[1]
    assert run_to_resume(parse_arguments([word, "steps=6"]).words) == (Path(name), ["steps=6"])


def test_the_home_folder_is_known_to_resume(monkeypatch):
    monkeypatch.setenv("HOME", "/at/é home")
    assert run_to_resume(parse_arguments(["resume=~/run"]).words) == (Path("/at/é home/run"), [])


def test_the_logger_may_change_on_the_way(small_pair, tmp_path):
    folder = run("a fox", small_pair, tmp_path / "run").folder
    run(None, [f"resume={folder}", "steps=6", "logger=tensorboard"])
    assert list((folder / "tensorboard").iterdir())


@pytest.fixture(scope="module")
def finished(small_pair, tmp_path_factory):
    """A finished run whose anchor is a schedule."""
    anchor = "loss.anchor={start: 1, end: 0, shape: linear}"
    return run("a fox", [*small_pair, anchor], tmp_path_factory.mktemp("finished") / "run").folder


@pytest.mark.parametrize("argument", ["folder", "config_dir"])
def test_what_a_resumed_run_would_not_heed_is_refused(finished, tmp_path, argument):
    with pytest.raises(UserError, match=f"{argument}=.*: not with resume"):
        run(resume=finished, **{argument: tmp_path})


@pytest.mark.parametrize("words", [["++resume=RUN"], ["experiment=mine"]], ids=" ".join)
def test_a_run_to_resume_is_a_word_of_the_command(words, tmp_path):
    """It began a new one, without a word."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\nresume: RUN\n")
    with pytest.raises(UserError, match=r"^resume=RUN: .*Try: vqclip resume=RUN$"):
        run("a fox", [*words, "logger=none"], tmp_path / "run", config_dir=tmp_path)


def test_a_finished_run_says_so(finished, capsys):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    with pytest.raises(SystemExit) as exit:
        main([f"resume={finished}"])
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"{finished} is finished. More steps: vqclip resume={finished} steps=N\n"
    assert run(None, [f"resume={finished}"]).status == "finished"
    assert before == {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}


WRONG = {
    "seed=1": "seed=1: would change steps that are done; the run began with 0. Allowed with resume: steps, and what is "
    "not the picture's (logger, callbacks, memory, tags). Try: vqclip rerun {run} seed=1",
    "loss.beta=2": "loss.beta=2: would change steps that are done; the run began with 3. Allowed with resume: steps, "
    "and what is not the picture's (logger, callbacks, memory, tags). Try: vqclip rerun {run} loss.beta=2",
    "steps=8": "steps=8: loss.anchor changes over the whole run, so its past values depend on the number of steps (4). "
    "Allowed: steps=4. Try: vqclip rerun {run} steps=8",
    "steps=2": "steps=2: 4 steps are done. Allowed: 4 and more. Try: steps=8",
    "seed=1,2": "seed=1,2: a sweep. Allowed here: one value. Try: seed=1",
    "sed=1": "sed: there is no such key in {run}/config.yaml. Did you mean seed? All its keys are in config.yaml; "
    "+sed=VALUE adds one",
    "experiment=reference": "experiment=reference: a preset cannot be laid over a finished config. Try: the keys it "
    "sets, one by one",
    "--cfg": "--cfg: not with resume. A resumed run has its own config. Try: vqclip resume={run}",
    "-m": "resume: one run at a time, and no sweep. Try: vqclip resume=RUN for each of them",
}


@pytest.mark.parametrize("word", WRONG)
def test_what_would_change_the_past_is_refused(finished, word, capsys):
    with pytest.raises(SystemExit) as exit:
        main([f"resume={finished}", word])
    assert exit.value.code == 2
    assert capsys.readouterr().err == "vqclip: " + WRONG[word].format(run=finished) + "\n"


@pytest.mark.parametrize(
    "word,told",
    [
        ("steps=1e3", "steps=1000.0: not allowed here. Allowed: a whole number"),
        ("steps=true", "steps=true: not allowed here. Allowed: a whole number"),
        ("steps=null", "steps=null: not allowed here. Allowed: a whole number"),
        ("tags=5", "tags=5: not allowed here. "),
        ("+callbacks.progress=x", "callbacks.progress='x': "),
        ("trainer.max_time=5", "trainer.max_time=5: not allowed here. "),
        ("+logger.mine={a: 1}", "logger.mine._target_: missing. "),
    ],
)
def test_a_wrong_value_is_refused_to_a_finished_run_as_well(finished, word, told, capsys):
    with pytest.raises(SystemExit) as exit:
        main([f"resume={finished}", word])
    assert exit.value.code == 2 and f"vqclip: {told}" in capsys.readouterr().err


class Wave:
    """A schedule of one's own."""

    def __call__(self, t):
        return 1 - t / 2


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.lr={start: .1, end: .1, warmup: .9}",
        f"loss.alpha={{_target_: {__name__}.Wave}}",
        f"prompts.extras=[{{text: paper, weight: {{_target_: {__name__}.Wave}}}}]",
    ],
)
def test_more_steps_of_any_schedule_over_the_run_are_refused_and_not_advised(
    small_pair, tmp_path, override, monkeypatch, capsys
):
    monkeypatch.setenv("VQCLIP_TRUST", __name__)
    key = override.partition("=")[0]
    print_result(run("a fox", [*small_pair, "steps=2", override], tmp_path / "run"))
    assert re.search("next: .*vqclip rerun", capsys.readouterr().err)
    with pytest.raises(UserError, match=f"steps=4: {key}.* changes over the whole run"):
        run(None, [f"resume={tmp_path}/run", "steps=4"])


class FadingNoise:
    """As one of the user's own may be a schedule over the run."""

    def factor(self, t):
        return 1 - t

    def draw(self, rng, count, input_size, progress):
        return None


def test_a_noise_of_ones_own_may_be_a_schedule_so_its_run_keeps_its_length(small_pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VQCLIP_TRUST", __name__)
    print_result(run("a fox", [*small_pair, f"noise={{_target_: {__name__}.FadingNoise}}"], tmp_path / "run"))
    assert re.search("next: .*vqclip rerun", capsys.readouterr().err)
    with pytest.raises(UserError, match=r"steps=8: noise\._target_ changes over the whole run"):
        run(None, [f"resume={tmp_path}/run", "steps=8"])


@pytest.mark.parametrize(
    "group,key,value",
    [("optimizer", "lr", 5), ("optimizer", "_target_", "torch.optim.SGD"), ("prompts", "templates", "a {}")],
)  # the last was null
def test_a_config_that_was_changed_by_hand_is_refused(finished, tmp_path, group, key, value):
    """On the command line it is; the pictures until now would be of another config than those that follow."""
    copy = shutil.copytree(finished, tmp_path / "run")
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config[group][key] = value
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    for lost in (None, *sorted((copy / "picture-00").glob("*.png"))):
        if lost:  # then the snapshots tell
            lost.unlink()
        with pytest.raises(UserError, match=rf"config.yaml: damaged: {group}.{key} is .*{value}.*made with .*rerun "):
            run(resume=copy, steps=8)


def test_steps_changed_by_hand_are_refused_where_something_changes_over_the_run(finished, small_pair, tmp_path):
    """Without a schedule they say only how far the run goes, as on the command line."""
    plain = run("a fox", [*small_pair, "steps=2"], tmp_path / "plain").folder
    for folder, steps in ((shutil.copytree(finished, tmp_path / "run"), 4), (plain, 2)):
        text = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(text.replace(f"\nsteps: {steps}\n", f"\nsteps: {steps + 1}\n"))
    with pytest.raises(
        UserError, match=r"config.yaml: damaged: steps is 5, and the pictures were made with 4: .*rerun "
    ):
        run(resume=tmp_path / "run")
    assert run(resume=plain, overrides=["tags=[more]"]).status == "finished"


def test_mixed_precision_stands_a_break_after_a_snapshot(small_pair, tmp_path):
    stands_break_and_rerun([*small_pair, "trainer.precision=bf16-mixed", "steps=4", "snapshot_every=1"], tmp_path)


def test_a_folder_that_is_no_run_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([f"resume={tmp_path}/nothing"])
    assert capsys.readouterr().err == (
        f"vqclip: {tmp_path}/nothing: not a run folder, it has no config.yaml. Allowed: a folder that vqclip wrote, "
        "such as outputs/DATE/TIME or multirun/DATE/TIME/0\n"
    )
    assert not (tmp_path / "nothing").exists()


def test_a_second_process_on_the_folder_is_refused(small_pair, tmp_path):
    folder = tmp_path / "run"
    process = _in_a_process(["a fox"], [*small_pair, "steps=100000"], folder)
    wait_for_rows(process, folder, 2)
    for overrides in ([f"resume={folder}"], small_pair):
        with pytest.raises(UserError) as refused:
            run(None, overrides, folder)
        assert str(refused.value) == (
            f"{folder}: another vqclip process is running in this folder. Wait until it ends, or stop it"
        )
    process.kill()
    process.join(600)
    with lock_folder(folder):  # a process that was killed holds nothing
        pass


def test_a_folder_of_many_pictures_is_cut_back_each_to_its_own_best(tmp_path):
    for i in range(102):
        for step in range(3):
            for kind in ("steps", "crops"):
                path = tmp_path / f"picture-{i:02d}" / kind / f"{step:06d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{i} {step}")
        latents = {f"{step:06d}": torch.zeros(1, 1, 1) for step in range(3)}
        save_file(latents, path.parent.parent / "latents.safetensors")
    for name in ("metrics.csv", "timing.csv"):
        (tmp_path / name).write_text(f"step,x\n1,5\n2,5\n{'9' * 5000},1\n3,")
    best = [i % 2 for i in range(102)]
    roll_back(RunFolder(tmp_path), 1, best)
    for i, step in enumerate(best):
        folder = tmp_path / f"picture-{i:02d}"
        assert (folder / "best.png").read_text() == f"{i} {step}" and (folder / "final.png").read_text() == f"{i} 1"
        assert sorted(load_file(folder / "latents.safetensors")) == ["000000", "000001"]
    assert (tmp_path / "metrics.csv").read_text() == "step,x\n1,5\n"
    assert [picture.index for picture in RunFolder(tmp_path).pictures()] == list(range(102))  # 100 comes after 11


def test_a_table_goes_on_with_the_columns_that_an_older_version_gave_it(tmp_path):
    folder = RunFolder(tmp_path)
    folder.metrics_file.write_text("step,old,loss\n1,7,3\n")
    folder.append_row(folder.metrics_file, {"step": 2, "loss": 5, "new": 9})
    assert folder.metrics_file.read_text().splitlines() == ["step,old,loss", "1,7,3", "2,,5"]


def test_a_resumed_run_leaves_what_is_not_its_own(small_pair, tmp_path):
    folder = run("a fox", small_pair, tmp_path / "run").folder
    picture = folder / "picture-00"
    half_written = [folder / ".metrics.csv.a1b2c3d4", picture / ".best.png.a1b2c3d4", picture / ".timelapse.mp4"]
    half_written.append(picture / "steps" / ".000006.png.a_b2c3d4")
    of_the_end = [picture / "upscaled.png", picture / "timelapse.mp4"]
    others = [folder / ".metrics.csv.swp", picture / ".nomedia", picture / "notes.txt"]
    others += [picture / "crops" / "._000002.png", picture / ".thumbs" / "best.png", picture / "@eaDir/best.png/1.jpg"]
    for path in half_written + of_the_end + others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("theirs")
    run(resume=folder, steps=6)
    assert not [path for path in half_written + of_the_end if path.exists()]
    assert [path.read_text() for path in others] == ["theirs"] * len(others)


def test_a_resumed_run_computes_with_as_many_threads_as_before(small_pair, tmp_path):
    class Note(pl.Callback):
        def on_train_batch_end(self, *args):
            seen.append(torch.get_num_threads())

    seen, before = [], torch.get_num_threads()
    folder = run("a fox", [*small_pair, "steps=1"], tmp_path / "run").folder
    torch.set_num_threads(before + 1)
    try:
        run(resume=folder, overrides=["steps=2"], callbacks=[Note()])
        assert (seen, torch.get_num_threads()) == ([before], before + 1)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "what,name,refused",
    [
        ("weights", "generator", "which is not here as that run read it"),  # a file of one's own is not read at all
        ("weights", "embedded", "weights changed since the run began: embedded"),
        ("inputs", "embedded", "inputs changed since the run began: embedded"),
    ],
)
def test_other_weights_or_inputs_are_refused(small_pair, tmp_path, what, name, refused):
    words = [word for word in small_pair if not word.startswith("checkpoints.perceptors")]  # the package's own
    folder = run("a fox", words, tmp_path / "run").folder
    report = json.loads((folder / "run.json").read_text())
    report |= {"status": "interrupted", what: dict(report[what], **{name: "f" * 64})}
    (folder / "run.json").write_text(json.dumps(report))
    with pytest.raises(UserError, match=refused):
        run(None, [f"resume={folder}"])


def test_a_checkpoint_that_runs_code_is_refused(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where it would make a folder
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    torch.save({"global_step": 4, "callbacks": _Foreign()}, folder / "last.ckpt")
    report = json.loads((folder / "run.json").read_text()) | {"status": "interrupted"}
    (folder / "run.json").write_text(json.dumps(report))
    with pytest.raises(UserError, match=r"last\.ckpt: not a checkpoint of vqclip"):
        run(None, [f"resume={folder}"])
    assert not (tmp_path / "ran").exists()


class _Foreign:
    def __reduce__(self):
        return (os.mkdir, ("ran",))


def test_what_the_recorder_knows_is_not_tried_out_at_every_snapshot(small_pair, tmp_path, monkeypatch):
    """It grows with every snapshot, and is plain data."""
    tried, unreadable = [], checkpointer._unreadable
    monkeypatch.setattr(checkpointer, "_unreadable", lambda state: tried.append(state) or unreadable(state))
    run("a fox", [*small_pair, "callbacks=auto_stop"], tmp_path / "run")
    assert tried and not [state for state in tried if "digests" in state]
