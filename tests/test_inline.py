"""Pictures in a terminal: over a real one, by the three protocols, and never where nobody can see them."""

import base64
import io
import os
import pty
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

KITTY = {"TERM": "xterm-kitty"}
ITERM = {"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}
PROGRAM = (
    "import sys; from pathlib import Path; from vqclip.io.inline import show; show([Path(p) for p in sys.argv[1:]])"
)


@pytest.fixture
def pictures(tmp_path):
    for name, width in (("a.png", 200), ("b.png", 56)):
        Image.effect_noise((width, 64), 50).save(tmp_path / name)
    return [str(tmp_path / name) for name in ("a.png", "b.png")]


def in_terminal(argv, **environment) -> str:
    """What a program writes into a terminal of its own."""
    bare = {k: v for k, v in os.environ.items() if k not in ("TMUX", "TERM", "TERM_PROGRAM", "KITTY_WINDOW_ID")}
    ours, theirs = pty.openpty()
    child = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=bare | environment)
    os.close(theirs)
    shown = b""
    try:
        while some := os.read(ours, 65536):
            shown += some
    except OSError:  # Linux's word for the end of a terminal
        pass
    os.close(ours)
    assert child.wait() == 0, shown.decode()
    return shown.decode()


def of_kitty(shown: str) -> Image.Image:
    parts = re.findall(r"\033_G([^;]*);([^\033]*)\033\\", shown)
    assert parts[0][0] == "a=T,f=100,q=2,m=1" and parts[-1][0] == "m=0" and all(len(data) <= 4096 for _, data in parts)
    return Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in parts))))


def of_iterm(shown: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(re.findall(r"\033\]1337;File=inline=1:([^\a]*)\a", shown)[0])))


def of_sixel(shown: str) -> Image.Image:
    """As a terminal draws it: colours in percent; a character is six pixels, one above another."""
    (words,) = re.findall(r"\033P0;1q([^\033]*)\033\\", shown)
    width, height = map(int, re.match(r'"1;1;(\d+);(\d+)', words).groups())
    picture, colours, x, y = Image.new("RGBA", (width, height)), {}, 0, 0
    for word in re.findall(
        r"#\d+(?:;2;\d+;\d+;\d+)?|!\d+[?-~]|[?-~$-]", words.partition("#")[1] + words.partition("#")[2]
    ):
        if word[0] == "#":
            colour, *rgb = map(int, word[1:].replace(";2;", ";").split(";"))
            if rgb:
                colours[colour] = (*(round(part * 2.55) for part in rgb), 255)
        elif word in "$-":
            x, y = 0, y + 6 * (word == "-")
        else:
            bits, count = ord(word[-1]) - 63, int(word[1:-1] or 1)
            for column in range(x, x + count):
                for row in range(6):
                    if bits >> row & 1:
                        picture.putpixel((column, y + row), colours[colour])
            x += count
    return picture


@pytest.mark.parametrize("environment", [{"TERM": "foot"}, {"TERM": "xterm-256color", "VQCLIP_INLINE": "sixel"}])
def test_sixels_are_the_picture_to_the_palette(environment, pictures):
    shown = of_sixel(in_terminal([sys.executable, "-c", PROGRAM, *pictures], **environment))
    assert shown.size == (200 + 4 + 56, 64)
    assert shown.getchannel("A").getextrema() == (0, 255)  # the gap is the terminal's own ground
    first = np.asarray(shown.convert("L").crop((0, 0, 200, 64)), int)
    assert abs(first - np.asarray(Image.open(pictures[0]), int)).mean() < 4


@pytest.mark.parametrize(
    "environment,read", [(KITTY, of_kitty), ({"KITTY_WINDOW_ID": "1"}, of_kitty), (ITERM, of_iterm)]
)
def test_pictures_stand_beside_one_another(environment, read, pictures):
    shown = read(in_terminal([sys.executable, "-c", PROGRAM, *pictures], **environment))
    assert shown.size == (200 + 4 + 56, 64)
    assert shown.convert("L").crop((0, 0, 200, 64)).tobytes() == Image.open(pictures[0]).tobytes()


@pytest.mark.parametrize(
    "environment",
    [{"TERM": "xterm-256color"}, {}, KITTY | {"VQCLIP_INLINE": "0"}, KITTY | {"TMUX": "x"}, {"TERM": "dumb"}],
)
def test_another_terminal_gets_nothing(environment, pictures):
    assert in_terminal([sys.executable, "-c", PROGRAM, *pictures], **environment) == ""


def test_a_pipe_gets_nothing(pictures):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *pictures],
        capture_output=True,
        env=os.environ | KITTY,
        check=True,
        timeout=600,
    )
    assert done.stdout == done.stderr == b""


def test_a_run_says_what_it_makes_and_ends_with_picture_and_next_command(small_pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "vqclip", *small_pair, "a fox", "an owl", "hydra.run.dir=outputs/pair"]
    shown = in_terminal([*command, "logger=none"], **KITTY)
    assert '2 pictures of 32×32, 4 steps of 8 crops, 3 snapshots each: "a fox", "an owl"' in shown
    assert of_kitty(shown).size == (32 + 4 + 32, 32)
    first, *_, last = re.sub(r"\033_G[^\033]*\033\\", "", shown).strip().splitlines()
    assert first.startswith("2 pictures") and last.startswith("next: vqclip resume=outputs/pair steps=8")
    assert str(tmp_path / "outputs/pair/picture-01/best.png") in shown
