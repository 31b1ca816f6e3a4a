"""Every YAML composes, every ``_target_`` fits its signature, and the default config is what it was."""

import inspect
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from vqclip import UserError
from vqclip.checkpoints.cards import CARD_KEYS
from vqclip.config.check import errors_in
from vqclip.config.compose import compose
from vqclip.config.resolve import picture_config, resolve
from vqclip.paths import conf_dir

CHOICES = sorted(
    (str(path.parent.relative_to(conf_dir())), path.stem)
    for path in conf_dir().rglob("*.yaml")
    if path.parent != conf_dir() and not str(path.relative_to(conf_dir())).startswith("hydra")
)
# A choice that needs a value of the user's own.
NEEDS = {
    ("init", "image"): ["init.path=photo.jpg"],
    ("init", "run"): ["init.run=outputs/one"],
    ("callbacks", "upscale"): ["callbacks.upscale.path=x4.pth"],
    ("experiment", "edit"): ["init.path=photo.jpg"],
    ("experiment", "recolour"): ["init.path=photo.jpg"],
}


@pytest.mark.parametrize("group,choice", CHOICES)
def test_every_yaml_composes_and_its_targets_bind(group, choice):
    added = "+" if group == "loss/terms" else ""  # none by default
    cfg = compose([f"{added}{group}={choice}", *NEEDS.get((group, choice), [])])
    config = resolve(cfg)

    def targets(node):
        if isinstance(node, dict):
            if "_target_" in node:
                yield node
            for value in node.values():
                yield from targets(value)

    card = CARD_KEYS if group.startswith("checkpoints") else set()
    for node in targets(config):
        made = get_object(node["_target_"])
        given = {key for key in node if not key.startswith("_")} - card
        accepted = inspect.signature(made).parameters
        keywords = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
        assert keywords or given <= set(accepted), (node["_target_"], given - set(accepted))


def test_every_yaml_says_what_it_is():
    for path in conf_dir().rglob("*.yaml"):
        first = path.read_text().splitlines()
        assert first and any(line.startswith("# ") for line in first[:3]), path


def test_the_default_config_has_no_mistakes():
    assert errors_in(resolve(compose())) == []


def test_golden_default_config():
    """The keys users type.  A difference here is a change of interface: see CHANGELOG.md.

    To accept one: vqclip --cfg job --resolve paths.output_dir=. > tests/golden_config.yaml
    """
    golden = OmegaConf.to_container(OmegaConf.load(Path(__file__).parent / "golden_config.yaml"))
    assert resolve(compose()) == golden


def test_what_cannot_change_the_picture_is_left_out_of_its_config():
    a = picture_config(resolve(compose(["logger=none", "tags=[x]", "memory.crop_chunk=4"], output_dir="here")))
    assert a == picture_config(resolve(compose(output_dir="there")))
    assert a != picture_config(resolve(compose(["seed=1"])))


