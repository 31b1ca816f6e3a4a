"""Whatever Python is given in the place of a prompt, override, folder or callback: taken, or told of in words."""

from __future__ import annotations

import datetime
import decimal
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import vqclip
from vqclip import UserError
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve
from vqclip.runs.arguments import as_callbacks, as_folder, as_overrides

DEEP: list = []
for _ in range(3000):
    DEEP = [DEEP]
ITSELF: list = []
ITSELF.append(ITSELF)

#: No prompt, no override, no folder and no callback.
STRANGE = {
    "zero": 0,
    "a number": 1.5,
    "true": True,
    "bytes": b"a fox",
    "bytearray": bytearray(b"a fox"),
    "a complex number": 1j,
    "a decimal": decimal.Decimal("1.5"),
    "a date": datetime.date(2026, 1, 1),
    "a class": Path,
    "a function": len,
    "ellipsis": ...,
    "a number in an array": np.array(3),
    "a number in a tensor": torch.tensor(3),
    "numbers": np.arange(3),
    "a mapping of numbers": {1: 2},
    "a mapping of nothing": {None: 1},
    "a list of nothing": [None],
    "a list of bytes": [b"a fox"],
    "a list in itself": ITSELF,
    "a deep list": DEEP,
    "half a character": "\ud800",
    "blank": " ",
}
SLOTS = {
    "prompt": lambda value, folder: vqclip.run(value, folder=folder),
    "a prompt among others": lambda value, folder: vqclip.run(["a fox", value], folder=folder),
    "overrides": lambda value, folder: vqclip.run("a fox", value, folder),
    "an override among others": lambda value, folder: vqclip.run("a fox", ["seed=1", value], folder),
    "folder": lambda value, folder: vqclip.run("a fox", folder=value),
    "config_dir": lambda value, folder: vqclip.run("a fox", folder=folder, config_dir=value),
    "callbacks": lambda value, folder: vqclip.run("a fox", folder=folder, callbacks=value),
    "a callback": lambda value, folder: vqclip.run("a fox", folder=folder, callbacks=[value]),
    "resume": lambda value, folder: vqclip.run(resume=value),
    "load": lambda value, folder: vqclip.load(value),
    "sweep": lambda value, folder: vqclip.sweep(["a fox", value], folder=folder),
    "a sweep's overrides": lambda value, folder: vqclip.sweep("a fox", ["seed=0,1", value], folder),
    "a sweep's folder": lambda value, folder: vqclip.sweep("a fox", folder=value),
}


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("value", STRANGE)
def test_what_is_none_is_refused_in_a_sentence(tmp_path, monkeypatch, value, slot):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        SLOTS[slot](STRANGE[value], tmp_path / "run")
    assert "Allowed:" in str(refused.value) or "Try:" in str(refused.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "value",
    [b"x", 1j, {1, 2}, datetime.date(2026, 1, 1), Path, len, DEEP, ITSELF, 10**5000],
    ids=lambda v: type(v).__name__,
)
@pytest.mark.parametrize("swept", [True, False])
def test_a_value_that_no_config_holds(value, swept):
    with pytest.raises(UserError, match="no config can hold"):
        as_overrides(None, {"vars.x": [value]}, {}, swept)


@pytest.mark.parametrize("name", ["a\0b", "x" * 256, "/".join(["x" * 200] * 21), "", " "])
def test_a_folder_has_a_name_that_the_system_takes(name):
    for call in (lambda: as_folder("folder", name), lambda: vqclip.load(name), lambda: vqclip.run(resume=name)):
        with pytest.raises(UserError, match="not a folder name"):
            call()


def test_numbers_of_numpy_and_torch_are_numbers():
    given = {"steps": np.int64(3), "lr": np.float32(0.5), "size": np.array([64, 96]), "seed": torch.tensor(3)}
    assert as_overrides(None, given, {"ema": np.bool_(True)}) == [
        *("steps=3", "lr=0.5", "size=[64,96]", "seed=3", "ema=true"),
    ]
    assert as_overrides(None, {"seed": [np.int64(0), np.int64(1)]}, {}, swept=True) == ["seed=0,1"]


PATH = Path('my pics, (1)/it\'s "a".png')


@pytest.mark.parametrize("swept", [False, True])
def test_a_path_means_itself(swept):
    (word,) = as_overrides(None, {"init.path": PATH}, {}, swept=swept)
    assert compose(["init=image", word]).init.path == str(PATH)
    assert as_overrides(None, {}, {"resume": PATH}) == [f"resume={PATH}"]


def test_lists_of_omegaconf_are_lists():
    values = OmegaConf.create({"size": [32, 64], "init": {"size": [1, 2]}})
    assert as_overrides(None, {}, dict(values)) == ["size=[32,64]", "init={size:[1,2]}"]
    assert as_overrides(None, {}, {"seed": values.size}, swept=True) == ["seed=32,64"]


@pytest.mark.parametrize(
    "words",
    [
        ["logger=none", "callbacks=none"],
        ["logger=csv", "callbacks=auto_stop"],
        ["experiment=drawing"],
        ["checkpoints=coco", "checkpoints/perceptors=[vit_b_32,rn50]", "+loss/terms=[tv]"],
        ["checkpoints/generator=pixels"],
    ],
    ids=" ".join,
)
def test_a_whole_config_as_a_mapping_is_that_config(words):
    """Its loggers, callbacks and perceptors were laid over the default's, of which some came on again."""
    config = resolve(compose(words))
    assert resolve(compose(as_overrides(None, config, {}))) == config


