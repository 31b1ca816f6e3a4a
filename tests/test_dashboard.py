"""The W&B workspace of a sweep, printed without an account."""

import json
from pathlib import Path

import pytest

from vqclip import run
from vqclip.cli import main
from vqclip.compare.dashboard import build, describe
from vqclip.compare.pictures import Picture

pytest.importorskip("wandb_workspaces")


@pytest.fixture
def sweep(small_pair, tmp_path):
    for n, beta in enumerate((0, 1)):
        swept = f"sweep={{group: foxes, threads: 1, swept: {{loss.beta: '{beta}'}}}}"
        run(["a fox", "an owl"], [*small_pair, f"loss.beta={beta}", swept, "prompts.exclude=blurry"], tmp_path / str(n))
    return tmp_path


def test_printed_without_an_account(sweep, capsys):
    with pytest.raises(SystemExit) as end:
        main(["dashboard", str(sweep), "--print", "--project", "owls"])
    assert end.value.code == 0
    view = json.loads(capsys.readouterr().out)
    assert view["project"] == "owls" and view["displayName"] == "vqclip: foxes"
    sections = {s["name"]: s["panels"] for s in view["spec"]["section"]["panelBankConfig"]["sections"]}
    grids = [panel["config"] for panel in sections["pictures"]]
    assert [grid["mediaKeys"] for grid in grids] == [["picture/00"], ["picture/01"]]
    assert all(grid["gridSettings"] == {"xAxis": "step", "yAxis": "run"} for grid in grids)
    curves = [panel["config"]["metrics"] for panel in sections["curves"]]
    assert curves == [["loss"], ["include"], ["exclude"], ["lr"], ["noise"]]
    text = json.dumps(view)
    assert '"config:loss.beta"' in text and '"result"' in text and '"foxes"' in text


@pytest.mark.parametrize(
    "group,name",
    [
        ("it's mine", "vqclip: it's mine"),
        ('a "b" \\=c<d>=e \\x41', 'vqclip: a "b" \\-c-d--e \\x41'),
        ("狐 🦊", "vqclip: 狐 -"),
        (None, "vqclip"),
    ],
)
def test_a_sweep_of_any_name_is_filtered_by_it(group, name):
    config = {"sweep": {"group": group} if group else {"swept": {}}}
    view = describe(build([Picture(Path("0"), 0, config, {}, "")], "me", "owls"))
    assert view["displayName"] == name
    assert (json.dumps(group) in json.dumps(view["spec"]["section"]["runSets"][0]["filters"])) == bool(group)


def test_a_group_of_ones_own_is_what_is_filtered(monkeypatch):
    """Jobs that were given a group are in that one; by the sweep's folder the workspace found none of them."""
    monkeypatch.setenv("WANDB_RUN_GROUP", "together")
    for logger, group in ({}, "together"), ({"wandb": {"group": "asked"}}, "asked"):
        view = describe(
            build([Picture(Path("0"), 0, {"sweep": {"group": "w2"}, "logger": logger}, {}, "")], "me", "owls")
        )
        filters = json.dumps(view["spec"]["section"]["runSets"][0]["filters"])
        assert f'"{group}"' in filters and "w2" not in filters
    assert '"together"' not in json.dumps(describe(build([Picture(Path("0"), 0, {}, {}, "")], "me", "owls")))


def test_a_swept_group_has_a_column_as_a_key_has():
    jobs = [
        {"loss": {"beta": n // 2}, "sweep": {"swept": {"loss.beta": n // 2, "noise": f"n{n % 2}"}}} for n in range(4)
    ]
    view = json.dumps(
        describe(build([Picture(Path(str(n)), 0, job, {}, "") for n, job in enumerate(jobs)], "me", "owls"))
    )
    assert '"config:loss.beta"' in view and '"config:sweep.swept.noise"' in view and "swept.loss" not in view


def test_saving_needs_a_key_and_says_so(sweep, capsys, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(sweep / "netrc"))
    with pytest.raises(SystemExit) as end:
        main(["dashboard", str(sweep)])
    assert end.value.code == 2 and "vqclip dashboard --print" in capsys.readouterr().err
