"""What a stranger sends is data: nothing of it runs, reads, writes or fetches.  Each attack once did."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import zipfile
from contextlib import suppress
from fractions import Fraction

import pytest
import torch
import yaml
from PIL import EpsImagePlugin, Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file
from wandb_records import records, sent_config

from vqclip import UserError, load, run
from vqclip.cli import main
from vqclip.compare.command import command_of
from vqclip.compare.pictures import read_pictures
from vqclip.config.compose import compose
from vqclip.config.plain import plain_dict
from vqclip.config.records import as_data, own_loggers, record_errors
from vqclip.errors import printable
from vqclip.io.images import png_bytes, read_record
from vqclip.io.yaml_text import read_yaml
from vqclip.paths import conf_dir
from vqclip.runs.checkpoint import RECORDER
from vqclip.runs.digests import callback_weights, own_weights
from vqclip.runs.folder import RunFolder
from vqclip.runs.rerun import rerun
from vqclip.runs.resume import resume
from vqclip.runs.rollback import start_over

GROUPS = ("optimizer", "callbacks", "init", "augmentations", "latent", "noise", "loss", "logger", "trainer")


@pytest.fixture(scope="module")
def original(small_pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "run"
    return run(["a fox", "an owl"], small_pair, folder).folder


def shell(tmp_path, marker="ran"):
    """A value that Hydra makes a shell of, where it is resolved once more."""
    return f"${{oc.create:{{_target_: torch.utils.collect_env.run, command: 'touch {tmp_path}/{marker}'}}}}"


def planted(config, group, payload):
    """A config with ``payload`` where ``group`` hands its arguments on."""
    if group == "callbacks":
        config["callbacks"] = {"progress": {"_target_": "vqclip.callbacks.Progress", "extra": payload}}
    elif group == "logger":
        config["logger"] = {"tb": {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": ".", "x": payload}}
    elif group == "loss":
        config["loss"]["terms"] = {"mine": {"_target_": "vqclip.loss.Objective", "weight": 1, "extra": payload}}
    elif group == "trainer":
        config["trainer"]["profiler"] = payload
    else:
        config[group]["extra"] = payload
    return config


def picture(original, path, change):
    record = read_record(original / "picture-00" / "final.png")
    change(record["config"])
    path.write_bytes(png_bytes(torch.rand(3, 8, 8), record))
    return path


def folder_with(original, path, change):
    shutil.copytree(original, path)
    config = yaml.safe_load((path / "config.yaml").read_text())
    change(config)
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    report = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(report | {"status": "interrupted"}))
    return path


def tried(action, *args, **kwargs):
    """An attack may be refused in words or do no harm; nothing else."""
    with suppress(UserError, SystemExit):
        action(*args, **kwargs)


@pytest.mark.parametrize("group", GROUPS)
def test_no_code_from_a_picture(original, tmp_path, group):
    source = picture(original, tmp_path / "strange.png", lambda c: planted(c, group, shell(tmp_path)))
    with suppress(Exception):
        rerun(source, folder=tmp_path / "again")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("group", GROUPS)
def test_no_code_from_a_run_folder(original, tmp_path, group):
    for name, tool in (("a", lambda f: rerun(f, folder=tmp_path / "again")), ("b", resume)):
        folder = folder_with(original, tmp_path / name, lambda c: planted(c, group, shell(tmp_path)))
        with suppress(Exception):
            tool(folder)
        assert not (tmp_path / "ran").exists(), tool


@pytest.mark.parametrize("groups", [["init"], ["latent"], GROUPS], ids=["init", "latent", "all"])
@pytest.mark.parametrize("tool", ["interpolate", "evaluate", "compare"])
def test_no_code_in_the_tools_that_only_look(original, tmp_path, groups, tool, capsys):
    def plant(config):
        for group in groups:
            planted(config, group, shell(tmp_path))

    folder = folder_with(original, tmp_path / "run", plant)
    report = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(report | {"status": "finished"}))
    with suppress(Exception, SystemExit):
        main([tool, str(folder), *(["--frames", "2"] if tool == "interpolate" else [])])
    assert not (tmp_path / "ran").exists()


def test_an_environment_variable_stays_unread(original, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "tell-nobody")
    monkeypatch.chdir(tmp_path)
    named = {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": ".", "name": "${oc.env:SECRET}"}

    def plant(config):
        config["logger"] = {"csv": named}
        config["prompts"]["include"] = ["${oc.env:SECRET}"]
        config["noise"]["extra"] = "${oc.env:SECRET}"
        config["tags"] = ["${oc.env:SECRET}"]

    for source in (picture(original, tmp_path / "a.png", plant), folder_with(original, tmp_path / "run", plant)):
        with suppress(Exception):
            rerun(source, ["logger=tensorboard"], tmp_path / f"again-{source.name}")
        with suppress(Exception):
            rerun(source, folder=tmp_path / f"as-it-says-{source.name}")
    with suppress(Exception):
        resume(tmp_path / "run")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if b"tell-nobody" in str(path).encode() + path.read_bytes()]


@pytest.mark.parametrize("prompts", [[{"file": "FILE"}], ["a fox", {"file": "FILE"}], {"file": "FILE"}])
def test_a_records_prompt_file_is_not_read(original, tmp_path, prompts):
    (tmp_path / "private.txt").write_text("tell nobody\n")
    filled = json.loads(json.dumps(prompts).replace("FILE", str(tmp_path / "private.txt")))
    source = picture(original, tmp_path / "a.png", lambda c: c["prompts"].update(include=filled))
    tried(rerun, source, folder=tmp_path / "again")
    assert not [p for p in (tmp_path / "again").rglob("*") if p.is_file() and b"tell nobody" in p.read_bytes()]


def test_a_picture_the_record_did_not_know_is_not_read(original, tmp_path):
    Image.new("RGB", (32, 32), "#123456").save(tmp_path / "private.png")
    private = str(tmp_path / "private.png")
    image = {"_target_": "vqclip.init.Image", "path": private, "fit": "cut", "mask": None, "feather": 0}
    source = picture(original, tmp_path / "a.png", lambda c: c.update(init=image))
    with pytest.raises(UserError, match=r"init\.path"):
        rerun(source, folder=tmp_path / "again")
    source = picture(original, tmp_path / "b.png", lambda c: c["prompts"].update(include=[{"image": private}]))
    with pytest.raises(UserError, match=r"prompts\.include"):
        rerun(source, folder=tmp_path / "again")
    # What the user types is his own.
    source = picture(original, tmp_path / "a.png", lambda c: c.update(init=image))
    rerun(source, [f"init.path={private}"], tmp_path / "typed")
    assert (tmp_path / "typed/picture-00/final.png").exists()


def test_ones_own_picture_is_known_by_its_hash(small_pair, tmp_path):
    Image.new("RGB", (32, 32), "#123456").save(tmp_path / "mine.png")
    folder = run("a fox", [*small_pair, "init=image", f"init.path={tmp_path}/mine.png"], tmp_path / "run").folder
    assert rerun(folder, folder=tmp_path / "again")[1]
    assert rerun(folder / "picture-00/final.png", folder=tmp_path / "from-png")[1]
    Image.new("RGB", (32, 32), "#654321").save(tmp_path / "mine.png")
    with pytest.raises(UserError, match=r"init\.path"):
        rerun(folder, folder=tmp_path / "other")


def test_a_records_links_are_not_fetched(original, tmp_path, monkeypatch):
    monkeypatch.setenv("VQCLIP_HOME", str(tmp_path / "cache"))
    asked = []
    for name in ("imagenet_f16_16384", "imagenet_f16_1024", "theirs", "../../outside"):
        card = {"name": name, "urls": ["http://127.0.0.1:9/x.ckpt"], "file": None, "path": None}
        source = picture(original, tmp_path / "a.png", lambda c, card=card: c["checkpoints"].update(generator=card))
        monkeypatch.setattr("vqclip.checkpoints.download._from_mirror", lambda url, *_: asked.append(url) or _fail())
        with suppress(Exception):
            rerun(source, folder=tmp_path / "again")
        assert not [url for url in asked if "127.0.0.1" in str(url)], name


def _fail():
    from vqclip.checkpoints.download import _MirrorFailed

    raise _MirrorFailed("no network in tests")


def test_a_records_checkpoint_path_is_known_by_its_hash(original, small_pair, tmp_path):
    other = tmp_path / "other.safetensors"
    shutil.copy(small_pair[0].partition("=")[2], other)
    with open(other, "ab") as file:
        file.write(b"x")
    packaged = ("pkg://vqclip/../../secret.ckpt", "pkg://vqclip/embedded/generator.safetensors/../../secret.ckpt")
    for path in (str(other), "/dev/zero", *packaged, "~nobody-here/x.ckpt"):
        source = picture(original, tmp_path / "a.png", lambda c, p=path: c["checkpoints"]["generator"].update(path=p))
        with pytest.raises(UserError, match=r"checkpoints\.generator\.path=.* not here as that run read it"):
            rerun(source, folder=tmp_path / "again")


def test_a_records_term_reads_no_file_that_the_run_did_not(original, tmp_path):
    term = {"_target_": "vqclip.terms.Denoised", "weight": 1, "path": str(tmp_path / "private"), "sigma": 0.5}
    (tmp_path / "private").write_text("mine")
    source = picture(original, tmp_path / "a.png", lambda c: c["loss"].update(terms={"denoised": term}))
    with pytest.raises(UserError, match=r"loss\.terms\.denoised\.path=.*not here as that run read it"):
        rerun(source, folder=tmp_path / "again")


def test_a_card_without_a_hash_never_fills_an_official_name(tmp_path, monkeypatch):
    from vqclip.checkpoints.cards import make_card

    monkeypatch.setenv("VQCLIP_HOME", str(tmp_path))
    official = yaml.safe_load((conf_dir() / "checkpoints/generator/imagenet_f16_16384.yaml").read_text())
    mine = make_card("generator", official["name"], official)
    for change in ({"sha256": None, "urls": ["http://127.0.0.1/x"]}, {"sha256": "0" * 64}):
        theirs = make_card("generator", official["name"], official | change)
        assert theirs.source != mine.source and theirs.kept != mine.kept
    assert make_card("generator", official["name"], official | {"urls": ["http://mirror/x"]}).source == mine.source


def test_a_record_chooses_no_place_to_write(original, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb = {"_target_": "vqclip.loggers.wandb_logger", "save_dir": str(tmp_path / "outside"), "config": {}}

    def plant(config):
        config["paths"] = {"output_dir": str(tmp_path / "outside")}
        config["hydra"] = {"run": {"dir": str(tmp_path / "outside")}}
        config["logger"] = {
            "csv": {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": str(tmp_path / "outside")},
            "wandb": wandb,
        }
        config["callbacks"] = {
            "x": {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "dirpath": str(tmp_path / "outside")}
        }

    source = picture(original, tmp_path / "a.png", plant)
    tried(rerun, source, folder=tmp_path / "again")
    assert not (tmp_path / "outside").exists()
    folder = folder_with(original, tmp_path / "run", plant)
    with suppress(Exception):
        resume(folder)
    with suppress(Exception):
        resume(folder, ["callbacks=none"])
    assert not (tmp_path / "outside").exists()


def test_a_records_config_keeps_neither_whom_to_trust_nor_another_path_than_its_folder():
    record = {"seed": 1, "trust": ["theirs"], "hydra": {}, "paths": {"output_dir": "a", "cache": "/outside"}}
    assert as_data(record) == {"seed": 1, "paths": {"output_dir": "a"}}


def test_a_records_logger_says_what_a_run_is_called_and_neither_where_it_goes_nor_that_it_is_sent():
    words = {"_target_": "vqclip.loggers.wandb_logger", "project": "p", "save_dir": "/outside", "entity": "theirs"}
    ours = plain_dict(compose(["logger=wandb"]).logger, resolve=False)["wandb"]
    for mode, kept in (("online", ours["mode"]), ("offline", "offline")):
        assert own_loggers({"wandb": words | {"mode": mode}})["wandb"] == ours | {"project": "p", "mode": kept}


def test_what_is_typed_beside_a_record_answers_for_its_own_key_alone():
    record = {"optimizer": {"_target_": "theirs.Adam"}}
    for word in ("optim", "optimizer._target", "optimizer.lr"):
        assert record_errors(record, {word}, "a.png", {})
    assert not record_errors(record, {"optimizer"}, "a.png", {})


def test_of_a_records_prompts_the_words_alone_may_say_anything():
    keys = ("include", "exclude", "templates", "include_weight")
    errors = record_errors({"prompts": dict.fromkeys(keys, "${oc.env:HOME}")}, set(), "a.png", {})
    assert [error.partition("=")[0] for error in errors] == ["prompts.templates", "prompts.include_weight"]


def test_a_package_is_trusted_once_and_by_its_whole_name(monkeypatch):

    record = {"noise": {"_target_": "mine.parts.Waves"}, "trust": ["mine"]}
    assert "VQCLIP_TRUST=mine" in record_errors(record, set(), "a.png", {})[0]
    monkeypatch.setenv("VQCLIP_TRUST", "other,mine")
    assert record_errors(record, set(), "a.png", {}) == []
    assert record_errors({"noise": {"_target_": "minefield.Waves"}}, set(), "a.png", {})


def test_a_secret_of_the_environment_is_written_nowhere(small_pair, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "hunter2-hunter2")
    loggers = ["logger=wandb", "logger.wandb.name=${oc.env:MY_SECRET}", "+logger.wandb.notes=token ${tags.0}"]
    made = run("a fox", [*small_pair, *loggers, "tags=['${oc.env:MY_SECRET}']"], tmp_path / "run").folder
    config = yaml.safe_load((made / "config.yaml").read_text())
    assert config["logger"]["wandb"]["name"] == "${oc.env:MY_SECRET}" and config["tags"] == ["${oc.env:MY_SECRET}"]
    assert config["logger"]["wandb"]["notes"] == "token ${tags.0}"
    for path in [p for p in made.rglob("*") if p.is_file() and "wandb" not in p.relative_to(made).parts]:
        assert b"hunter2" not in path.read_bytes(), path
    assert "hunter2" not in json.dumps(sent_config(records(made)))  # a name that it was given it has


def test_a_secret_in_a_cards_link_is_written_nowhere(small_pair, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "hunter2-hunter2")
    link = "checkpoints.generator.urls=['http://127.0.0.1:9/x?token=${oc.env:MY_SECRET}']"
    made = run("a fox", [*small_pair, link, "logger=wandb"], tmp_path / "run").folder
    card = read_record(made / "picture-00/final.png")["config"]["checkpoints"]["generator"]
    assert card["urls"] == ["http://127.0.0.1:9/x?token=${oc.env:MY_SECRET}"]
    resume(made, ["steps=6", link])
    for path in [p for p in made.rglob("*") if p.is_file()]:
        assert b"hunter2" not in path.read_bytes(), path
    assert sent_config(records(made, parts=2))["checkpoints"]
    assert json.loads((made / "run.json").read_text())["steps"] == 6


@pytest.mark.parametrize("name", ["interpolate.mp4", ".interpolate.mp4", "interpolate.gif", ".interpolate.gif"])
def test_a_video_is_not_written_through_a_link(original, tmp_path, name):
    folder = shutil.copytree(original, tmp_path / "run")
    (tmp_path / "private").write_text("mine")
    (folder / name).symlink_to(tmp_path / "private")
    with suppress(SystemExit):
        main(["interpolate", str(folder), "--frames", "2", "--gif"])
    assert (tmp_path / "private").read_text() == "mine" and (folder / "interpolate.gif").is_file()


@pytest.mark.parametrize("name", ["csv", "none", "theirs", "../trainer/default"])
def test_a_records_logger_that_the_user_has_not_is_left_out(original, tmp_path, capsys, name):
    logger = {name: {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": str(tmp_path / "outside")}}
    folder = shutil.copytree(original, tmp_path / "run")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"logger": logger}))
    resume(folder, ["steps=6"])
    assert f"logger.{name} of the record is left out" in capsys.readouterr().err
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("logger", ["wandb", "tensorboard"])
def test_a_logger_writes_into_no_folder_behind_a_link(original, tmp_path, logger):
    folder = shutil.copytree(original, tmp_path / "run")
    (tmp_path / "outside").mkdir()
    (folder / logger).symlink_to(tmp_path / "outside")
    tried(resume, folder, ["steps=6", f"logger={logger}"])
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize(
    "name",
    [
        *("picture-00/steps", "picture-00/crops", "picture-00", "picture-00/final.png", "picture-00/.final.png"),
        *("vqclip.log", ".lock", "metrics.csv", "last.ckpt", ".last.ckpt"),
    ],
)
def test_a_run_that_goes_on_changes_nothing_behind_a_link(original, tmp_path, name):
    """Of a folder with files of the user's among the run's, some were deleted and others made."""
    path, there = shutil.copytree(original, tmp_path / "run") / name, tmp_path / "outside" / "there"
    there.parent.mkdir()
    if name == "vqclip.log":  # where a run that fails says why
        report = json.loads((tmp_path / "run" / "run.json").read_text())
        (tmp_path / "run" / "run.json").write_text(json.dumps(report | {"weights": {"generator": "0" * 64}}))
    if path.exists():
        path.rename(there)
    elif "." in path.name:
        there.write_text("mine")
    else:
        there.mkdir()
    if there.is_dir():
        for own in ("000999.png", ".profile"):
            (there / own).write_text("mine")
    path.symlink_to(there)
    before = {own: own.is_file() and own.read_bytes() for own in there.parent.rglob("*")}
    tried(main, [f"resume={tmp_path}/run", "steps=6"])
    assert {own: own.is_file() and own.read_bytes() for own in there.parent.rglob("*")} == before


@pytest.mark.parametrize("name", ["compare.html", "picture-00/timelapse.mp4", "picture-00/best.png"])
def test_a_page_neither_shows_nor_changes_what_is_behind_a_link(original, tmp_path, name):
    Image.new("RGB", (32, 32), "#123456").save(tmp_path / "private.png")
    private, path = (tmp_path / "private.png").read_bytes(), shutil.copytree(original, tmp_path / "all" / "0") / name
    path = tmp_path / "all" / name if name == "compare.html" else path
    path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / "private.png")
    tried(main, ["compare", str(tmp_path / "all")])
    assert (tmp_path / "private.png").read_bytes() == private
    assert base64.b64encode(private) not in (tmp_path / "all" / "compare.html").read_bytes()


def test_a_result_shows_nothing_behind_a_link(original, tmp_path):
    (tmp_path / "private").write_text("tell nobody")
    Image.new("RGB", (32, 32), "#123456").save(tmp_path / "private.png")
    folder = shutil.copytree(original, tmp_path / "run")
    for target in ("private", "private.png"):
        for name in ("best.png", "final.png"):
            (folder / "picture-00" / name).unlink()
            (folder / "picture-00" / name).symlink_to(tmp_path / target)
        result = load(folder)
        assert base64.b64encode((tmp_path / target).read_bytes()).decode() not in result._repr_html_()
        for part in ("best", "final", "images"):
            with pytest.raises(UserError, match="a symbolic link"):
                getattr(result, part)


@pytest.mark.parametrize("name", ["run.json", "picture-00", "picture-00/latents.safetensors"])
def test_a_start_from_a_run_reads_nothing_behind_a_link(original, small_pair, tmp_path, name):
    folder = shutil.copytree(original, tmp_path / "theirs")
    (folder / name).rename(tmp_path / "private")
    (folder / name).symlink_to(tmp_path / "private")
    words = [word for word in small_pair if word != "init=sine"]
    with pytest.raises(UserError, match="a symbolic link"):
        run(["a fox", "an owl"], [*words, "init=run", f"init.run={folder}"], tmp_path / "run")


def test_a_start_by_way_of_a_picture_reads_none_behind_a_link(original, small_pair, tmp_path):
    folder = shutil.copytree(original, tmp_path / "theirs")
    Image.new("RGB", (32, 32)).save(tmp_path / "private.png")
    for path in folder.glob("picture-00/steps/*"):
        path.unlink()
        path.symlink_to(tmp_path / "private.png")
    words = [*(word for word in small_pair if word != "init=sine"), "init=run", "init.via=picture"]
    with pytest.raises(UserError, match="a symbolic link"):
        run(["a fox", "an owl"], [*words, f"init.run={folder}"], tmp_path / "run")


def test_a_checkpoint_names_no_file_outside(original, tmp_path):
    """Its sha256 was compared, so the file was read."""
    folder = shutil.copytree(original, tmp_path / "run")
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "000000.png").write_bytes(b"mine")
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    digest = hashlib.sha256(b"mine").hexdigest()
    checkpoint["callbacks"][RECORDER]["digests"]["../steps/000000.png"] = digest
    torch.save(checkpoint, folder / "last.ckpt")
    with pytest.raises(UserError, match="it has no digests"):
        resume(folder, ["steps=6"])


def test_a_snapshot_that_is_no_png_is_refused_whatever_the_checkpoint_says(original, tmp_path):
    """Loggers open it, for whatever it is."""
    folder = shutil.copytree(original, tmp_path / "run")
    name = "picture-00/steps/000000.png"
    (folder / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    checkpoint["callbacks"][RECORDER]["digests"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    torch.save(checkpoint, folder / "last.ckpt")
    with pytest.raises(UserError, match=r"000000\.png: damaged: it is no PNG"):
        resume(folder, ["steps=6"])


def test_a_folder_with_a_link_is_not_begun_anew(original, tmp_path):
    folder = shutil.copytree(original, tmp_path / "run")
    (folder / "metrics.csv").rename(tmp_path / "private.csv")
    (folder / "metrics.csv").symlink_to(tmp_path / "private.csv")
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match="a symbolic link"):
        start_over(RunFolder(folder))
    assert sorted(folder.rglob("*")) == before


def test_a_stranger_does_not_steer_the_terminal(original, tmp_path, capsys):
    folder = shutil.copytree(original, tmp_path / "run")
    report = json.loads((folder / "run.json").read_text())
    report["pictures"][0]["prompt"] = "a fox \x1b]0;mine\x07\x9b2J"
    report["versions"]["torch"] = "\x1b[2J"
    (folder / "run.json").write_text(json.dumps(report))
    with pytest.raises(SystemExit):
        main(["evaluate", str(folder)])
    with pytest.raises(UserError) as refused:
        rerun(folder, ["~\x1b[2J"])
    shown = capsys.readouterr().out + str(refused.value)
    assert "a fox \\x1b]0;mine\\x07\\x9b2J" in shown
    assert not [letter for letter in shown if letter != "\n" and not letter.isprintable()]


@pytest.mark.parametrize("text", ["\\ud800", "[" * 60 + "]" * 60])
def test_a_record_that_no_file_can_hold_is_refused(original, tmp_path, text):
    record = read_record(original / "picture-00" / "final.png")
    record["config"]["prompts"]["include"] = ["HERE"]
    words = PngInfo()
    words.add_itxt("vqclip", json.dumps(record).replace("HERE", text).replace('"[[', "[[").replace(']]"', "]]"))
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png", pnginfo=words)
    with pytest.raises(UserError, match="its vqclip record is damaged"):
        rerun(tmp_path / "a.png", folder=tmp_path / "again")


def test_of_every_part_with_a_weight_file_the_hash_is_recorded_and_asked_for(tmp_path):
    """One that the check forgot would be a way to any file of the user's."""
    part = {"path": str(tmp_path / "weights")}
    (tmp_path / "weights").write_bytes(b"mine")
    config = {
        "checkpoints": {"generator": part, "prior": part, "perceptors": {"mine": part}},
        "loss": {"terms": {"mine": part}},
        "callbacks": {"mine": part | {"_target_": "vqclip.callbacks.Progress"}},
    }
    known = own_weights(config) | callback_weights(config)
    assert set(known) == {"generator", "prior", "mine", "loss.terms.mine", "callbacks.mine"}
    assert record_errors(config, set(), "a record", {"weights": known}) == []
    for name in known:
        [error] = record_errors(config, set(), "a record", {"weights": known | {name: "f" * 64}})
        assert "which is not here as that run read it" in error


