"""Jobs of a sweep are composed from what they share, and are what Hydra composes."""

import json
import pickle
import time

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import OmegaConf

from vqclip import run
from vqclip.cli.summary import _time_left
from vqclip.io.progress import counted, watched
from vqclip.paths import conf_dir
from vqclip.sweeps.launch import _state
from vqclip.sweeps.loader import KEPT, SharedLoader


@pytest.fixture(scope="module")
def loaders():
    """Hydra's loader, ours, and the sweep's config."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        hydra = GlobalHydra.instance().config_loader()
    return hydra, SharedLoader(hydra), hydra.load_configuration("config", ["hydra.verbose=false"], RunMode.MULTIRUN)


@pytest.mark.parametrize(
    "words",
    [
        ["seed=1", "loss.beta=.5", "loss.beta={start: 1, end: 0}"],
        ["loss.beta=.4", "noise=sfumato", "loss.alpha=1"],
        ["seed=2", "++a=1", "+b={c: 1}", "b.c=3", "steps=4"],
        ["+b={c: 1}", "b.c=3", "++b.c=4"],
        ["experiment=reference", "steps=3", "sweep={group:a,threads:1,swept:{seed:'1'}}", "hydra.sweep.subdir=3"],
        ["~logger", "checkpoints/perceptors=[robust]", "prompts.include=[a,b]"],
        ["hydra.job.config.override_dirname.exclude_keys=[seed]", "seed=1", "steps=2"],
    ],
)
def test_a_job_is_what_hydra_composes(loaders, words):
    hydra, shared, master = loaders
    wanted = hydra.load_sweep_config(master, words)
    for _ in range(2):  # composed, then from what is kept
        found = shared.load_sweep_config(master, words)
        assert OmegaConf.to_yaml(found) == OmegaConf.to_yaml(wanted)
        assert found.hydra.job.override_dirname == wanted.hydra.job.override_dirname
        assert OmegaConf.is_struct(found)


def test_jobs_that_differ_in_values_are_composed_once(loaders, monkeypatch):
    hydra, _, master = loaders
    shared, composed = SharedLoader(hydra), []
    real = hydra.load_sweep_config
    monkeypatch.setattr(hydra, "load_sweep_config", lambda *args: composed.append(args[1]) or real(*args))
    seeds = [shared.load_sweep_config(master, [f"seed={i}", "loss=default"]).seed for i in range(5)]
    assert seeds == [0, 1, 2, 3, 4] and len(composed) == 1
    for i in range(KEPT + 3):
        shared.shared[(0, (str(i),))] = master
    shared.load_sweep_config(master, ["seed=1", "noise=sfumato"])
    assert len(shared.shared) == KEPT


def test_what_is_wrong_is_said_by_hydra(loaders):
    _, shared, master = loaders
    for words in (["nokey=1"], ["loss.nokey=1"], ["noise=nosuch"]):
        with pytest.raises(Exception, match=r"override|find") as error:
            shared.load_sweep_config(master, words)
        assert isinstance(error.value, ConfigCompositionException) or "nosuch" in str(error.value)


def test_it_travels_to_workers_without_what_it_keeps(loaders):
    _, shared, master = loaders
    shared.load_sweep_config(master, ["seed=1"])
    there = pickle.loads(pickle.dumps(shared))
    assert there.shared == {} and there.load_sweep_config(master, ["seed=7"]).seed == 7


def test_progress_is_told_in_time(capsys, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("vqclip.io.progress.time.monotonic", lambda: 4.0 * next(clock))
    assert list(counted(range(8), 8, "checking")) == list(range(8))
    assert capsys.readouterr().err.splitlines() == [f"checking {i} of 8" for i in (1, 4, 7)]


def test_a_short_count_says_nothing(capsys):
    assert list(counted("ab", 2, "checking")) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_jobs_elsewhere_are_told_where_they_change(small_pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vqclip.io.progress._LOG", 0.02)
    report = run("a fox", small_pair, tmp_path / "run").report
    places = [tmp_path / str(n) for n in range(3)]

    def becomes(place, status):
        place.mkdir()
        (place / "run.json").write_text(json.dumps(report | {"status": status}))

    becomes(places[0], "running")
    with watched(lambda: _state(places)):
        time.sleep(0.2)
        becomes(places[1], "interrupted")  # as good as not begun
        time.sleep(0.2)
        becomes(places[2], "finished")
        time.sleep(0.2)
    told = ["jobs: 2 waiting, 1 at work, 0 ended", "jobs: 1 waiting, 1 at work, 1 ended"]
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("jobs")] == told


@pytest.mark.parametrize(("done", "said"), [(0, ""), (2, ", 50 s left"), (1, ", 2 min left")])
def test_time_left(monkeypatch, done, said):
    monkeypatch.setattr("vqclip.cli.summary.time.time", lambda: 1020.0)
    assert _time_left(1000.0, done, 7) == said