def test_a_mapping_of_parts_by_name_is_all_of_them():
    mine = {"_target_": "vqclip.callbacks.Progress"}
    words = as_overrides(None, {"logger": {}, "callbacks": {"mine": mine}, "loss": {"terms": {}}}, {})
    made = resolve(compose(["+loss/terms=[tv]", *words]))
    assert (made["logger"], made["callbacks"], made["loss"]["terms"]) == ({}, {"mine": mine}, {})
    one = resolve(compose(as_overrides(None, {"callbacks.timelapse": {"fps": 3}, "logger": None}, {})))
    assert one["callbacks"]["timelapse"]["fps"] == 3 and "progress" in one["callbacks"] and one["logger"] == {}


def test_a_mapping_that_changes_keys_of_parts_leaves_the_others_there():
    changes = {
        "callbacks": {"timelapse": {"fps": 12}, "interpolation": None},
        "logger": {"wandb": {"mode": "offline"}},
        "checkpoints": {"perceptors": {"embedded": {"weight": 2}}},
    }
    before, made = resolve(compose([])), resolve(compose(as_overrides(None, changes, {})))
    assert made["callbacks"] == before["callbacks"] | {
        "timelapse": before["callbacks"]["timelapse"] | {"fps": 12},
        "interpolation": None,
    }
    assert made["logger"]["wandb"] == before["logger"]["wandb"] | {"mode": "offline"}
    assert made["checkpoints"]["perceptors"]["embedded"]["weight"] == 2
    assert as_overrides(None, {"checkpoints": {"generator": 3}}, {}) == ["checkpoints={generator:3}"]


def test_any_iterable_of_texts_is_prompts(tmp_path):
    for prompt in (("a fox", "an owl"), (text for text in ["a fox", "an owl"]), np.array(["a fox", "an owl"])):
        assert as_overrides(prompt, [], {}) == ['prompts.include=["a fox","an owl"]']
    assert as_callbacks(None) == as_callbacks(()) == []


def test_a_config_dir_that_is_not_there(tmp_path):
    for call in (vqclip.run, vqclip.sweep):
        with pytest.raises(UserError, match="there is no such folder"):
            call("a fox", folder=tmp_path / "run", config_dir=tmp_path / "mine")


@pytest.mark.parametrize(
    ("flag", "instead"),
    [
        (["--config-dir", "mine"], "config_dir='mine'"),
        (["--config-dir=mine"], "config_dir='mine'"),
        (["-cd=mine"], "config_dir='mine'"),
        (("steps=1", "-cd"), "config_dir='my_conf'"),
        (["-m", "seed=0,1"], "vqclip.sweep, without it"),
        (["--offline"], "os.environ['VQCLIP_OFFLINE'] = '1'"),
        (["--"], "without it"),
    ],
)
def test_a_flag_of_the_command_line_is_answered_with_what_python_has(tmp_path, flag, instead):
    for call in (vqclip.run, vqclip.sweep):
        with pytest.raises(UserError, match=f"^overrides: '-.* is a flag .* Try: {re.escape(instead)}$"):
            call("a fox", flag, tmp_path / "run")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["yes please", None, 3, [True]])
def test_overwrite_is_true_or_false(tmp_path, value):
    with pytest.raises(UserError, match="overwrite"):
        vqclip.run("a fox", folder=tmp_path / "run", overwrite=value)


def test_the_home_folder_is_known_everywhere(small_pair, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = vqclip.run("a fox", [*small_pair, "steps=1"], folder="~/my run").folder
    assert folder == vqclip.load(Path("~/my run")).folder == as_folder("folder", "~/my run") == tmp_path / "my run"
    assert vqclip.run(resume="~/my run", folder="~/my run").folder == tmp_path / "my run"
    assert as_folder("config_dir", "~/my run", there=True) == tmp_path / "my run"
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    "overrides",
    [["hydra.run.dir=mine"], ["paths.output_dir=mine"], ["++hydra.run.dir='mine'"], {"hydra.run.dir": "mine"}],
    ids=str,
)
def test_where_a_run_goes_is_the_argument(tmp_path, monkeypatch, overrides):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^\S*(hydra\.run\.dir|output_dir)=\S+: .* Try: folder='mine'$"):
        vqclip.run("a fox", overrides)
    with pytest.raises(UserError, match=r"^hydra\.sweep\.dir=x: .* Try: folder='x'$"):
        vqclip.sweep("a fox", ["seed=0,1", "hydra.sweep.dir=x"])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["hydra.job.chdir=true", "hydra/launcher=workers", "hydra={verbose: true}"])
def test_what_hydra_alone_would_heed_is_refused_to_a_run_and_not_to_a_sweep(word):
    with pytest.raises(UserError, match=r"no effect .*Allowed of Hydra's keys: hydra\.searchpath"):
        vqclip.run("a fox", [word])
    assert as_overrides(None, [word], {}, swept=True) == [word]


def test_a_search_path_of_hydras_is_heeded(tmp_path):
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "mine.yaml").write_text("factor: 0.77")
    assert compose(as_overrides(None, [f"hydra.searchpath=[file://{tmp_path}]", "noise=mine"], {})).noise.factor == 0.77


@pytest.mark.parametrize("callbacks", [[], [object()], ("none", 1)])
def test_a_sweep_takes_callbacks_of_the_config_alone(tmp_path, callbacks):
    with pytest.raises(UserError, match="callbacks: an argument of run alone, since a sweep is a process"):
        vqclip.sweep("a fox", folder=tmp_path / "sweep", callbacks=callbacks)
