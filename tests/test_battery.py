"""The battery: what it runs, what it leaves, and the intervals of its table."""

import pytest

from vqclip import UserError
from vqclip.cli.evaluate import main
from vqclip.compare.battery import Found, battery, interval, read_battery, trend
from vqclip.runs.evaluate import JUDGES


def test_the_captions_begin_with_the_prompts_and_none_is_there_twice():
    prompts, captions = battery()["prompts"], battery()["captions"]
    assert captions[: len(prompts)] == prompts
    assert len(set(captions)) == len(captions) == 512


def test_an_interval_is_over_prompts_and_seeds_of_one_hang_together():
    rows = [Found("r", str(p), seed, "judge", 0.5, 1 if p < 5 else 9) for p in range(10) for seed in range(50)]
    mean, low, high = interval(rows, lambda row: row.rank == 1)
    assert mean == 0.5
    assert 0.1 <= low <= 0.3
    assert 0.7 <= high <= 0.9
    assert interval(rows, lambda row: row.similarity) == (0.5, 0.5, 0.5)


def test_a_battery_is_drawn_goes_on_and_is_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "vqclip.compare.battery.battery", lambda: {"prompts": ["a fox"], "captions": ["a fox", "a cow"]}
    )
    one, two = str(tmp_path / "one, (x)"), str(tmp_path / "two")
    quick = ["steps=1", "logger=none", "callbacks=none", "size=[64,64]"]
    assert main(["--battery", one, "--seeds", "0,1", *quick]) == 0
    made = (tmp_path / "one, (x)" / "1" / "run.json").stat().st_mtime_ns
    assert main(["--battery", one]) == 0
    assert (tmp_path / "one, (x)" / "1" / "run.json").stat().st_mtime_ns == made
    rows = read_battery(tmp_path / "one, (x)")
    assert [(row.seed, row.judge) for row in rows] == [(seed, judge) for seed in (0, 1) for judge in JUDGES]
    main(["--battery", two, *quick])
    capsys.readouterr()
    assert main(["--battery", one, two]) == 0
    assert capsys.readouterr().out == trend([tmp_path / "one, (x)", tmp_path / "two"]) + "\n"


def test_a_command_to_paste_has_its_folder_in_quotes(tmp_path):
    folder = tmp_path / "my battery"
    folder.mkdir()
    (folder / "battery.csv").write_text("no,table\n1,2\n")
    with pytest.raises(UserError) as refused:
        read_battery(folder)
    assert f"Try: rm '{folder}/battery.csv'" in str(refused.value)


def test_a_folder_keeps_to_its_settings(tmp_path):
    (tmp_path / "battery.yaml").write_text("[steps=1, seed=0]")
    with pytest.raises(Exception, match="drawn with steps=1 seed=0"):
        main(["--battery", str(tmp_path), "steps=2"])


def test_settings_stay_as_typed(tmp_path):
    (tmp_path / "battery.yaml").write_text("[steps=1, seed=0]")
    with pytest.raises(UserError, match=r"Try: .*-2 'tags=\[a//b\]' --seeds 0$"):
        main(["--battery", str(tmp_path), "tags=[a//b]"])


def test_what_is_refused_leaves_the_folder_free(tmp_path):
    folder = tmp_path / "one"
    with pytest.raises(SystemExit):
        main(["--battery", str(folder), "stpes=4"])
    assert not (folder / "battery.yaml").exists()


def test_seeds_are_not_dropped(tmp_path):
    (tmp_path / "battery.yaml").write_text("[steps=1, seed=0]")
    with pytest.raises(UserError, match=r"drawn with steps=1 seed=0.* Try: .*-2 steps=1 --seeds 0,1"):
        main(["--battery", str(tmp_path), "--seeds", "0,1"])
    with pytest.raises(UserError, match=r"seed=5: not with --battery\. Try: --seeds 5"):
        main(["--battery", str(tmp_path), "seed=5"])
