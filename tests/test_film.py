"""Films: the camera, scenes from latent to latent, a video restyled, a film that goes on where it stopped."""

import json
import logging
import math
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from peak import peak_memory
from PIL import Image
from player import played
from safetensors import safe_open

from vqclip import run
from vqclip.cli import main
from vqclip.cli.film import _arguments
from vqclip.errors import UserError
from vqclip.io.motion import move
from vqclip.io.video import read_frames, write_video
from vqclip.runs.film import Film
from vqclip.runs.lock import lock_folder
from vqclip.runs.rerun import rerun
from vqclip.schedules import schedule

BORDERS = ("reflect", "wrap", "zeros")


@pytest.fixture
def smooth():
    y, x = torch.meshgrid(torch.linspace(0, 3, 32), torch.linspace(0, 3, 48), indexing="ij")
    return torch.stack([x.sin().abs(), y.cos().abs(), (x + y).sin().abs()])[None]


def test_a_camera_at_rest_leaves_every_bit(smooth):
    for border in BORDERS:
        assert move(smooth, border=border) is smooth
        torch.testing.assert_close(move(smooth, pan=(1e-9, 0), border=border), smooth, atol=1e-4, rtol=0)


@pytest.mark.parametrize("border", BORDERS)
def test_panning_moves_the_picture_by_whole_pixels(smooth, border):
    right, down = move(smooth, pan=(5, 0), border=border), move(smooth, pan=(0, 3), border=border)
    torch.testing.assert_close(right[..., 7:], smooth[..., 2:-5], atol=1e-3, rtol=0)
    torch.testing.assert_close(down[..., 5:, :], smooth[..., 2:-3, :], atol=1e-3, rtol=0)
    came_in = {"zeros": torch.zeros(1), "wrap": smooth[..., -5], "reflect": smooth[..., 4]}[border]
    torch.testing.assert_close(right[..., 0], came_in.expand_as(right[..., 0]), atol=1e-3, rtol=0)


def test_a_whole_turn_and_a_whole_width_come_back(smooth):
    torch.testing.assert_close(move(smooth, pan=(48, 32), border="wrap"), smooth, atol=1e-3, rtol=0)
    square = smooth[..., :32]
    torch.testing.assert_close(move(square, turn=90), square.rot90(-1, (2, 3)), atol=1e-3, rtol=0)


def test_zoom_enlarges_the_middle_and_zooming_out_shows_the_border(smooth):
    large = move(smooth, zoom=2.0)
    torch.testing.assert_close(large[..., 15:17, 23:25].mean(), smooth[..., 15:17, 23:25].mean(), atol=0.02, rtol=0)
    small = move(torch.ones(1, 3, 32, 32), zoom=0.5, border="zeros")
    assert small[0, 0, 16, 16] == 1 and small[0, 0, 2, 2] == 0 and 0.2 < small.mean() < 0.3


def film(small_pair, folder, *words):
    argv = ["film", *small_pair[:-2], "steps=3", *words, "--to", str(folder)]
    with pytest.raises(SystemExit) as exit:
        main(argv)
    return exit.value.code


def frames(folder):
    return [np.asarray(Image.open(path)) for path in sorted((folder / "frames").glob("*.png"))]


def latent(folder):
    with safe_open(folder / "latent.safetensors", framework="pt") as file:
        return file.get_tensor("latent")


def test_lightning_says_nothing_of_a_film(small_pair, tmp_path, monkeypatch, recwarn):
    srun = tmp_path / "bin" / "srun"  # as on the login node of a cluster, where Lightning advises to use it
    srun.parent.mkdir()
    srun.touch(0o755)
    monkeypatch.setenv("PATH", str(srun.parent), prepend=os.pathsep)
    said = []
    listener = logging.Handler()
    listener.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("pytorch_lightning").addHandler(listener)
    try:
        assert film(small_pair, tmp_path, "a fox", "--frames", "1") == 0
    finally:
        logging.getLogger("pytorch_lightning").removeHandler(listener)
    assert said == [] and not [w for w in recwarn if "srun" in str(w.message)]


