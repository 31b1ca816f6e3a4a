"""Faults of the machine around a run: one sentence, a status that tells, and what was written is kept."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import pytest
import pytorch_lightning as pl
import torch
from filelock import FileLock
from PIL import Image
from test_resume import bytes_of

from vqclip import UserError, run
from vqclip.cli import main
from vqclip.cli.faults import own_line
from vqclip.compare.command import command_of
from vqclip.io.files import atomic_write
from vqclip.loggers.wandb_startup import keep_artifacts


def _child(argv, folder, fault):
    """A command in a process of its own, with a fault; what it prints goes into files beside ``folder``."""
    folder = Path(folder)
    for name, stream in (("out", 1), ("err", 2)):
        handle = os.open(folder.parent / f"{folder.name}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, stream)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    sys.argv = ["vqclip"]
    os.chdir(folder.parent)
    fault(folder)
    try:
        main(argv)
    finally:
        if fault is closed_early:
            sys.stdout = None  # a process of its own would end here; multiprocessing would flush once more


@pytest.fixture
def command(small_pair, tmp_path):
    """Runs a command with a fault; its status and what it printed."""

    def call(fault, *words, folder=tmp_path / "run", pair=small_pair):
        argv = (
            [*words, *pair, "steps=2", "augmentations.crops.count=2", f"hydra.run.dir={folder}"] if pair else [*words]
        )
        child = f"from test_faults import _child, {fault.__name__}; _child({argv!r}, {str(folder)!r}, {fault.__name__})"
        place = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
        place |= {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # the same bytes as a run here
        done = subprocess.run([sys.executable, "-c", child], env=os.environ | place, timeout=300)
        out, err = ((tmp_path / f"run.{name}").read_text(errors="replace") for name in ("out", "err"))
        assert "Traceback" not in err + out, err
        return done.returncode, err, out

    return call


def nothing(folder):
    pass


def small_files(folder):
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def ascii_output(folder):
    sys.stdout = open(1, "w", encoding="ascii", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="ascii", closefd=False)  # noqa: SIM115


def closed_early(folder):
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 1)


def no_home(folder):
    os.environ.update(HOME="/proc/nowhere", XDG_CACHE_HOME="/proc/nowhere", WANDB_DIR="", MPLCONFIGDIR="/proc/nowhere")


def garbage_wandb(folder):
    os.environ.update(WANDB_MODE="sometimes", WANDB_API_KEY="\n", WANDB_PROJECT="a/b:c", WANDB_BASE_URL="no url")


def removed_while_running(folder):
    from vqclip.runs.metrics import Metrics

    write = Metrics.write

    def and_remove(self, step, numbers):
        write(self, step, numbers)
        shutil.rmtree(folder)

    Metrics.write = and_remove


def test_no_room_is_said_and_with_room_the_run_ends_in_the_same_bytes(command, small_pair, tmp_path):
    status, err, _ = command(small_files, "a fox")
    assert status == 1
    assert "no space left" in err and f"vqclip resume={tmp_path / 'run'}" in err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    assert command(nothing, f"resume={tmp_path / 'run'}", pair=None)[0] == 0
    whole = run("a fox", [*small_pair, "steps=2", "augmentations.crops.count=2"], tmp_path / "whole").folder
    assert bytes_of(tmp_path / "run") == bytes_of(whole)


FILLED = """
import resource, signal, sys
from vqclip.cli import main
from vqclip.runs.snapshots import Snapshots

take = Snapshots.take
def fill(self, module, step):
    if step:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # less than a run.json needs
    return take(self, module, step)
