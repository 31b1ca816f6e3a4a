"""The command line: what is a prompt, what is an override, and what a slip of the finger gets for an answer."""

import os
import re
import shlex
import shutil

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

import vqclip
from vqclip.cli import main
from vqclip.cli.arguments import parse_arguments
from vqclip.cli.main import TOOLS
from vqclip.config.compose import compose, compose_all
from vqclip.config.grammar import quote
from vqclip.config.resolve import resolve
from vqclip.errors import UserError

AWKWARD = [
    "E=mc², a café (at night), it's #1, 猫",
    'a "quoted" word',
    "back\\slash",
    "ends in a backslash \\",
    'a \\" b',
    '\\\\" c',
    "${oc.env:HOME} and $5",
    "{a: 1, b: [2]}",
    "50% of a, b; c | d & e > f",
    "choice(a, b)",
    "null",
    "  spaces at both ends  ",
    "new\nline",
    "tab\there",
    "~deleted",
    "+added",
    "a=b",
    "emoji 🦊",
    r"\${oc.env:HOME}",
    r"a \\${oc.env:HOME} fox",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_any_text_arrives_as_it_was_typed(text):
    override = f"prompts.include=[{quote(text)}]"
    assert not OverridesParser.create().parse_override(override).is_sweep_override()
    assert list(compose([override]).prompts.include) == [text]


@pytest.mark.parametrize(
    "argv,expected",
    [
        (["a fox"], ['prompts.include=["a fox"]']),
        (["a fox", "an owl", "seed=3"], ["seed=3", 'prompts.include=["a fox","an owl"]']),
        (["fox"], ['prompts.include=["fox"]']),
        (["E=mc², a café"], ['prompts.include=["E=mc², a café"]']),
        (["colour=red apples"], ['prompts.include=["colour=red apples"]']),
        (
            ["loss.beta=1", "~callbacks.progress", "+trainer.foo=1"],
            ["loss.beta=1", "~callbacks.progress", "+trainer.foo=1"],
        ),
        (["steeps=3"], ["steeps=3"]),
        (["promts=a b"], ["promts=a b"]),
        (["-m", "seed=1,2", "a fox"], ["-m", "seed=1,2", 'prompts.include=["a fox"]']),
        (["--cfg", "job", "a fox"], ["--cfg", "job", 'prompts.include=["a fox"]']),
        (["--", "seed=3", "-x"], ['prompts.include=["seed=3","-x"]']),
        (["prompts.exclude=a, b"], ["prompts.exclude=a, b"]),
        (["prompts.exclude=[é, b]"], ['prompts.exclude=["é", b]']),
        (["resume=l'été"], ["resume=l'été"]),
    ],
)
def test_prompts_and_overrides_are_told_apart(argv, expected):
    assert parse_arguments(argv).words == expected


SLIPS = {
    ("a fox", "step=50"): "step: there is no such key. Did you mean steps?",
    ("a fox", "iterations=50"): "iterations: there is no such key. Did you mean steps?",
    ("a fox", "negative_prompt=blurry"): "negative_prompt: there is no such key. Did you mean prompts.exclude?",
    ("a fox", "lr=.1"): "lr: there is no such key. Did you mean optimizer.lr?",
    ("a fox", "--steps", "50"): "--steps: a key has no dashes, and takes = before its value. Did you mean steps?",
    (
        "a fox",
        "--learning-rate=1",
    ): "--learning-rate=1: a key has no dashes, and takes = before its value. Did you mean opt",
    (
        "a fox",
        "--loss.alpha=2",
    ): "--loss.alpha=2: a key has no dashes, and takes = before its value. Try: loss.alpha=2, in a W&B",
    (
        "a fox",
        '{"seed": 3}',
    ): '{"seed": 3}: a mapping, not a text. Allowed: KEY=VALUE, in a W&B sweep ${args_no_hyphens}',
    ("--cfg", "jobb"): "--cfg jobb: there is no such choice. Allowed: job, hydra, all. A prompt: vqclip --cfg job jobb",
    ("--cfg=foo", "a fox"): "--cfg=foo: there is no such choice. Allowed: job, hydra, all. Try: --cfg job",
    ("--offline=false", "a fox"): "--offline=false: takes no value. Allowed: --offline, or not this flag",
    ("--info", "defaults_tree"): "--info defaults_tree: there is no such choice. Allowed: all, config, defaults",
    ("a fox", "--resolve"): "--resolve: only for a config that is shown. Try: vqclip --cfg job --resolve",
    ("a fox", "-p", "loss"): "--package: only for a config that is shown. Try: vqclip --cfg job --package",
    ("a fox", "--offlin"): "--offlin: there is no such flag. Did you mean --offline?",
    ("a fox", "seed", "=", "3"): "=: no spaces around it. Allowed: KEY=VALUE in one word.",
    ("mine.png",): "mine.png: a picture, not a text. To edit it: vqclip experiment=edit init.path=mine.png 'a fox'.",
    ("intepolate", "mine.png", "--frames", "3"): "intepolate: there is no such tool. Try: vqclip interpolate mine.png",
    ("--offline", "intepolate", "mine.png"): "intepolate: there is no such tool. Try: vqclip interpolate mine.png",
    ("--offline", "compare", "mine.png"): "mine.png: no run in it",
    ("compare", "mine.png", "--offline"): "mine.png: no run in it",
    ("rerun", "--offline", "mine.png"): "mine.png cannot be read as a picture",
    ("models", "--offline", "fetch", "mine"): "mine: no such checkpoint.",
    ("--cfg", "job", "models"): "--cfg: not with models. A prompt: vqclip --cfg job -- models",
    ("-m", "compare", "seed=1,2"): "--multirun: not with compare. A prompt: vqclip -m seed=1,2 -- compare",
    ("resume", "mine.png"): "resume: a key. Try: vqclip resume=mine.png",
    ("loss/terms=[tv]", "a fox"): "loss/terms: nothing is chosen of that group yet. Try: '+loss/terms=[NAME]'",
    ("interpolate", "."): ".: not a run folder, it has no config.yaml.",
    (
        "init.path=mine.png",
        "a fox",
    ): "init.path: belongs to init=image, which is not chosen. Try: experiment=edit init.path",
    ("experiment=edit", "a fox"): "init.path: a value is missing. Try: init.path=photo.jpg",
}


@pytest.mark.parametrize("argv", SLIPS, ids=" ".join)
def test_a_slip_of_the_finger_is_answered_with_what_was_meant(argv, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("VQCLIP_OFFLINE", "")  # put back afterwards
    (tmp_path / "mine.png").touch()
    status, message, left = run(capsys, tmp_path, monkeypatch, *argv)
    assert (status, left) == (2, ["mine.png"]) and message.startswith(f"vqclip: {SLIPS[argv]}")


def test_a_working_folder_that_hydra_would_read_as_a_key_is_refused(capsys, tmp_path, monkeypatch):
    for name, argv in (("a${steps}b", ["a fox"]), ("a${b", ["a fox"]), ("${x}", ["-m", "a fox", "seed=0,1"])):
        folder = tmp_path / name
        folder.mkdir()
        status, message, left = run(capsys, folder, monkeypatch, *argv)
        assert (status, left) == (2, [])
        assert message.startswith(f"vqclip: {folder}: Hydra reads ${{") and message.endswith(f"Try: cd {tmp_path}")


def test_the_name_of_a_picture_is_a_prompt_behind_dashes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.png").touch()
    assert parse_arguments(["--", "mine.png"]).words == ['prompts.include=["mine.png"]']


def test_a_run_folder_is_no_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "mine").mkdir(parents=True)
    assert parse_arguments(["outputs/mine"]).words == ['prompts.include=["outputs/mine"]']
    (tmp_path / "outputs" / "mine" / "run.json").touch()
    for argv in (["outputs/mine"], ["show", "outputs/mine"]):
        with pytest.raises(UserError, match=r"outputs/mine: a run folder, not a text.*vqclip compare RUN"):
            parse_arguments(argv)
    assert parse_arguments(["--", "outputs/mine"]).words == ['prompts.include=["outputs/mine"]']


def test_help_is_a_tool(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VQCLIP_OFFLINE", "")  # put back afterwards
    for argv in (["help", "noise"], ["--help", "noise"], ["--offline", "help", "noise"]):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 0 and "noise.factor" in capsys.readouterr().out


def test_flags_may_stand_before_the_name_of_a_tool(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("VQCLIP_OFFLINE", "")  # put back afterwards
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise/mine.yaml").write_text("defaults: [default]\nfactor: 0.77")
    words = ["--config-dir", str(tmp_path), "--offline", "show", "noise=mine", "--quick", "--", "an owl"]
    with pytest.raises(SystemExit) as stop:
        main(words)
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and "0.77" in shown and '"an owl"' in shown and os.environ["VQCLIP_OFFLINE"] == "1"
    for argv in (["-h", "compare"], ["--version", "models"]):
        assert run(capsys, tmp_path, monkeypatch, *argv) == (0, "", ["noise"])


@pytest.mark.parametrize("tool", sorted(TOOLS.keys() - {"film", "rerun", "show"}))  # those take overrides
def test_a_tools_wrong_flag_is_a_sentence(tool, capsys, tmp_path, monkeypatch):
    status, message, left = run(capsys, tmp_path, monkeypatch, tool, "--nope")
    assert (status, left) == (2, []) and message.startswith(f"vqclip: {tool}: ") and "\n" not in message
    assert message.endswith(f"Try: vqclip {tool} --help")


@pytest.mark.parametrize("argv", [[""], ["a fox", "  "], ["--", ""]])
def test_an_empty_prompt_is_refused(argv):
    with pytest.raises(UserError, match="an empty prompt"):
        parse_arguments(argv)


def run(capsys, tmp_path, monkeypatch, *argv):
    """The exit status and stderr of a command, and what it left in an empty folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(argv)
    return stop.value.code, capsys.readouterr().err.strip(), sorted(p.name for p in tmp_path.iterdir())


@pytest.fixture(scope="module")
def run_of_a_fox(small_pair, tmp_path_factory):
    """Overrides, and the folder of a run by them."""
    folder = tmp_path_factory.mktemp("fox")
    main([*small_pair, f"hydra.run.dir={folder}", "a fox"])
    return small_pair, folder


WRONG = {
    "steeps=3": "steeps: there is no such key. Did you mean steps? All keys with their values: vqclip --cfg job",
    "prompts.exlude=blurry": "prompts.exlude: there is no such key. Did you mean prompts.exclude? "
    "All keys with their values: vqclip --cfg job",
    "checkpoints.perceptors.vit-l.weight=.5": "checkpoints.perceptors.vit-l",
    "a=b": "a: there is no such key. All keys with their values: vqclip --cfg job. A prompt: vqclip -- a=b",
    "~fox": "fox: there is no such key. All keys with their values: vqclip --cfg job. A prompt: vqclip -- '~fox'",
    f"{'a' * 300}=null": f"{'a' * 300}: there is no such key. All keys with their values: vqclip --cfg job",
    "resume": "resume: a key. Try: vqclip resume=RUN, with a run folder. A prompt: vqclip -- resume",
    "paths.output_dir=out/fox": "paths.output_dir='out/fox': tells other keys where the run goes, and does not move "
    "it. Allowed: hydra.run.dir, of a sweep hydra.sweep.dir, of a film --to, from Python the argument folder. "
    "Try: hydra.run.dir=out/fox",
    "noise=sfumatto": "noise=sfumatto: there is no such choice. Did you mean sfumato? "
    "Allowed: cosine, default, linear, none, reference, sfumato. Try: noise=sfumato",
    "hydra.job.chdir=much": "hydra.job.chdir=much: Value 'much' is not a valid bool (type str). "
    "Hydra's keys with their values: vqclip --cfg hydra",
    "hydra.job=3": "hydra.job=3: not allowed here. Allowed: its keys. Try: hydra.job.KEY=VALUE",
    "steps=0": "steps=0: not allowed here. Allowed: a whole number from 1 up. Try: steps=100",
    "steps=many": "steps='many': not allowed here. Allowed: a whole number from 1 up. Try: steps=100",
    "seed=-1": "seed=-1: not allowed here. Allowed: a whole number from 0 up. Try: seed=0",
    "size=[-8,64]": "size=[-8, 64]: not allowed here. Allowed: [height, width], two whole numbers of pixels from 1 up. "
    "Try: 'size=[128,128]'",
    "size=64x32": "size='64x32': not allowed here. Allowed: [height, width], two whole numbers of pixels from 1 up, as "
    "size=[64,32]. Try: 'size=[128,128]'",
    "size=[64]": "size=[64]: not allowed here. Allowed: [height, width], two whole numbers of pixels from 1 up. "
    "Try: 'size=[128,128]'",
    "size=[4,64]": "size=[4, 64]: smaller than one code of the generator. Allowed: sides of at least 8 pixels. "
    "Try: 'size=[64,64]'",
    "size=[8200,8200]": "size=[8200, 8200]: more pixels than are read of a picture in a run's folder. Allowed: up to "
    "67108864, as of 8192×8192. Try: 'size=[8192,8192]'",
    "loss.alpha=much": "loss.alpha='much': not allowed here. Allowed: a number, or a schedule "
    "{start: NUMBER, end: NUMBER, shape: constant|linear|cosine|exponential|steps}. Try: loss.alpha=1",
    "loss.anchor={start: 1, end: 0, shape: wavy}": "loss.anchor={start: 1, end: 0, shape: 'wavy'}: "
    "not allowed here. "
    "Allowed: a number from 0 up, or a schedule {start: NUMBER, end: NUMBER, "
    "shape: constant|linear|cosine|exponential|steps}. Try: loss.anchor=0",
    "prompts.include=[]": "prompts.include=[]: not allowed here. Allowed: an entry or a list of "
    "them, each a text, {image: PATH}, {parts: [ENTRY, ENTRY]}, {row: [ENTRY, ENTRY]} or {file: PATH}, none of them "
    "empty. Try: 'prompts.include=[\"a red apple\"]'",
    "augmentations.crops.max=3": "augmentations.crops.max=3: larger than the padded picture, which is",
    "optimizer.lr=fast": "optimizer.lr='fast': not allowed here. Allowed: a number from 0 up",
    "sweep=3": "sweep=3: not allowed here. Allowed: null; a sweep fills it in. Try: sweep=null",
    "memory.crop_chunk=0": "memory.crop_chunk=0: not allowed here. Allowed: a whole number from 1 up, or null (all). "
    "Try: memory.crop_chunk=4",
}


@pytest.mark.parametrize("override", WRONG)
def test_wrong_input_gets_one_clear_message_and_writes_nothing(override, capsys, tmp_path, monkeypatch):
    status, message, left = run(capsys, tmp_path, monkeypatch, override)
    assert status == 2
    assert message.startswith(f"vqclip: {WRONG[override]}")
    assert "Traceback" not in message and left == []


def test_a_folder_that_a_file_names_is_kept_as_well(small_pair, capsys, tmp_path, monkeypatch):
    (tmp_path / "experiment").mkdir()
    own = "# @package _global_\nhydra: {run: {dir: mine}}\n"
    (tmp_path / "experiment/mine.yaml").write_text(own)
    words = ("--config-dir", ".", "experiment=mine", *small_pair, "callbacks=none", "a fox")
    monkeypatch.chdir(tmp_path)
    main(words)
    record = (tmp_path / "mine/.hydra/overrides.yaml").read_text()
    status, message, _ = run(capsys, tmp_path, monkeypatch, *words, "seed=1")
    assert status == 2 and "mine" in message and (tmp_path / "mine/.hydra/overrides.yaml").read_text() == record


@pytest.mark.parametrize(
    "again",
    [
        ["hydra.run.dir=runs/x${seed}"],
        ["hydra.run.dir=runs/x${hydra:job.config.override_dirname.kv_sep}0"],
        ["hydra.run={dir: runs/x0}"],
        ["hydra.searchpath=[file://own]", "experiment=mine"],
        ["hydra.run.dir=runs/x${seed}", "hydra.output_subdir=."],
    ],
    ids=" ".join,
)
def test_a_run_that_is_kept_keeps_hydras_record_too(again, run_of_a_fox, capsys, tmp_path, monkeypatch):
    """However its folder is named; the page has the command from there."""
    pair, folder = run_of_a_fox
    shutil.copytree(folder, tmp_path / "runs/x0")
    shutil.copytree(folder, tmp_path / "runs/x=0")
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/experiment/mine.yaml").write_text('# @package _global_\nhydra: {run: {dir: "runs/x${seed}"}}\n')
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    status, message, _ = run(capsys, tmp_path, monkeypatch, *pair, *again, "an owl")
    assert status == 2 and re.match(r"vqclip: (runs/x=?0: a run is in it already|hydra\.output_subdir=\.: )", message)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize("place", ["paths.output_dir=mine", "hydra.run.dir=mine", "+hydra.run.dir=mine"])
@pytest.mark.parametrize("command", [["rerun", "{}"], ["resume={}", "steps=6"]], ids=" ".join)
def test_a_run_of_a_record_goes_nowhere_else(command, place, run_of_a_fox, capsys, tmp_path, monkeypatch):
    words = [word.format(run_of_a_fox[1]) for word in command]
    status, message, left = run(capsys, tmp_path, monkeypatch, *words, place)
    assert (status, left) == (2, []) and message.startswith(f"vqclip: {place}: not with resume or rerun")


def test_jobs_that_hydra_numbers_from_0_again_overwrite_no_others(run_of_a_fox, capsys, tmp_path, monkeypatch):
    pair, folder = run_of_a_fox
    shutil.copytree(folder, tmp_path / "sweep/0")
    record = (tmp_path / "sweep/0/.hydra/overrides.yaml").read_text()
    words = ["-m", *pair, "hydra/sweeper=basic", "hydra.sweep.dir=sweep", "an owl"]
    status, message, _ = run(capsys, tmp_path, monkeypatch, *words)
    assert status == 2 and "sweep/0: a run is in it already" in message
    assert (tmp_path / "sweep/0/.hydra/overrides.yaml").read_text() == record


@pytest.mark.parametrize("name", ["''", ".", "config.yaml", "picture-00/steps", "../x", "a/.."])
def test_hydras_records_are_kept_out_of_the_place_of_the_runs_own(name, capsys, tmp_path, monkeypatch):
    status, message, left = run(capsys, tmp_path, monkeypatch, f"hydra.output_subdir={name}", "a fox")
    assert status == 2 and "Try: hydra.output_subdir=.hydra" in message and left == []


@pytest.mark.parametrize(
    "word,said",
    [
        ("++hydra.job.name=a/b", "a name without /"),
        ("++hydra.sweep.subdir=x", "numbered"),
        ("hydra.sweep={subdir: x}", "numbered"),
        ("hydra.job.chdir=true", "the folder where the command is typed"),
    ],
)
def test_what_is_refused_of_hydras_keys_is_so_however_it_is_written(word, said, capsys, tmp_path, monkeypatch):
    status, message, left = run(capsys, tmp_path, monkeypatch, word, "a fox")
    assert status == 2 and message.startswith(f"vqclip: {word}: ") and said in message and left == []


@pytest.mark.parametrize(
    "word,part",
    [
        ("hydra.sweeper._target_=nope.Nope", "sweeper=vqclip"),
        ("hydra.sweeper._target_=hydra_plugins.nope.Nope", "sweeper=vqclip"),
        ("hydra.sweeper._target_=null", "sweeper=vqclip"),
        ("hydra.sweeper=null", "sweeper=vqclip"),
        ("hydra.launcher._target_=nope.Nope", "launcher=basic"),
        ("hydra.launcher=null", "launcher=basic"),
    ],
)
def test_a_plugin_that_hydra_has_not_is_answered_with_one_that_it_has(word, part, capsys, tmp_path, monkeypatch):
    status, message, left = run(capsys, tmp_path, monkeypatch, "-m", word, "a fox")
    assert status == 2 and f"Try: hydra/{part}" in message and "Traceback" not in message and left == []
    assert message.startswith(f"vqclip: {word.partition('=')[0]}=") and len(message.splitlines()) == 1


def test_a_file_of_ones_own_that_is_refused_to_a_run_is_not_shown_as_something_else(capsys, tmp_path, monkeypatch):
    (tmp_path / "experiment").mkdir()
    mine = tmp_path / "experiment/mine.yaml"
    mine.write_bytes(b"\xef\xbb\xbf# @package _global_\nsteps: 7\n")
    words = ("--config-dir", ".", "experiment=mine", "--cfg", "job", "-p", "steps")
    status, message, _ = run(capsys, tmp_path, monkeypatch, *words)
    assert status == 2 and message.startswith("vqclip: experiment/mine.yaml: a byte order mark")
    mine.write_bytes(mine.read_bytes()[3:])  # as the message has it
    assert main(words) is None and capsys.readouterr().out == "7\n"


def test_a_choice_that_is_not_there_is_told_where_the_config_is_only_shown(capsys, tmp_path, monkeypatch):
    status, message, _ = run(capsys, tmp_path, monkeypatch, "--cfg", "job", "noise=nope")
    assert status == 2 and message.startswith("vqclip: noise=nope: there is no such choice. Did you mean none?")


def test_files_may_say_where_the_run_goes_and_it_goes_where_hydra_says(small_pair, tmp_path, monkeypatch):
    """As a run's own config.yaml does, and a ``paths`` of one's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own/paths").mkdir(parents=True)
    (tmp_path / "own/paths/mine.yaml").write_text("output_dir: ${hydra:run.dir}\n")
    main(["--config-dir", "own", "paths=mine", "hydra.run.dir=made", "steps=1", *small_pair, "a fox"])
    assert yaml.safe_load((tmp_path / "made/config.yaml").read_text())["paths"] == {"output_dir": "made"}


def test_a_folder_on_hydras_search_path_may_have_groups_of_its_own(capsys, tmp_path, monkeypatch):
    (tmp_path / "own/team").mkdir(parents=True)
    (tmp_path / "own/team/a.yaml").write_text("# @package _global_\nsteps: 0\n")
    status, message, _ = run(capsys, tmp_path, monkeypatch, "hydra.searchpath=[file://own]", "+team=a", "a fox")
    assert status == 2 and message.startswith("vqclip: steps=0: ")


def test_another_file_is_not_blamed_for_a_mistyped_choice(capsys, tmp_path, monkeypatch):
    (tmp_path / "notes.yaml").write_text("- milk\n")
    status, message, _ = run(capsys, tmp_path, monkeypatch, "--config-dir", ".", "experiment=drawign", "a fox")
    assert status == 2 and "experiment=drawign: there is no such choice. Did you mean drawing?" in message


@pytest.mark.parametrize("value", ["${oc.env:COUNT}", "${oc.decode:${oc.env:COUNT}}"])
def test_what_is_offered_for_a_number_of_the_environment_can_be_pasted(value, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COUNT", "3")
    status, message, _ = run(capsys, tmp_path, monkeypatch, f"steps={value}", "a fox")
    offered = shlex.split(message.partition("steps=")[2])[-1].replace("NAME", "COUNT")
    assert status == 2 and resolve(compose([offered]))["steps"] == 3


def test_what_is_offered_for_a_picture_can_be_pasted(capsys, tmp_path, monkeypatch):
    (tmp_path / "photo (1).png").write_bytes(b"")
    status, message, _ = run(capsys, tmp_path, monkeypatch, "photo (1).png")
    offered = re.findall(r"(?:experiment=edit|prompt:) ('.*?')(?: 'a fox')?\. As a", message)
    keys = [parse_arguments(shlex.split(word)).words[0] for word in offered]
    assert status == 2 and keys == ['init.path="photo (1).png"', 'prompts.extras=[{image:"photo (1).png"}]']


def test_an_unknown_checkpoint_is_answered_with_what_there_is(capsys, tmp_path, monkeypatch):
    status, message, left = run(capsys, tmp_path, monkeypatch, "checkpoints=imagenet_16384")
    assert status == 2 and left == []
    assert "Did you mean imagenet_f16_16384?" in message and "embedded" in message


def test_an_unknown_perceptor_in_a_list_is_answered_alike(capsys, tmp_path, monkeypatch):
    status, message, _ = run(capsys, tmp_path, monkeypatch, "checkpoints/perceptors=[vit_b_32,rn51]")
    assert status == 2 and "checkpoints/perceptors=rn51: there is no such choice. Did you mean rn50?" in message


def test_offline_asks_for_nothing_and_says_where_to_put_it(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("VQCLIP_OFFLINE", "")  # put back afterwards
    monkeypatch.setenv("VQCLIP_HOME", str(tmp_path / "home"))
    status, message, left = run(
        capsys, tmp_path, monkeypatch, "checkpoints=imagenet_f16_16384", "--offline", "a castle"
    )
    assert status == 2 and left == []
    assert str(tmp_path / "home" / "imagenet_f16_16384.ckpt") in message and "vqclip models fetch" in message


def test_a_cache_under_nobodys_home_is_a_folder_like_any_other(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("VQCLIP_OFFLINE", "1")
    monkeypatch.setenv("VQCLIP_HOME", "~nobody-here/cache")
    status, message, _ = run(capsys, tmp_path, monkeypatch, "checkpoints=imagenet_f16_16384", "a castle")
    assert status == 2 and str(tmp_path / "~nobody-here" / "cache" / "imagenet_f16_16384.ckpt") in message


@pytest.mark.parametrize("more", [[], ["-m", "seed=1,2"]], ids=str)
def test_names_and_values_that_are_wrong_are_told_at_once(more, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["sed=3", "loss.alfa=2", "steps=x", "size=4"]
    with pytest.raises(SystemExit):
        main([*words, *more])
    told = capsys.readouterr().err.removeprefix("vqclip: ").splitlines()
    assert [line.partition(":")[0] for line in told] == ["sed", "loss.alfa", "steps='x'", "size=4"]
    if not more:
        with pytest.raises(UserError) as error:
            vqclip.run("a fox", words)
        assert str(error.value).splitlines() == told


def test_a_sweep_is_checked_value_by_value(capsys, tmp_path, monkeypatch):
    status, message, left = run(capsys, tmp_path, monkeypatch, "-m", "loss.beta=0,1,x", "seed=1,2")
    assert status == 2 and "loss.beta='x'" in message and left == []
    assert [cfg.loss.beta for cfg in compose_all(["loss.beta=0,1", "seed=1,2"])] == [0, 1, 0]
