"""Sweeps: every job once, none lost, and an exit status that tells."""

import csv
import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import yaml
from checkpoint_files import write_converted
from conftest import VQGAN_CONFIG
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_resume import FORKS

from vqclip import UserError
from vqclip import run as run_in_python
from vqclip import sweep as sweep_in_python
from vqclip.cli import main
from vqclip.config.compose import compose
from vqclip.config.grammar import NAME_LENGTH, job_name, quote, unquoted
from vqclip.config.resolve import identity, resolve
from vqclip.io.run_files import PictureFolder
from vqclip.runs.arguments import as_overrides
from vqclip.runs.folder import RunFolder
from vqclip.runs.lock import lock_folder
from vqclip.sweeps.hparams_search import plot, search
from vqclip.sweeps.inert import inert_keys, inert_warnings
from vqclip.sweeps.jobs import Job, done_jobs, numbered_folders
from vqclip.sweeps.launch import _commands, _start_no_more_than, launch
from vqclip.sweeps.python import Sweep


def test_the_best_of_a_sweep_without_a_finished_job_says_what_became_of_them(tmp_path):
    with pytest.raises(UserError, match=r"no job of this sweep has pictures \(.*/0: the rate\)"):
        _ = Sweep(tmp_path, {tmp_path / "0": "the rate"}).best


def sweep(*words, pair):
    """Run a sweep; its exit status."""
    try:
        main(["-m", *words, *pair])
    except SystemExit as end:
        return end.code
    return 0


def report(folder):
    return json.loads((folder / "run.json").read_text())


def contents(folder):
    """Every file of a run with its bytes and the time it was written."""
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def config(*overrides):
    return resolve(compose(list(overrides)))


def test_a_swept_schedule_keeps_its_keys_name_and_replaces_the_one_there(small_pair, tmp_path):
    swept = "noise.factor={start: 0.3, end: 0.1},0.2,{start: 0.2, end: 0.1}"
    assert sweep(f"hydra.sweep.dir={tmp_path}", "noise=cosine", swept, "a fox", pair=small_pair) == 0
    factors = [yaml.safe_load((tmp_path / n / "config.yaml").read_text())["noise"]["factor"] for n in "012"]
    assert factors == [{"start": 0.3, "end": 0.1}, 0.2, {"start": 0.2, "end": 0.1}]
    assert ",noise.factor," in (tmp_path / "results.csv").read_text().splitlines()[0]


# What a job is known by.


@pytest.mark.parametrize(
    "one,other,same",
    [
        (["loss.alpha=1"], ["loss.alpha=1.0"], True),
        (["logger=none"], ["logger=wandb"], True),
        (["memory.crop_chunk=3"], ["tags=[x]"], True),
        (["loss.alpha=1"], ["loss.alpha=2"], False),
        (["seed=0"], ["seed=1"], False),
        (["noise=sfumato"], ["noise.factor=.28", "noise.num_rands=2"], True),
    ],
)
def test_identity_is_of_what_decides_the_picture(one, other, same):
    assert (identity(config(*one)) == identity(config(*other))) == same


@pytest.mark.parametrize(
    "swept,name",
    [
        ({"loss.alpha": ".5", "loss.beta": "0"}, "alpha=.5 beta=0"),
        ({"checkpoints/generator": "coco"}, "generator=coco"),
        ({"noise.factor": "1", "other.factor": "2"}, "noise.factor=1 other.factor=2"),
        ({"loss.terms.tv.weight": "1", "loss.terms/edges.weight": "2"}, "tv.weight=1 edges.weight=2"),
        ({"a.noise": "x", "noise": "y", "noise._target_": "Z"}, "a.noise=x noise=y noise._target_=Z"),
    ],
)
def test_name_from_the_swept_keys(swept, name):
    assert job_name(swept) == name


@pytest.mark.parametrize(
    "typed,meant",
    [
        (r"10\:30", "10:30"),
        ("10:30", "10:30"),
        (r"x\=y.png", "x=y.png"),
        ("'a, b'", "a, b"),
        (r'"she said \"hi\""', 'she said "hi"'),
        (r'"\${x}"', "${x}"),
        (".5", ".5"),
        ("null", "null"),
        ("[1,2]", "[1,2]"),
        ('["a, b"]', '["a, b"]'),
    ],
)
def test_a_text_is_named_without_its_quotes_and_escapes(typed, meant):
    assert unquoted(typed) == meant


def test_what_a_sweep_shows_of_a_value_is_what_was_meant(small_pair, tmp_path):
    words = [f"hydra.sweep.dir={tmp_path}", r"+vars.at=10:30,'a, \'b\'','\${x}'"]
    assert sweep(*words, "steps=1", "a fox", pair=small_pair) == 0
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [row["vars.at"] for row in rows] == ["10:30", "a, 'b'", "${x}"]