Snapshots.take = fill
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    "words,folder", [(["hydra.run.dir=run"], "run"), (["-m", "hydra.sweep.dir=sweep"], "sweep/0")], ids=["run", "sweep"]
)
def test_a_run_that_finds_no_room_for_its_end_is_not_left_running(small_pair, tmp_path, words, folder):
    words = [*words, "a fox", *small_pair, "steps=2", "augmentations.crops.count=2"]
    done = subprocess.run(
        [sys.executable, "-c", FILLED, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and "no space left" in done.stderr and "Traceback" not in done.stderr
    assert json.loads((tmp_path / folder / "run.json").read_text())["status"] == "failed"


def test_a_folder_removed_while_it_runs_is_not_a_finished_run(command, tmp_path):
    status, err, _ = command(removed_while_running, "a fox")
    assert status == 1
    assert "it was removed or renamed while the run went on" in err
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("fault", [no_home, garbage_wandb, ascii_output], ids=lambda f: f.__name__)
def test_a_run_without_a_logger_needs_nothing_of_it(command, fault):
    assert command(fault, "a fox café 狐")[0] == 0


def test_wandb_needs_no_home_folder(command, small_pair, tmp_path):
    pair = [word for word in small_pair if not word.startswith("logger")]
    status, err, _ = command(no_home, "a fox", "logger.wandb.mode=offline", pair=pair)
    assert status == 0, err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
    assert list(tmp_path.glob("run/wandb/data/artifacts/staging/*"))
    assert "INFO" not in err and "cache" not in err  # which W&B's process says where it has no file for it


def test_a_user_whom_the_system_does_not_know_has_a_home():
    unknown = "import os, pwd; os.environ.pop('HOME', None); pwd.getpwuid = lambda uid: {}[uid]; import vqclip, pathlib"
    done = subprocess.run([sys.executable, "-c", f"{unknown}; print(pathlib.Path.home())"], capture_output=True)
    assert done.stdout == b"/\n", done.stderr


def test_each_job_of_a_sweep_without_a_home_keeps_its_own_artifacts(command, small_pair, tmp_path):
    pair = [word for word in small_pair if not word.startswith("logger")]
    words = ["-m", "a fox", "seed=0,1", f"hydra.sweep.dir={tmp_path}/sweep", "logger.wandb.mode=offline"]
    status, err, _ = command(no_home, *words, pair=pair)
    assert status == 0, err
    for place in ("sweep/0", "sweep/1", "sweep"):
        assert list(tmp_path.glob(f"{place}/wandb/data/artifacts/staging/*")), place


def test_a_folder_for_artifacts_of_the_users_own_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "mine"))
    keep_artifacts(tmp_path / "run")
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "mine")
    (tmp_path / "mine").rmdir()
    (tmp_path / "mine").write_text("a file")  # in its place, so that W&B would end the run
    keep_artifacts(tmp_path / "first")
    keep_artifacts(tmp_path / "second")
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "second" / "wandb" / "data")
    (tmp_path / "mine").unlink()
    keep_artifacts(tmp_path / "third")
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "mine")


#: What a shell may do to the three streams of a command, and the statuses that are right.
STREAMS = {
    ">&-": (0,),
    "2>&-": (0,),
    "<&- >&- 2>&-": (0,),
    ">/dev/full": (1,),
    "2>/dev/full": (0,),
    "| head -c 1": (0, 141),
    "2> >(true)": (0,),
}


@pytest.mark.parametrize("streams", STREAMS)
def test_streams_that_are_closed_full_or_left_lose_no_picture(small_pair, tmp_path, streams):
    words = ["a fox café", *small_pair, "steps=2", "augmentations.crops.count=2", "hydra.run.dir=run"]
    command = shlex.join([sys.executable, "-m", "vqclip", *words])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} {streams}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode in STREAMS[streams], done.stderr
    assert "Traceback" not in done.stderr + done.stdout and "Error executing job" not in done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


