"""The seven examples of docs/your_own_parts.md, run as they stand there from a folder outside the repository."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vqclip
from vqclip.config.compose import compose
from vqclip.config.overrides import with_overrides
from vqclip.config.resolve import resolve
from vqclip.runs.rerun import rerun

REPO = Path(__file__).parent.parent
PAGE = (REPO / "docs" / "your_own_parts.md").read_text()
LONGEST = 20
#: What makes a run a second long; the pair is the small one of the tests.
SHORT = ["steps=2", "snapshot_every=1", "logger=none", "callbacks.interpolation=null", "hydra.run.dir=out"]


def examples():
    """Section → (files, command) of every section with a class."""
    found = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        files = dict(re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", section, re.DOTALL | re.MULTILINE))
        commands = re.findall(r"^PYTHONPATH=\. vqclip (.*)$", section, re.MULTILINE)
        if files:
            found[section.splitlines()[0]] = (files, commands[0])
    return found


EXAMPLES = examples()


def lines(text):
    """How many lines are not blank."""
    return sum(bool(line.strip()) for line in text.splitlines())


def test_there_are_seven_of_at_most_twenty_lines():
    assert len(EXAMPLES) == 7
    for name, (files, _) in EXAMPLES.items():
        assert {Path(path).suffix for path in files} == {".py", ".yaml"}, name
        assert sum(lines(text) for text in files.values()) <= LONGEST, name


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_from_a_folder_of_its_own(name, tmp_path, small_pair):
    files, command = EXAMPLES[name]
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    named = re.findall(r"(\S+)=", command)
    pair = [o for o in small_pair if not any(key in o for key in ("logger", "callbacks", "steps", "snapshot"))]
    if "checkpoints/generator" in named:
        pair = [o for o in pair if "checkpoints.generator" not in o]
    pair = [o for o in pair if not (o.startswith("init") and "init" in named)]
    pair = [o for o in pair if not (o.startswith("augmentations") and "augmentations" in named)]
    words = [word for word in re.findall(r'"[^"]*"|\S+', command)]
    script = "import sys; from vqclip.cli import main; main(sys.argv[1:])"
    argv = [*words[:-1], *pair, *SHORT, words[-1].strip('"')]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([".", os.environ.get("PYTHONPATH", str(REPO))])}
    made = subprocess.run(
        [sys.executable, "-c", script, *argv], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600
    )
    assert made.returncode == 0, made.stderr[-2000:]
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert report["status"] == "finished" and report["pictures"][0]["final"]["step"] == 2
    rows = (tmp_path / "out" / "metrics.csv").read_text().splitlines()
    assert "grey" in rows[0] or "grey" not in command


TYPED = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from nowhere import Palette, View

class Grey:
    def __init__(self, weight: float, palette: {Palette} = None):
        self.weight = weight

    def __call__(self, view: {View}):
        return view.image.var(1).mean((1, 2))
"""


def test_an_annotation_may_name_what_is_there_for_type_checkers_alone(tmp_path, small_pair, monkeypatch):
    names = {name: name if sys.version_info >= (3, 14) else repr(name) for name in ("Palette", "View")}
    (tmp_path / "typed_parts.py").write_text(TYPED.format(**names))
    monkeypatch.syspath_prepend(tmp_path)
    own = "+loss.terms.grey={_target_: typed_parts.Grey, weight: 1}"
    assert vqclip.run("a fox", [*small_pair, own], tmp_path / "run").report["status"] == "finished"


@pytest.mark.parametrize("word", ["trust=[grey_parts]", "+trust=grey_parts"])
def test_trust_beside_a_record_is_told_the_variable_that_gives_it(word, tmp_path, small_pair, monkeypatch):
    monkeypatch.delenv("VQCLIP_TRUST", raising=False)
    (tmp_path / "grey_parts.py").write_text(TYPED.format(Palette="'Palette'", View="'View'"))
    monkeypatch.syspath_prepend(tmp_path)
    vqclip.run(
        "a fox", [*small_pair, "steps=1", "+loss.terms.grey={_target_: grey_parts.Grey, weight: 1}"], tmp_path / "run"
    )
    with pytest.raises(vqclip.UserError, match=r"^\S*trust=.* Try: export VQCLIP_TRUST=grey_parts$"):
        rerun(tmp_path / "run", [word], tmp_path / "again")
    monkeypatch.setenv("VQCLIP_TRUST", "grey_parts")
    assert rerun(tmp_path / "run", [], tmp_path / "again")[1]


@pytest.mark.parametrize(
    ("word", "tried"),
    [
        ("~trust", "without it"),
        ("~trust=[mine]", "without it"),
        ("trust=null", "without it"),
        ("trust=[]", "without it"),
        ("trust=[mine,other]", "export VQCLIP_TRUST=other,mine"),
    ],
)
def test_trust_beside_a_record_keeps_packages_that_are_trusted_already(word, tried, monkeypatch):
    monkeypatch.setenv("VQCLIP_TRUST", "other")
    with pytest.raises(vqclip.UserError, match=rf"trust.*: not with resume or rerun.* Try: {tried}$"):
        with_overrides(resolve(compose([])), [word], "a record", {})
