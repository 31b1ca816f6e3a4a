"""The schema of the config: whole, documented, and every wrong value of every key answered in one sentence."""

import copy
import math
import os
import re
import shlex
import time

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from vqclip.cli.arguments import parse_arguments
from vqclip.cli.help import help_page
from vqclip.cli.output_dir import OutputDir, check_output_dir
from vqclip.config.check import check, errors_in
from vqclip.config.choices import about_choice, choices_of, group_names
from vqclip.config.compose import compose, compose_all, first_of_sweep, refuse_sweeps
from vqclip.config.kinds import Anything
from vqclip.config.names import key_at, nearest, owners_of, unknown_key, unknown_overrides
from vqclip.config.nodes import Group, Key, Named, Target
from vqclip.config.reference import groups, reference, rows, summary
from vqclip.config.resolve import resolve
from vqclip.config.schema import CLASSES, ROOT
from vqclip.config.shorthand import expand_shorthand
from vqclip.errors import UserError
from vqclip.io.run_files import RunFiles
from vqclip.paths import conf_dir
from vqclip.sweeps.hparams_search import distributions_of

WRONG = [None, [], ["x", 1], "much", math.nan, math.inf, -math.inf, 1e300, -(10**30), {"a": 1}, True, ""]


@pytest.mark.parametrize(
    ("word", "sweep"), [("seed=[1,2,3]", "vqclip -m seed=1,2,3"), ("loss.beta=[0,0.5]", "vqclip -m loss.beta=0,0.5")]
)
def test_a_list_where_a_number_belongs_says_how_to_sweep_it(word, sweep):
    (error,) = errors_in(resolve(compose([word])))
    assert error.endswith(f"Each in a run of its own: {sweep}")
    (error,) = errors_in(resolve(compose(["seed=[1,-2]"])))
    assert error.endswith("Try: seed=0")


@pytest.mark.parametrize("key", ["search.restarts", "search.overlay"])
def test_a_number_where_keys_belong_says_them_with_values_that_are_taken(key):
    (error,) = errors_in(resolve(compose(["steps=100", f"{key}=2"])))
    assert not errors_in(resolve(compose(["steps=100", *shlex.split(error.partition("Try: ")[2])])))


@pytest.fixture(scope="module")
def config():
    return resolve(compose())


def leaves(node, path=""):
    """Every key of the schema with its dotted path in a default config."""
    if isinstance(node, Key):
        yield path, node
    elif isinstance(node, Group):
        for name, inner in node.keys.items():
            yield from leaves(inner, f"{path}.{name}".lstrip("."))
    elif isinstance(node, Named):
        yield from leaves(node.of, f"{path}.embedded")
    else:
        yield from ((f"{path}.{name}", key) for name, key in node.also.items())


def class_leaves():
    for target, own in CLASSES.items():
        yield from ((target, path, key) for path, key in leaves(own))


def with_value(config, path, value):
    """A copy of a plain config with one value changed."""
    changed = copy.deepcopy(config)
    node = changed
    *parents, last = path.split(".")
    for part in parents:
        if not isinstance(node.get(part), dict):
            node[part] = {}
        node = node[part]
    node[last] = value
    return changed


def test_every_key_is_documented_and_its_example_is_allowed(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "mask.png"):
        Image.new("RGB", (8, 8), "white").save(name)
    every = [(path, key) for path, key in leaves(ROOT)] + [(path, key) for _, path, key in class_leaves()]
    assert len(every) > 90
    for path, key in every:
        assert key.doc and key.example, path
        value = OmegaConf.to_container(compose([f"+vars.x={key.example}"]).vars)["x"]
        if value is None:
            assert key.null or isinstance(key.kind, Anything), path
        else:
            key.kind.check(value)


def test_every_wrong_value_of_every_key_gets_one_sentence(config, record_property):
    tried = 0
    for path, key in leaves(ROOT):
        for value in WRONG:
            if isinstance(key.kind, Anything) or (value is None and key.null):
                continue
            try:
                key.kind.check(value)
                continue  # it is allowed: a text where any text goes
            except ValueError:
                pass
            errors = errors_in(with_value(config, path, value))
            assert errors and all(len(error) < 1200 and "Traceback" not in error for error in errors), (path, value)
            assert any(error.startswith(path) for error in errors), (path, value, errors)
            tried += 1
    assert tried > 250, tried
    record_property("inputs", tried)


@pytest.mark.parametrize("target", sorted(CLASSES))
def test_every_wrong_value_of_every_class(config, target, record_property):
    tried = 1
    own = CLASSES[target]
    module = target.split(".")[1 if target.startswith("vqclip") else -2]
    group = {"optim": "optimizer", "loggers": "logger"}.get(module, module)
    named = {"callbacks": "x", "logger": "x"}.get(group)
    base = with_value(config, f"{group}.{named}" if named else group, {"_target_": target})
    path = f"{group}.{named}" if named else group
    if own.title.startswith("loss.terms."):
        path = "loss.terms.tv"
        base = with_value(config, path, {"_target_": target})
    for name, key in leaves(own):
        if name.startswith("terms."):
            continue  # a class of its own
        for value in WRONG:
            if (value is None and key.null) or isinstance(key.kind, Anything):
                continue
            try:
                key.kind.check(value)
                continue
            except ValueError:
                pass
            errors = errors_in(with_value(base, f"{path}.{name}", value))
            assert any(error.startswith(f"{path}.{name}") for error in errors), (name, value, errors)
            tried += 1
    record_property("inputs", tried)
    if target.endswith("TensorBoardLogger"):
        return  # it passes on any further argument
    errors = errors_in(with_value(base, f"{path}.no_such_key_here", 1))
    assert any(f"{path}.no_such_key_here" in error for error in errors)