#: What stands in the environment of a command that needs none of it.
GARBAGE = {
    "no UTF-8": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
    "no folders": {"TMPDIR": "/nowhere", "HOME": "/dev/null", "XDG_CACHE_HOME": "\n", "XDG_CONFIG_HOME": "/dev/null"},
    "no numbers": {"OMP_NUM_THREADS": "x", "COLUMNS": "wide", "LINES": "", "CUDA_VISIBLE_DEVICES": "banana,-7"},
    "our own": {"VQCLIP_HOME": "/dev/null", "VQCLIP_OFFLINE": "maybe", "VQCLIP_TRUST": ",,os;rm", "VQCLIP_INLINE": "9"},
    "of the terminal": {"TERM": "", "NO_COLOR": "1", "FORCE_COLOR": "3", "COLUMNS": "0", "HYDRA_FULL_ERROR": "1"},
    "warnings are errors": {"PYTHONWARNINGS": "error"},
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_in_the_environment(small_pair, tmp_path, name):
    words = ["a fox café 狐", *small_pair, "steps=2", "augmentations.crops.count=2", "hydra.run.dir=run"]
    done = subprocess.run(
        [sys.executable, "-m", "vqclip", *words],
        cwd=tmp_path,
        env=os.environ | GARBAGE[name],
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert (report["status"], report["pictures"][0]["prompt"]) == ("finished", "a fox café 狐")


def test_files_of_any_letters_where_the_locale_is_ascii(small_pair, tmp_path):
    words = ["a fox", *small_pair, "steps=2", "augmentations.crops.count=2", "hydra.run.dir=über/run"]
    for command in (words, ["compare", "über", "--out", "ähnlich"], ["rerun", "über/run"]):
        done = subprocess.run(
            [sys.executable, "-m", "vqclip", *(word.encode() for word in command)],
            cwd=tmp_path,
            env=os.environ | GARBAGE["no UTF-8"],
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "über" / "run" / "run.json").is_file()
    assert (tmp_path / "ähnlich" / "compare.png").is_file()


def test_what_is_printed_comes_at_once_where_that_is_asked_for():
    child = "import sys, vqclip.cli.streams as s; s.set_up_streams(); print(1); print(2, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-u", "-c", child], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
    )
    assert done.stdout == "1\n2\n"


def test_words_that_are_no_utf_8(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "vqclip", b"a \xff fox"], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 2 and "not in UTF-8" in done.stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "variable", [{"WANDB_RUN_ID": "a b/c"}, {"WANDB_MODE": "sometimes"}, {"WANDB_TAGS": ",,"}], ids=str
)
def test_garbage_for_wandb_in_the_tools_that_ask_it(monkeypatch, variable):
    child = "from vqclip.io.wandb_server import known_settings; known_settings()"
    done = subprocess.run(
        [sys.executable, "-c", child], env=os.environ | variable, capture_output=True, text=True, timeout=600
    )
    assert done.stderr.splitlines()[-1].startswith("vqclip.errors.UserError: W&B's environment: ")


def test_garbage_for_wandb_is_a_mistake(command, small_pair, tmp_path):
    pair = [word for word in small_pair if not word.startswith("logger")]
    status, err, _ = command(garbage_wandb, "a fox", pair=pair)
    assert status == 2 and "vqclip: W&B's environment: " in err
    assert not (tmp_path / "run").exists()


def test_a_run_removes_no_records_of_others(small_pair, tmp_path):
    """Neither in a folder that was none of a run's, nor where it starts over: those of the run before alone."""
    theirs = [tmp_path / "wandb/run-1-abc/run-abc.wandb", tmp_path / "tensorboard/notes.txt"]
    for path in theirs:
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    words = [word for word in small_pair if not word.startswith("logger=")]
    words += ["steps=1", "logger=[wandb,tensorboard]", "logger.wandb.mode=offline"]
    for more in ([], ["overwrite=true"]):
        run("a fox", [*words, *more], tmp_path)
        assert all(path.read_text() == "mine" for path in theirs)
        own = [*tmp_path.glob("wandb/offline-run-*"), *tmp_path.glob("tensorboard/events*")]
        assert len([path for path in own if path.is_dir()]) == 1
    assert run("a fox", [*words[:-2], "logger=none", "overwrite=true"], tmp_path).status == "finished"
    assert not [*tmp_path.glob("wandb/offline-run-*"), *tmp_path.glob("tensorboard/events*")]


@pytest.mark.parametrize("name", ["events.out.tfevents.1", "hparams.yaml"])
def test_curves_in_a_folder_without_a_run_are_no_runs(small_pair, tmp_path, name):
    theirs = tmp_path / "tensorboard" / name
    theirs.parent.mkdir()
    theirs.write_text("mine")
    run("a fox", [*small_pair, "steps=1"], tmp_path)
    assert theirs.read_text() == "mine"


def test_a_run_that_starts_over_removes_its_records_whatever_its_logger_is_called(small_pair, tmp_path):
    """And none of a run that is called None."""
    theirs = tmp_path / "wandb/run-1-None/run-None.wandb"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    mine = "+logger.mine={_target_: vqclip.loggers.wandb_logger, mode: offline}"
    run("a fox", [*small_pair, "steps=1", mine], tmp_path)
    assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == 1
    run("a fox", [*small_pair, "steps=1"], tmp_path, overwrite=True)
    assert list(tmp_path.glob("wandb/*run-*")) == [theirs.parent]


