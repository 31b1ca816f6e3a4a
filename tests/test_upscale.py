"""Pictures made larger by a super-resolution network of a user's own: a real ESRGAN, small and random."""

import importlib

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from vqclip import UserError, run
from vqclip.models.upscaler import Upscaler
from vqclip.runs.rerun import rerun
from vqclip.runs.resume import resume


@pytest.fixture(scope="module")
def esrgan(tmp_path_factory):
    """A file of weights as basicsr writes them, times four."""
    rrdb = importlib.import_module("spandrel.architectures.ESRGAN.__arch.RRDB")
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("esrgan") / "x4.pth"
    torch.save({"params_ema": rrdb.RRDBNet(num_filters=8, num_blocks=1, scale=4).state_dict()}, path)
    return path


def test_tiles_are_the_whole_picture(esrgan):
    image = torch.rand(3, 150, 90)
    tiled, whole = Upscaler(esrgan, 40)(image), Upscaler(esrgan, 512)(image)
    assert tiled.shape == whole.shape == (3, 600, 360)
    assert (tiled - whole).abs().max() < 1e-5  # what this network sees of a pixel lies within the context


def test_the_same_from_either_format(esrgan, tmp_path):
    image = torch.rand(3, 20, 30)
    state = torch.load(esrgan)["params_ema"]
    save_file(state, tmp_path / "x4.safetensors")
    assert torch.equal(Upscaler(esrgan, 64)(image), Upscaler(tmp_path / "x4.safetensors", 64)(image))


def test_a_run_and_its_resume_leave_a_larger_picture(esrgan, small_pair, tmp_path):
    keys = [*small_pair, "callbacks=[default,upscale]", f"callbacks.upscale.path={esrgan}", "logger=none"]
    made = run("a fox", overrides=keys, folder=tmp_path / "run")
    upscaled = made.folder / "picture-00" / "upscaled.png"
    assert Image.open(upscaled).size == (128, 128)  # four times 32
    with pytest.raises(UserError, match=r"upscaled\.png carries no vqclip record"):  # best.png has it
        rerun(upscaled, folder=tmp_path / "again")
    upscaled.unlink()
    resume(made.folder, ["steps=8"])
    assert Image.open(upscaled).size == (128, 128)


def test_weights_that_are_others_now_are_not_read_for_a_record(esrgan, small_pair, tmp_path):
    mine = tmp_path / "mine.pth"
    mine.write_bytes(esrgan.read_bytes())
    keys = [*small_pair, "callbacks=[default,upscale]", f"callbacks.upscale.path={mine}", "logger=none"]
    made = run("a fox", overrides=keys, folder=tmp_path / "run").folder
    lines, same = rerun(made, folder=tmp_path / "again")
    assert same, lines
    assert rerun(made / "picture-00/final.png", folder=tmp_path / "of_a_picture")[1]
    mine.write_bytes(b"no weights")
    for again in (lambda: rerun(made, folder=tmp_path / "no"), lambda: resume(made, ["steps=8"])):
        with pytest.raises(UserError, match=r"callbacks\.upscale\.path=.*mine\.pth: .*names this file, which is not"):
            again()
    assert resume(made, ["steps=8", "callbacks=none"]).status == "finished"


@pytest.mark.parametrize(
    "content,message",
    [
        (None, "No such file"),
        (b"no weights", "is refused"),
        ({"a": torch.zeros(2)}, "spandrel"),
    ],
)
def test_another_file_is_refused_in_a_sentence(content, message, small_pair, tmp_path):
    path = tmp_path / "x.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        torch.save(content, path)
    keys = [*small_pair, "callbacks=[default,upscale]", f"callbacks.upscale.path={path}", "logger=none"]
    with pytest.raises(UserError, match=message):
        run("a fox", overrides=keys, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_path_is_needed(small_pair, tmp_path):
    with pytest.raises(UserError, match=r"callbacks\.upscale\.path"):
        run("a fox", overrides=[*small_pair, "callbacks=[default,upscale]", "logger=none"], folder=tmp_path / "run")
