"""What Windows, macOS and Apple's GPUs have otherwise, played on this system as far as it goes: nobody ran it there."""

import os
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import pytest

from vqclip.cli.arguments import parse_arguments
from vqclip.config import choices
from vqclip.config.choices import choices_of, group_names
from vqclip.errors import UserError
from vqclip.runs import snapshots
from vqclip.runs.folder import _moved


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