def test_a_run_that_starts_over_leaves_what_a_new_one_does(small_pair, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    run(["a fox", "an owl"], small_pair, old)
    for name in ("interpolation.mp4", ".last.ckpt.a1b2c3d4", "picture-01/.best.png.a1b2c3d4"):
        (old / name).write_bytes(b"of the run before")
    run("a fox", [*small_pair, "steps=2"], old, overwrite=True)
    run("a fox", [*small_pair, "steps=2"], new)
    assert {path.relative_to(old) for path in old.rglob("*")} == {path.relative_to(new) for path in new.rglob("*")}
    assert bytes_of(old) == bytes_of(new)
    rows = [len((folder / "timing.csv").read_text().splitlines()) for folder in (old, new)]
    assert rows[0] == rows[1]


def test_a_file_that_cannot_take_its_name_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "final.png").mkdir()
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "final.png"))):
        atomic_write(tmp_path / "final.png", b"a picture")
    assert list(tmp_path.iterdir()) == [tmp_path / "final.png"]


class Full(pl.Callback):
    def setup(self, *_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_run_that_finds_no_room_before_its_first_step_is_kept(small_pair, tmp_path):
    """What its sentence says: its command goes on with what is there."""
    with pytest.raises(UserError, match=r"no space left\. What was written is kept"):
        run("a fox", small_pair, tmp_path / "run", callbacks=[Full()])
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "failed"
    assert run(resume=tmp_path / "run").status == "finished"


class Replaced(pl.Callback):
    """Somebody takes the folder away and makes another one of its name."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_end(self, *_):
        self.folder.rename(self.folder.with_name("taken"))
        self.folder.mkdir()


class ReplacedByAnother(Replaced):
    """The other folder has a picture, and comes before the run has joined its latents."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 4:
            super().on_train_end()
            (self.folder / "picture-00").mkdir()

    def on_train_end(self, *_):
        pass


@pytest.mark.parametrize("somebody, files", [(Replaced, "*"), (ReplacedByAnother, "picture-00/*")])
def test_a_run_writes_into_no_folder_that_was_put_in_the_place_of_its_own(small_pair, tmp_path, somebody, files):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")  # no text, which the judge would ask a picture for
    words = [*small_pair, f"prompts.include=[{{image: '{tmp_path}/red.png'}}]"]
    with pytest.raises(UserError, match="it was removed or renamed while the run went on"):
        run(None, words, tmp_path / "run", callbacks=[somebody(tmp_path / "run")])
    assert not list((tmp_path / "run").glob(files))


class WithoutItsPicture(pl.Callback):
    """Somebody removes the picture's folder, or a file in it, after a step."""

    def __init__(self, path, step):
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            shutil.rmtree(self.path) if self.path.is_dir() else self.path.unlink()


@pytest.mark.parametrize("step", [1, 4])  # before the next snapshot, and after the last one
def test_a_run_whose_picture_was_removed_did_not_finish(small_pair, tmp_path, step):
    there = tmp_path / "run" / "picture-00"
    with pytest.raises(UserError, match=f"{there}: it was removed while the run went on. Try: vqclip rerun "):
        run("a fox", small_pair, tmp_path / "run", callbacks=[WithoutItsPicture(there, step)])
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "failed"


def test_a_final_picture_that_was_removed_is_written_at_the_next_snapshot(small_pair, tmp_path):
    final = tmp_path / "run" / "picture-00" / "final.png"
    made = run("a fox", small_pair, tmp_path / "run", callbacks=[WithoutItsPicture(final, 3)])
    assert made.status == "finished" and final.exists()


@pytest.mark.parametrize("name", ["final.png", "best.png"])
def test_a_picture_that_was_removed_after_the_last_snapshot_comes_back_by_the_advice(small_pair, tmp_path, name):
    gone = tmp_path / "run" / "picture-00" / name
    with pytest.raises(UserError, match=f"{gone}: it was removed while the run went on. Try: vqclip resume="):
        run("a fox", small_pair, tmp_path / "run", callbacks=[WithoutItsPicture(gone, 4)])
    assert run(resume=tmp_path / "run").status == "finished" and gone.exists()


def test_a_compiled_package_is_no_part_of_the_users_own():
    with pytest.raises(av.FFmpegError) as fault:
        av.open("nowhere.mp4")
    assert own_line(fault.value).startswith(f"{__file__}, line ")  # and not av/error.py, which says no folder


def test_a_reader_that_went_away_loses_no_picture(command, tmp_path):
    status, err, _ = command(closed_early, "a fox")
    assert status == 141 and "Error executing job" not in err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=workers", "hydra.launcher.n_jobs=2"]], ids=["", "workers"])
def test_a_reader_that_went_away_from_a_sweep_loses_no_job(command, tmp_path, launcher):
    status, err, _ = command(closed_early, "a fox", "-m", "seed=0,1", f"hydra.sweep.dir={tmp_path}/sweep", *launcher)
    assert status == 141 and "Error executing job" not in err
    for job in "01":
        assert json.loads((tmp_path / "sweep" / job / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["--cfg", "job"], ["--info", "defaults-tree"]], ids=str)
def test_a_reader_that_went_away_before_what_is_only_shown(words):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "vqclip", *words], stdout=write, stderr=subprocess.PIPE, text=True, timeout=600
    )
    os.close(write)
    assert done.returncode in ((0, 141) if "--info" in words else (141,))  # which Hydra writes by its log
    assert done.stderr == ""