def test_scenes_follow_each_other_from_latent_to_latent(small_pair, tmp_path):
    assert film(small_pair, tmp_path / "a", "a fox", "an owl", "--frames", "4", "--each", "0") == 0
    pictures = frames(tmp_path / "a")
    assert len(pictures) == 4 and all((own == pictures[0]).all() for own in pictures)  # nothing moved: to the last bit
    film(small_pair, tmp_path / "b", "a fox", "an owl", "--frames", "4", "--each", "2", "optimizer.lr=.5")
    records = [json.loads(Image.open(p).text["vqclip"]) for p in sorted((tmp_path / "b" / "frames").glob("*.png"))]
    assert [own["config"]["prompts"]["include"] for own in records] == [["a fox"]] * 2 + [["an owl"]] * 2
    assert (frames(tmp_path / "b")[0] != frames(tmp_path / "b")[3]).any()
    with av.open(str(tmp_path / "b" / "film.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4


class Squares:
    """A generator without encode."""

    factor = 8

    def latent_shape(self, height, width):
        return 3, height // 8, width // 8

    def decode(self, z):
        return z.sigmoid().repeat_interleave(8, -1).repeat_interleave(8, -2)


@pytest.mark.parametrize("words,status", [(["--zoom", "1.1"], 2), ([], 0)])
def test_a_generator_without_encode_makes_only_films_that_stand_still(small_pair, tmp_path, capsys, words, status):
    card = tmp_path / "conf/checkpoints/generator/squares.yaml"
    card.parent.mkdir(parents=True)
    card.write_text(f"_target_: {__name__}.Squares\n")
    mine = ["--config-dir", str(tmp_path / "conf"), "checkpoints/generator=squares"]
    assert film(small_pair[1:], tmp_path, *mine, "a fox", "--frames", "2", "--each", "1", *words) == status
    assert status == 0 or "it has no encode, which a film that moves" in capsys.readouterr().err


def test_more_scenes_than_frames_are_refused(small_pair, tmp_path, capsys):
    """The last ones were never made, and nothing said so."""
    words = ["a fox", "an owl", "a cat", "--each", "0"]
    assert film(small_pair, tmp_path / "a", *words, "--frames", "2") == 2
    assert "--frames 2: fewer than the 3 scenes. Allowed: 3 and more. Try: --frames 90" in capsys.readouterr().err
    video = tmp_path / "in.mp4"
    write_video(video, [np.full((32, 32, 3), 40 * n, np.uint8) for n in range(4)], fps=4)
    assert film(small_pair, tmp_path / "a", *words, "--video", str(video), "--stride", "2") == 2
    assert "2 of its frames are taken, fewer than the 3 scenes" in (said := capsys.readouterr().err)
    assert said.strip().endswith("Try: --stride 1") and not (tmp_path / "a").exists()
    assert film(small_pair, tmp_path / "a", *words, "--video", str(video), "--stride", "1") == 0
    prompts = [
        json.loads(Image.open(path).text["vqclip"])["config"]["prompts"]["include"]
        for path in sorted(tmp_path.glob("a/frames/*"))
    ]
    assert [name for [name] in prompts] == ["a fox", "a fox", "an owl", "a cat"]


def test_entries_of_the_config_are_scenes_and_what_a_film_lacks_may_be_set(small_pair, tmp_path):
    parts = '{parts: [{text: "a fox", region: left}, {text: "an owl", region: right}]}'
    keys = [f'prompts.include=[{parts}, "a castle"]', "callbacks.progress=null", "logger.wandb.mode=offline"]
    words = [word for word in small_pair[:-2] if not word.startswith(("logger", "callbacks"))]
    with pytest.raises(SystemExit) as exit:
        main(["film", *words, "steps=1", *keys, "--frames", "2", "--to", str(tmp_path)])
    assert exit.value.code == 0
    first, second = (json.loads(Image.open(p).text["vqclip"])["config"] for p in sorted(tmp_path.glob("frames/*.png")))
    assert [part["region"] for part in first["prompts"]["include"][0]["parts"]] == ["left", "right"]
    assert second["prompts"]["include"] == ["a castle"]


@pytest.mark.parametrize("search", ["restarts={count: 2, steps: 1}", "stages=[{size: [16,16], share: .9}]"])
def test_only_the_first_frame_of_a_film_is_searched_for(small_pair, tmp_path, search):
    still = ["optimizer.lr=1e-9", f"search.{search}", "--frames", "3", "--each", "2"]
    assert film(small_pair, tmp_path, "a fox", *still) == 0
    assert all(abs(own.astype(int) - frames(tmp_path)[0]).max() <= 1 for own in frames(tmp_path))


@pytest.mark.parametrize(
    "words", [["steps=1", "search.stages=[{size: [16,16], share: .5}]"], ["trainer.precision=bf16-mixed"]]
)
def test_the_first_frame_is_the_picture_that_a_run_makes(small_pair, tmp_path, words):
    whole = run("a fox", [*small_pair, "steps=3", *words], tmp_path / "run")
    assert film(small_pair, tmp_path / "film", "a fox", *words, "--frames", "1") == 0
    assert torch.equal(latent(tmp_path / "film"), whole.latents)


def test_a_film_is_hastened_as_a_run_is_and_only_the_film(small_pair, tmp_path):
    from torch._dynamo import register_backend

    tf32, before = [], torch.backends.cuda.matmul.allow_tf32

    @register_backend(name="seeing")
    def seeing(graph, inputs):
        tf32.append(torch.backends.cuda.matmul.allow_tf32)
        return graph.forward

    words = ["a fox", "an owl", "trainer.compile={backend: seeing}", "+trainer.tf32=true", "--frames", "2"]
    assert film(small_pair, tmp_path, *words, "--each", "1") == 0
    assert len(tf32) > 2 and all(tf32) and torch.backends.cuda.matmul.allow_tf32 == before
    count = len(tf32)
    run("a fox", small_pair, tmp_path / "after")  # by the same networks
    assert len(tf32) == count


def test_a_films_records_have_no_secret_and_a_frame_is_no_run(small_pair, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "hunter2-hunter2")
    link = "checkpoints.generator.urls=['http://127.0.0.1:9/x?token=${oc.env:MY_SECRET}']"
    assert film(small_pair, tmp_path / "film", "a fox", "an owl", link, "--frames", "2") == 0
    assert b"${oc.env:MY_SECRET}" in (tmp_path / "film/film.json").read_bytes()
    for path in [p for p in (tmp_path / "film").rglob("*") if p.is_file()]:
        assert b"hunter2" not in path.read_bytes(), path
    with pytest.raises(UserError, match=r"000001\.png: frame 1 of a film, .* vqclip film .* --to"):
        rerun(tmp_path / "film/frames/000001.png", folder=tmp_path / "again")


def test_a_film_that_was_stopped_goes_on_to_the_same_bytes(small_pair, tmp_path, monkeypatch, capsys):
    words = ["a fox", "an owl", "--frames", "5", "--each", "1", "--zoom", "{start: 1.02, end: 1.1}", "--turn", "3"]
    film(small_pair, tmp_path / "whole", *words)
    write, made = Film._write, []

    def stops_at_the_third(self, i, module, z):
        if i == 3 and not made:
            made.append(i)
            raise KeyboardInterrupt
        write(self, i, module, z)

    monkeypatch.setattr(Film, "_write", stops_at_the_third)
    with pytest.raises(SystemExit) as ended:
        main(["film", *small_pair[:-2], "steps=3", *words, "--to", str(tmp_path / "half")])
    assert ended.value.code == 130  # and no traceback
    assert capsys.readouterr().err.endswith(f"stopped. To continue: the same command with --to {tmp_path / 'half'}\n")
    assert len(frames(tmp_path / "half")) == 3 and not (tmp_path / "half" / "film.mp4").exists()
    assert film(small_pair, tmp_path / "half", *words) == 0
    for one in sorted((tmp_path / "whole").rglob("*")):
        other = tmp_path / "half" / one.relative_to(tmp_path / "whole")
        assert one.is_dir() or one.read_bytes() == other.read_bytes(), one
    capsys.readouterr()
    assert film(small_pair, tmp_path / "half", *words, "seed=4") == 2
    assert "another film is there, with other settings (scenes). Allowed: the same command" in capsys.readouterr().err


def test_a_film_writes_over_nothing_that_is_no_film_of_its_own(small_pair, tmp_path, capsys):
    (tmp_path / "clip/frames").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "clip/frames/000000.png")
    (tmp_path / "vid").mkdir()
    write_video(tmp_path / "vid/film.mp4", [np.zeros((32, 32, 3), np.uint8)], 5)
    for folder, source in (("clip", "frames"), ("vid", "film.mp4")):
        before = {path: path.read_bytes() for path in (tmp_path / folder).rglob("*.[pm]*")}
        assert film(small_pair, tmp_path / folder, "a fox", "--video", f"{tmp_path / folder / source}") == 2
        told = f"--to {tmp_path / folder}: {source} is there, and no film.json that says of which film. Allowed: "
        assert told in capsys.readouterr().err
        assert {path: path.read_bytes() for path in before} == before and len(before) == 1
    (tmp_path / "clip/frames/000000.png").unlink()
    assert film(small_pair, tmp_path / "clip", "a fox", "--frames", "1", "--each", "0") == 0  # an empty folder is none


@pytest.mark.parametrize("name", ["frames", "film.json", "latent.safetensors", "film.mp4"])
def test_a_film_does_not_write_through_a_link(small_pair, tmp_path, capsys, name):
    (tmp_path / "film").mkdir()
    (tmp_path / "film" / name).symlink_to(tmp_path / "mine")
    assert film(small_pair, tmp_path / "film") == 2
    assert f"film/{name}: a symbolic link" in capsys.readouterr().err and not (tmp_path / "mine").exists()


def test_a_frame_that_another_program_saved_again_stays_in_the_film(small_pair, tmp_path):
    words = ["a fox", "--frames", "2", "--each", "0"]
    assert film(small_pair, tmp_path, *words) == 0
    path = tmp_path / "frames/000001.png"
    Image.open(path).convert("RGBA").save(path)
    assert film(small_pair, tmp_path, *words) == 0


def test_colons_in_names_are_no_protocols(small_pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(Path("a:b.mp4"), [np.zeros((32, 32, 3), np.uint8)] * 2, 5)
    assert film(small_pair, "film:1", "a fox", "--video", "a:b.mp4", "--each", "0") == 0
    assert len(list(read_frames(Path("film:1/film.mp4")))) == 2


@pytest.mark.parametrize("lost,told", [((1,), "000001.png, "), (range(4), "000000.png, 000001.png, 000002.png, …, ")])
def test_a_film_that_lost_frames_is_not_made_shorter(small_pair, tmp_path, capsys, lost, told):
    words = ["a fox", "--frames", "4", "--each", "0"]
    assert film(small_pair, tmp_path / "film", *words) == 0
    for i in lost:
        (tmp_path / f"film/frames/{i:06d}.png").unlink()
    before = (tmp_path / "film/film.mp4").read_bytes()
    assert film(small_pair, tmp_path / "film", *words) == 2
    assert f"frames/ lacks {told}" in (said := capsys.readouterr().err)
    assert said.strip().endswith(f"Try: --to {tmp_path}/film-2")
    assert (tmp_path / "film/film.mp4").read_bytes() == before


def test_two_films_at_once_do_not_share_a_folder(small_pair, tmp_path, capsys):
    with lock_folder(tmp_path / "film"):
        assert film(small_pair, tmp_path / "film", "a fox") == 2
    assert "film: another vqclip process is running in this folder" in capsys.readouterr().err
    assert not frames(tmp_path / "film")


def test_a_restyled_video_begins_each_frame_at_the_videos_own(small_pair, tmp_path):
    given = [np.full((32, 32, 3), shade, np.uint8) for shade in (20, 120, 220, 60)]
    write_video(tmp_path / "in.mp4", iter(given), 5)
    film(small_pair, tmp_path / "out", "a fox", "--video", f"{tmp_path}/in.mp4", "--each", "0", "optimizer.lr=1e-9")
    made = frames(tmp_path / "out")
    assert len(made) == 4  # as long as the video
    with torch.no_grad():
        from vqclip.checkpoints.load import load_generator

        generator = load_generator({"name": "small", "path": small_pair[0].partition("=")[2]})
        for own, shade in zip(made, (20, 120, 220, 60), strict=True):
            expected = generator.decode(generator.encode(torch.full((1, 3, 32, 32), shade / 255)))
            assert abs(expected[0].movedim(0, -1).numpy() * 255 - own).mean() < 3
    film(small_pair, tmp_path / "two", "a fox", "--video", f"{tmp_path}/in.mp4", "--each", "0", "--stride", "2")
    assert len(frames(tmp_path / "two")) == 2
    film(small_pair, tmp_path / "kept", "a fox", "--video", f"{tmp_path}/in.mp4", "--each", "0", "--keep", "1")
    assert len(frames(tmp_path / "kept")) == 4
    film(small_pair, tmp_path / "story", "a fox", "an owl", "--video", f"{tmp_path}/in.mp4", "--stride", "2")
    records = [json.loads(Image.open(path).text["vqclip"]) for path in sorted(tmp_path.glob("story/frames/*"))]
    assert [own["config"]["prompts"]["include"] for own in records] == [["a fox"], ["an owl"]]


def test_frames_of_a_folder_are_those_of_the_video(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(5):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / "in" / f"{i}.png")
    assert [own[0, 0, 0] for own in read_frames(tmp_path / "in")] == [0, 1, 2, 3, 4]
    assert [own[0, 0, 0] for own in read_frames(tmp_path / "in", stride=2, skip=1)] == [2, 4]
    (tmp_path / "in" / "1.png").rename(tmp_path / "in" / "10.png")
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "in" / "02.png")
    assert [own[0, 0, 0] for own in read_frames(tmp_path / "in")] == [0, 9, 2, 3, 4, 1]
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "in" / "0.png").write_text("no picture")
    for path, message in (
        (tmp_path / "text.mp4", "not a video that can be read"),
        (tmp_path, "no picture in it"),
        (tmp_path / "in", "0.png: it is not a picture"),
    ):
        with pytest.raises(UserError, match=message):
            next(read_frames(path))


