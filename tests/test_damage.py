"""Every tool on every damaged folder: one sentence and status 2, or one cell lost; nothing outside is touched."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path

import pytest
from damages import ALL, CHECKPOINT, CONFIG, EDITED, LATENTS, METRICS, PICTURE, REPORT, SWAPPED
from PIL import Image

import vqclip
from vqclip import UserError
from vqclip.cli import main
from vqclip.compare.command import command_of
from vqclip.config.check import errors_in
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve
from vqclip.loggers.wandb_files import records_in
from vqclip.sweeps.jobs import is_done, read_report


@pytest.fixture(scope="module")
def whole(small_pair, tmp_path_factory):
    """A finished run of two pictures."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    small = ["steps=2", "snapshot_every=1", "augmentations.crops.count=2"]
    return vqclip.run(["a fox", "an owl"], [*small_pair, *small], folder).folder


@pytest.fixture
def damaged(whole, tmp_path):
    """Makes the damaged copy, of a finished run or of one that was stopped."""

    def make(name: str, status: str = "finished") -> Path:
        run, outside = tmp_path / "run", tmp_path / "outside"
        for folder in (run, outside):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, run)
        outside.mkdir()
        report = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps(report | {"status": status}))
        (ALL | SWAPPED)[name](run, outside)
        return run

    return make


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Runs a tool; its status and message, which is one sentence, and what lies outside is as it was."""
    monkeypatch.chdir(tmp_path)

    def run(*words) -> tuple[int, str]:
        before = contents(tmp_path / "outside")
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vqclip: ")]
        assert stop.value.code in (0, 1, 2)
        assert len(errors) == (stop.value.code == 2), "one sentence, where it is refused"
        assert before == contents(tmp_path / "outside")
        return stop.value.code, "".join(errors)

    return run


def argv(tool, run):
    """The words of a tool for one run."""
    return {
        "resume": [f"resume={run}"],
        "more": [f"resume={run}", "steps=3"],
        "interpolate": ["interpolate", run, "--frames", "3", "--out", run.parent / "out.mp4"],
    }.get(tool, [tool, run])


def thinned(cases, every=4):
    """All cases in experiments/reliability; a part of them in each run of the suite."""
    return [pytest.param(case, marks=[] if i % every == 0 else pytest.mark.slow) for i, case in enumerate(cases)]


#: Tools that need what is damaged, so each has to refuse.
NEEDS = [
    *((name, tool) for name in REPORT for tool in ("resume", "rerun", "evaluate", "interpolate")),
    *((name, tool) for name in CONFIG for tool in ("resume", "rerun", "interpolate")),
    *((name, "more") for name in {**CHECKPOINT, **LATENTS, **METRICS}),
    *((name, "interpolate") for name in LATENTS),
    *((name, "evaluate") for name in PICTURE if name.startswith("best")),
    *((name, "more") for name in PICTURE if name.startswith("steps")),
]


@pytest.mark.parametrize("name", ["report newer", "config newer"])
def test_a_run_of_a_newer_vqclip_is_not_called_damaged(damaged, call, name):
    status, message = call("rerun", damaged(name))
    assert status == 2 and "a newer vqclip wrote it, in format 99. Allowed: up to 1" in message
    assert "damaged:" not in message and "Try: pip install -U vqclip" in message


@pytest.mark.parametrize("case", thinned(NEEDS, 3), ids="-".join)
def test_a_tool_that_needs_what_is_damaged_refuses_in_a_sentence(damaged, call, case):
    name, tool = case
    run = damaged(name)
    status, message = call(*argv(tool, run))
    assert status == 2
    assert str(run) in message or "steps are done" in message
    assert "Try:" in message or "Allowed:" in message


@pytest.mark.parametrize("name", {**CHECKPOINT, **LATENTS, **METRICS} | {n: 0 for n in PICTURE if "steps" in n})
def test_a_stopped_run_does_not_go_on_from_damage(damaged, call, name):
    assert call(f"resume={damaged(name, 'interrupted')}")[0] == 2


@pytest.mark.parametrize("name", thinned({**CHECKPOINT, **LATENTS, **METRICS}))
def test_a_finished_run_that_may_not_go_on_is_left_as_it_was(damaged, call, name):
    run = damaged(name)
    (run / "interpolation.mp4").write_bytes(b"a video of before")
    before = contents(run)
    assert call(*argv("more", run))[0] == 2
    (run / "vqclip.log").unlink(missing_ok=True)
    assert contents(run) == before


@pytest.mark.parametrize("name", SWAPPED)
def test_a_run_does_not_go_on_with_a_file_of_another_run(damaged, call, name):
    status, message = call(*argv("more", damaged(name)))
    assert status == 2 and "another run" in message


def test_a_checkpoint_of_a_step_that_the_config_has_not_says_so(damaged, call):
    message = call(f"resume={damaged('checkpoint step huge', 'interrupted')}")[1]
    assert "it is of step 1000000000000, and the config has 2 steps: it belongs to another run" in message


def test_a_report_of_fewer_pictures_says_how_many(damaged, call):
    message = call(*argv("more", damaged("report of one picture")))[1]
    assert "its pictures are 1, and those of config.yaml 2: one belongs to another run" in message


@pytest.mark.parametrize("case", EDITED, ids="-".join)
def test_a_tool_that_reads_an_edited_config_refuses_in_a_sentence(whole, tmp_path, call, case):
    run = shutil.copytree(whole, tmp_path / "run")
    EDITED[case](run, tmp_path)
    status, message = call(*argv(case[0], run))
    assert status == 2 and str(run) in message
    assert "Try:" in message or "Allowed:" in message


@pytest.mark.parametrize("rows,status", [(1, 0), (2, 2)])
def test_a_run_without_checkpoint_begins_again_only_where_it_had_none(damaged, call, capsys, whole, rows, status):
    """Two snapshots: the second one's checkpoint was there already where a step after it has a row."""
    run = damaged("checkpoint missing", "running")
    for picture in run.glob("picture-*"):
        (picture / "steps" / "000002.png").unlink()
    lines = (run / "metrics.csv").read_text().splitlines(keepends=True)
    (run / "metrics.csv").write_text("".join(lines[: 1 + rows]))
    assert call(f"resume={run}")[0] == status
    if status == 0:
        assert (run / "picture-00" / "best.png").read_bytes() == (whole / "picture-00" / "best.png").read_bytes()


