"""Videos: through the latents of a run or of several, and what is in the file."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from peak import peak_memory
from PIL import Image
from player import played

from vqclip import run
from vqclip.cli import main
from vqclip.io.interpolation import MODES, frames_between, spherical, timeline
from vqclip.io.progress import bar
from vqclip.io.video import write_video


def frames_of(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def facts_of(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate, stream.width, stream.height


def gradient(size, count):
    """Frames that move, smooth as decoded pictures are."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    for i in range(count):
        planes = (x * 255 / width + 3 * i, y * 255 / height + 2 * i, 128 + 0 * x + i)
        yield np.stack([p % 256 for p in planes], -1).astype(np.uint8)


@pytest.mark.parametrize(
    "size,even", [((32, 48), (32, 48)), ((33, 47), (32, 46)), ((1, 47), (2, 46)), ((1, 1), (2, 2))]
)
def test_mp4_is_h264_of_even_sides_as_long_and_fast_as_asked(tmp_path, size, even):
    write_video(tmp_path / "a.mp4", gradient(size, 25), 12)
    assert facts_of(tmp_path / "a.mp4") == ("h264", "yuv420p", Fraction(12), even[1], even[0])
    assert len(frames_of(tmp_path / "a.mp4")) == 25
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # a browser plays it before it has all
    write_video(tmp_path / "b.mp4", gradient(size, 25), 12)
    assert content == (tmp_path / "b.mp4").read_bytes()


FORK = """
import os, signal, sys
from pathlib import Path
import numpy as np
from vqclip.io.video import read_frames, write_video

def work():
    write_video(Path(sys.argv[1]), [np.zeros((128, 128, 3), np.uint8)] * 3, 1)
    return len([*read_frames(Path(sys.argv[1]))])

work()
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
signal.alarm(20)
os._exit(0 if work() == 3 else 1)
"""