def test_pictures_of_every_mode_and_size_are_frames_on_white(tmp_path):
    for i, mode in enumerate(("RGBA", "LA", "P", "I;16", "1")):
        Image.new(mode, (31 + i, 45 - i)).save(tmp_path / f"{i}.png")
    shades = [int(own.mean()) for own in read_frames(tmp_path)]
    assert shades == [255, 255, 0, 0, 0]


def varying(path, times):
    """A video whose frames come at these thousandths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        container.start_encoding()  # the file is there also where no frame comes
        for i, at in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 * i, np.uint8), "rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_a_film_of_before_there_were_fractions_says_its_rate_and_goes_on_with_it(small_pair, tmp_path, capsys):
    write_video(tmp_path / "in.mp4", [np.zeros((32, 32, 3), np.uint8)] * 2, Fraction(30_000, 1001))
    words = ["a fox", "--video", f"{tmp_path}/in.mp4", "--each", "0"]
    film(small_pair, tmp_path / "out", *words)
    record = json.loads((tmp_path / "out/film.json").read_text())
    (tmp_path / "out/film.json").write_text(json.dumps(record | {"fps": 30}))
    assert film(small_pair, tmp_path / "out", *words)
    assert "another film is there, with other settings (fps=30). Allowed:" in capsys.readouterr().err
    assert not film(small_pair, tmp_path / "out", *words, "--fps", "30")


def test_a_film_of_another_version_is_told_by_what_this_one_does_not_know(small_pair, tmp_path, capsys):
    film(small_pair, tmp_path / "out", "a fox", "--frames", "1")
    record, path = json.loads((tmp_path / "out/film.json").read_text()), tmp_path / "out/film.json"
    for more, told in ({"grain": 2}, " (grain=2)"), ({"grain": None}, ""):
        path.write_text(json.dumps(record | more))
        assert film(small_pair, tmp_path / "out", "a fox", "--frames", "1") == 2
        assert f"another film is there, with other settings{told}. Allowed:" in capsys.readouterr().err


def test_a_restyled_video_has_the_others_rate_whatever_its_sides(small_pair, tmp_path):
    write_video(tmp_path / "in.mp4", (np.full((51, 34, 3), 20 * i, np.uint8) for i in range(8)), 10)
    film(small_pair, tmp_path / "out", "a fox", "--video", f"{tmp_path}/in.mp4", "--each", "0")
    film(small_pair, tmp_path / "half", "a fox", "--video", f"{tmp_path}/in.mp4", "--each", "0", "--stride", "2")
    write_video(tmp_path / "slow.mp4", [np.zeros((32, 32, 3), np.uint8)] * 4, Fraction(25, 2))
    film(small_pair, tmp_path / "12.5", "a fox", "--video", f"{tmp_path}/slow.mp4", "--each", "0")
    assert json.loads((tmp_path / "12.5/film.json").read_text())["fps"] == 12.5
    film(small_pair, tmp_path / "third", "a fox", "--video", f"{tmp_path}/in.mp4", "--each", "0", "--stride", "3")
    rates = (("out", 10, 8), ("half", 5, 4), ("12.5", Fraction(25, 2), 4), ("third", Fraction(10, 3), 3))
    for name, rate, count in rates:
        with av.open(str(tmp_path / name / "film.mp4")) as container:
            assert container.streams.video[0].average_rate == rate
            assert sum(1 for _ in container.decode(video=0)) == count


@pytest.mark.parametrize("times,code", [([], 2), ([0], 0), ([0, 10, 500, 520], 0)])
def test_a_video_of_no_frame_of_one_and_of_varying_rate(small_pair, tmp_path, capsys, times, code):
    varying(tmp_path / "in.mkv", times)
    assert film(small_pair, tmp_path / "out", "a fox", "--video", f"{tmp_path}/in.mkv", "--each", "0") == code
    assert len(frames(tmp_path / "out")) == len(times)
    assert times or "Allowed: a video, or a folder of pictures" in capsys.readouterr().err


@pytest.mark.parametrize("typed", [["--pan", "-2,-.5"], ["--pan=-2,-.5"], ["--pan", "{start: -2, end: -2},-.5"]])
def test_a_camera_moves_to_the_left_too(typed):
    args, words = _arguments(["a fox", *typed, "--turn", "-1", "--video", "in.mp4", "--keep", ".5"])
    x, y = args.pan
    assert (schedule(x)(0), y, args.turn, args.keep, words) == (-2, -0.5, -1, 0.5, ["a fox"])


@pytest.mark.parametrize(
    "words,message",
    [
        (["--frames", "0"], "argument --frames: '0' is not a whole number from 1 to 1,000,000"),
        (["--zoom", "fast"], "argument --zoom: 'fast' is neither a number nor a schedule"),
        (["--zoom", "0"], "argument --zoom: '0' is neither a number nor a schedule {start: 1, end: 2} from 0.01"),
        (["resume=there"], "resume=there: not allowed here. Allowed: the same command with --to"),
        (["--pan", "3"], "argument --pan: '3' is not X,Y"),
        (["--keep", "2"], "--keep 2.0: not allowed here. Allowed: 0 to 1"),
        (["--keep", ".5"], "--keep: only with a video to restyle"),
        (["--fps", "241"], "argument --fps: '241' is not a whole number from 1 to 240"),
        (["--cfg", "job"], "--cfg: not with film. Allowed: prompts, KEY=VALUE, --config-dir DIR"),
        (["batch_size=2"], "batch_size: a film is one picture a frame"),
        (["loss.betta=1"], "Did you mean"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(small_pair, tmp_path, capsys, words, message):
    assert film(small_pair, tmp_path / "film", "a fox", *words) == 2
    assert message in capsys.readouterr().err


class Faulty:
    """A latent of one's own that fails at its second frame."""

    calls = 0

    def __call__(self, z, generator):
        type(self).calls += 1
        if self.calls > 4:
            raise ValueError("what is that?")
        return z