@pytest.mark.parametrize("name", [name for name in PICTURE if not name.startswith("steps")])
def test_pictures_that_can_be_made_again_are(damaged, call, whole, name):
    """best.png and final.png are copies of snapshots: a run that goes on has them whole again, save where none is."""
    run = damaged(name, "interrupted")
    refused = name.endswith(("link", "folder", "pipe", "loop"))
    assert call(f"resume={run}")[0] == (2 if refused else 0)
    if not refused:
        for picture in ("best.png", "final.png"):
            assert (run / "picture-00" / picture).read_bytes() == (whole / "picture-00" / picture).read_bytes()


@pytest.mark.parametrize(
    "name", ["latents a folder", "final a bomb", "best cut", "metrics a folder", "steps/000002 text"]
)
def test_rerun_says_which_file_of_the_old_run_is_damaged(damaged, call, name):
    assert call("rerun", damaged(name))[0] == 1


@pytest.mark.parametrize("name", thinned(ALL))
def test_compare_loses_one_cell(damaged, call, whole, tmp_path, name):
    """Beside a whole run."""
    (tmp_path / "sweep").mkdir()
    damaged(name).rename(tmp_path / "sweep" / "0")
    shutil.copytree(whole, tmp_path / "sweep" / "1")
    assert call("compare", tmp_path / "sweep")[0] == 0
    rows = (tmp_path / "sweep" / "results.csv").read_text().splitlines()
    assert sum(row.startswith("1,") for row in rows) == 2, "the whole run has its two rows"
    assert any(row.startswith("0,") for row in rows), "the damaged one is shown"


#: What of a report the start from another run's latent does not read.
NOT_A_STARTS = {
    *("report newer", "report format text", "report prompt a number", "report no score", "report score a text"),
    *("report status", "report status null", "report status list", "report no status", "report seed true"),
    *("report machine null", "report threads", "report threads negative"),
    *("report versions a list", "report sha256 a list"),
}


@pytest.mark.parametrize("name", thinned(REPORT, 4))
def test_a_start_from_a_damaged_run_is_checked(damaged, name):
    run = damaged(name)
    errors = errors_in(resolve(compose(["init=run", f"init.run={run}", "init.picture=0", "size=[64,64]"])))
    assert len(errors) == (name not in NOT_A_STARTS)
    assert all(str(run) in error and "Allowed: " in error and "\n" not in error for error in errors)