def test_every_group_missing_null_or_a_list_gets_a_sentence(config):
    for name, node in ROOT.keys.items():
        without = {key: value for key, value in config.items() if key != name}
        if node.needed:
            assert errors_in(without)[0].startswith(f"{name}: missing"), name
        else:
            assert errors_in(without) == []
        for value in (None, [1], "text", 7):
            if isinstance(node, Key) or (value is None and node.null):
                continue
            errors = errors_in({**config, name: value})
            assert errors and errors[0].startswith(f"{name}="), (name, value)


def test_all_mistakes_at_once_each_with_a_way_out(config):
    wrong = {**config, "stepss": 5, "seed": -1, "size": [100_000, 100_000], "batch_size": "many"}
    errors = errors_in(wrong)
    assert len(errors) == 4
    assert any("Did you mean steps?" in error for error in errors)
    assert all("Try: " in error or "Did you mean" in error for error in errors)


@pytest.mark.parametrize(
    "override",
    ["size=[60000,60000]", "batch_size=1000000", "augmentations.crops.count=10000000", "init.feather=1000000"],
)
def test_absurd_sizes_are_refused_before_anything_is_made(override):
    image = ["init=image", "init.path=x"] if "feather" in override else []
    errors = errors_in(resolve(compose([*image, override])))
    assert any(error.startswith(override.split("=")[0]) for error in errors)


@pytest.mark.parametrize(
    "override,instead",
    [
        ("+trainer.max_steps=3", "steps=100"),
        ("+trainer.max_epochs=3", "steps=100"),
        ("trainer.devices=2", "trainer.devices=[0]"),
        ("+trainer.accumulate_grad_batches=2", "augmentations.crops.count=64"),
        ("+trainer.gradient_clip_val=1", "optimizer.clip=1"),
        ("+trainer.enable_checkpointing=false", "resume=RUN"),
        ("+trainer.enable_progress_bar=false", "callbacks.progress=null"),
        (
            "trainer.max_time=10",
            "Allowed: DD:HH:MM:SS, or {hours: 1, minutes: 30}, or null (no limit). Try: trainer.max_time=",
        ),
        ("trainer.max_time='00:10:00'", "Allowed: DD:HH:MM:SS"),
        ("trainer.max_time=9999999999:00:00:00", "not allowed here. Allowed: DD:HH:MM:SS"),
        ("trainer.max_time={minute: 5}", "Allowed: DD:HH:MM:SS"),
        ("+trainer.devicse=1", "Did you mean devices?"),
        ("+logger.wandb.notse=x", "Did you mean notes?"),
        ("optimizer._target_=torch.optim.SDG", "Did you mean SGD?"),
        ("optimizer._target_=nowhere.at.All", "PYTHONPATH=FOLDER"),
        ("+optimizer.momentm=.9", "takes no such argument"),
        ("+optimizer.betas=[.9]", "a list of 2, each of them"),
        ("+optimizer.capturable=true", "'~optimizer.capturable'"),
        ("+optimizer.differentiable=true", "'~optimizer.differentiable'"),
        ("optimizer={_target_: torch.optim.LBFGS, lr: .1, history_size: 0}", "pop from empty list"),
        ("+optimizer._args_=[1]", "optimizer._args_: torch.optim.Adam takes no such argument"),
        ("+noise._args_=[1]", "noise._args_: there is no such key"),
        ("+latent._args_=[1]", "latent._args_: there is no such key"),
        ("+init._partial_=true", "init._partial_: there is no such key"),
        ("+callbacks.timelapse._args_=[1]", "callbacks.timelapse._args_: there is no such key"),
        ("+callbacks.a._target_=pytorch_lightning.callbacks.SpikeDetection", "optimizer.clip=1"),
        ("+callbacks.stop._target_=pytorch_lightning.callbacks.EarlyStopping", "monitor"),
        ("optimizer={_target_: torch.optim.SGD, lr: .1, momentum: -1}", "Invalid momentum value"),
        ("+callbacks.a={_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: loss, mode: up}", "min, max"),
        ("+trainer.profiler=nonsense", "profiler"),
        ("+loss.terms.anchor={_target_: vqclip.loss.TotalVariation, weight: 1}", "loss.terms.my_anchor"),
        ("prompts.include_weight=0", "prompts.extras"),
        ("augmentations.crops.std=inf", "augmentations.crops.std=0.3"),
    ],
)
def test_what_is_refused_names_what_to_use_instead(override, instead):
    errors = errors_in(resolve(compose([override])))
    assert len(errors) == 1 and instead in errors[0], errors