def test_the_command_that_a_sweep_prints_names_any_folder(small_pair, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = "it's, ö=1 (x)"
    words = [f"hydra.sweep.dir={quote(name)}", "seed=0,1", "steps=1", "a fox"]
    assert sweep(*words, pair=small_pair) == 0
    again = shlex.split(re.search("(?m)^next: vqclip -m (.*?)   ", capsys.readouterr().err)[1])
    assert sweep(*again, pair=[]) == 0
    assert "2 of 2 jobs are done already" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_long_names_are_cut_and_stay_apart():
    names = {job_name({"prompts.include": "a very long prompt " * 10 + end}) for end in "ab"}
    assert len(names) == 2 and all(len(name) == NAME_LENGTH for name in names)


# Knobs that turn nothing.


@pytest.mark.parametrize(
    "overrides,key,said",
    [
        (["loss.anchor=0"], "loss.alpha", "Adam cancels"),
        (["loss.anchor=0", "prompts.exclude=blurry", "loss.beta=0"], "loss.alpha", "only term"),
        (["noise.factor=0"], "noise.num_rands", "noise.factor is 0"),
        (["noise.factor={start: 0, end: 0, shape: linear}"], "noise.num_rands", "noise.factor is 0"),
        ([], "loss.beta", "prompts.exclude is empty"),
        (["loss.beta=0"], "prompts.exclude", "loss.beta is 0"),
        ([], "prompts.extras_weight", "prompts.extras is empty"),
        ([], "prompts.include_weight", "unit length"),
        (["init=image", "init.path=photo.jpg"], "init.feather", "init.mask and init.ground are null"),
    ],
)
def test_idle_knobs_are_known(overrides, key, said):
    assert said in inert_keys(config(*overrides))[key]


@pytest.mark.parametrize(
    "overrides,key",
    [
        (["loss.anchor=1"], "loss.alpha"),
        (["loss.anchor=0", "prompts.exclude=blurry"], "loss.alpha"),
        (["loss.anchor=0", "+loss.terms.tv={_target_: vqclip.loss.TotalVariation, weight: .1}"], "loss.alpha"),
        (["loss.anchor=0", "optimizer._target_=torch.optim.SGD"], "loss.alpha"),
        (["loss.anchor=0", "+optimizer.weight_decay=.1"], "loss.alpha"),  # Adam's decay is part of the gradient
        (["loss.anchor=0", "+optimizer.clip=1"], "loss.alpha"),  # the longest gradient is of a length
        (["loss.anchor=0", "loss.alpha={start: 1, end: 2, shape: linear}"], "loss.alpha"),
        (["prompts.exclude=blurry"], "loss.beta"),
        (["noise.factor={start: 0, end: .2, shape: linear}"], "noise.num_rands"),
        (["init=image", "init.path=photo.jpg", "init.ground=.1"], "init.feather"),
        (["init=image", "init.path=photo.jpg", "init.mask=mask.png"], "init.feather"),
    ],
)
def test_knobs_that_turn_something_are_not_called_idle(overrides, key):
    assert key not in inert_keys(config(*overrides))


def test_notices_say_where_and_why():
    jobs = [
        Job([], {"noise.factor": f, "noise.num_rands": n}, config(f"noise.factor={f}", f"noise.num_rands={n}"))
        for f in ("0", ".2")
        for n in ("0", "1")
    ]
    assert inert_warnings(jobs) == ["noise.num_rands cannot change the picture in 2 of 4 jobs: noise.factor is 0"]


def test_combinations_that_make_the_same_job_are_told():
    """noise=default is noise=none once the factor beside it is 0.1: its row is not on the sheet."""
    jobs = [
        Job([], {"noise": choice, "noise.factor": factor}, config(f"noise={choice}", f"noise.factor={factor}"))
        for choice in ("default", "sfumato")
        for factor in (".1", "{start: .3, end: 0}")
    ]
    assert inert_warnings(jobs) == []
    twin = Job([], {"noise": "twin", "noise.factor": ".1"}, jobs[0].config)
    assert inert_warnings([*jobs, twin]) == [
        "1 of 5 combinations make the same job as another and run once: noise=twin factor=.1 is noise=default factor=.1"
    ]


def test_only_numbers_are_jobs(tmp_path):
    for name in ("10", "2", "²", "one"):
        (tmp_path / name).mkdir()
    assert [path.name for path in numbered_folders(tmp_path)] == ["2", "10"]


# Whole sweeps.


def test_a_sweep_its_repetition_and_a_larger_one(small_pair, tmp_path, capsys):
    folder = tmp_path / "sweep"
    words = [f"hydra.sweep.dir={folder}", "prompts.exclude=blurry", "a fox, red", "loss.beta=0,.5"]
    assert sweep(*words, "loss.alpha=.5,1", pair=small_pair) == 0
    assert [report(folder / str(n))["status"] for n in range(4)] == ["finished"] * 4
    assert {"compare.png", "compare.html", "results.csv"} <= {path.name for path in folder.iterdir()}
    before = [contents(folder / str(n)) for n in range(4)]

    capsys.readouterr()
    began = time.process_time()  # of this process: a busy machine takes none of it
    assert sweep(*words, "loss.alpha=.5,1", pair=small_pair) == 0
    assert time.process_time() - began < 10
    assert "4 of 4 jobs are done already" in (said := capsys.readouterr()).out and "note: " not in said.err
    assert [contents(folder / str(n)) for n in range(4)] == before

    assert sweep(*words, "loss.alpha=.5,1,2", pair=small_pair) == 0  # the numbers of the old jobs would shift
    assert "4 of 6 jobs are done already" in capsys.readouterr().out
    assert [contents(folder / str(n)) for n in range(4)] == before
    numbers = [yaml.safe_load((folder / n / ".hydra/hydra.yaml").read_text())["hydra"]["job"]["num"] for n in "0145"]
    assert numbers == [0, 1, 4, 5]
    rows = list(csv.DictReader((folder / "results.csv").open()))
    cells = {(row["loss.alpha"], row["loss.beta"]): row["status"] for row in rows}
    assert cells == {(a, b): "finished" for a in ("0.5", "1", "2") for b in ("0", "0.5")}


def test_one_job_fails_and_the_others_do_not(small_pair, tmp_path, capsys):
    good = Path(small_pair[0].partition("=")[2])
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(good.read_bytes()[:-1000])
    copies = [shutil.copy(good, tmp_path / f"{i}.safetensors") for i in range(5)]
    files = [*copies[:3], broken, *copies[3:]]
    folder = tmp_path / "sweep"
    words = [f"hydra.sweep.dir={folder}", f"checkpoints.generator.path={','.join(map(str, files))}"]
    assert sweep(*words, pair=small_pair[1:]) == 1
    states = [report(folder / str(n))["status"] for n in range(6)]
    assert states == ["finished"] * 3 + ["failed"] + ["finished"] * 2
    logs = [path.parent.name for path in folder.glob("*/vqclip.log") if "Traceback" in path.read_text()]
    assert logs == ["3"]
    said = capsys.readouterr().err
    assert "1 did not finish" in said and str(folder / "3" / "vqclip.log") in said
    assert "broken.safetensors" in (folder / "results.csv").read_text()

    shutil.copy(good, broken)  # fixed: only this one runs again
    before = [contents(folder / str(n)) for n in range(6) if n != 3]
    assert sweep(*words, pair=small_pair[1:]) == 0
    assert report(folder / "3")["status"] == "finished"
    assert [contents(folder / str(n)) for n in range(6) if n != 3] == before


def _sweep_in_a_process(words, pair):
    torch.set_num_threads(1)  # as in this process: another number ends in other last digits
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os._exit(sweep(*words, pair=pair))


def test_a_killed_sweep_goes_on_and_ends_in_the_same_bytes(small_pair, tmp_path):
    words = ["seed=0,1,2", "steps=30", "a fox"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    child = FORKS.Process(target=_sweep_in_a_process, args=([*words, f"hydra.sweep.dir={killed}"], small_pair))
    child.start()
    while not (killed / "1" / "last.ckpt").exists():
        assert child.is_alive()
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.join(600)
    assert report(killed / "1")["status"] == "running" and not (killed / "2").exists()
    before = contents(killed / "0")

    assert sweep(*words, f"hydra.sweep.dir={killed}", pair=small_pair) == 0
    assert contents(killed / "0") == before
    assert report(killed / "1")["resumed"] != []
    assert sweep(*words, f"hydra.sweep.dir={whole}", pair=small_pair) == 0
    for n in range(3):
        assert report(killed / str(n))["sha256"] == report(whole / str(n))["sha256"]


def test_a_job_keeps_what_is_not_its_own(small_pair, tmp_path, capsys):
    words, job = [f"hydra.sweep.dir={tmp_path}", "a fox", "seed=0"], tmp_path / "0"
    assert sweep(*words, pair=small_pair) == 0
    notes = [job / "notes.txt", job / "picture-00" / "notes.txt"]
    for path in notes:
        path.write_text("mine")
    (job / "picture-00" / "steps" / "000000.png").unlink()  # pruned
    before = contents(job)
    assert sweep(*words, pair=small_pair) == 0 and contents(job) == before

    capsys.readouterr()
    for change in ({"status": "failed", "error": "of before"}, {"status": "diverged"}, {}):
        whole = report(job)
        (job / "run.json").write_text(json.dumps(whole | change))
        (job / "vqclip.log").write_text("of before")
        if not change:
            (job / "picture-00" / "final.png").unlink()
        assert sweep(*words, pair=small_pair) == 0
        assert report(job)["started"] and report(job)["sha256"] == whole["sha256"]
        assert [path.read_text() for path in notes] == ["mine"] * 2 and "of before" not in capsys.readouterr().err
        assert not (job / "vqclip.log").exists() or "of before" not in (job / "vqclip.log").read_text()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["0"]


def test_a_job_that_read_another_file_begins_anew(small_pair, tmp_path, monkeypatch, capsys):
    """The sheet had pictures of two inputs side by side, as of one."""
    monkeypatch.chdir(tmp_path)
    generator = Path(shutil.copy(small_pair[0].partition("=")[2], "mine.safetensors"))
    Image.new("RGB", (32, 32), "red").save("p.png")
    words = ["hydra.sweep.dir=sw", "prompts.extras=[{image: p.png}]", "checkpoints.generator.path=mine.safetensors"]
    assert sweep(*words, "seed=1", pair=small_pair[1:]) == 0
    before = report(Path("sw/0"))

    Image.new("RGB", (32, 32), "blue").save("p.png")
    generator.write_bytes((content := generator.read_bytes())[:-4] + bytes(4 * [content[-4] ^ 1]))  # trained further
    capsys.readouterr()
    assert sweep(*words, "seed=1,2", pair=small_pair[1:]) == 0
    notes = capsys.readouterr().err
    for kind, name in (("inputs", "p.png"), ("weights", "generator")):
        assert f"note: {name} has changed since 1 finished in sw, which begin anew\n" in notes
        assert before[kind][name] != report(Path("sw/0"))[kind][name] == report(Path("sw/1"))[kind][name]


def test_finished_jobs_of_a_converted_checkpoint_stay(small_pair, tmp_path, capsys):
    """A run knows such a file by the sha256 of its source, and a sweep knew it by its own."""
    mine = tmp_path / "mine.safetensors"
    source = Path(small_pair[0].partition("=")[2])
    write_converted(mine, load_file(source), VQGAN_CONFIG, "a" * 64)
    words = [f"hydra.sweep.dir={tmp_path}/sw", "seed=0", "a fox", f"checkpoints.generator.path={mine}"]
    assert sweep(*words, pair=small_pair[1:]) == 0
    before = contents(tmp_path / "sw/0")
    capsys.readouterr()
    assert sweep(*words, pair=small_pair[1:]) == 0
    assert contents(tmp_path / "sw/0") == before and "has changed" not in capsys.readouterr().err
    # Trained further by a program that copies the metadata.
    with safe_open(mine, "pt") as file:
        metadata = file.metadata()
    save_file({name: value * 1.05 for name, value in load_file(mine).items()}, mine, metadata)
    assert sweep(*words, pair=small_pair[1:]) == 0
    assert "note: generator has changed since 1 finished" in capsys.readouterr().err


class Mean:
    """A term of one's own whose ``path`` is no path of a weight file."""

    def __init__(self, weight, path):
        self.weight = weight

    def __call__(self, view):
        return view.image.mean((1, 2, 3))


@pytest.mark.parametrize("path", ["[red.png,blue.png]", "3"])
def test_a_finished_job_whose_own_term_has_another_path_stays(small_pair, tmp_path, path):
    words = [f"hydra.sweep.dir={tmp_path}", "a fox", "seed=0"]
    words += [f"+loss.terms.mine={{_target_: test_sweep.Mean, path: {path}, weight: 1}}"]
    assert sweep(*words, pair=small_pair) == sweep(*words, pair=small_pair) == 0


def test_a_job_of_another_versions_weights_stays_and_is_told(small_pair, tmp_path, capsys):
    words = [word for word in small_pair if not word.startswith("checkpoints.perceptors")]  # the package's own
    made = run_in_python("a fox", words, tmp_path / "0")
    job = Job([], {}, made.config)
    for digest, notes in ((made.report["weights"]["embedded"], 0), ("f" * 64, 1)):
        weights = made.report["weights"] | {"embedded": digest}
        (tmp_path / "0/run.json").write_text(json.dumps(report(tmp_path / "0") | {"weights": weights}))
        assert done_jobs(tmp_path, [job], {job.identity: tmp_path / "0"}) == {job.identity}
        said = capsys.readouterr().err
        assert said.count("note: ") == said.count(f"1 finished in {tmp_path} had another embedded than this") == notes


@pytest.mark.parametrize("status", ["running", "interrupted"])
@pytest.mark.parametrize("lost", ["last.ckpt", "picture-00/steps/000002.png", "metrics.csv"])
@pytest.mark.parametrize("content", [None, b"damaged"], ids=["gone", "damaged"])
def test_a_job_that_cannot_go_on_begins_anew(small_pair, tmp_path, capsys, status, lost, content):
    words, job = [f"hydra.sweep.dir={tmp_path}", "a fox", "seed=0"], tmp_path / "0"
    assert sweep(*words, pair=small_pair) == 0
    whole = report(job)
    (job / "run.json").write_text(json.dumps(whole | {"status": status}))
    (job / lost).unlink() if content is None else (job / lost).write_bytes(content)
    (job / "tensorboard").mkdir()  # the curves of what is thrown away
    capsys.readouterr()
    assert sweep(*words, pair=small_pair) == 0
    assert not (job / "tensorboard").exists()
    err = capsys.readouterr().err
    assert err.count("note: ") == err.count(f"{job / lost}: ") == err.count("The job begins anew\n") == 1
    assert report(job)["status"] == "finished" and report(job)["sha256"] == whole["sha256"]


@pytest.mark.parametrize("kind", ["inputs", "weights"])
def test_a_job_that_was_cut_and_whose_files_changed_begins_anew(small_pair, tmp_path, monkeypatch, capsys, kind):
    """It was refused as a run that is resumed with other files is, at every command."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32), "red").save("p.png")
    pair = [word for word in small_pair if not word.startswith("checkpoints.perceptors")]  # the package's own
    words = ["hydra.sweep.dir=sw", "a fox", "seed=0", "prompts.extras=[{image: p.png}]"]
    assert sweep(*words, pair=pair) == 0
    whole = report(Path("sw/0"))
    cut = whole | {"status": "interrupted"}
    if kind == "inputs":
        Image.new("RGB", (32, 32), "blue").save("p.png")
    else:  # of another version
        cut["weights"] = cut["weights"] | {"embedded": "f" * 64}
    Path("sw/0/run.json").write_text(json.dumps(cut))
    capsys.readouterr()
    assert sweep(*words, pair=pair) == 0
    name = {"inputs": "p.png", "weights": "embedded"}[kind]
    assert f"note: sw/0: cut before {name} changed. The job begins anew\n" in capsys.readouterr().err
    made = report(Path("sw/0"))
    assert made["status"] == "finished" and (made["sha256"] == whole["sha256"]) == (kind == "weights")


def test_the_fault_of_a_job_that_sweeps_nothing_names_its_folder(small_pair, tmp_path, capsys):
    words, job = [f"hydra.sweep.dir={tmp_path}", "a fox", "seed=0"], tmp_path / "0"
    assert sweep(*words, pair=small_pair) == 0
    (job / "picture-00/final.png").unlink()
    capsys.readouterr()
    with lock_folder(job):
        assert sweep(*words, pair=small_pair) == 1
    assert f"vqclip: {job}: {job}: another vqclip process" in capsys.readouterr().err


def test_a_job_that_was_cut_and_lost_its_config_begins_anew(small_pair, tmp_path):
    words, job = [f"hydra.sweep.dir={tmp_path}", "a fox", "seed=0"], tmp_path / "0"
    assert sweep(*words, pair=small_pair) == 0
    (job / "run.json").write_text(json.dumps(report(job) | {"status": "running"}))
    (job / "config.yaml").unlink()
    assert sweep(*words, pair=small_pair) == 0 and report(job)["status"] == "finished"


def test_a_sweeps_folder_may_be_named_by_a_key_that_is_swept(small_pair, tmp_path):
    """In each job it had another value, and so another folder than where the sweep looked."""
    words = [f"hydra.sweep.dir={tmp_path}/${{seed}}", "a fox", "seed=1,2", "steps=2"]
    assert sweep(*words, pair=small_pair) == 0
    (sheet,) = tmp_path.rglob("compare.png")
    assert [report(sheet.parent / n)["seed"] for n in "01"] == [1, 2]


class Changes(pl.Callback):
    """Changes what the config of the next job reads."""

    def on_train_start(self, trainer, pl_module):
        os.environ["VQCLIP_TEST_AT"] = "2"


def test_a_job_whose_config_changes_while_the_sweep_runs_goes_on_with_no_others_picture(
    small_pair, tmp_path, capsys, monkeypatch
):
    pair = [word for word in small_pair if not word.startswith("callbacks=")]
    callback = "callbacks={mine: {_target_: test_sweep.Changes}}"
    words = [f"hydra.sweep.dir={tmp_path}", "a fox", callback, "+vars.at=${oc.env:VQCLIP_TEST_AT}"]
    monkeypatch.setenv("VQCLIP_TEST_AT", "1")
    assert sweep(*words, "seed=1", pair=pair) == 0
    (tmp_path / "0/run.json").write_text(json.dumps(report(tmp_path / "0") | {"status": "running"}))
    before = config_of(tmp_path / "0"), contents(tmp_path / "0/picture-00")

    monkeypatch.setenv("VQCLIP_TEST_AT", "1")
    assert sweep(*words, "seed=0,1", pair=pair) == 1
    assert (config_of(tmp_path / "0"), contents(tmp_path / "0/picture-00")) == before
    assert "seed=1: " in (said := capsys.readouterr().err) and "belongs to another config" in said


def test_values_that_a_file_sweeps_are_what_yaml_says(small_pair, tmp_path):
    """null was the text "None", and a schedule could not be read."""
    (tmp_path / "experiment").mkdir()
    params = {"seed": "0,1", "prompts.exclude": None, "optimizer.lr": {"start": 0.1, "end": 0.01, "shape": "linear"}}
    own = yaml.safe_dump({"hydra": {"sweeper": {"params": params}}})
    (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{own}")
    words = ["--config-dir", str(tmp_path), "experiment=mine", f"hydra.sweep.dir={tmp_path}/sweep", "a fox", "steps=2"]
    assert sweep(*words, pair=small_pair) == 0
    made = [config_of(tmp_path / "sweep" / n) for n in "01"]
    assert [one["seed"] for one in made] == [0, 1] and made[0]["prompts"]["exclude"] in (None, [])
    assert made[0]["optimizer"]["lr"] == params["optimizer.lr"]


@pytest.mark.parametrize(
    "words,jobs", [(["hydra.mode=MULTIRUN", "seed=0,1"], 2), (["experiment=mine", "loss.alpha=1,2"], 4)], ids=str
)
def test_hydras_mode_asks_for_a_sweep_as_well(small_pair, tmp_path, words, jobs):
    (tmp_path / "experiment").mkdir()
    own = '# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {seed: "0,1"}}}\n'
    (tmp_path / "experiment/mine.yaml").write_text(own)
    folder = f"hydra.sweep.dir={tmp_path}/sweep"
    main(["--config-dir", str(tmp_path), *small_pair, *words, folder, "a fox", "steps=1"])
    assert [report(path)["status"] for path in numbered_folders(tmp_path / "sweep")] == ["finished"] * jobs


def test_a_job_that_another_process_has_is_left_to_it(small_pair, tmp_path, capsys):
    words, job = [f"hydra.sweep.dir={tmp_path}", "a fox", "seed=0"], tmp_path / "0"
    assert sweep(*words, pair=small_pair) == 0
    (job / "run.json").write_text(json.dumps(report(job) | {"status": "running"}))
    (job / "last.ckpt").unlink()
    before = contents(job / "picture-00")
    with lock_folder(job):
        assert sweep(*words, pair=small_pair) == 1
    assert contents(job / "picture-00") == before
    assert "another vqclip process is running in this folder" in capsys.readouterr().err


def test_variables_that_hydra_sets_for_a_job_are_known_to_the_check_before(small_pair, tmp_path, monkeypatch):
    """Also where the process has another value: a job's config is then the one that was checked."""
    words = ["+hydra.job.env_set.COLOUR=red", 'prompts.include=["${oc.env:COLOUR}"]', *small_pair]
    main([f"hydra.run.dir={tmp_path}/run", *words])
    monkeypatch.setenv("COLOUR", "blue")
    assert sweep(f"hydra.sweep.dir={tmp_path}/sweep", *words, pair=small_pair) == 0
    prompts = [yaml.safe_load((tmp_path / f / "config.yaml").read_text())["prompts"] for f in ("run", "sweep/0")]
    assert [prompt["include"] for prompt in prompts] == [["red"], ["red"]] and os.environ["COLOUR"] == "blue"


@pytest.mark.parametrize("number", ["${hydra.job.num}", "${hydra:job.num}"])
def test_a_variable_of_a_job_may_be_its_number(small_pair, tmp_path, monkeypatch, number):
    """As for a GPU of its own for each job."""
    monkeypatch.setenv("VQCLIP_TRUST", __name__)
    words = [f"+hydra.job.env_set.GPU_OF_JOB={number}", f"+callbacks.see._target_={__name__}.SeesItsVariable"]
    assert sweep(f"hydra.sweep.dir={tmp_path}/sw", *words, "seed=1,2", pair=small_pair) == 0
    assert [(tmp_path / "sw" / job / "seen.txt").read_text() for job in "01"] == ["0", "1"]


def test_a_variable_of_a_job_that_cannot_be_resolved_is_named(small_pair, tmp_path, capsys):
    words = ["+hydra.job.env_set.A=${oc.env:NOT_THERE}", "seed=1,2", f"hydra.sweep.dir={tmp_path}/sw"]
    assert sweep(*words, pair=small_pair) == 2
    assert "vqclip: hydra.job.env_set.A: " in capsys.readouterr().err


class SeesItsVariable(pl.Callback):
    def on_train_start(self, trainer, module):
        Path(trainer.default_root_dir, "seen.txt").write_text(os.environ["GPU_OF_JOB"])


def test_each_experiment_of_a_sweep_may_set_variables_of_its_own(small_pair, tmp_path):
    (tmp_path / "own/experiment").mkdir(parents=True)
    for name in ("red", "blue"):
        lines = ["# @package _global_", f"hydra: {{job: {{env_set: {{COLOUR: {name}}}}}}}"]
        lines.append("prompts: {include: ['${oc.env:COLOUR}']}")
        (tmp_path / f"own/experiment/{name}.yaml").write_text("\n".join(lines))
    words = ["--config-dir", f"{tmp_path}/own", f"hydra.sweep.dir={tmp_path}/sweep", "experiment=red,blue", "steps=1"]
    assert sweep(*words, pair=small_pair) == 0
    assert [report(tmp_path / "sweep" / job)["pictures"][0]["prompt"] for job in "01"] == ["red", "blue"]


def test_a_sweep_whose_pictures_the_time_decides_is_refused_since_it_would_never_be_finished(
    small_pair, tmp_path, capsys
):
    place = f"hydra.sweep.dir={tmp_path}/sweep"
    assert sweep(place, 'prompts.include=["at ${now:%H:%M}"]', pair=small_pair) == 2
    assert capsys.readouterr().err.startswith("vqclip: prompts.include.0=at ${now:%H:%M}: the time")
    for words in (
        ['prompts.include=["${ now:%Y} foxes"]'],
        ['tags=["${now:%S}"]', 'prompts.include=["${tags.0} foxes"]'],
    ):
        assert sweep(place, *words, pair=small_pair) == 2
        assert capsys.readouterr().err.startswith("vqclip: prompts.include.0=${")
    assert not (tmp_path / "sweep").exists()
    assert sweep(place, "at ${now:%H:%M}", 'tags=["${now:%f}"]', "steps=1", pair=small_pair) == 0  # a text, no key's
    assert report(tmp_path / "sweep/0")["pictures"][0]["prompt"] == "at ${now:%H:%M}"


def test_what_kept_a_job_from_its_folder_is_told_and_not_how_an_earlier_run_ended_there(small_pair, tmp_path, capsys):
    words, job = [f"hydra.sweep.dir={tmp_path}", "a fox", "seed=0", "steps=1"], tmp_path / "0"
    assert sweep(*words, pair=small_pair) == 0
    (job / "picture-00" / "best.png").unlink()
    capsys.readouterr()
    with lock_folder(job):
        assert sweep(*words, pair=small_pair) == 1
    said = capsys.readouterr().err
    assert "another vqclip process is running in this folder" in said and "missing or damaged" not in said


def test_prompts_with_commas_are_one_value_each(small_pair, tmp_path):
    prompts = 'prompts.include=["a castle, oil (on canvas): 4k"],["an owl, \'asleep\'"]'
    assert sweep(f"hydra.sweep.dir={tmp_path}", prompts, pair=small_pair) == 0
    made = [report(tmp_path / str(n))["pictures"][0]["prompt"] for n in range(2)]
    assert made == ["a castle, oil (on canvas): 4k", "an owl, 'asleep'"]


def test_values_that_make_the_same_job_run_once(small_pair, tmp_path, capsys):
    assert sweep(f"hydra.sweep.dir={tmp_path}", "memory.crop_chunk=1,2,4", pair=small_pair) == 0
    assert "memory.crop_chunk does not change the picture" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["0"]


def test_mistakes_in_a_combination_are_told_before_anything_runs(small_pair, tmp_path, capsys):
    folder = tmp_path / "sweep"
    crops = ["augmentations.crops.min=.5,1.2", "augmentations.crops.max=1,1.4"]
    assert sweep(f"hydra.sweep.dir={folder}", *crops, pair=small_pair) == 2
    assert "augmentations.crops.min=1.2: larger than augmentations.crops.max=1" in capsys.readouterr().err
    assert not list(folder.glob("[0-9]*"))


def test_a_sweep_that_is_to_overwrite_says_that_jobs_that_are_done_stay(small_pair, tmp_path, capsys):
    words = [f"hydra.sweep.dir={tmp_path}/sweep", "steps=1", "overwrite=true", "a fox"]
    assert sweep(*words, pair=small_pair) == 0 and "note: overwrite" not in capsys.readouterr().err
    before = contents(tmp_path / "sweep/0")
    assert sweep(*words, pair=small_pair) == 0 and contents(tmp_path / "sweep/0") == before
    assert f"note: overwrite=true: jobs that are done in {tmp_path}/sweep stay" in capsys.readouterr().err


def test_two_sweeps_do_not_meet_in_one_folder(small_pair, tmp_path, capsys):
    with lock_folder(tmp_path):
        assert sweep(f"hydra.sweep.dir={tmp_path}", "seed=0,1", pair=small_pair) == 2
    assert "another vqclip process is running in this folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["results.csv", "multirun.yaml", "search.png"])
def test_a_sweep_replaces_no_file_of_somebody_elses(small_pair, tmp_path, capsys, name):
    (tmp_path / name).write_text("hydra: {}\nmine: 3\n")
    words = ["hparams_search=optuna", "hparams_search.score=score"] if name == "search.png" else ["seed=0,1"]
    assert sweep(f"hydra.sweep.dir={tmp_path}", *words, "a fox", pair=small_pair) == 2
    assert f"{tmp_path}/{name}: would be replaced" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} <= {name, ".lock"}


def test_another_programs_multirun_yaml_makes_no_sweeps_folder(small_pair, tmp_path):
    (tmp_path / "multirun.yaml").write_text("a: 1\n")  # Hydra writes one for every program
    assert run_in_python("a fox", [*small_pair, "steps=1"], tmp_path).status == "finished"
    assert (tmp_path / "multirun.yaml").read_text() == "a: 1\n"


def test_a_run_and_a_sweep_do_not_share_a_folder(small_pair, tmp_path, capsys):
    """A sweep compares every run below its folder, and would have that one in its table."""
    assert sweep(f"hydra.sweep.dir={tmp_path}/sweep", "steps=1", pair=small_pair) == 0
    main([f"hydra.run.dir={tmp_path}/run", *small_pair, "steps=1"])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit, match="2"):
        main([f"hydra.run.dir={tmp_path}/sweep", *small_pair, "overwrite=true"])
    assert f"vqclip: {tmp_path}/sweep: a sweep's folder" in capsys.readouterr().err
    assert sweep(f"hydra.sweep.dir={tmp_path}/run", pair=small_pair) == 2
    assert f"vqclip: {tmp_path}/run: a run's folder" in capsys.readouterr().err
    with pytest.raises(UserError, match="from Python folder=FOLDER"):
        run_in_python("a fox", small_pair, tmp_path / "sweep")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_launcher_that_is_not_installed_is_named(small_pair, tmp_path, capsys):
    assert sweep(f"hydra.sweep.dir={tmp_path}", "hydra/launcher=wokers", "seed=0,1", pair=small_pair) == 2
    assert "hydra/launcher=wokers: there is no such choice" in capsys.readouterr().err