def test_what_an_own_experiment_gets_wrong_is_told(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: ${oc.env:NO_SUCH_SEED,5}\n")
    errors = errors_in(resolve(compose(["experiment=mine"], config_dir=str(tmp_path))))
    assert len(errors) == 1 and "seed='5'" in errors[0] and "${oc.decode:${oc.env:NAME}}" in errors[0]
    (wrong,) = errors_in(resolve(compose(["init=image", "init.path='7'"])))  # here it is a text
    assert wrong.endswith("Try: init.path=photo.jpg")
    with pytest.raises(UserError, match=r"experiment: is chosen already.* Try: experiment=mine"):
        compose(["+experiment=mine"], config_dir=str(tmp_path))


def test_a_group_that_an_own_experiment_takes_away_is_told_how_to_choose_nothing(tmp_path):
    (tmp_path / "experiment").mkdir()
    mine = tmp_path / "experiment" / "mine.yaml"
    mine.write_text("# @package _global_\ndefaults: [override /logger: null]\n")
    (error,) = errors_in(resolve(compose(["experiment=mine"], config_dir=str(tmp_path))))
    assert error.startswith("logger: missing. Allowed: one of csv, ")
    assert error.endswith("Try: logger=none, in defaults `override /logger: none`")
    mine.write_text(mine.read_text().replace("null", "none"))
    assert not errors_in(resolve(compose(["experiment=mine"], config_dir=str(tmp_path))))


@pytest.mark.parametrize(
    ("line", "typed"),
    [
        ("noise: sfumato", "noise=sfumato"),
        ("noise: mistyped", "noise=cosine"),
        ("logger: none", "logger=none"),
        ("init: sine", "init=sine"),
        ("loss: {terms: tv}", "+loss/terms=[tv]"),
        ("checkpoints: {generator: pixels}", "checkpoints/generator=pixels"),
    ],
)
def test_a_choice_that_an_own_experiment_has_as_a_key_is_told_where_it_belongs(tmp_path, line, typed):
    (tmp_path / "experiment").mkdir()
    mine = tmp_path / "experiment" / "mine.yaml"
    mine.write_text(f"# @package _global_\n{line}\n")
    (error,) = errors_in(resolve(compose(["experiment=mine"], config_dir=str(tmp_path))))
    assert "a text, where keys belong. Allowed: one of " in error and "chosen in the defaults of the file" in error
    mine.write_text(f"# @package _global_\n{error.split('`')[1]}\n")
    assert resolve(compose(["experiment=mine"], config_dir=str(tmp_path))) == resolve(compose([typed]))


@pytest.mark.parametrize(
    ("line", "typed"), [("experiment: from_noise", "experiment=from_noise"), ("debug: fast", "debug=fast")]
)
def test_a_preset_that_an_own_experiment_has_as_a_key_is_told_where_it_belongs(tmp_path, line, typed):
    (tmp_path / "experiment").mkdir()
    mine = tmp_path / "experiment" / "mine.yaml"
    mine.write_text(f"# @package _global_\n{line}\n")
    with pytest.raises(UserError, match=f"^{mine}: .* Allowed: one of .*, chosen in the defaults of the file") as told:
        compose(["experiment=mine"], config_dir=str(tmp_path))
    mine.write_text(f"# @package _global_\n{str(told.value).split('`')[1]}\n")
    assert resolve(compose(["experiment=mine"], config_dir=str(tmp_path))) == resolve(compose([typed]))


SLIPS = {
    b"\xef\xbb\xbf# @package _global_\nsteps: 7\n": "a byte order mark stands before its first line, which so is not "
    "read. Try: tail -c +4 {} > new.yaml",
    b"": "holds no keys. Allowed: '# @package _global_', then KEY: VALUE, line by line",
    b"steps: 7\n": "its keys are not where they belong. Try: '# @package _global_' as its first line",
    b"steps 7\n": "holds a str. Allowed: KEY: VALUE, line by line",
    b"# @package _global_\ndefaults: [override /noise: sfumato, /loss/terms: [tiling]]\n": "defaults: a group without "
    "a name, or not in order. Allowed: entries with `override` come last",
    b"# @package _global_\nsteps: ${seed\n": "steps: no viable alternative at input '${{seed'",
    b"# @package _global_\nstep: 2\n": "step: there is no such key. Did you mean steps?",
}


@pytest.mark.parametrize("content", SLIPS)
def test_a_slip_in_a_chosen_file_is_told_by_its_name(tmp_path, content):
    mine = tmp_path / "experiment" / "mine.yaml"
    mine.parent.mkdir()
    mine.write_bytes(content)
    (mine.parent / "fine.yaml").write_text("# @package _global_\nsteps: 3\n")  # before it in the folder
    with pytest.raises(UserError) as refused:
        compose(["experiment=mine"], config_dir=str(tmp_path))
    assert str(refused.value).startswith(f"{mine}: {SLIPS[content].format(mine)}")


@pytest.mark.parametrize(
    "content,said",
    [("step: 2", ": step: there is no such key"), ("steps: 1\nsteps: 2", " line 3: found duplicate key steps")],
)
def test_a_file_that_is_not_chosen_is_not_blamed(tmp_path, content, said):
    mine = tmp_path / "experiment" / "mine.yaml"
    mine.parent.mkdir()
    mine.write_text(f"# @package _global_\n{content}\n")
    (mine.parent / "broken.yaml").write_text("steps:\n\t3\n")
    with pytest.raises(UserError) as refused:
        compose(["experiment=mine"], config_dir=str(tmp_path))
    assert str(refused.value).startswith(f"{mine}{said}")


def test_a_file_that_the_chosen_one_names_is_told_as_well(tmp_path):
    for folder in ("experiment", "noise"):
        (tmp_path / folder).mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\ndefaults: [override /noise: mine]\n")
    (tmp_path / "noise/mine.yaml").write_bytes(b"about: caf\xe9\n")
    with pytest.raises(UserError, match=r"noise/mine\.yaml: not in UTF-8"):
        compose(["experiment=mine"], config_dir=str(tmp_path))