@pytest.mark.parametrize("kind", ["eps", "iptc"])
def test_a_picture_starts_no_program(original, small_pair, tmp_path, monkeypatch, kind):
    """Pillow reads EPS by Ghostscript, whatever a file is called, also EPS in IPTC."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # what it found before
    written = io.BytesIO()
    Image.new("RGB", (32, 32)).save(written, "EPS")
    content = written.getvalue()
    if kind == "iptc":
        fields = {(3, 60): b"\1\0", (3, 20): b"\0\40", (3, 30): b"\0\40", (3, 120): b"\5", (8, 10): content}
        sizes = {tag: len(value).to_bytes(4, "big") for tag, value in fields.items()}
        content = b"".join(b"\x1c" + bytes(tag) + b"\x84\0" + sizes[tag] + fields[tag] for tag in fields)
    run_folder = tmp_path / "run"
    shutil.copytree(original, run_folder)
    for path in run_folder.rglob("*.png"):
        path.write_bytes(content)
    with suppress(Exception):
        Image.open(run_folder / "picture-00" / "best.png").load()
    assert (tmp_path / "ran").exists(), "the attack is a real one"
    (tmp_path / "ran").unlink()
    for words in (["compare", run_folder], ["evaluate", run_folder], ["rerun", run_folder], ["rerun", path]):
        tried(main, [*map(str, words)])
    with pytest.raises(UserError, match=f"another program|{kind.upper()}"):
        run("a fox", [*small_pair, "init=image", f"init.path={path}"], tmp_path / "again")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["overrides.yaml", "hydra.yaml"])
def test_compare_shows_nothing_behind_a_link(original, tmp_path, name):
    shutil.copytree(original, tmp_path / "run")
    (tmp_path / "run/.hydra").mkdir(exist_ok=True)
    hydra = {"hydra": {"runtime": {"config_sources": [{"provider": "command-line", "path": "tell-nobody"}]}}}
    (tmp_path / "secret.yaml").write_text(json.dumps(["tell-nobody"] if name == "overrides.yaml" else hydra))
    (tmp_path / "run/.hydra/overrides.yaml").write_text("[seed=0]")
    (tmp_path / "run/.hydra" / name).unlink(missing_ok=True)
    (tmp_path / "run/.hydra" / name).symlink_to(tmp_path / "secret.yaml")
    assert command_of(tmp_path / "run") == f"vqclip rerun {tmp_path}/run"


def test_a_checkpoint_that_torch_would_read_for_ever_is_refused(original, tmp_path):
    """Torch takes 2^60 steps for the hash of a tuple that nests so."""
    shutil.copytree(original, tmp_path / "run")
    nested = b"".join(bytes([104, i, 104, i, 0x86, 113, i + 1]) for i in range(60))  # a tuple of the last one, twice
    written = io.BytesIO()
    torch.save({"latent": torch.ones(2)}, written)
    with zipfile.ZipFile(written) as honest, zipfile.ZipFile(tmp_path / "run/last.ckpt", "w") as archive:
        for name in honest.namelist():
            forged = b"\x80\x02}q\xff)q\0" + nested + b"h\xffh\x3cNs."
            archive.writestr(name, forged if name.endswith("data.pkl") else honest.read(name))
    with pytest.raises(UserError, match=r"not a checkpoint of vqclip .*without end"):
        resume(tmp_path / "run", ["steps=9"])


def test_a_checkpoint_with_more_than_plain_data_is_refused_without_torchs_advice(original, tmp_path):
    """Torch tells how to load it all the same."""
    shutil.copytree(original, tmp_path / "run")
    torch.save({"state_dict": {"latent": torch.ones(2)}, "x": Fraction(1, 2)}, tmp_path / "run/last.ckpt")
    with pytest.raises(UserError, match=r"not a checkpoint of vqclip \(it holds more than tensors"):
        resume(tmp_path / "run", ["steps=9"])


@pytest.mark.parametrize("name", ["config.yaml", "run.json", ".hydra/overrides.yaml", "picture-00/best.png"])
def test_a_file_of_100_gigabytes_costs_one_cell(original, tmp_path, name):
    """With a hole in it, it takes no room on the disk."""
    for run_folder in ("good", "large"):
        shutil.copytree(original, tmp_path / run_folder)
    (tmp_path / "large" / name).parent.mkdir(exist_ok=True)
    with open(tmp_path / "large" / name, "ab") as file:
        os.truncate(file.fileno(), 100 * 2**30)
    tried(main, ["compare", str(tmp_path / "good"), str(tmp_path / "large"), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "results.csv").read_text().count("a fox") >= 1


def test_a_table_of_100_gigabytes_is_refused(original, tmp_path):
    shutil.copytree(original, tmp_path / "run")
    os.truncate(tmp_path / "run" / "metrics.csv", 100 * 2**30)
    with pytest.raises(UserError, match=r"metrics\.csv: cannot be read: it has 102,400 MB"):
        RunFolder(tmp_path / "run").history()


def test_a_latent_whose_step_no_number_can_hold_is_refused(original, small_pair, tmp_path):
    shutil.copytree(original, tmp_path / "run")
    save_file({"9" * 5000: torch.zeros(4, 4, 4)}, tmp_path / "run/picture-00/latents.safetensors")
    with pytest.raises(UserError, match="is no latent of a step"):
        run(
            "a fox",
            [*small_pair, "init=run", f"init.run={tmp_path}/run", "init.step=final", "init.picture=0"],
            tmp_path / "again",
        )


def test_a_strangers_folder_does_not_steer_the_terminal(original, tmp_path, capsys):
    shutil.copytree(original, tmp_path / "all" / "a\x1b[31mred")
    for words in (["compare"], ["evaluate"]):
        tried(main, [*words, str(tmp_path / "all" / "a\x1b[31mred")])
        said = capsys.readouterr()
        assert "red" in said.out and "\x1b[31m" not in said.out + said.err


def test_letters_are_not_turned_round():
    assert printable("a\u202e\u2066\u200b\u2028") == r"a\u202e\u2066\u200b\u2028"
    joined = "\u0646\u200c\u0647 \U0001f469\u200d\U0001f3a8"
    assert printable(joined) == joined, "scripts and emoji are joined"


def test_a_picture_larger_than_any_runs_is_not_decoded(original, tmp_path):
    shutil.copytree(original, tmp_path / "run")
    best = RunFolder(tmp_path / "run").picture(0).best
    Image.new("1", (9000, 9000)).save(best)
    [picture, _] = read_pictures([tmp_path / "run"])
    assert "9000×9000 pixels" in (picture.flaw or "")
    with pytest.raises(UserError, match="9000×9000 pixels"):
        RunFolder(tmp_path / "run").picture(0).image(best)
    Image.new("RGB", (4096, 4096)).save(best)
    [picture, _] = read_pictures([tmp_path / "run"])
    assert picture.file == best


def test_a_number_of_100_000_sixties_is_refused_at_once():
    with pytest.raises(ValueError, match="in sixties"):
        read_yaml("a: 1" + ":59" * 100_000)
    assert read_yaml("a: 1:30:00") == {"a": 5400}


#: Texts that are no YAML, the first ones because they are too deep for any reader.
NO_YAML = ["[" * 100_000, "- " * 5000 + "1", "{a: " * 60 + "1" + "}" * 60, "a: [\t}", "a: \ud800", "a: \x07"]


@pytest.mark.parametrize("text", NO_YAML, ids=range(len(NO_YAML)))
def test_what_is_no_yaml_is_told_alike_of_files_of_ours(text):
    """libyaml reads those: it must neither end the process nor say less."""
    told = []
    for own in (False, True):
        with pytest.raises(ValueError) as refused:
            read_yaml(text, own)
        told.append(str(refused.value).partition(" while calling")[0].rstrip(")"))  # where Python's stack ended
    assert told[0] == told[1]