def test_a_fault_in_an_own_part_is_a_line_and_costs_no_frame(small_pair, tmp_path, capsys):
    own = f"latent={{_target_: {__name__}.Faulty}}"
    assert film(small_pair, tmp_path / "film", "a fox", own, "--frames", "9", "--each", "1") == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{__file__}, line " in told and "in __call__: ValueError: what is that?" in told
    assert told.endswith(f"the same command with --to {tmp_path / 'film'}") and frames(tmp_path / "film")


class Unordered:
    """A latent of one's own by what torch has no order for, on a CPU neither."""

    def __call__(self, z, generator):
        return z.clone().put_(torch.tensor([0]), z.new_zeros(1))


def test_a_film_names_what_has_no_one_order(small_pair, tmp_path, capsys):
    own = f"latent={{_target_: {__name__}.Unordered}}", "+trainer.deterministic=true"
    assert film(small_pair, tmp_path / "film", "a fox", *own, "--frames", "2", "--each", "1") == 2
    assert "trainer.deterministic=true: put_ adds up in another order" in capsys.readouterr().err


class Nothing:
    """A latent of one's own that is no number."""

    def __call__(self, z, generator):
        return z * math.nan


def test_a_film_that_diverges_ends_and_keeps_what_was_whole(small_pair, tmp_path, capsys):
    assert film(small_pair, tmp_path / "film", "a fox", f"latent={{_target_: {__name__}.Nothing}}") == 1
    assert "frame 0: its latent is NaN or infinite. " in capsys.readouterr().err
    assert not frames(tmp_path / "film")


@pytest.mark.slow
def test_a_browser_plays_a_zoom_to_its_last_frame(small_pair, tmp_path, browser):
    film(small_pair, tmp_path / "film", "a fox", "--frames", "48", "--each", "1", "--zoom", "1.03", "--pan", "1,0")
    told = played(tmp_path / "film" / "film.mp4", browser)
    assert "error" not in told and told["size"] == [32, 32] and told["seconds"] == pytest.approx(2, abs=0.1)
    last = np.array(told["last"]).reshape(32, 32, 4)[..., :3]
    assert abs(last.mean(-1) - frames(tmp_path / "film")[-1].mean(-1)).mean() < 8


@pytest.mark.slow
def test_memory_does_not_grow_with_length(small_pair, tmp_path):
    """2,000 frames against 200."""
    peak = {}
    for count in (200, 2000):
        argv = [*small_pair[:-2], "steps=1", "--each", "0", "--zoom", "1.01", "--frames", str(count)]
        peak[count] = peak_memory("film", ["a fox", *argv, "--to", tmp_path / str(count)])
    print(json.dumps(peak))
    assert len(frames(tmp_path / "200")) == 200
    assert peak[2000] < peak[200] + 20_000  # KiB
