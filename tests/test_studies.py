"""Every study has one form, and its own command still runs: here at one step, of as few jobs as it can have."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from scripts import load

from vqclip.cli import main
from vqclip.config.check import errors_in
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve
from vqclip.runs.rerun import rerun

ROOT = Path(__file__).parent.parent
SWEEPS = sorted(path for path in ROOT.glob("experiments/*/experiment/*.yaml"))
STUDIES = sorted(
    {path.parents[1] for path in SWEEPS}
    | {ROOT / "experiments" / n for n in ("editing", "fewer_steps", "reliability", "ways")}
)
#: Values of the swept keys that make two jobs of each study.
TWO_JOBS = {
    "alpha_beta": ["loss.alpha=0.5", "loss.beta=0,1"],
    "gallery": ['prompts.include=["a lion"],["a penguin"]'],
    "learning_rate": ["latent=continuous,quantised", "optimizer.lr=0.1"],
    "search": ["hparams_search.trials=2"],
    "sfumato": ["noise.factor=0.1", "noise.num_rands=0,4"],
}


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_a_study_says_its_question_command_and_result_and_shows_a_picture(study):
    text = (study / "README.md").read_text()
    assert "**Question.**" in text
    assert "**Result" in text or "**Answer.**" in text
    assert re.search(r"^(    |)(vqclip|python) ", text, flags=re.MULTILINE), "no command"
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert pictures and all((study / name).is_file() for name in pictures)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_study_runs_at_one_step(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = path.stem
    small = ["steps=1", "size=[32,32]", "augmentations.crops.count=2", "callbacks.timelapse=null"]
    folder = ["-m", "--config-dir", str(path.parents[1]), f"experiment={name}", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    try:
        main([*folder, *small, *TWO_JOBS.get(name, [])])
    except SystemExit as end:
        assert not end.code
    with open(tmp_path / "sweep" / "results.csv") as file:
        assert len(list(csv.DictReader(file))) >= 2


def test_the_editing_study_measures_one_of_its_edits_and_draws_it_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    study = load("editing/study.py")
    monkeypatch.setattr(study, "RUNS", tmp_path)
    asked = ("moon", "an orange moon on a blue background", True, 0.5, ["experiment=edit", "steps=1", "logger=none"])
    for _ in range(2):  # a second time too, over the first
        row = study.edit(*asked)
    assert row["outside_equal"] and -1 <= row["guide_after"] <= 1
    monkeypatch.setattr(study, "PICTURES", tmp_path / "moon-mask-0.5" / "picture-00")
    monkeypatch.setattr(study, "rerun", lambda path: rerun(path, folder=tmp_path / path.stem))
    study.again()
    assert capsys.readouterr().out == "best.png | same bytes\nfinal.png | same bytes\n"


def test_the_editing_study_keeps_its_pictures_where_it_does_not_come_to_its_end(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = load("editing/study.py")
    kept = tmp_path / "pictures" / "moon.png"
    kept.parent.mkdir()
    kept.write_bytes(b"mine")
    monkeypatch.setattr(study, "PICTURES", kept.parent)
    monkeypatch.setattr(study, "edit", lambda *_: sys.exit("no room"))
    for _ in range(2):
        with pytest.raises(SystemExit, match="no room"):
            study.whole()
    assert kept.read_bytes() == b"mine"


@pytest.mark.parametrize("words", [["tne"], ["agian"], ["again", "moon"], ["ten", "again"], ["seed=1"]], ids=" ".join)
def test_the_editing_study_refuses_other_words_and_keeps_its_pictures(words, tmp_path, monkeypatch):
    study = load("editing/study.py")
    kept = tmp_path / "pictures" / "moon.png"
    kept.parent.mkdir()
    kept.write_bytes(b"mine")
    monkeypatch.setattr(study, "PICTURES", kept.parent)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="Allowed: nothing, ten KEY=VALUE…, or again"):
        study.main(words)
    assert [path.read_bytes() for path in tmp_path.rglob("*.png")] == [b"mine"]


@pytest.mark.parametrize("study", ["editing", "fewer_steps", "ways"])
def test_a_study_refuses_a_word_it_does_not_know(study, tmp_path):
    script = ROOT / "experiments" / study / "study.py"
    done = subprocess.run([sys.executable, script, "tset"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode in (1, 2) and "tset" in done.stderr and "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir())


def test_the_study_of_fewer_steps_measures_one_prompt(monkeypatch):
    monkeypatch.chdir(ROOT)
    study = load("fewer_steps/study.py")
    found, images = study.measure_batch(
        ["a red apple"], 0, [*study.REFERENCE, "augmentations.crops.count=2"], 1, [1], (0,)
    )
    assert found[1, 0].shape == (3, 1) and images.shape == (1, 3, 128, 128)


def test_the_study_of_ways_measures_one_run_of_each_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = load("ways/study.py")
    asked = yaml.safe_load((ROOT / "experiments" / "ways" / "study.yaml").read_text())
    for changes in asked["variants"].values():
        assert errors_in(resolve(compose([*asked["base"], *changes]))) == []
    eyes = study.Eyes(asked["base"])
    small = [*asked["base"], "steps=1", "size=[32,32]", "augmentations.crops.count=2"]
    names = ("base", "jitter")
    rows = [row for name in names for row in study.measure(["a red apple"], name, small, eyes, tmp_path / name)]
    assert all(-1 <= row["judge"] <= 1 for row in rows)
    assert "| jitter | 1 | +0.000 (+0.000 to +0.000) |" in study.table(rows)
    assert not study.may_help(rows, "jitter")
    rows[1]["judge"] += 0.1
    assert study.may_help(rows, "jitter")
    for _ in range(2):
        row = study.in_their_places("a red apple", "a fish", True, [*small, "size=[32,64]"], tmp_path)
    assert row["halves_right"] in (0, 1, 2)
    row = study.in_their_times("a red apple", "a fish", [*small, "steps=5", "snapshot_every=1"], tmp_path)
    assert row["halves_right"] in (0, 1, 2) and {"middle_first", "end_second"} < set(row)


def test_the_study_of_reliability_counts_one_small_category(tmp_path, monkeypatch):
    study = load("reliability/study.py")
    assert all((ROOT / name).is_file() for category in study.CATEGORIES for name in study.tests_of(category))
    monkeypatch.setitem(study.CATEGORIES, "wrong_inputs", ["test_schedules.py"])
    row = study.run_category("wrong_inputs")
    assert row.tried == row.held > 5 and not row.not_run
    rows = study.keep(row, tmp_path / "results.csv")
    assert f"| wrong_inputs | {row.tried} | {row.held} |" in study.markdown(rows)
    study.draw(rows, tmp_path / "table.png")
    assert (tmp_path / "table.png").is_file()


def test_kills_that_ended_without_a_table_are_not_counted_from_the_last_one(tmp_path, monkeypatch):
    study = load("reliability/study.py")
    monkeypatch.setattr(study, "HERE", tmp_path)
    monkeypatch.setattr(study, "pytest_row", lambda *_: study.Row("kills", 1, 1, 0, 0.0, "", 1))
    (tmp_path / "kills.csv").write_text("what,ended,resumed,same_bytes\na rename,-9,0,True\n")
    (tmp_path / "kills.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(SystemExit, match="ended with status 3 and wrote no kills"):
        study.kills_row()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("speed.py", ["--contenders", "vqclip", "original", "floor_ours"]),
        ("gpu.py", ["--ways", "float32", "bf16, CUDA graphs"]),
        ("growth.py", []),
        ("memory.py", []),
    ],
)
def test_a_benchmark_has_a_dry_run(script, words, tmp_path):
    path = ROOT / "experiments" / "benchmarks" / script
    done = subprocess.run(
        [sys.executable, path, "--dry-run", tmp_path, *words], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    (table,) = tmp_path.glob("*.csv")
    assert "error" not in table.read_text()


def test_the_study_of_kills_counts_one(tmp_path, monkeypatch):
    study = load("reliability/kills.py")
    one = {"RENAMED": [("last.ckpt", 1)], "OPENED": [], "HALF_WRITTEN": [], "VIDEOS": {}, "CHANCE": 0}
    for name, kept in one.items():
        monkeypatch.setattr(study, name, kept)
    study.draw(tmp_path / "whole")
    (row,) = study.killed(tmp_path, study.bytes_of(tmp_path / "whole"))
    assert row["ended"] == -9 and row["resumed"] == 0 and row["same_bytes"]