def test_the_arguments_of_classes_are_bound_to_their_signatures():
    good = [
        "+callbacks.stop={_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: loss}",
        "optimizer={_target_: torch.optim.SGD, lr: 0.1, momentum: 0.9}",
        "loss.terms={tv: {_target_: vqclip.loss.TotalVariation, weight: 0.1}}",
        "optimizer.clip=1",
        "+trainer.profiler=simple",
        "+logger.wandb.notes=x",
    ]
    cfg = compose(good)
    assert errors_in(resolve(cfg)) == []
    assert cfg.optimizer == {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9, "clip": 1}


def test_the_reference_has_every_class_with_the_defaults_of_its_own_choice():
    told = [{row.key.doc for row in found} for group in groups() for _, found in rows(group)]
    for target, group in CLASSES.items():
        docs = {key.doc for key in group.keys.values() if isinstance(key, Key)}
        assert any(docs <= of for of in told), target
    defaults = {title.partition(":")[0]: {row.path: row.default for row in found} for title, found in rows("init")}
    assert defaults["init=sine"]["init.std"] == "0.5" and defaults["init=noise"]["init.std"] == "4"


@pytest.mark.parametrize("group", groups())
def test_the_reference_of_every_group(group):
    page = reference(group)
    assert page.startswith(summary(group)) and all(f"`{row.path}`" in page for _, found in rows(group) for row in found)


def test_help_is_eighty_columns_wide_and_names_every_group():
    page = help_page()
    assert max(map(len, page.splitlines())) <= 81
    assert all(f"  {group} " in page for group in groups() if group not in ("", "memory", "vars"))
    for group in groups()[1:]:
        for line in help_page([group]).splitlines():
            assert len(line) <= 81 or len(line.split()) == 1  # a key with a long value stands alone
        for _, found in rows(group):
            assert all(f"({row.key.unit})" in " ".join(help_page([row.path]).split()) for row in found if row.key.unit)
    with pytest.raises(UserError, match="Did you mean noise"):
        help_page(["nois"])


def test_help_knows_every_group_that_a_key_lies_in():
    paths = {row.path for group in groups() for _, found in rows(group) for row in found}
    parents = {".".join(words[:n]) for words in (path.split(".") for path in paths) for n in range(1, len(words) + 1)}
    for name in sorted({*parents, *group_names()} - {"hydra"}):
        page, typed = help_page([name.replace("/", ".")]), name.replace(".", "/")
        assert page == help_page([typed]) == help_page([f"{typed}/"])
        assert all(re.search(rf"(?m)^  \+?{typed}=\[?{choice}\b", page) for choice in choices_of(name)), name
    assert help_page([""]) == help_page(["/"]) == help_page()


def test_help_names_every_key_and_what_each_choice_is():
    assert "init.best_of=16" in help_page(["init.best_of"]) and "init.best_of=16" in help_page(["init"])
    assert "search.restarts.steps=10" in help_page(["search.restarts"])
    assert "optimizer.lr=0.1 learning rate, over the run [default: 0.5]" in " ".join(help_page(["optimizer"]).split())
    for group in group_names():
        for choice in choices_of(group):
            about = about_choice(group, choice)
            assert len(about) > 5 and not about.endswith((" by", " ", ":")), (group, choice)
            assert about.split()[0] in help_page([group]), (group, choice)


@pytest.mark.parametrize(
    "argv,flags",
    [
        (["a fox", "-m", "seed=1,2"], ["-m"]),
        (["seed=1,2", "a fox", "--multirun"], ["-m"]),
        (["a fox", "--cfg", "job", "-m"], ["--cfg", "job", "-m"]),
        (["--cfg=job", "a fox"], ["--cfg", "job"]),
        (["--info", "a fox"], ["--info", "all"]),
        (["a fox", "--config-dir", "."], ["--config-dir", "."]),
        (["a fox", "-cd", "."], ["--config-dir", "."]),
    ],
)
def test_flags_may_stand_anywhere(argv, flags):
    words = parse_arguments(argv).words
    assert words[: len(flags)] == flags and words[-1] == 'prompts.include=["a fox"]'


@pytest.mark.parametrize(
    "argv,message",
    [
        (["--multirum"], "Did you mean --multirun?"),
        (["--config-dir"], "a value is missing"),
        (["--config-name="], "a value is missing"),
        (["--config-dir", "nowhere-at-all"], "there is no such folder"),
        (["noise.factor"], "a key without a value"),
        (["hydra.sweep.subdir=x"], "hydra.sweep.dir"),
        (["hydra.job.name=a/b"], "hydra.job.name=mine"),
        (["init=null"], "Allowed: one of"),
        (["--", " "], "an empty prompt"),
    ],
)
def test_slips_of_the_finger_are_answered_by_the_scan(argv, message):
    with pytest.raises(UserError, match=re.escape(message)):
        parse_arguments(argv)


