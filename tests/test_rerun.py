"""Made again from its own record: the same bytes, or the reason why not by its name."""

import json
import shutil
from importlib import metadata
from pathlib import Path

import pytest
import torch
import yaml
from checkpoint_files import write_converted
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.transforms.functional import pil_to_tensor

from vqclip import UserError, run
from vqclip.cli import main
from vqclip.cli.arguments import parse_arguments
from vqclip.cli.compare import main as compare_tool
from vqclip.cli.interpolate import main as interpolate_tool
from vqclip.config.check import errors_in
from vqclip.config.overrides import with_overrides
from vqclip.config.resolve import resolve
from vqclip.io.images import png_bytes, read_record
from vqclip.runs.rerun import _source, rerun

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def original(small_pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "run"
    return run(["a fox, ${not} resolved: 4k", "an owl"], [*small_pair, "callbacks=default", "seed=4"], folder).folder


def said(capsys, *argv):
    with pytest.raises(SystemExit) as exit:
        main(["rerun", *map(str, argv)])
    out = capsys.readouterr()
    return exit.value.code, out.out, out.err


def test_a_run_folder_gives_the_same_bytes(original, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, _ = said(capsys, original)
    assert code == 0 and out.splitlines()[-1] == "same bytes"
    (made,) = Path("outputs").glob("*/*")
    assert out.splitlines()[0] == f"reproduced in {made}"
    assert (made / "picture-01/final.png").read_bytes() == (original / "picture-01/final.png").read_bytes()


def test_what_was_made_of_a_run_later_is_no_part_of_it(original, tmp_path):
    """A comparison, a video by ``vqclip interpolate``, a logger's table; the run's own video stays as it was."""
    folder = shutil.copytree(original, tmp_path / "run")
    assert compare_tool([str(folder)]) == 0 and interpolate_tool([str(folder), "--frames", "3"]) == 0
    (folder / "csv").mkdir()
    (folder / "csv" / "metrics.csv").write_text("step,loss\n")
    assert {"compare.png", "interpolate.mp4", "interpolation.mp4"} <= {path.name for path in folder.iterdir()}
    lines, same = rerun(folder, folder=tmp_path / "again")
    assert same, lines
    (folder / "interpolation.mp4").write_bytes(b"another")
    lines, same = rerun(folder, folder=tmp_path / "once more")
    assert not same and "  interpolation.mp4: differs" in lines


def test_a_run_that_was_given_more_steps_says_why_its_earlier_pictures_differ(original, tmp_path):
    shutil.copytree(original, tmp_path / "run")
    run(resume=tmp_path / "run", steps=6)
    lines, same = rerun(tmp_path / "run", folder=tmp_path / "again")
    assert not same and "  picture-00/steps/000002.png: same pixels, another record (config.steps)" in lines
    assert lines[-2] == "  all pixels agree: the run was given more steps after these pictures"


def test_a_run_that_went_on_from_between_two_snapshots(small_pair, tmp_path):
    run("a fox", [*small_pair, "callbacks=default", "steps=3"], tmp_path / "run")
    run(resume=tmp_path / "run", steps=6)
    lines, same = rerun(tmp_path / "run", folder=tmp_path / "again")
    assert not same and "  picture-00/steps/000003.png: not reproduced" in lines
    assert lines[-2] == "  all pixels agree: the run was given more steps after these pictures"
    (tmp_path / "run/picture-00/steps/000002.png").write_bytes(
        (tmp_path / "run/picture-00/steps/000006.png").read_bytes()
    )
    assert "all pixels agree" not in "".join(rerun(tmp_path / "run", folder=tmp_path / "third")[0])
    assert rerun(tmp_path / "run" / "picture-00" / "final.png", folder=tmp_path / "last")[1]


@pytest.mark.parametrize("name", ["picture-01/best.png", "picture-00/steps/000002.png", "picture-00/crops/000002.png"])
def test_a_picture_alone_gives_the_same_bytes(original, tmp_path, name):
    shutil.copy(original / name, tmp_path / "lonely.png")
    lines, same = rerun(tmp_path / "lonely.png", folder=tmp_path / "again")
    assert same and lines[-1] == "same bytes"


def test_a_run_that_called_another_of_its_snapshots_the_best_is_reproduced(original, tmp_path):
    """An older version took the first of equal scores."""
    shutil.copytree(original, tmp_path / "run")
    picture = tmp_path / "run" / "picture-00"
    for step in (0, 2, 4):
        shutil.copy(picture / "steps" / f"{step:06d}.png", picture / "best.png")
        assert rerun(tmp_path / "run", folder=tmp_path / f"again-{step}")[1]
    Image.new("RGB", (32, 32)).save(picture / "best.png")
    lines, same = rerun(tmp_path / "run", folder=tmp_path / "again")
    assert not same and any(line.startswith("  picture-00/best.png: pixels differ by ") for line in lines)


def test_it_computes_with_as_many_threads_as_the_original(original, tmp_path):
    before = torch.get_num_threads()
    assert read_record(original / "picture-00/final.png")["made_with"]["machine"]["threads"] == before
    torch.set_num_threads(before + 1)
    try:
        assert rerun(original, folder=tmp_path / "again")[1]
        assert json.loads((tmp_path / "again" / "run.json").read_text())["machine"]["threads"] == before
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_change_asked_for_is_named_with_what_it_does(original, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, _ = said(capsys, original / "picture-00/final.png", "seed=5", "loss.beta=0.25")
    assert code == 0 and "  asked for: seed 4 → 5" in out and "  asked for: loss.beta 3 → 0.25" in out
    assert "final.png: pixels differ by " in out and out.endswith("not the same bytes\n")


def test_a_picture_that_lies_elsewhere_now_is_the_same_picture(small_pair, tmp_path):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (32, 32), "teal").save(photo)
    words = [word for word in small_pair if not word.startswith("init")]
    run("a fox", [*words, "steps=2", "init=image", f"init.path={photo}"], tmp_path / "run")
    moved = photo.rename(tmp_path / "moved.png")
    for name in ("run", "run/picture-00/final.png"):
        lines, _ = rerun(tmp_path / name, [f"init.path={moved}"], tmp_path / f"again-{len(name)}")
        assert lines[-1] == "same pixels, what was asked for is in the record"
    assert rerun(tmp_path / "run", [f"init.path={moved}", "seed=5"], tmp_path / "other")[0][-1] == "not the same bytes"


def test_a_converted_checkpoint_is_here_as_the_run_read_it(small_pair, tmp_path):
    """A record knows it by the sha256 of its source; it was compared with that of the converted file."""
    from conftest import VQGAN_CONFIG

    mine = tmp_path / "mine.safetensors"
    source = Path(small_pair[0].partition("=")[2])
    write_converted(mine, load_file(source), VQGAN_CONFIG, "a" * 64)
    folder = run("a fox", [*small_pair, f"checkpoints.generator.path={mine}"], tmp_path / "run").folder
    assert rerun(folder / "picture-00/final.png", [], tmp_path / "again")[1]
    assert run(resume=folder, overrides=["steps=5"]).status == "finished"


def test_another_prompt_on_the_command_line(original, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, _ = said(capsys, original, "a cat", "an owl")
    (made,) = Path("outputs").glob("*/*")
    assert code == 0 and json.loads((made / "run.json").read_text())["pictures"][0]["prompt"] == "a cat"


def test_a_changed_weight_file_is_named(small_pair, tmp_path):
    """The weights at the card's path are not those of the record."""
    path = Path(small_pair[0].partition("=")[2])
    own = tmp_path / "generator.safetensors"
    shutil.copy(path, own)
    folder = run("a fox", [*small_pair, f"checkpoints.generator.path={own}"], tmp_path / "run").folder
    weights = load_file(own)
    weights["post_quant_conv.weight"] += 0.1
    from conftest import VQGAN_CONFIG

    copy = tmp_path / "other.safetensors"
    save_file(weights, copy, metadata={"config": json.dumps(VQGAN_CONFIG)})
    for source in (folder, folder / "picture-00" / "best.png"):
        lines, same = rerun(source, [f"checkpoints.generator.path={copy}"], tmp_path / f"again-{source.name}")
        assert not same and [line for line in lines if line.startswith("  weights: generator ")]
        assert not [line for line in lines if line.startswith(("  weights: embedded", "  versions"))]


def test_other_versions_and_the_same_pixels_are_told(original, tmp_path):
    picture = original / "picture-00" / "final.png"
    record = read_record(picture)
    record["made_with"]["versions"]["torch"] = "1.0"
    content = pil_to_tensor(Image.open(picture)) / 255
    (tmp_path / "old.png").write_bytes(png_bytes(content, record))
    lines, same = rerun(tmp_path / "old.png", folder=tmp_path / "again")
    assert not same and "  old.png: same pixels, another record (made_with.versions.torch)" in lines
    assert f"  versions: torch 1.0 → {metadata.version('torch')}" in lines


def _with_record(original, path, change):
    record = read_record(original / "picture-00" / "final.png")
    path.write_bytes(png_bytes(torch.rand(3, 8, 8), change(record) or record))
    return path


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.run",
        "vqclip.io.quiet.logging.os.system",  # what a module of ours imports is not ours
        "vqclip.io.files.atomic_write",
        "vqclip.init.Path",
        "torch.optim.adam.torch.hub.load",
        "builtins.eval",
        ["os.system"],
    ],
)
def test_a_record_cannot_run_code(original, tmp_path, target):
    def change(record):
        record["config"]["init"] = {"_target_": target, "command": f"touch {tmp_path}/ran", "path": f"{tmp_path}/ran"}

    picture = _with_record(original, tmp_path / "strange.png", change)
    with pytest.raises(UserError) as refused:
        rerun(picture, folder=tmp_path / "again")
    assert str(refused.value) == (
        f"init._target_={target}: {picture} names a class that is not vqclip's. A record may name vqclip's own classes "
        "and torch.optim's, since it may come from a stranger. If you trust it: "
        f"init._target_={target} on the command line"
    )
    assert not (tmp_path / "ran").exists() and not (tmp_path / "again").exists()


def test_nothing_in_a_record_is_resolved(original, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "told")

    def change(record):
        record["config"]["prompts"]["include"] = ["${oc.env:SECRET}"]

    rerun(_with_record(original, tmp_path / "strange.png", change), folder=tmp_path / "again")
    assert yaml.safe_load((tmp_path / "again/config.yaml").read_text())["prompts"]["include"] == ["${oc.env:SECRET}"]


def test_what_a_record_lacks_is_as_we_have_it(original, tmp_path):
    def change(record):
        del record["config"]["snapshot_every"]

    picture = _with_record(original, tmp_path / "edited.png", change)
    assert not rerun(picture, folder=tmp_path / "again")[1]  # the record is another
    assert (tmp_path / "again/picture-00/final.png").exists()


def test_a_class_that_the_user_names_himself_is_trusted(original, tmp_path):
    def change(record):
        record["config"]["optimizer"]["_target_"] = "torch.nn.Foreign"

    picture = _with_record(original, tmp_path / "strange.png", change)
    rerun(picture, ["optimizer._target_=torch.optim.SGD"], tmp_path / "again")
    assert (tmp_path / "again/picture-00/final.png").exists()


def test_changes_are_typed_as_for_a_run(original, tmp_path):
    """Keys that the record lacks, and terms beside those that it has."""
    for words in (["search.restarts.count=2", "search.restarts.steps=1"], ["+loss/terms=[tv]"], ["init.best_of=2"]):
        rerun(original, parse_arguments(words).words, tmp_path / words[0].replace("/", "-"))
    config = yaml.safe_load((tmp_path / "search.restarts.count=2" / "config.yaml").read_text())
    assert config["search"]["restarts"] == {"count": 2, "steps": 1}
    term = tmp_path / "+loss-terms=[tv]"
    rerun(term, parse_arguments(["+loss/terms=[saturation]"]).words, tmp_path / "both")
    assert list(yaml.safe_load((tmp_path / "both" / "config.yaml").read_text())["loss"]["terms"]) == [
        "tv",
        "saturation",
    ]
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    rerun(original, parse_arguments(["init=image", f"init.path={tmp_path}/red.png"]).words, tmp_path / "red")
    with pytest.raises(UserError, match=r"search\.restarts\.steps: missing"):
        rerun(original, parse_arguments(["search.restarts.count=2"]).words, tmp_path / "half")
    with pytest.raises(UserError, match=r"loss\.alpha=\{start:: cannot be read\. Allowed: KEY=VALUE"):
        rerun(original, parse_arguments(["loss.alpha={start:"]).words, tmp_path / "cut")


def test_a_picture_that_the_folder_lost_is_named(original, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    (copy / "picture-00" / "best.png").unlink()
    lines, same = rerun(copy, folder=tmp_path / "again")
    assert not same and "  picture-00/best.png: in run.json, but not in the folder any more" in lines


def test_a_run_without_a_picture_is_not_called_the_same(original, tmp_path, monkeypatch, capsys):
    """As it is where it was killed before its first picture."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "killed").mkdir()
    shutil.copy(original / "config.yaml", "killed")
    report = json.loads((original / "run.json").read_text())
    del report["sha256"]
    Path("killed/run.json").write_text(json.dumps(report | {"status": "running"}))
    code, out, _ = said(capsys, "killed")
    assert code == 1 and out.splitlines()[-1] == "nothing to compare it with: killed has no picture"
    assert "same bytes" not in out and len([*Path("outputs").glob("*/*/picture-01/best.png")]) == 1


def test_what_cannot_be_made_again_says_why(original, tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    (tmp_path / "text.png").write_text("no picture")
    _with_record(original, tmp_path / "damaged.png", lambda record: {"config": "?"})
    (tmp_path / "empty" / ".hydra").mkdir(parents=True)
    (tmp_path / "empty" / ".hydra" / "config.yaml").write_text("")  # of a job that ended before it was a run
    expected = {
        "bare.png": "bare.png carries no vqclip record: it was made by something else, or a program that re-saved it "
        "dropped the metadata. The run folder's own PNGs and its config.yaml have it.",
        "text.png": "text.png cannot be read as a picture: ",
        "damaged.png": "damaged.png: its vqclip record is damaged: picture is missing. The run folder's config.yaml "
        "has it too",
        "gone.png": "gone.png: there is no such file or folder. Allowed: a run folder, or a PNG that vqclip made. Try: "
        "vqclip rerun outputs/DATE/TIME",
        "empty": "empty: not a run folder, it has no config.yaml. Allowed: a folder that vqclip wrote, such as "
        "outputs/DATE/TIME or multirun/DATE/TIME/0\n",
    }
    for name, message in expected.items():
        code, _, err = said(capsys, tmp_path / name)
        assert code == 2 and f"vqclip: {tmp_path}/{message}" in err
    code, _, err = said(capsys, original, "--cfg", "job")
    assert code == 2 and "--cfg: rerun takes overrides (key=value) and prompts, no flags" in err


@pytest.mark.parametrize(
    "path",
    [*(ROOT / "experiments/editing/pictures").glob("*.png"), *(ROOT / "tests/older").glob("*.png")],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_pictures_of_an_older_version_have_a_sound_config(path, tmp_path, monkeypatch):
    """Every key that came after them has a value of its own."""
    monkeypatch.chdir(ROOT)
    config, made_with, record_format = _source(path, tmp_path)
    assert errors_in(resolve(with_overrides(config, [], str(path), made_with))) == [] and record_format == 0