def test_a_file_in_the_folders_place(command, tmp_path):
    (tmp_path / "run").write_text("mine")
    status, err, _ = command(nothing, "a fox")
    assert (status, (tmp_path / "run").read_text()) == (2, "mine")
    assert err.count("vqclip: ") == 1


@pytest.mark.parametrize("folder", ["file/run", "/proc/run"])
def test_a_folder_below_a_file_and_one_of_the_systems(command, tmp_path, folder):
    (tmp_path / "file").write_text("mine")
    status, err, _ = command(nothing, "a fox", f"hydra.run.dir={tmp_path / folder}", pair=None)
    assert status == 2
    assert err.count("vqclip: ") == 1


@pytest.mark.parametrize("words", [["a fox"], ["a fox", "overwrite=true"]])
def test_a_busy_folder_is_left_as_it_is(command, small_pair, tmp_path, words):
    folder = tmp_path / "run"
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("- mine\n")
    with FileLock(folder / ".lock"):
        status, err, _ = command(nothing, *words)
    assert status == 2
    assert "another vqclip process is running" in err
    assert (folder / ".hydra" / "overrides.yaml").read_text() == "- mine\n"


def test_a_finished_run_keeps_its_hydra_folder_too(command, tmp_path):
    assert command(nothing, "a fox")[0] == 0
    before = (tmp_path / "run/.hydra/overrides.yaml").read_bytes()
    status, err, _ = command(nothing, "an owl")
    assert status == 2 and "overwrite=true" in err
    assert (tmp_path / "run/.hydra/overrides.yaml").read_bytes() == before


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def test_a_run_that_lost_its_checkpoint_keeps_its_pictures(small_pair, tmp_path):
    folder = run("a fox", small_pair, tmp_path / "run").folder
    (folder / "last.ckpt").unlink()
    report = json.loads((folder / "run.json").read_text())
    for status in ("finished", "stopped early", "failed", "interrupted"):
        (folder / "run.json").write_text(json.dumps(report | {"status": status}))
        before = contents(folder)
        with pytest.raises(UserError, match=rf"already \({status}\).* Allowed: another folder\. To start over.*=true$"):
            run("an owl", small_pair, folder)
        assert contents(folder) == before
    (folder / "picture-00" / "notes.txt").write_text("mine")
    assert run("an owl", [*small_pair, "steps=1"], folder, overwrite=True).status == "finished"
    assert not (folder / "picture-00" / "steps" / "000004.png").exists()
    assert (folder / "picture-00" / "notes.txt").read_text() == "mine"


def test_a_run_that_diverged_before_its_first_checkpoint_is_kept(small_pair, tmp_path):
    folder = run("a fox", [*small_pair, "steps=1"], tmp_path / "run").folder
    (folder / "last.ckpt").unlink()
    (folder / "run.json").write_text(json.dumps(json.loads((folder / "run.json").read_text()) | {"status": "diverged"}))
    before = contents(folder)
    with pytest.raises(UserError, match=r"already \(diverged\)"):
        run("an owl", small_pair, folder)
    assert contents(folder) == before