def test_a_class_of_ones_own_replaces_the_noise_whole():
    """The command line translates a word before and while it is composed."""
    words = expand_shorthand(["noise={_target_: mine.Noise, strength: 2}"])
    assert resolve(compose(words))["noise"] == {"_target_": "mine.Noise", "strength": 2}


def test_null_means_none_where_it_can():
    cfg = compose(["noise=null", "callbacks=null", "logger=null", "experiment=null", "debug=null"])
    assert cfg.noise.factor == 0 and cfg.callbacks == {} and cfg.logger == {}
    assert errors_in(resolve(cfg)) == []


def test_peers_grammar_gets_a_note_in_our_form():
    assert 'vqclip "a fox" "an owl"' in parse_arguments(["a fox | an owl"]).notes[0]
    assert parse_arguments(["16:9", "at 10:30", "a fox:2", "a fox:2:.5"]).notes == []


def test_words_beyond_ascii_need_no_quotes():
    words = ["prompts.exclude=grüne Katze:2", "prompts.include=[猫,'ö, ä', a]", "+vars={n: 3, ort: /tmp/bär.png}"]
    config = resolve(compose(words))
    assert config["prompts"]["exclude"] == "grüne Katze:2"
    assert config["prompts"]["include"] == ["猫", "ö, ä", "a"]
    assert config["vars"] == {"n": 3, "ort": "/tmp/bär.png"}
    assert first_of_sweep(["prompts.extras=ö,ä"])[1] == 2


def test_the_nearest_key():
    assert nearest("loss.alfa") == " Did you mean loss.alpha?"
    assert nearest("lr") == " Did you mean optimizer.lr?"
    assert nearest("qqqq") == ""
    assert owners_of("init.std") == ["init=sine", "init=noise"]
    assert owners_of("logger.mode") == []
    assert "Did you mean logger.wandb.mode?" in unknown_key("logger.mode")
    sound = ["seed=1", "init.std=2", "optimizer.momentum=1", "loss.alpha.start=1", "hydra.run.dir=x"]
    assert unknown_overrides(sound) == {}
    assert "Try: seed=3" in unknown_overrides(["+seed=3"])["+seed=3"][0]
    assert "seed is one value here" in unknown_overrides(["seed.start=3"])["seed.start=3"][0]


def test_the_keys_of_a_mapping_are_known_too():
    """As Hydra has it of a key by itself: vqclip --cfg job 'memory={nope: 1}' showed a config that no run takes."""
    sound = [
        "memory={strip: 1, picture_chunk:2}",
        "optimizer={_target_: torch.optim.SGD, momentum: .9}",
        'prompts={include: ["a: b, c: {d: e}", f], exclude: "x, y: z"}',
        "loss.alpha={start: 1, end: 0}",
        "loss.terms={mine: {_target_: a.B, foo: 2}}",
        "vars={a: 1}",
        "sweep={group: x, swept: {seed: 1}}",
        "hydra={run: {dir: x}}",
    ]
    assert unknown_overrides(sound) == {}
    for line in ("memory={strip: 1, stripe: 2}", "memory={stripe:2}", "++memory={stripe: 2}"):
        (error,) = unknown_overrides([line])[line]
        assert error.startswith("memory.stripe: there is no such key. Did you mean memory.strip?")
    with pytest.raises(UserError, match=r"checkpoints\.generator\.foo: there is no such key"):
        compose(["checkpoints.generator={foo: 1}"])


def test_a_sweep_shows_its_first_job_and_globs_its_group():
    assert first_of_sweep(["seed=1,2", "noise.factor=.1,.2", "steps=3"]) == (
        ["seed=1", "noise.factor=0.1", "steps=3"],
        4,
    )
    names = {path.stem for path in (conf_dir() / "noise").glob("*.yaml")}
    assert len(list(compose_all(["noise=glob(*)"]))) == len(names)
    with pytest.raises(UserError, match="matches nothing"):
        list(compose_all(["noise=glob(zzz*)"]))
    with pytest.raises(UserError, match=r"matches nothing\. Try: seed=1,2"):
        first_of_sweep(["seed=range(0)"])
    with pytest.raises(UserError, match="Try: seed=1,2,3"):
        first_of_sweep(["seed=range(1,5,0)"])
    for many in (["seed=range(1000000000)"], ["seed=range(1000)", "steps=range(1,1000)"]):
        with pytest.raises(UserError, match="more than 100,000 jobs"):
            first_of_sweep(many)


@pytest.mark.parametrize(
    "word", ["interval(1,0)", "interval(nan,1)", "interval(0,inf)", "tag(log,interval(-1,1))", "range(3,3)"]
)
def test_a_range_to_search_goes_from_low_to_high(word):
    override = OverridesParser.create().parse_override(f"steps={word}")
    with pytest.raises(UserError, match=r"Allowed: interval\(0,1\)"):
        distributions_of({"steps": override})


@pytest.mark.parametrize("name", ["", "  ", "x" * 300, "a\0b", f"a/{'é' * 130}"])
def test_a_run_folder_has_a_name_that_the_system_takes(name):
    with pytest.raises(UserError, match="not a folder name"):
        check_output_dir(OutputDir("hydra.run.dir=", name, sweeps=False, numbers=False), False)