@pytest.mark.parametrize(
    "launcher,package",
    [
        ("workers", "hydra_plugins.hydra_joblib_launcher"),
        ("submitit_local", "hydra_plugins.hydra_submitit_launcher"),
        pytest.param("cluster", "hydra_plugins.hydra_ray_launcher", marks=pytest.mark.slow),
    ],
)
def test_launchers_make_the_same_bytes(small_pair, tmp_path, launcher, package):
    pytest.importorskip(package)
    pictures = {}
    for name in ("basic", launcher):
        folder = tmp_path / name
        words = [f"hydra/launcher={name}", f"hydra.sweep.dir={folder}", "seed=0,1"]
        # A process of its own: the launchers take the whole state of theirs along.
        command = [sys.executable, "-m", "vqclip", "-m", *words, *small_pair]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        pictures[name] = [report(folder / str(n))["sha256"] for n in range(2)]
    assert pictures["basic"] == pictures[launcher]


@pytest.mark.parametrize(
    "words", [["hydra.sweeper.params={seed: '[1,'}"], ["hparams_search=optuna", "hparams_search.space=['seed=[1,']"]]
)
def test_an_override_in_the_config_that_cannot_be_read_is_named(small_pair, tmp_path, capsys, words):
    assert sweep(f"hydra.sweep.dir={tmp_path}/sweep", *words, pair=small_pair) == 2
    assert "vqclip: seed=[1,: cannot be read" in capsys.readouterr().err


