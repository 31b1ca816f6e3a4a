"""What a user may not read or write is said in a sentence, by every tool and of every key."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from permissions import ordinary_user

from vqclip import UserError, load, run
from vqclip.cli import main
from vqclip.io import files


@pytest.fixture
def shut(tmp_path):
    """A folder that may not be entered, one that may not be written, and a file that may not be read."""
    places = {"shut": 0o000, "read-only": 0o555}
    for name, mode in places.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "inside.png").write_bytes(b"mine")
        (tmp_path / name).chmod(mode)
    (tmp_path / "secret.txt").write_text("a fox")
    (tmp_path / "secret.txt").chmod(0)
    yield tmp_path
    for name in places:
        (tmp_path / name).chmod(0o755)


#: With the folder of :func:`shut` in the place of {}.
FORBIDDEN = [
    ["a fox", "hydra.run.dir={}/shut/run"],
    ["a fox", "hydra.run.dir={}/read-only/run"],
    ["-m", "a fox", "seed=0,1", "hydra.sweep.dir={}/shut/sweep"],
    ["a fox", "init=image", "init.path={}/shut/inside.png"],
    ["a fox", "init=image", "init.path={}/secret.txt"],
    ["a fox", "init=run", "init.run={}/shut/run"],
    ["prompts.include=[{{file: {}/shut/inside.png}}]"],
    ["prompts.include=[{{file: {}/secret.txt}}]"],
    ["prompts.include=[{{image: {}/shut/inside.png}}]"],
    ["a fox", "prompts.extras=[{{text: an owl, region: {}/shut/inside.png}}]"],
    ["a fox", "--config-dir", "{}/shut/inside.png"],
    ["a fox", "--config-dir", "{}/shut"],
    ["a fox", "checkpoints.generator.path={}/shut/inside.png"],
    ["a fox", "checkpoints.generator.path={}/secret.txt"],
    ["a fox", "checkpoints.perceptors.embedded.path={}/shut/inside.png"],
    ["a fox", "checkpoints.prior.path={}/shut/inside.png"],
    ["resume={}/shut/run"],
    ["rerun", "{}/shut/run"],
    ["rerun", "{}/shut/inside.png"],
    ["rerun", "{}/secret.txt"],
    ["evaluate", "{}/shut/run"],
    ["evaluate", "--battery", "{}/shut/battery"],
    ["compare", "{}/shut"],
    ["compare", "{}/shut/run"],
    ["dashboard", "{}/shut/run", "--print"],
    ["interpolate", "{}/shut/run"],
    ["sync", "{}/shut/run"],
    ["import", "{}/secret.txt"],
    ["import", "{}/shut/inside.png"],
    ["film", "a fox", "--video", "{}/shut/inside.png", "--to", "{}/film"],
    ["film", "a fox", "--to", "{}/shut/film"],
    ["models", "list", "--config-dir", "{}/shut/inside.png"],
]


@pytest.mark.parametrize("words", FORBIDDEN, ids=" ".join)
def test_what_a_user_may_not_is_said_in_a_sentence(shut, monkeypatch, capsys, words):
    monkeypatch.chdir(shut)
    with ordinary_user(), pytest.raises(SystemExit) as stop:
        main([word.format(shut) for word in words])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert err.count("vqclip: ") == 1 and str(shut) in err
    assert sorted(path.name for path in shut.iterdir()) == ["read-only", "secret.txt", "shut"]


def test_python_is_told_as_well(shut):
    with ordinary_user():
        for call in (
            lambda: load(shut / "shut" / "run"),
            lambda: run("a fox", folder=shut / "read-only" / "run"),
            lambda: run("a fox", config_dir=shut / "shut"),
        ):
            with pytest.raises(UserError, match=r"ermission denied"):
                call()


def test_where_nothing_may_be_written_the_way_out_is_one_of_the_command(small_pair, tmp_path, monkeypatch, capsys):
    copied, moved = "cp -r run FOLDER && chmod -R u+w FOLDER && vqclip resume=FOLDER", "cd FOLDER, to one that can"
    named = "hydra.run.dir=FOLDER, hydra.sweep.dir=FOLDER for a sweep, --to FOLDER for a film, or from Python folder="
    monkeypatch.chdir(tmp_path)
    run("a fox", [*small_pair, "steps=1"], folder="run")
    Path("run/.lock").touch()  # which an older filelock removes
    ways = {("rerun", "run"): moved, ("resume=run", "steps=2"): copied, ("-m", "a fox", "seed=0,1"): moved}
    ways |= {("a fox", f"hydra.run.dir={tmp_path}/new"): named, ("a fox", "hydra.run.dir=new"): moved}
    for path in (Path("run/.lock"), Path("run"), tmp_path):
        path.chmod(0o555)
    for words, way in ways.items():
        with ordinary_user(), pytest.raises(SystemExit) as stop:
            main([*words])
        err = capsys.readouterr().err
        assert stop.value.code == 2 and "no folder that can be written" in err and f"ry: {way}" in err, words
    tmp_path.chmod(0o755)
    shutil.copytree("run", "FOLDER")
    for path in (Path("FOLDER"), *Path("FOLDER").rglob("*")):
        path.chmod(0o755)
    with ordinary_user():
        assert run(resume="FOLDER", steps=2).status == "finished"


@pytest.mark.parametrize("tool,way", [("compare", "sweep --out compared"), ("evaluate", "sweep/*")])
def test_what_reads_a_sweep_that_may_not_be_written_says_where_it_can(
    small_pair, tmp_path, monkeypatch, capsys, tool, way
):
    monkeypatch.chdir(tmp_path)
    run("a fox", [*small_pair, "steps=1"], folder="sweep/0")
    Path("sweep").chmod(0o555)
    with ordinary_user(), pytest.raises(SystemExit) as stop:
        main([tool, "sweep"])
    said = capsys.readouterr()
    assert stop.value.code == 2 and said.out == "" and said.err.endswith(f"Try: vqclip {tool} {way}\n")
    with ordinary_user(), pytest.raises(SystemExit) as stop:
        main([tool, *way.replace("*", "0").split()])
    assert stop.value.code == 0
    Path("sweep").chmod(0o755)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=lambda make: make.__name__)
def test_a_start_up_file_that_is_none(tmp_path, monkeypatch, capsys, make):
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path / ".bashrc")
    with pytest.raises(SystemExit) as stop:
        main(["completion", "bash"])
    assert stop.value.code == 2 and ".bashrc: " in capsys.readouterr().err


@pytest.mark.parametrize(("umask", "mode"), [("077", 0o600), ("022", 0o644), ("002", 0o664)])
def test_files_have_the_mode_that_the_umask_says(tmp_path, umask, mode):
    """Private ones stay private, and those of a group's folder are the group's."""
    write = "from vqclip.io.files import *; atomic_write(Path('a'), b''); append(Path('b'), '')"
    shell = f"umask {umask}; exec {shlex.quote(sys.executable)} -c {shlex.quote(f'from pathlib import Path; {write}')}"
    subprocess.run(shell, shell=True, check=True, cwd=tmp_path)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [mode, mode]


def test_files_have_the_mode_that_their_folders_list_says(tmp_path):
    """A default list of who may do what: read and write for owner and group, nothing for others."""
    entries = [(1, 7, 2**32 - 1), (4, 7, 2**32 - 1), (32, 0, 2**32 - 1)]
    default = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(tmp_path, "system.posix_acl_default", default)
    except OSError:
        pytest.skip("no such lists on this file system")
    files.atomic_write(tmp_path / "a", b"")
    files.append(tmp_path / "b", "")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o660, 0o660]
