"""``vqclip show``: schedules as they run, and a cost that was measured."""

import os
import re
import signal
import sys

import pytest
from PIL import Image

from vqclip import run
from vqclip.cli.main import main
from vqclip.cli.show import draw, schedules_of, text_plot
from vqclip.module import LatentOptimisation
from vqclip.runs.cost import Cost, sizes
from vqclip.schedules import schedule


def test_a_falling_schedule_falls_and_a_constant_is_a_number():
    line = text_plot(schedule({"start": 3, "end": 0.1, "shape": "cosine"}))
    bars = line.split()[1]
    assert line.startswith("3 █") and line.endswith("▁ 0.1  cosine")
    assert list(bars) == sorted(bars, reverse=True)
    assert text_plot(schedule(0.5)) == "0.5"
    there_and_back = text_plot(schedule({"points": [[0, 0], [0.5, 1], [1, 0]]}))
    assert there_and_back.startswith("0 ▁") and "█" in there_and_back


def test_schedules_are_found_wherever_they_are():
    fading, own = {"points": [[0, 1], [1, 0.1]]}, {"_target_": "vqclip.schedules.Points", "points": [[0, 2], [1, 1]]}
    config = {
        "loss": {"alpha": own, "beta": 1, "terms": {"my.tv": {"weight": {"start": 0, "end": 1}}}},
        "prompts": {"include": ["an owl", {"text": "a fox", "weight": fading}]},
        "search": {"stages": [{"size": [64, 64], "share": 0.5}], "overlay": {"every": 5, "strength": 1, "until": 0.5}},
        "seed": 3,
    }
    assert dict(schedules_of(config)) == {
        "loss.alpha": schedule(own),
        "loss.beta": schedule(1),
        "loss.terms.my.tv.weight": schedule({"start": 0, "end": 1}),
        "prompts.include.1.weight": schedule(fading),
    }


def test_it_draws(tmp_path):
    draw({"optimizer.lr": schedule({"start": 3, "end": 0.1}), "loss.alpha": schedule(1)}, tmp_path / "plot.png")
    assert Image.open(tmp_path / "plot.png").size[0] == 480


def test_it_tells_the_cost_and_leaves_nothing(small_pair, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["show", "a fox", "an owl", *small_pair])
    said = capsys.readouterr()
    shown = said.out
    assert stop.value.code == 0 and said.err == "measuring 4 steps of the whole batch (without them: --quick)\n"
    assert "2 pictures of 32×32, 4 steps of 8 crops, 3 snapshots each" in shown
    assert "s a step" in shown and "GB at its peak" in shown
    assert not list(tmp_path.iterdir())


def test_where_it_is_stopped_nobody_is_sent_to_a_folder_that_is_gone(small_pair, monkeypatch, capsys, caplog):
    optimise = LatentOptimisation.optimise
    kill = lambda *args: os.kill(os.getpid(), signal.SIGTERM) or optimise(*args)  # noqa: E731
    monkeypatch.setattr(LatentOptimisation, "optimise", kill)
    with pytest.raises(SystemExit) as stop:
        main(["show", "a fox", *small_pair])
    assert stop.value.code == 128 + signal.SIGTERM
    assert "resume" not in caplog.text + capsys.readouterr().err


def test_a_cost_is_told_whatever_is_set_of_callbacks_and_loggers(small_pair, capsys):
    words = [word for word in small_pair if not word.startswith(("logger", "callbacks"))]
    with pytest.raises(SystemExit):
        main(["show", "a fox", *words, "callbacks.progress=null", "logger.wandb.mode=offline"])
    assert "s a step" in capsys.readouterr().out


def test_what_is_not_here_is_not_fetched(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VQCLIP_HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        main(["show", "checkpoints=imagenet_f16_16384", "init=sine", "a fox"])
    assert "seconds and memory cannot be told" in capsys.readouterr().out


def test_a_mistake_is_a_mistake(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["show", "steeps=3"])
    assert stop.value.code == 2 and "Did you mean steps?" in capsys.readouterr().err


def test_a_long_run_says_what_it_will_cost_once_it_knows(small_pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vqclip.callbacks.LONG", 0)
    words = [word for word in small_pair if not word.startswith(("callbacks", "steps"))]
    run("a fox", [*words, "~callbacks.timelapse", "steps=8"], folder=tmp_path / "run")
    said = capsys.readouterr().err
    assert len(re.findall(r"about \d+ s: \S+ s a step; \S+ GB at its peak", said)) == 1


@pytest.mark.parametrize(
    ("brief", "precision", "said"), [(True, "32-true", 1), (True, "bf16-mixed", 0), (False, "32-true", 0)]
)
def test_a_long_run_says_what_would_make_it_shorter(brief, precision, said, small_pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vqclip.callbacks.LONG", 0)
    monkeypatch.setattr("vqclip.models.vqgan_fast.BRIEF", brief)
    words = [word for word in small_pair if not word.startswith(("callbacks", "steps"))]
    run("a fox", [*words, "~callbacks.timelapse", "steps=5", f"trainer.precision={precision}"], folder=tmp_path / "run")
    assert capsys.readouterr().err.count("with trainer.precision=bf16-mixed a step takes") == said


def test_a_part_of_ones_own_without_crops_has_sizes_too():
    config = {
        "prompts": {"include": ["a", "b", "c", "d"]},
        "batch_size": 2,
        "augmentations": {"_target_": "mine.Whole"},
        "checkpoints": {"generator": {"architecture": {"ddconfig": {"ch_mult": [1, 1, 1, 1]}}}},  # 8 pixels a code
    }
    line = sizes(config | {"steps": 7, "snapshot_every": 3, "size": [35, 64]})
    assert line == '8 pictures of 32×64, 7 steps, 4 snapshots each: "a", "b", "c", …'


def test_a_system_that_does_not_tell_its_memory(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert Cost.of([0.0, 1.0, 2.0]).line(10) == "about 10 s: 1 s a step"


def test_a_folder_of_ones_own_is_searched_and_other_flags_are_refused(tmp_path, capsys):
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise/smoky.yaml").write_text(
        "_target_: vqclip.noise.Noise\nfactor: {start: .3, end: 0}\nnum_rands: 0\n"
    )
    with pytest.raises(SystemExit):
        main(["show", "--quick", "--config-dir", str(tmp_path), "noise=smoky", "a fox"])
    assert re.search(r"noise.factor +0.3 █", capsys.readouterr().out)
    for words, said in {
        ("--cfg", "job"): "--cfg: not with show",
        ("--png", "curves"): "its name ends in .png",
        ("resume=my run",): "resume=my run: not with show, and a run has its own config. Try: vqclip 'resume=my run'",
    }.items():
        with pytest.raises(SystemExit):
            main(["show", "--quick", *words, "a fox"])
        assert said in capsys.readouterr().err


def test_the_cost_of_several_tries_is_told(small_pair, capsys):
    with pytest.raises(SystemExit):
        main(["show", *small_pair, "steps=20", "search.restarts={count: 4, steps: 4}", "a fox"])
    assert "measured just now" in capsys.readouterr().out