def test_pictures_are_not_given_up_for_a_run_whose_models_cannot_be_read(small_pair, tmp_path):
    folder = run("a fox", [*small_pair, "steps=1"], tmp_path / "run").folder
    before = contents(folder)
    (tmp_path / "half.ckpt").write_bytes(b"half a download")
    with pytest.raises(UserError, match=r"half\.ckpt"):
        run("an owl", [*small_pair, f"checkpoints.generator.path={tmp_path}/half.ckpt"], folder, overwrite=True)
    assert contents(folder) == before


@pytest.mark.parametrize(
    "words",
    [
        ["init=image", "init.path=FOLDER/picture-00/best.png"],
        ["init=run", "init.run=FOLDER"],
        ["prompts.extras=[{image: FOLDER/picture-00/final.png}]"],
    ],
)
def test_a_run_that_would_be_removed_is_not_what_the_new_one_reads(small_pair, tmp_path, words):
    folder = run("a fox", [*small_pair, "steps=1"], tmp_path / "run").folder
    before, own = contents(folder), [word.replace("FOLDER", str(folder)) for word in words]
    with pytest.raises(UserError, match=r"overwrite=true removes the run that it is of\. Allowed: another folder"):
        run("an owl", [*(word for word in small_pair if word != "init=sine"), *own], folder, overwrite=True)
    assert contents(folder) == before


def test_a_command_that_was_refused_is_not_that_of_the_run_that_was_kept(command, small_pair, tmp_path):
    assert command(nothing, "a fox")[0] == 0
    assert "a fox" in command_of(tmp_path / "run")
    (tmp_path / "half.ckpt").write_bytes(b"half a download")
    damaged = [*small_pair, f"checkpoints.generator.path={tmp_path}/half.ckpt"]
    assert command(nothing, "an owl", "overwrite=true", pair=damaged)[0] == 2
    assert command_of(tmp_path / "run") == f"vqclip rerun {tmp_path}/run"


def test_a_run_that_was_stopped_before_a_picture_is_begun_again(small_pair, tmp_path):
    folder = run("a fox", [*small_pair, "steps=1"], tmp_path / "run").folder
    report = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(report | {"status": "running"}))
    (folder / "last.ckpt").unlink()
    for path in (folder / "picture-00" / "steps").glob("*1.png"):
        path.unlink()
    assert run("an owl", [*small_pair, "steps=1"], folder).status == "finished"


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "run.json", "interpolation.mp4", "picture-01/img.jpg"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_the_users_own_is_left_as_it_is(small_pair, tmp_path, capsys, name, overwrite):
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    path.write_text('{"my": 1}')
    with pytest.raises(UserError, match=rf"{name.partition('/')[0]} would be replaced.* Try: .*folder=FOLDER"):
        run("a fox", small_pair, folder=tmp_path / "run", overwrite=overwrite)
    with pytest.raises(SystemExit) as stop:
        main(["a fox", *small_pair, f"hydra.run.dir={tmp_path}/run", f"overwrite={str(overwrite).lower()}"])
    assert stop.value.code == 2 and "Try: hydra.run.dir=FOLDER" in capsys.readouterr().err
    assert contents(tmp_path / "run") == {path: b'{"my": 1}'}


@pytest.mark.parametrize("content", [b"a fox\n\xff\xfe\n", b"\x00\xd8", bytes(range(256)), b""])
def test_a_prompts_file_that_is_no_text(command, tmp_path, content):
    (tmp_path / "prompts.txt").write_bytes(content)
    status, err, _ = command(nothing, f"prompts.include=[{{file: {tmp_path}/prompts.txt}}]")
    assert status == 2
    assert "prompts.txt" in err
    assert not (tmp_path / "run").exists()


def test_a_moved_run_is_shown_and_made_again(small_pair, tmp_path, capsys):
    run("a fox", [*small_pair, "steps=2", "augmentations.crops.count=2"], tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new place")
    with pytest.raises(SystemExit) as stop, contextlib.chdir(tmp_path):
        main(["rerun", str(tmp_path / "new place")])
    assert stop.value.code == 0
    assert not (tmp_path / "old").exists()
