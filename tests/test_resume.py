"""A run that is stopped, however, and gone on with ends in the same bytes as one that was not."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from omegaconf import OmegaConf

from vqclip import UserError, run
from vqclip.resume import Stopped, asked, cut_back, locked, read_checkpoint

#: The imports are paid once; every process forked from there starts at once, and has not used autograd before.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["vqclip.engine", "vqclip.compose", "vqclip.video"])

LONG = ["steps=12", "snapshot_every=3", "callbacks=default", "prompts.exclude=blurry"]


def bytes_of(folder):
    """Every file of a run that has to be the same, with its content."""
    kinds = ["*.png", "latents.safetensors", "*.mp4", "metrics.csv"]
    return {str(p.relative_to(folder)): p.read_bytes() for kind in kinds for p in folder.rglob(kind)}


def _work(prompts, overrides, folder, kill=None):
    """Run or resume in a process of its own, which may kill itself: ``kill`` = (audit event, part of a path, count)."""
    torch.set_num_threads(1)
    if kill:
        event, part, count = kill
        seen = 0

        def watch(name, args):
            nonlocal seen
            if name == event and part in str(args[-2 if name == "os.rename" else 0]) + str(args[1]):
                seen += 1
                if seen == count:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
    run(prompts, overrides, folder)


def _in_a_process(*args):
    process = FORKS.Process(target=_work, args=args)
    process.start()
    return process


@pytest.fixture(scope="module")
def unbroken(small_pair, tmp_path_factory):
    """A run that nobody stopped."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    process = _in_a_process(["a fox", "an owl"], [*small_pair, *LONG], folder)
    process.join()
    assert process.exitcode == 0
    return folder


#: Moments that a random time rarely meets: just before a file is opened, or takes its final name.
MOMENTS = [
    ("os.rename", "config.yaml", 1),
    ("os.rename", "000000.png", 1),
    ("open", "metrics.csv", 1),
    ("os.rename", "steps/000003.png", 1),
    ("os.rename", "latents.safetensors", 4),
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
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        assert process.exitcode in (0, -signal.SIGKILL)
        if (folder / "config.yaml").exists():
            args = (None, [f"resume={folder}"])
        if process.exitcode == 0:  # it got through before its moment came: once more from the start
            assert bytes_of(folder) == bytes_of(unbroken)
            shutil.rmtree(folder)
            args = (["a fox", "an owl"], [*small_pair, *LONG])
    process = _in_a_process(*args, folder)
    process.join()
    assert process.exitcode == 0
    assert bytes_of(folder) == bytes_of(unbroken)
    assert not [p for p in folder.rglob(".*") if p.name != ".lock"], "something half written was left"
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("moment", MOMENTS[1:], ids=lambda m: f"{m[0]}-{m[1].replace('/', '-')}-{m[2]}")
def test_a_kill_at_the_worst_moment_leaves_no_trace(small_pair, tmp_path, unbroken, moment):
    folder = tmp_path / "run"
    process = _in_a_process(["a fox", "an owl"], [*small_pair, *LONG], folder, moment)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    process = _in_a_process(None, [f"resume={folder}"], folder)
    process.join()
    assert process.exitcode == 0
    assert bytes_of(folder) == bytes_of(unbroken)
