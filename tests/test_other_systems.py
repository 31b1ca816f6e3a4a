"""What Windows, macOS and Apple's GPUs have otherwise, played on this system as far as it goes: nobody ran it there."""

import csv
import io
import logging
import os
import sys
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

from vqclip import run, sampling
from vqclip.cli.arguments import parse_arguments
from vqclip.cli.compare import main as compare
from vqclip.cli.streams import set_up_streams
from vqclip.cli.summary import print_result
from vqclip.compare import page
from vqclip.config import choices
from vqclip.config.choices import choices_of, group_names
from vqclip.config.grammar import unquoted
from vqclip.config.shorthand import expand_shorthand
from vqclip.errors import UserError
from vqclip.io import wandb_server
from vqclip.io.video import count_frames, read_frames, timelapse
from vqclip.memory import Chunks
from vqclip.precision import autocast_on, full_precision
from vqclip.runs import snapshots
from vqclip.runs.film import Film
from vqclip.runs.folder import RunFolder, _moved
from vqclip.runs.overwrite import clean_up

FILLS = ("zeros", "border", "reflection")


class WindowsInside(type(Path())):
    """A path that is this system's, and below another folder is named as on Windows."""

    def relative_to(self, *others):
        return PureWindowsPath(super().relative_to(*others))


def test_names_in_records_and_of_groups_have_no_backslashes(monkeypatch):
    monkeypatch.setattr(snapshots, "atomic_write", lambda *_: None)
    taken = snapshots.Snapshots(SimpleNamespace(path=PureWindowsPath("C:/run")), [])
    taken._picture(PureWindowsPath("C:/run/picture-00/steps/000002.png"), b"")
    assert list(taken.digests) == ["picture-00/steps/000002.png"]  # which a resume asks for by this name
    here, there = group_names(), WindowsInside(choices.conf_dir())
    monkeypatch.setattr(choices, "conf_dir", lambda: there)
    assert group_names() == here and choices_of("loss/terms")