def test_what_hydras_grammar_cannot_read_is_shown_as_it_can():
    with pytest.raises(UserError, match=re.escape("""Try: 'hydra.run.dir="a;b"'""")):
        compose(["steps=3", "hydra.run.dir=a;b"])


LETTERS = ("ab", "bc", "cd", "de")
FILES = {
    "stepss": ("# @package _global_\nstepss: 5\n", "Did you mean steps?"),
    "package": ("steps: 5\n", "# @package _global_"),
    "list": ("- 1\n- 2\n", "KEY: VALUE"),
    "syntax": ("# @package _global_\nsteps: [1\n", "no YAML (line 3"),
    "tabs": ("# @package _global_\nloss:\n\talpha: 1\n", "no YAML (line 3"),
    "utf-16": ("# @package _global_\nsteps: 5\n".encode("utf-16"), "UTF-8"),
    "a key twice": ("# @package _global_\nseed: 1\nseed: 2\n", "line 3: found duplicate key seed"),
    "a tag": ("# @package _global_\nseed: !!int x\n", "no YAML"),
    "bytes": ("# @package _global_\nvars: {a: !!binary aGk=}\n", "vars.a"),
    "infinite": ("# @package _global_\nvars: {a: [.inf]}\n", "vars.a.0"),
    "null key": ("# @package _global_\nnull: 2\n", "vqclip --cfg job"),
    "huge number": (f"# @package _global_\nseed: {'9' * 5000}\n", "no YAML"),
    "deep": (f"# @package _global_\nvars: {'[' * 300}{']' * 300}\n", "nested too deep"),
    "of itself": ("# @package _global_\nvars: &a\n  b: *a\n", "aliases"),
    "laughs": (
        "a: &a [x, x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 30)}]\n" for a, b in LETTERS),
        "aliases",
    ),
    "defaults of itself": ("# @package _global_\ndefaults: [mine]\n", "refers to itself"),
    "defaults a text": ("# @package _global_\ndefaults: base\n", "must be a list"),
    "interpolation": ("# @package _global_\nseed: ${nothing.here}\n", "seed"),
    "a group of another": ("# @package _global_\nloss: ${noise}\n", "a class for something else than loss"),
    "a list for a group": ("# @package _global_\nloss: [1]\n", "vqclip --cfg job"),
    "latin": ("# @package _global_\n# caf\xe9\nsteps: 5\n".encode("latin1"), "UTF-8"),
    "null": ("# @package _global_\nnoise: null\n", "noise=null"),
    "nested": ("# @package _global_\nloss:\n  alpha: {start: 1}\n", "loss.alpha"),
    "target": ("# @package _global_\noptimizer:\n  _target_: torch.optim.Adamm\n", "Adamm"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_users_own_with_a_mistake_is_named(name, tmp_path):
    content, says = FILES[name]
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "mine.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        check(resolve(compose(["experiment=mine"], str(tmp_path))))
    assert says in str(caught.value) and "\n" not in str(caught.value), caught.value


def test_a_pipe_among_the_users_own_files_is_not_waited_for(tmp_path):
    (tmp_path / "experiment").mkdir()
    os.mkfifo(tmp_path / "experiment" / "mine.yaml")
    with pytest.raises(UserError, match=r"mine\.yaml: no file"):
        compose(["experiment=mine"], str(tmp_path))


def test_a_pipe_is_no_picture_no_prompts_and_no_file_of_a_run(tmp_path):
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(UserError, match="a pipe or a device"):
        RunFiles(tmp_path).read(tmp_path / "run.json")
    for wrong in (
        ["init=image", f"init.path={tmp_path}/run.json"],
        [f"prompts.include=[{{file: {tmp_path}/run.json}}]"],
    ):
        assert "a pipe or a device" in "".join(errors_in(resolve(compose(wrong))))


@pytest.mark.parametrize("name", ["a b", "it's", "a,b", "[a]{b}", "狐 é", "a#b%20", "a=b", "$HOME"])
def test_a_config_folder_may_have_any_name(name, tmp_path):
    (tmp_path / name / "experiment").mkdir(parents=True)
    (tmp_path / name / "experiment" / "mine.yaml").write_text("# @package _global_\nsteps: 7\n")
    assert compose(["experiment=mine"], str(tmp_path / name)).steps == 7


@pytest.mark.parametrize(
    "line,by_name",
    [
        *((line, False) for line in ("init=[1,2]", "loss=nan", "trainer=3", "hparams_search=1e400", "experiment=[2]")),
        *((line, False) for line in ("~init=true", "prompts=[{text: a}]")),
        *((line, True) for line in ("loss/terms=[{a: 1}]", "callbacks=[{_target_: a.B}]")),
    ],
)
def test_a_group_takes_names_of_choices(line, by_name):
    with pytest.raises(UserError, match=re.escape(f"{line}: chooses nothing. Allowed: one of")) as refused:
        compose([line])
    assert ("or parts by name" in str(refused.value)) == by_name


def test_a_mapping_for_a_group_is_not_blamed_for_another_mistake():
    with pytest.raises(UserError, match=r"^seed=1,2: several values"):
        compose(["optimizer={_target_: torch.optim.SGD, lr: .1}", "seed=1,2"])


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("size=128,192", ["size=[128,192]"]),
        ("tags=first,try", ["tags=[first,try]"]),
        ("size=[64,64],[64,96]", ["vqclip", "-m", "size=[64,64],[64,96]"]),
        ("loss.beta=0,1", ["vqclip", "-m", "loss.beta=0,1"]),
        ("prompts.exclude=dark, blurry", ['prompts.exclude="dark, blurry"']),
        ("+loss/terms=tv,palette", ["+loss/terms=[tv,palette]"]),
        ("hydra.run.dir=a,b", ['hydra.run.dir="a,b"']),
        ("search.stages=1,2", ["search.stages=[{size: [64,64], share: .4}]"]),
    ],
)
def test_what_several_values_without_a_sweep_are_told_to_be_works(line, allowed):
    with pytest.raises(UserError, match="several values") as caught:
        refuse_sweeps([line])
    offered = shlex.split(re.split("Try: |text: ", str(caught.value))[-1])
    assert offered == allowed
    words = offered[2:] if offered[0] == "vqclip" else offered
    assert [errors_in(resolve(cfg)) for cfg in compose_all(words)] == [[]] * (1 + (words != offered))


