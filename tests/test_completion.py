"""Completion, also by a real TAB in real shells."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vqclip.cli.completion import SCRIPTS, candidates, install


@pytest.mark.parametrize(
    "line,offered",
    [
        ("vqclip comp", ["compare", "completion"]),
        ("vqclip noise=s", ["noise=sfumato"]),
        ("vqclip 'a fox' noise.f", ["noise.factor="]),
        ("vqclip +loss.t", ["+loss.terms."]),
        ("vqclip init=image init.p", ["init.path="]),
        ("vqclip experiment=drawing loss.terms.", ["loss.terms.denoised."]),
        ("vqclip init=imagine init.j", ["init.jitter="]),  # no such choice: the default's keys
        ("vqclip init=image,blank 'a fox' steps", ["steps="]),
        ("vqclip -m noise=none,sf", ["noise=none,sfumato"]),
        ("vqclip checkpoints/perceptors=[vit_b_32,vit_b_1", ["checkpoints/perceptors=[vit_b_32,vit_b_16"]),
        ("vqclip --cfg j", ["job"]),
        ("vqclip --config-d", ["--config-dir"]),
        ("vqclip models fetch imagenet_f16_16", ["imagenet_f16_16384"]),
        ("vqclip models v", ["verify"]),
        ("vqclip interpolate --fra", ["--frames"]),
        ("vqclip compare out", []),  # files are the shell's
        ("vqclip completion z", ["zsh"]),
        ("vqclip nothing.like.this", []),
        ("vqclip 'noise=s", ["noise=sfumato"]),
        ('vqclip noise="s', ["noise=sfumato"]),
        ("vqclip 'checkpoints/perceptors=[vit_b_32,vit_b_1", ["checkpoints/perceptors=[vit_b_32,vit_b_16"]),
        ("vqclip 'experiment=drawing' \"a fox's\" loss.terms.", ["loss.terms.denoised."]),
        ('vqclip "a fox exp', []),  # a prompt
        ("vqclip 'a fox sea", []),
        ("vqclip a\\ fox\\ sea", []),
        ("vqclip init.path=my\\ d", []),  # a file
    ],
)
def test_candidates(line, offered):
    assert candidates(line) == offered


def test_choices_of_a_folder_of_ones_own(tmp_path):
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise/smoky.yaml").write_text("factor: .3\n")
    assert candidates(f"vqclip --config-dir {tmp_path} noise=sm") == ["noise=smoky"]


def test_installing_twice_is_installing_once(tmp_path, monkeypatch):
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".bashrc").write_bytes(b"alias ll='ls -l'  # \xe9 of latin-1")
    for _ in range(2):
        install("bash", tmp_path)
    lines = (tmp_path / ".bashrc").read_bytes().splitlines()
    assert len(lines) == 2 and lines[0] == b"alias ll='ls -l'  # \xe9 of latin-1"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    "typed,shown",
    [
        ("vqclip noise=sf", "noise=sfumato"),
        ("vqclip interp", "vqclip interpolate"),
        ("vqclip 'checkpoints/perceptors=[vit_b_32,rob", "'checkpoints/perceptors=[vit_b_32,robust'"),
        ("vqclip init.path=my\\ d", "init.path=my\\ dir/"),
    ],
)
def test_a_tab_in_a_real_shell(shell, typed, shown, tmp_path, monkeypatch):
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    install(shell, tmp_path)
    command = tmp_path / "bin/vqclip"
    command.parent.mkdir()
    (tmp_path / "my dir").mkdir()
    repo = Path(__file__).parent.parent
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{repo}" exec "{sys.executable}" -m vqclip "$@"\n')
    command.chmod(0o755)
    screen = type_into(shell, tmp_path, command.parent, typed + "\t", shown)
    assert shown in screen, screen


def test_fish_offers_files_to_what_is_told_them(tmp_path):
    if not shutil.which("fish"):
        pytest.skip("no fish here")
    (tmp_path / "zebra.yaml").touch()
    (tmp_path / "vqclip.fish").write_text(SCRIPTS["fish"])
    tools = [("import z", "zebra.yaml\n"), ("film --to z", "zebra.yaml\n"), ("models z", ""), ("z", "")]
    keys = [("noise=z", ""), ("init.path=z", "init.path=zebra.yaml\n"), ("resume=z", "resume=zebra.yaml\n")]
    for words, offered in [*tools, *keys]:
        asked = ["fish", "-N", "-c", f"source vqclip.fish; complete -C'vqclip {words}'"]
        assert subprocess.run(asked, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True).stdout == offered


def type_into(shell: str, home: Path, path: Path, keys: str, until: str) -> str:
    """What an interactive shell shows after ``keys``."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(home)
        environment = {"HOME": str(home), "PATH": f"{path}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "> "}
        os.execvpe(shell, [shell, "-i"], environment)
    screen, end, typed = "", time.monotonic() + 30, False
    try:
        while until not in screen and time.monotonic() < end:
            if select.select([terminal], [], [], 1.0)[0]:
                screen += os.read(terminal, 4096).decode(errors="replace")
            elif not typed:  # the shell has said what it says at its start
                os.write(terminal, keys.encode())
                typed, screen = True, ""
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)
    return screen