def test_paths_are_known_by_either_separator(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/run.json").touch()
    monkeypatch.setattr(os, "sep", "\\")
    with pytest.raises(UserError, match="a run folder, not a text"):
        parse_arguments([f"{tmp_path}/mine"])
    paths = {"ours": r"C:\a/wandb", "theirs": r"C:\a\wandb", "other": r"C:\ab"}
    assert _moved(paths, r"C:\a", r"D:\b") == {"ours": r"D:\b/wandb", "theirs": r"D:\b\wandb", "other": r"C:\ab"}


def test_what_no_relative_path_leads_to_is_named_whole(small_pair, tmp_path, monkeypatch, capsys):
    made = run("a fox", [*small_pair, "steps=2"], tmp_path / "run")
    video = tmp_path / "50 % über.mp4"
    (relative,) = {page._link(video, tmp_path), page._link(video, Path("/") / tmp_path.relative_to("/"))}
    assert relative == "50%20%25%20%C3%BCber.mp4"

    def of_two_drives(*_):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", of_two_drives)
    monkeypatch.setattr(os.path, "commonpath", of_two_drives)
    print_result(made)
    assert f"next: vqclip resume={tmp_path}/run steps=4" in capsys.readouterr().err
    run("a fox", [*small_pair, "steps=2"], tmp_path / "again")  # alike, so that the sheet names each
    assert compare([str(tmp_path / "again"), str(tmp_path / "run"), "--out", str(tmp_path / "both")]) == 0
    assert compare([str(tmp_path / "run"), "--out", str(tmp_path / "other")]) == 0
    (row,) = csv.DictReader((tmp_path / "other/results.csv").open())
    assert (row["run"], row["file"]) == (f"{tmp_path}/run", f"{tmp_path}/run/picture-00/best.png")
    assert page._link(video, tmp_path) == video.as_uri()
    with pytest.raises(UserError, match=r"--out: missing; no folder holds all of these\. .* --out compared"):
        compare([str(tmp_path / "run"), str(tmp_path / "run/picture-00")])


@pytest.mark.parametrize("path", [r"\\nas\share\out", "C:\\Users\\Jürgen\\", "\\\\nas\\Jürgen\\"])
def test_a_path_of_windows_is_read_as_it_was_typed(path):
    (word,) = expand_shorthand([f"init.path={path}"])
    assert unquoted(word.partition("=")[2]) == path
    (listed,) = expand_shorthand([f"prompts.extras=[{{image: {path}}}]"])
    assert OverridesParser.create().parse_override(listed).value()[0]["image"] == path


def test_the_console_stays_its_own_and_the_log_takes_every_letter(tmp_path, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
    console = io.TextIOWrapper(io.BufferedWriter(type("Console", (io.FileIO,), {})(1, "w", closefd=False)), "utf-8")
    monkeypatch.setattr(sys, "stdout", console)
    log = logging.FileHandler(tmp_path / "vqclip.log")
    log.encoding = "locale"  # as where nobody has said another, and UTF-8 is not the system's
    log.stream.reconfigure(encoding="cp1252")
    monkeypatch.setattr(logging.getLogger(), "handlers", [log])
    set_up_streams()
    assert sys.stdout is console and console.errors == "backslashreplace"
    logging.getLogger().warning("ein Fuchs, 狐")
    log.close()
    assert (tmp_path / "vqclip.log").read_text("utf-8") == "ein Fuchs, 狐\n"


def test_wandbs_log_has_a_place_where_a_user_has_no_number(monkeypatch):
    monkeypatch.setenv("WANDB_CACHE_DIR", "/nowhere")
    monkeypatch.setattr(wandb_server, "takes_files", lambda folder: False)
    monkeypatch.delattr(os, "getuid")
    monkeypatch.setattr(os, "getlogin", lambda: "me")
    wandb_server._keep_its_log()
    assert Path(os.environ["WANDB_CACHE_DIR"]).name == "wandb-me"


@pytest.mark.parametrize("held", ["vqclip.log", "wandb.wandb"])
def test_a_mistake_is_told_where_a_file_cannot_be_removed(tmp_path, monkeypatch, held):
    def is_open(*words, **more):
        raise PermissionError(13, "The process cannot access the file because it is being used by another process")

    (tmp_path / "run").mkdir()
    (tmp_path / "run/vqclip.log").touch()  # Hydra's
    monkeypatch.setattr(os, "unlink", is_open)
    monkeypatch.setattr(Path, "unlink", is_open)
    with pytest.raises(UserError, match="a mistake"), clean_up(RunFolder(tmp_path / "run"), SimpleNamespace(config={})):
        (tmp_path / "run" / held).touch()
        raise UserError("a mistake")


def test_what_macos_lays_beside_pictures_is_no_picture(tmp_path):
    picture = RunFolder(tmp_path).picture(0)
    for folder in (picture.steps, tmp_path / "frames"):
        folder.mkdir(parents=True)
        for name in ("000000.png", "000002.png"):
            Image.new("RGB", (32, 32)).save(folder / name)
            (folder / f"._{name}").write_bytes(b"\0\5\x16\7")
    timelapse(picture, fps=2)
    assert count_frames(picture.timelapse) == 4
    assert len(list(read_frames(tmp_path / "frames"))) == count_frames(tmp_path / "frames") == 2
    assert [path.name for path in Film(tmp_path, [], [], 2, 0).paths()] == ["000000.png", "000002.png"]


@pytest.mark.parametrize(
    "said",
    [
        "[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you tried to allocate 9.",
        "MPS backend out of memory (MPS allocated: 17.91 GB, other allocations: 1.1 GB, max allowed: 18.13 GB).",
    ],
)
def test_where_memory_ends_there_the_parts_are_halved(said, monkeypatch):
    emptied, parts = [], Chunks(2, 4, 2, None, lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append(True))

    def work(pictures):
        if pictures == slice(0, 2):
            raise RuntimeError(said)
        return pictures.start

    assert parts.over_pictures(work) == [0, 1] and emptied == [True]


@pytest.mark.skipif(not torch.amp.is_autocast_available("mps"), reason="torch 2.4 has no autocast there")
def test_full_precision_is_full_on_apples_gpus():
    with torch.autocast("mps", dtype=torch.bfloat16):
        assert autocast_on("mps")
        with full_precision():
            assert not autocast_on("mps")


def test_of_a_device_without_autocast_it_is_off():
    assert not autocast_on("meta")  # as mps in torch 2.4


def test_apples_gpus_read_beyond_the_border_by_indices(monkeypatch):
    class There(torch.Tensor):
        device = torch.device("mps")

    monkeypatch.setattr(sampling, "sample_by_index", lambda *words: "by indices")
    image, grid = torch.rand(1, 3, 4, 4), torch.zeros(1, 2, 2, 2)
    found = {fill: sampling.grid_sample(image.as_subclass(There), grid, "bilinear", fill, False) for fill in FILLS}
    assert [fill for fill in FILLS if found[fill] == "by indices"] == ["border"]