@pytest.mark.parametrize("line", ["+loss/terms=tv,palette", "hydra.run.dir=a,b", "search.stages=1,2"])
def test_a_sweep_is_not_offered_for_several_values_that_it_would_refuse(line):
    with pytest.raises(UserError, match=r"several values\. Allowed: one\. Try: (?!.*-m)"):
        refuse_sweeps([line])


@pytest.mark.parametrize(
    "line", ["loss.terms=3", "checkpoints.perceptors=3", "checkpoints.generator=null", "checkpoints=null", "init=null"]
)
def test_what_a_group_is_told_to_try_works(line):
    with pytest.raises(UserError, match="Try: ") as caught:
        check(resolve(compose([line])))
    assert errors_in(resolve(compose(shlex.split(str(caught.value).rpartition("Try: ")[2])))) == []


def test_what_lightnings_trainer_finds_only_at_the_first_step_is_found_before():
    (wrong,) = errors_in(resolve(compose(["trainer.detect_anomaly=yes"])))
    assert "Allowed: true or false" in wrong


def test_what_a_lambda_callback_is_told_to_try_works():
    """With no class but a function of one's own, so that trust in its package is enough to go on with the run."""
    three = "callbacks.mine={_target_: pytorch_lightning.callbacks.LambdaCallback, on_train_end: 3}"
    (wrong,) = errors_in(resolve(compose([three])))
    (tried,) = shlex.split(wrong.rpartition("Try: ")[2])
    assert errors_in(resolve(compose([three, tried.replace("mine.function", "builtins.print")]))) == []
    assert "hydra" not in tried


def test_a_schedule_replaces_a_terms_schedule_whole():
    for value in ("{start: 1, end: 0.2}", "{points: [[0, 1], [1, 2]]}"):
        cfg = compose(["experiment=drawing", f"loss.terms.denoised.sigma={value}"])
        assert resolve(cfg)["loss"]["terms"]["denoised"]["sigma"] == yaml.safe_load(value)


def test_a_sweep_over_choices_takes_keys_that_the_default_lacks():
    """Hydra composes the config without what is swept first, and that has no init.path."""
    for swept in ("experiment=edit,recolour", "init=image,run", "experiment=glob(e*)", "debug=fast,null"):
        assert expand_shorthand([swept, "init.path=x.png", "steps=3"]) == [swept, "++init.path=x.png", "steps=3"]
    for alone in ("experiment=edit", "noise=default,sfumato", "callbacks=[default,upscale]"):
        assert expand_shorthand([alone, "init.path=x.png"]) == [alone, "init.path=x.png"]


def test_the_home_folder_is_a_tilde(monkeypatch):
    """The shell leaves it where the word begins with a key, and Hydra's grammar has no such letter."""
    for home, word in (("/home/me", "/home/me/x.png"), ("/home/m e", '"/home/m e/x.png"')):
        monkeypatch.setenv("HOME", home)
        assert expand_shorthand(["init.path=~/x.png"]) == [f"init.path={word}"]
        assert expand_shorthand(["prompts.extras=[{image: ~/x.png}, '~/y']"]) == [
            f"prompts.extras=[{{image: {word}}}, '~/y']"
        ]


@pytest.mark.parametrize(
    "value,path",
    [
        ("~/runs/${seed}", "/home/me/runs/3"),
        ("[a é, ~/${now:%Y-%m-%d}/x]", ["a é", f"/home/me/{time.strftime('%Y-%m-%d')}/x"]),
        ("été-${seed}", "été-3"),
        ('~/${oc.env:"HOME"}', "/home/me//home/me"),
    ],
)
def test_an_interpolation_in_a_path_stays_one(monkeypatch, value, path):
    monkeypatch.setenv("HOME", "/home/me")
    assert compose(["seed=3", f"tags={value}"]).tags == path