def test_a_launcher_of_no_process_is_refused_before_there_is_a_folder(small_pair, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["hydra/launcher=workers", "hydra.launcher.n_jobs=0", f"hydra.sweep.dir={tmp_path}/sweep", "seed=0,1"]
    command = [sys.executable, "-m", "vqclip", "-m", *words, *small_pair]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and not (tmp_path / "sweep").exists()
    assert done.stderr.startswith("vqclip: hydra.launcher.n_jobs=0: ") and "Try: hydra.launcher.n_jobs=2" in done.stderr


def test_a_launcher_starts_no_more_processes_than_there_are_jobs(small_pair, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["hydra/launcher=workers", "hydra.launcher.n_jobs=6", f"hydra.sweep.dir={tmp_path}", "seed=0,1", "steps=1"]
    script = "import multiprocessing, vqclip.cli; vqclip.cli.main(); print(len(multiprocessing.active_children()))"
    done = subprocess.run(
        [sys.executable, "-c", script, "-m", *words, *small_pair], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2"


def test_joblib_has_a_process_for_each_job_and_two_for_a_single_one():
    """With one it makes none, and a job that is killed would take the sweep along."""
    package = pytest.importorskip("hydra_plugins.hydra_joblib_launcher.joblib_launcher")
    launcher = package.JoblibLauncher(n_jobs=6)
    launcher.config = OmegaConf.create({"hydra": {"launcher": {"n_jobs": 6}}})
    for jobs, processes in ((1, 2), (2, 2), (4, 4), (9, 6)):
        _start_no_more_than(jobs, launcher)
        assert launcher.joblib["n_jobs"] == processes


def test_a_job_is_told_its_folder_from_the_root(tmp_path, monkeypatch):
    """A worker may begin in another one."""
    monkeypatch.chdir(tmp_path)
    (words,) = _commands([Job(["seed=1"], {}, {"seed": 1})], [Path("sweep/3")], "g")
    assert words[-2:] == [f"hydra.sweep.dir={quote(f'{tmp_path}/sweep')}", "hydra.sweep.subdir=3"]


class Fails:
    """A launcher that fails, in a folder after a job began there."""

    def __init__(self, error, began=None):
        self.error, self.began = error, began

    def launch(self, commands, initial_job_idx):
        if self.began:
            RunFolder(self.began).write_report({"status": "running", "pictures": [], "seed": 0})
        raise self.error


def test_a_launcher_that_fails_ends_the_sweep_unless_a_job_began(tmp_path, capsys):
    job, place = Job(["seed=1"], {}, {"seed": 1}), tmp_path / "0"
    place.mkdir()

    def launched(*fault):
        return list(launch(Fails(*fault), "mine", [job], [place], "g", None))

    with pytest.raises(UserError, match=r"hydra/launcher=mine: no cluster\. Allowed: a launcher whose"):
        launched(RuntimeError("no cluster"))
    with pytest.raises(OSError, match="full"):  # which is not the launcher's fault
        launched(OSError(errno.ENOSPC, "full"))
    assert launched(RuntimeError("killed"), place) == []
    assert capsys.readouterr().err == "vqclip: hydra/launcher=mine: killed\n"


@pytest.mark.parametrize("launcher,package", [("workers", "joblib"), ("submitit_local", "submitit")])
def test_no_code_of_the_working_folder_runs_in_a_job(small_pair, tmp_path, launcher, package):
    pytest.importorskip(f"hydra_plugins.hydra_{package}_launcher")
    (tmp_path / f"{package}.py").write_text("open('ran', 'w')")
    # -P: as from bin/vqclip
    command = [sys.executable, "-P", "-m", "vqclip", "-m", f"hydra/launcher={launcher}", *small_pair, "steps=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not (tmp_path / "ran").exists(), done.stderr


def test_jobs_find_parts_in_the_working_folder_where_the_sweep_does(small_pair, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    (tmp_path / "mine.py").write_text("from pytorch_lightning import Callback\n\n\nclass Mine(Callback): ...\n")
    words = ["hydra/launcher=submitit_local", "+callbacks.mine._target_=mine.Mine", *small_pair, "steps=1"]
    command = [sys.executable, "-m", "vqclip", "-m", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


# Searches.


def test_a_search_starts_from_the_config_and_goes_on_where_it_stopped(small_pair, tmp_path, capsys):
    pytest.importorskip("optuna")
    pytest.importorskip("matplotlib")
    words = [f"hydra.sweep.dir={tmp_path}", "hparams_search=optuna", "hparams_search.score=include", "a fox"]
    ranges = ["prompts.exclude=blurry", "noise.num_rands=choice(0,1)", "loss.alpha=2"]  # alpha is held
    assert sweep(*words, *ranges, "hparams_search.trials=3", pair=small_pair) == 0
    configs = [config_of(tmp_path / str(n)) for n in range(3)]
    first = configs[0]
    default = compose()
    found = [first["loss"]["beta"], first["optimizer"]["lr"], first["noise"]["num_rands"]]
    assert found == [default.loss.beta, default.optimizer.lr, default.noise.num_rands]
    assert all(own["loss"]["alpha"] == 2 and 0 <= own["loss"]["beta"] <= 4 for own in configs)
    assert len({own["optimizer"]["lr"] for own in configs}) == 3
    assert (tmp_path / "search.png").stat().st_size > 0
    scores = [report(tmp_path / str(n))["pictures"][0]["best"]["include"] for n in range(3)]
    assert f"best: include {max(scores):.4f}" in capsys.readouterr().out
    before = [contents(tmp_path / str(n)) for n in range(3)]

    assert sweep(*words, *ranges, "hparams_search.trials=4", pair=small_pair) == 0
    assert [contents(tmp_path / str(n)) for n in range(3)] == before
    assert report(tmp_path / "3")["status"] == "finished"


def test_a_search_by_the_judge_needs_a_text(small_pair, tmp_path, capsys):
    pytest.importorskip("optuna")
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    words = ["hparams_search=optuna", f"prompts.include=[{{image: '{tmp_path}/red.png'}}]"]
    assert sweep(f"hydra.sweep.dir={tmp_path}/search", *words, pair=small_pair) == 2
    assert "hparams_search.score=judge: the judge compares with a text" in capsys.readouterr().err
    assert not (tmp_path / "search" / "0").exists()


def config_of(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())


def test_a_search_among_choices_plots_them_in_their_order_and_names_a_trial_that_failed(small_pair, tmp_path, capsys):
    """matplotlib logged, on stdout, that it took numbers for texts."""
    pytest.importorskip("optuna")
    pair = [word for word in small_pair if not word.startswith("optimizer")]
    words = [
        "hparams_search=optuna",
        "hparams_search.trials=4",
        r"hparams_search.space=['optimizer.lr=choice(.1,1e6)']",
    ]
    assert sweep(*words, f"hydra.sweep.dir={tmp_path}", "optimizer=plain", "steps=3", "a fox", pair=pair) == 1
    said = capsys.readouterr().out
    assert "categorical" not in said and "None" not in said
    assert "did not finish: lr=1000000.0" in said and "best: judge" in said
    assert (tmp_path / "search.png").stat().st_size > 0


@pytest.mark.parametrize("lr,fails,square", [(0.1, (), True), (0.1, (0,), False), (0.3, (), False)])
def test_the_plot_of_a_search_marks_the_config_as_it_stands_where_it_was_tried(lr, fails, square, tmp_path):
    """Not another trial, where the first one failed or had to draw a value that is not among the choices."""
    pytest.importorskip("optuna")
    trials = []

    def score(proposed):
        trials.append(proposed)
        return [None if len(trials) - 1 in fails else 1 / len(trials) for _ in proposed]

    space = {"optimizer.lr": OverridesParser.create().parse_override("optimizer.lr=choice(.1,.2)")}
    study = search({"seed": 0, "trials": 3, "at_once": 1}, space, {"optimizer.lr": lr}, score)
    plot(study, tmp_path / "search.png", "judge")
    red, green, _ = np.asarray(Image.open(tmp_path / "search.png").convert("RGB"), dtype=int).reshape(-1, 3).T
    assert (red - green > 100).any() == square  # the trials' own colors go from violet to yellow


def test_a_search_without_optuna_says_how_to_have_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"Optuna is not installed\. Try: pip install"):
        search({"seed": 0, "trials": 1, "at_once": 1}, {}, {}, lambda proposed: [])


def test_a_search_proposes_as_many_at_once_as_are_asked_for_and_no_more_than_are_left():
    pytest.importorskip("optuna")
    batches = []

    def score(proposed):
        batches.append([float(trial["loss.beta"]) for trial in proposed])
        return batches[-1]

    space = {"loss.beta": OverridesParser.create().parse_override("loss.beta=interval(0,1)")}
    study = search({"seed": 0, "trials": 3, "at_once": 2}, space, {"loss.beta": 0.5}, score)
    assert [len(batch) for batch in batches] == [2, 1] and len(study.trials) == 3
    assert study.sampler._constant_liar  # so that those of one batch differ


def test_a_search_among_choices_of_a_group_begins_at_the_one_that_stands(small_pair, tmp_path):
    pytest.importorskip("optuna")
    pair = [word for word in small_pair if not word.startswith("init=")]
    space = "hparams_search.space=['init=choice(sine,codebook,noise,prior,gradient)']"
    words = ["hparams_search=optuna", "hparams_search.trials=1", space, f"hydra.sweep.dir={tmp_path}", "steps=1"]
    assert sweep(*words, "a fox", pair=pair) == 0
    made = yaml.safe_load((tmp_path / "0" / "config.yaml").read_text())
    assert made["init"]["_target_"] == "vqclip.init.Prior"


def test_searches_and_sweeps_are_not_mixed_up(small_pair, tmp_path, capsys):
    assert sweep(f"hydra.sweep.dir={tmp_path}", "loss.beta=interval(0,1)", pair=small_pair) == 2
    assert "Try: hparams_search=optuna 'loss.beta=interval(0,1)'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["hparams_search=optuna", *small_pair])
    assert end.value.code == 2 and "Try: vqclip -m hparams_search=optuna" in capsys.readouterr().err
    words = [f"hydra.sweep.dir={tmp_path}/basic", "hparams_search=optuna", "hydra/sweeper=basic"]
    assert sweep(*words, pair=small_pair) == 2 and not (tmp_path / "basic").exists()
    assert "Try: hydra/sweeper=vqclip" in capsys.readouterr().err


def test_from_python_a_list_is_several_values_and_a_tuple_is_one():
    given = {"noise": ["default", "sfumato"], "size": (64, 96), "prompts.exclude": ["dark, blurry", None]}
    words = as_overrides(None, given, {"seed": [0, 1], "tags": [["a", "b"]]}, swept=True)
    exclude = 'prompts.exclude="dark, blurry",null'
    assert words == ["noise=default,sfumato", "size=[64,96]", exclude, "seed=0,1", 'tags=["a","b"]']
    assert as_overrides(None, {"size": [64, 96]}, {}) == ["size=[64,96]"]
    with pytest.raises(UserError, match=r"seed=\[\]: nothing to sweep over"):
        as_overrides(None, {}, {"seed": []}, swept=True)


def test_starts_are_swept_beside_a_key_of_theirs(small_pair, tmp_path):
    """The default's start has no such key."""
    pair = [word for word in small_pair if not word.startswith("init=")]
    words = ["a fox", "init=sine,noise", "init.std=2", "steps=1", f"hydra.sweep.dir={tmp_path}"]
    assert sweep(*words, pair=pair) == 0
    configs = [yaml.safe_load((tmp_path / str(n) / "config.yaml").read_text()) for n in range(2)]
    assert [made["init"] for made in configs] == [
        {"_target_": "vqclip.init.Sine", "std": 2},
        {"_target_": "vqclip.init.Noise", "std": 2},
    ]


def test_two_starts_of_which_one_has_the_key_are_told_the_way_out(small_pair, tmp_path, capsys):
    """Two sweeps with one folder, which are one comparison."""
    pair = [word for word in small_pair if not word.startswith("init=")]
    folder = f"hydra.sweep.dir={tmp_path / 'both'}"
    for starts in ("noise,codebook", "codebook,noise"):
        assert sweep("a fox", f"init={starts}", "init.std=2", "steps=1", folder, pair=pair) == 2
        assert "a sweep of each with one hydra.sweep.dir" in capsys.readouterr().err
    assert sweep("a fox", "init=noise", "init.std=2", "steps=1", folder, pair=pair) == 0
    assert sweep("a fox", "init=codebook", "steps=1", folder, pair=pair) == 0
    rows = list(csv.DictReader((tmp_path / "both" / "results.csv").open()))
    assert [row["status"] for row in rows] == ["finished"] * 2


def test_a_sweep_from_python_that_is_interrupted_ends_its_step(small_pair, tmp_path):
    """A notebook and a terminal tell the whole group of processes."""
    overrides = {**dict(word.split("=", 1) for word in small_pair), "steps": 100_000, "seed": [0, 1]}
    code = f"import vqclip; vqclip.sweep('a fox', {overrides!r}, {str(tmp_path / 'sweep')!r})"
    # As in a terminal, where these tests may be run by a script's background, which ignores it.
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {code}"
    with open(tmp_path / "err", "w") as err:
        process = subprocess.Popen([sys.executable, "-c", code], stderr=err, start_new_session=True)
    rows = tmp_path / "sweep" / "0" / "metrics.csv"
    while not (rows.exists() and len(rows.read_text().splitlines()) > 3):
        assert process.poll() is None, (tmp_path / "err").read_text()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(300) != 0
    assert json.loads((rows.parent / "run.json").read_text())["status"] == "interrupted"
    told = (tmp_path / "err").read_text()
    assert "KeyboardInterrupt" in told and "To continue: vqclip -m" in told


def test_from_python_modules_come_from_where_they_do_here(tmp_path, monkeypatch):
    """Not from the working folder, which may be a stranger's run."""
    for folder in ("mine", "theirs"):
        (tmp_path / folder).mkdir()
        name = {"mine": "sitecustomize", "theirs": "hydra"}[folder]
        (tmp_path / folder / f"{name}.py").write_text(f"open({str(tmp_path / f'{folder} ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "theirs")
    with pytest.raises(UserError, match="no_such_key"):
        sweep_in_python("a fox", ["seed=0,1", "no_such_key=1"], tmp_path / "sweep")
    assert (tmp_path / "mine ran").exists() and not (tmp_path / "theirs ran").exists()


def test_looking_for_jobs_that_are_done_is_told_and_needs_no_tensors(small_pair, tmp_path, monkeypatch, capsys):
    words = [f"hydra.sweep.dir={tmp_path}/sweep", "seed=0,1", "a fox"]
    assert sweep(*words, pair=small_pair) == 0
    monkeypatch.setattr("vqclip.io.progress._LOG", 0)
    monkeypatch.setattr("vqclip.io.progress._LIVE", 0)
    monkeypatch.delattr(PictureFolder, "image")
    capsys.readouterr()
    assert sweep(*words, pair=small_pair) == 0
    said = capsys.readouterr()
    assert "2 of 2 jobs are done already" in said.out and "looking at job 1 of 2\n" in said.err