@pytest.mark.parametrize("content", ["[1, 2]", "null", "{a: 1}", "3", "[", "!!int x"])
def test_the_command_of_a_run_with_a_strange_hydra_folder(damaged, content):
    run = damaged("report null")
    (run / ".hydra").mkdir()
    (run / ".hydra" / "overrides.yaml").write_text(content)
    (run / ".hydra" / "hydra.yaml").write_text("hydra: {runtime: {config_sources: []}}")
    (run / ".hydra" / "config.yaml").write_text(content)
    for steps in (7, datetime.date(2026, 1, 1)):  # which YAML can hold
        assert command_of(run, {"steps": steps}).startswith("vqclip ")
    assert command_of(run).startswith("vqclip ")


@pytest.mark.parametrize("id_", [["x"], {"a": 1}, "*", "../x", "", 5])
def test_a_record_does_not_say_which_of_wandbs_files_are_read(damaged, tmp_path, id_):
    run, mine = damaged("metrics missing"), tmp_path / "mine" / "wandb" / "offline-run-20260101_000000-abc"
    mine.mkdir(parents=True)
    (mine / "run-abc.wandb").write_bytes(b"mine")
    (run / "config.yaml").write_text(f"logger: {{wandb: {{save_dir: {tmp_path}/mine}}}}")
    for wandb, found in ((id_, 0), ("abc", 1)):
        (run / "run.json").write_text(json.dumps({"wandb": wandb}))
        assert len(records_in([run])) == found


@pytest.mark.parametrize("name", thinned(REPORT | CONFIG, 8))
def test_dashboard_shows_the_others(damaged, call, whole, name):
    assert call("dashboard", damaged(name), whole, "--print")[0] == 0


@pytest.mark.parametrize("name", REPORT | {n: 0 for n in PICTURE if n.startswith(("best", "final"))})
def test_a_sweep_does_a_damaged_job_again(damaged, whole, name):
    report, run = read_report(whole), damaged(name)
    assert is_done(whole, report, report["identity"])
    assert not is_done(run, read_report(run), report["identity"])


def test_a_picture_that_was_retouched_or_lies_elsewhere(damaged, whole):
    run = damaged("best cut")
    picture = Image.open(whole / "picture-00" / "best.png")
    picture.putpixel((0, 0), (255, 0, 0))
    picture.save(run / "picture-00" / "best.png")
    report = read_report(run)
    assert is_done(run, report, read_report(whole)["identity"])
    (run / "run.json").write_text(json.dumps(report | {"sha256": {"/etc/hostname": "", "/etc/best.png": ""}}))
    assert is_done(run, read_report(run), report["identity"]), "what a record names elsewhere is not looked at"
    (run / "picture-01" / "final.png").unlink()
    assert not is_done(run, read_report(run), report["identity"])


def test_a_job_done_again_has_its_picture_again(small_pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*small_pair, "steps=2", "augmentations.crops.count=2"]
    sweep = ["a fox", "-m", "seed=0", *words, f"hydra.sweep.dir={tmp_path}/sweep"]
    main(sweep)
    best = tmp_path / "sweep" / "0" / "picture-00" / "best.png"
    before = best.read_bytes()
    best.write_bytes(b"")
    main(sweep)
    assert best.read_bytes() == before


@pytest.mark.parametrize("name", REPORT)
def test_load_refuses_a_damaged_report(damaged, name):
    with pytest.raises(UserError, match="run"):
        vqclip.load(damaged(name))


@pytest.mark.parametrize("name", CONFIG | LATENTS | PICTURE | METRICS)
def test_a_result_tells_of_a_damaged_part_when_it_is_asked_for(damaged, name):
    result, refused = vqclip.load(damaged(name)), {}
    parts = ("config", "latents", "best", "final", "history", "images")
    for part in parts:
        try:
            getattr(result, part)
        except UserError as error:
            refused[part] = str(error)
    assert not any("\n" in message for message in refused.values())
    of = name.split()[0]  # none is read from timing.csv or the steps' pictures, and a table may end early
    part = {"metrics": "history", "picture": "images"}.get(of, of)
    assert part in refused or part not in parts or name in ("metrics empty", "metrics cut in a line")