class Broken:
    """A schedule of one's own that fails."""

    def __call__(self, t):
        raise ArithmeticError("no weather")


def test_what_is_wrong_with_a_schedule_of_ones_own_is_said():
    (wrong,) = errors_in(resolve(compose([f"noise.factor={{_target_: {__name__}.Broken}}"])))
    assert f"{__name__}.Broken raised ArithmeticError: no weather. Try: noise.factor=0.22" in wrong
    (wrong,) = errors_in(resolve(compose([f"noise.factor={{_target_: {__name__}.Brokn}}"])))
    assert wrong.endswith(f"there is no Brokn in {__name__}. Did you mean Broken?")


@pytest.mark.parametrize(
    "value,what",
    [
        ("{points: [[0, 1], [.51, 1], [.52, -5], [.53, 1]]}", "-5"),
        ("{start: -1, end: -1, warmup: .02, shape: constant}", "-1"),
        ("{points: [[0, 1], [.52, 5], [1, 0]]}", None),
    ],
)
def test_the_corners_of_a_schedule_are_in_its_bounds_too(value, what):
    errors = errors_in(resolve(compose([f"noise.factor={value}"])))
    assert len(errors) == bool(what) and all("from 0 to 1000" in error for error in errors)


def test_a_mapping_that_a_config_may_lack_needs_no_plus():
    assert resolve(compose(["trainer.compile={mode: default}"]))["trainer"]["compile"] == {"mode": "default"}


@pytest.mark.parametrize(
    "lines",
    [
        ["search.restarts.count=2", "search.restarts.steps=3"],
        ["search.overlay.until=0.5", "search.overlay.every=2", "search.overlay.strength=0.2"],
        ["experiment=from_noise", "augmentations.affine=null", "augmentations.affine.degrees=3"],
        ["trainer.max_time=00:00:01:00"],
        ["optimizer.foreach=true"],
        [
            "callbacks.mine._target_=pytorch_lightning.callbacks.EarlyStopping",
            "callbacks.mine.monitor=loss",
            "callbacks.mine.mode=max",
        ],
        ["loss.terms.mine._target_=vqclip.terms.Tiling", "loss.terms.mine.weight=2"],
        ["vars.mine=3", "loss.alpha=${vars.mine}"],
    ],
    ids=lambda lines: lines[-1].partition("=")[0],
)
def test_a_key_that_a_config_lacks_is_typed_as_any_other(lines):
    """Of a mapping that is null what else it needs is said, with commands that give it."""
    for _ in range(3):
        errors = errors_in(resolve(compose(lines)))
        assert all(": missing. Allowed: " in error for error in errors)
        lines = [*lines, *(word for error in errors for word in shlex.split(error.rpartition("Try: ")[2]))]
    assert errors == []


@pytest.mark.parametrize(
    "lines", [["search.stages=3"], ["size=3"], ["prompts.include=[]"], ["experiment=drawing", "init=blank"]], ids=str
)
def test_what_a_message_says_to_try_can_be_pasted_into_a_shell(lines):
    (error,) = errors_in(resolve(compose(lines)))
    (word,) = shlex.split(tried := error.rpartition("Try: ")[2])
    assert tried == shlex.quote(word)  # zsh reads [, { and ~ as something else
    assert errors_in(resolve(compose([*lines, word]))) == []


@pytest.mark.parametrize(
    "line,message",
    [
        ("search.restarts.coun=2", "search.restarts.coun: there is no such key. Did you mean search.restarts.count?"),
        ("memory.chunk=2", "memory.chunk: there is no such key. Did you mean memory.crop_chunk?"),
        (
            "memory.foo=2",
            "no such key. Allowed in memory: picture_chunk, crop_chunk, checkpoint_decoder, strip, devices.",
        ),
        (
            "loss.foo=2",
            "loss.foo: there is no such key. Allowed in loss: alpha, beta, anchor, distance, terms. All keys",
        ),
        ("loss.lr=2", "loss.lr: there is no such key. Did you mean optimizer.lr?"),
        ("latent.foo=2", "latent.foo: there is no such key. All keys"),
        (
            "logger.foo=1",
            "logger.foo: there is no such key. Allowed: one of csv, mlflow, none, tensorboard, wandb, or your own by "
            "logger.foo._target_=CLASS. Try: logger=csv.",
        ),
        ("debug.foo=1", "debug.foo: there is no such key. Allowed: one of fast. Try: debug=fast."),
        ("checkpoints.perceptors.rn50=1", "not chosen. Try: 'checkpoints/perceptors=[rn50]'"),
        ("search.stages.size=[64,64]", "search.stages is one value here. Allowed: a list of"),
        ("noise.factor.start=1", "noise.factor is one value here. Allowed: a number from 0 to 1000, or a schedule"),
        ("loss.terms.denoised.sigma.start=1", "Try: 'loss.terms.denoised.sigma={start: 0.5, end: 0.001}'"),
        ("hparams_search.trials=3", "nothing is chosen of hparams_search. Try: hparams_search=optuna hparams_search.t"),
        ("callbacks.upscale.tile=64", "of a callback that is not chosen. Try: 'callbacks=[default,upscale]' callbacks"),
        ("logger.tensorboard.name=x", "logger.tensorboard: is not chosen. Try: logger=tensorboard"),
        ("vars=null", "vars: not in this config"),
        ("trainer.acelerator=cpu", "pytorch_lightning.Trainer takes no such argument. Did you mean accelerator?"),
    ],
)
def test_a_key_that_no_config_or_only_another_has_is_a_sentence(line, message):
    with pytest.raises(UserError) as caught:
        check(resolve(compose([line])))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "line,said,tried",
    [
        ("size=[1", "size=[1: cannot be read. ", "'size=[128,128]'"),
        ("loss.alpha={start: 1", "loss.alpha={start: 1: cannot", "'loss.alpha={start: 1, end: 0}'"),
        ("search.restarts={", "search.restarts={: cannot", """'prompts.exclude="dark, blurry"'"""),  # typed without ++
        ("prompts.exclude=a(b", "prompts.exclude=a(b: cannot", """'prompts.exclude="dark, blurry"'"""),
    ],
)
def test_what_cannot_be_read_is_shown_as_it_is_typed(line, said, tried):
    with pytest.raises(UserError) as caught:
        compose([line])
    assert str(caught.value).startswith(said) and str(caught.value).endswith(f"Try: {tried}")