def test_a_process_that_was_forked_after_a_video_makes_another(tmp_path):
    """The converter that PyAV 19 keeps has threads, which a forked process lacks."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path / "a.mp4")], timeout=60)
    assert done.returncode == 0


def test_a_run_in_a_folder_that_is_named_by_a_clock(small_pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*small_pair[:-1], "callbacks.progress=null", "steps=1"]
    assert run("a fox", words, folder="12:30").status == "finished"
    assert run(overrides=["resume=12:30", "steps=2"]).status == "finished"
    assert frames_of(tmp_path / "12:30/picture-00/timelapse.mp4")


def test_gif_keeps_size_and_colours(tmp_path):
    frames = list(gradient((33, 47), 10))
    write_video(tmp_path / "a.gif", frames, 10)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.size == (47, 33) and gif.n_frames == 10 and gif.info["duration"] == 100
        for i in (0, 9):
            gif.seek(i)
            assert abs(np.asarray(gif.convert("RGB"), int) - frames[i]).mean() < 8


def test_a_video_cut_short_leaves_what_was_there(tmp_path):
    write_video(tmp_path / "a.mp4", gradient((32, 32), 3), 5)
    before = (tmp_path / "a.mp4").read_bytes()

    def broken():
        yield from gradient((32, 32), 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", broken(), 5)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"] and (tmp_path / "a.mp4").read_bytes() == before


@pytest.mark.parametrize(
    "stops,frames,loop", [(2, 2, False), (4, 90, False), (4, 91, True), (3, 3, True), (5, 17, False)]
)
@pytest.mark.parametrize("ease", [False, True])
def test_the_way_passes_every_stop_once(stops, frames, loop, ease):
    way = list(timeline(stops, frames, loop, ease))
    assert len(way) == frames and way[0] == (0, 0.0)
    assert [leg for leg, t in way if t == 0] == list(range(stops))
    assert loop or way[-1] == (stops - 1, 0.0)
    at = [leg + t for leg, t in way]
    assert at == sorted(at) and len(set(at)) == frames


def test_ease_is_slow_at_the_stops():
    steps = np.diff([leg + t for leg, t in timeline(2, 41, False, True)])
    assert steps[0] < steps[20] / 5 and steps[-1] < steps[20] / 5


@pytest.mark.parametrize("mode", MODES)
def test_modes_start_and_end_at_their_latents(mode):
    a, b = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(MODES[mode](a, b, 0.0), a)
    torch.testing.assert_close(MODES[mode](a, b, 1.0), b)


def test_spherical_keeps_the_length_where_linear_sags():
    a, b = torch.eye(2)
    torch.testing.assert_close(spherical(a, b, 0.5), torch.tensor([0.5**0.5, 0.5**0.5]))
    torch.testing.assert_close(spherical(a, 3 * a, 0.5), 2 * a)
    assert torch.isfinite(spherical(a, -a, 0.5)).all()
    assert torch.equal(spherical(torch.zeros(2), a, 0.5), a / 2)  # what has no direction


@pytest.fixture(scope="module")
def four(small_pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("four") / "run"
    apart = ["callbacks=default", "optimizer.lr=1", "loss.anchor=0"]
    return run(["a fox", "an owl", "a cat", "a cup"], [*small_pair, *apart], folder).folder


def best_of(folder, i):
    return np.asarray(Image.open(folder / f"picture-{i:02d}" / "best.png"), int)


def test_a_run_of_several_pictures_has_its_video(four):
    frames = frames_of(four / "interpolation.mp4")
    assert len(frames) == 3 * 24 + 1
    for i in range(4):
        # The codec keeps a quarter of the colour, and these pictures are noise: in brightness, then.
        apart = [abs(frames[24 * i].mean(-1) - best_of(four, j).mean(-1)).mean() for j in range(4)]
        assert apart[i] < 8 and apart[i] == min(apart)


def test_a_run_of_many_pictures_makes_none(small_pair, tmp_path):
    overrides = [*small_pair, "callbacks=default", "callbacks.interpolation.most=2", "steps=1"]
    assert not (run(["a fox", "an owl", "a cat"], overrides, tmp_path / "run").folder / "interpolation.mp4").exists()


def test_the_tool_makes_the_video_that_was_asked_for(four, tmp_path, capsys):
    out = tmp_path / "new" / "four.mp4"
    arguments = ["--frames", "50", "--fps", "12", "--mode", "linear", "--ease", "--gif", "--out", str(out)]
    with pytest.raises(SystemExit) as exit:
        main(["interpolate", str(four), *arguments])
    assert exit.value.code == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(out), str(out.with_suffix(".gif"))]
    assert "50/50" in said.err  # the progress bar
    assert facts_of(out) == ("h264", "yuv420p", Fraction(12), 32, 32) and len(frames_of(out)) == 50
    with Image.open(out.with_suffix(".gif")) as gif:
        assert gif.n_frames == 50


def test_frames_at_the_stops_are_the_pictures_before_the_codec(four):
    from vqclip.cli.interpolate import stops_of

    stops, _ = stops_of(four)
    frames = list(frames_between(stops, 7, "spherical"))
    for i, frame in zip((0, 2, 4, 6), (0, 1, 2, 3), strict=True):
        assert abs(frames[i] - best_of(four, frame)).max() <= 1  # decoded alone, where the run decoded four at once


def test_runs_with_masks_keep_their_pictures_at_both_ends(small_pair, tmp_path):
    folders = []
    for i, colour in enumerate(("red", "blue")):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{colour}.png")
        mask = Image.new("L", (32, 32))
        mask.paste(255, (0, 0, 16, 32))
        mask.save(tmp_path / "mask.png")
        start = ["init=image", f"init.path={tmp_path}/{colour}.png", f"init.mask={tmp_path}/mask.png"]
        rest = [word for word in small_pair if word != "init=sine"]
        folders.append(run("a fox", [*rest, *start], tmp_path / str(i)).folder)
    from vqclip.cli.interpolate import stops_of

    stops = [stop for folder in folders for stop in stops_of(folder)[0]]
    first, middle, last = frames_between(stops, 3, "linear")
    assert (first == best_of(folders[0], 0)).all() and (last == best_of(folders[1], 0)).all()
    assert (middle[0, 31] == (128, 0, 128)).all()


def said(capsys, *argv):
    with pytest.raises(SystemExit) as exit:
        main(["interpolate", *map(str, argv)])
    assert exit.value.code == 2
    return capsys.readouterr().err


def test_what_cannot_be_joined_is_named(four, small_pair, tmp_path, capsys):
    assert "--fps 60: too many for a GIF. Allowed: 1 to 50" in said(capsys, four, "--gif", "--fps", "60")
    single = run("a fox", small_pair, tmp_path / "single").folder
    large = run("a fox", [*small_pair, "size=[64,32]"], tmp_path / "large").folder
    other = tmp_path / "other.safetensors"
    generator = Path(small_pair[0].partition("=")[2])
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(generator, "pt") as file:
        weights = {key: file.get_tensor(key) * 1.5 for key in file.keys()}  # noqa: SIM118
        save_file(weights, other, metadata=file.metadata())
    foreign = run("a fox", [*small_pair, f"checkpoints.generator.path={other}"], tmp_path / "foreign").folder
    cut = tmp_path / "cut"
    shutil.copytree(single, cut)
    (cut / "picture-00/latents.safetensors").unlink()
    assert said(capsys, single) == (
        f"vqclip: {single}: one picture; a video needs two. Try: vqclip interpolate RUN RUN\n"
    )
    assert said(capsys, single, large) == (
        f"vqclip: {large}: its pictures are of 64×32 pixels, those of {single} of 32×32. Allowed: runs of one size\n"
    )
    message = said(capsys, single, foreign)
    assert message.startswith(f"vqclip: {foreign}: its latents are of another generator (embedded, ")
    assert message.endswith("Allowed: runs of one generator\n")
    assert said(capsys, cut, single) == (
        f"vqclip: {cut}/picture-00/latents.safetensors: missing. Try: vqclip rerun {cut}\n"
    )
    assert said(capsys, four, "--frames", "3") == (
        "vqclip: --frames=3: fewer than the 4 pictures. Allowed: 4 and more. Try: --frames=120\n"
    )
    assert said(capsys, tmp_path / "nothing").startswith(f"vqclip: {tmp_path}/nothing: not a run folder, it has no")


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["RUN", "--frames", "1"], "argument --frames: '1' is not a whole number from 2 up"),
        (["RUN", "--frames", "many"], "argument --frames: 'many' is not a whole number from 2 up"),
        (["RUN", "--fps", "0"], "argument --fps: '0' is not a whole number from 1 to 240"),
        (["RUN", "--mode", "cubic"], "argument --mode: invalid choice: 'cubic' (choose from "),
        (["RUN", "--speed", "3"], "unrecognized arguments: --speed 3"),
        ([], "the following arguments are required: RUN"),
        (["RUN", "--out", "a.avi"], "--out=a.avi: not a video name. Allowed: a name that ends in .mp4"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(arguments, message, capsys):
    assert message in said(capsys, *arguments)


def test_show_opens_the_viewer_or_says_where_the_file_is(four, tmp_path, monkeypatch, capsys):
    out = tmp_path / "four.mp4"
    argv = ["interpolate", str(four), "--frames", "4", "--out", str(out), "--show"]
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(SystemExit):
        main(argv)
    assert capsys.readouterr().out.splitlines()[-1] == f"no viewer here; the video is {out}"
    opener = tmp_path / "bin" / ("open" if sys.platform == "darwin" else "xdg-open")
    opener.parent.mkdir()
    opener.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    opener.chmod(0o755)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("PATH", f"{opener.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(SystemExit):
        main(argv)
    for _ in range(200):
        if (tmp_path / "opened").exists() and (tmp_path / "opened").read_text():
            break
        time.sleep(0.01)
    assert (tmp_path / "opened").read_text() == f"{out}\n"


@pytest.mark.slow
def test_a_browser_plays_a_runs_video_between_its_four_pictures_to_the_end(four, browser):
    told = played(four / "interpolation.mp4", browser)
    assert "error" not in told and told["size"] == [32, 32]
    assert told["seconds"] == pytest.approx((3 * 24 + 1) / 24, abs=0.06)
    assert told["frames"] >= 55  # of 73; a busy machine may drop some
    last = np.array(told["last"]).reshape(32, 32, 4)[..., :3]
    assert abs(last.mean(-1) - best_of(four, 3).mean(-1)).mean() < 8


@pytest.mark.slow
def test_memory_does_not_grow_with_length(four, tmp_path):
    """2,000 frames against 200."""
    peak = {}
    for frames in (200, 2000):
        peak[frames] = peak_memory("interpolate", [four, "--frames", frames, "--out", tmp_path / f"{frames}.mp4"])
    assert len(frames_of(tmp_path / "2000.mp4")) == 2000
    print(json.dumps(peak))
    assert peak[2000] < peak[200] + 20_000  # KiB


def test_a_bar_is_a_line_in_ten_seconds_of_a_log_and_moves_in_a_terminal(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert bar([]).mininterval == 10
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert bar([]).mininterval < 1


class PrunesSteps(pl.Callback):
    def on_validation_end(self, trainer, module):
        if trainer.global_step == module.steps:
            shutil.rmtree(Path(trainer.default_root_dir, "picture-00/steps"))


def test_a_run_whose_snapshots_somebody_removed_has_no_timelapse(small_pair, tmp_path, capsys):
    words = [word for word in small_pair if not word.startswith("callbacks=")]
    result = run("a fox", [*words, f"+callbacks.a._target_={__name__}.PrunesSteps"], tmp_path / "run")
    assert result.status == "finished" and not (tmp_path / "run/picture-00/timelapse.mp4").exists()
    assert "note: no timelapse: " in capsys.readouterr().err


def test_the_making_of_timelapses_is_told_where_it_is_long(small_pair, tmp_path, monkeypatch):
    bars = []
    monkeypatch.setattr(
        "vqclip.callbacks.bar", lambda *items, **options: bars.append(bar(*items, **options)) or bars[-1]
    )
    run(["a fox", "an owl"], [*small_pair, "callbacks=default", "snapshot_every=1"], tmp_path / "run")
    assert (bars[1].total, bars[1].n, bars[1].delay) == (10, 10, 2), "the first bar is that of the steps"