def test_a_term_that_is_not_chosen_is_said_to_be_so():
    with pytest.raises(UserError, match=re.escape("Try: '+loss/terms=[tv]' loss.terms.tv.weight=…")):
        compose(["loss.terms.tv.weight=.2"])
    (wrong,) = errors_in(resolve(compose(["loss.terms.denoised.sigma=.2"])))
    assert wrong.endswith("Try: '+loss/terms=[denoised]'")
    assert errors_in(resolve(compose(["+loss/terms=[tv]", "loss.terms.tv.weight=.2"]))) == []


def test_what_an_experiment_sets_of_another_start_can_be_taken_away():
    (wrong,) = errors_in(resolve(compose(["experiment=drawing", "init=blank"])))
    belongs = "init.std: belongs to init=sine or init=noise, and another is chosen."
    assert wrong.startswith(f"{belongs} Allowed: init=sine or init=noise, or not this key;")
    assert wrong.endswith(" Try: '~init.std'")
    assert errors_in(resolve(compose(["experiment=drawing", "init=blank", "~init.std"]))) == []


@pytest.mark.parametrize("line", ["tags={a: 1}", "memory=[1]", "loss.terms=[]", "augmentations.crops=3"])
def test_a_value_of_another_shape_is_named(line):
    with pytest.raises(UserError, match=re.escape(line.partition("=")[0])) as caught:
        check(resolve(compose([line])))
    assert "Allowed:" in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "init._target_=torch.optim.Adam",
        "noise._target_=builtins.dict",
        "optimizer._target_=torch.nn.Linear",
        "augmentations._target_=collections.OrderedDict",
        "loss.terms.x={_target_: vqclip.init.Sine, weight: 1}",
        "callbacks.x={_target_: torch.nn.ReLU}",
        "logger.x={_target_: builtins.int}",
    ],
)
def test_a_class_of_another_place_is_refused(line):
    errors = errors_in(resolve(compose([line])))
    assert errors and errors[0].startswith(line.partition("=")[0]) and re.search("Allowed:.* a class ", errors[0])


def test_key_at_finds_keys_of_every_class():
    assert key_at("init.std") and key_at("noise.factor") and key_at("optimizer.lr") and not key_at("noise.factro")
    assert isinstance(ROOT.keys["init"], Target)


def test_every_term_is_in_the_schema_and_colours_are_checked_before_a_model_is_loaded():
    from vqclip import terms

    assert {f"vqclip.terms.{name}" for name in terms.__all__} <= set(CLASSES)
    shipped = [path.stem for path in sorted((conf_dir() / "loss" / "terms").glob("*.yaml"))]
    assert errors_in(resolve(compose([f"+loss/terms=[{','.join(shipped)}]"]))) == []
    (wrong,) = errors_in(resolve(compose(["+loss/terms=[palette]", "loss.terms.palette.colours=[redd]"])))
    assert "loss.terms.palette.colours=['redd']" in wrong and "did you mean red." in wrong
    (wrong,) = errors_in(resolve(compose(["init=blank", "init.colour=wite"])))
    assert "init.colour='wite'" in wrong and "did you mean white." in wrong
    (wrong,) = errors_in(resolve(compose(["init=gradient", "init.colours=[blu,white]"])))
    assert "init.colours=['blu', 'white']" in wrong and "did you mean blue." in wrong
    (wrong,) = errors_in(resolve(compose(["+loss/terms=[edges]", "+loss.terms.edges.widht=.1"])))
    assert "loss.terms.edges.widht" in wrong and "Did you mean width?" in wrong
