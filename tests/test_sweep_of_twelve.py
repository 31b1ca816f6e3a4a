"""A sweep of twelve, of which one diverges and one fails: nothing of the others is lost, on disk or on the page."""

import csv
from pathlib import Path

import pytest
from test_compare import shown
from test_sweep import sweep

GAPS = {"diverged", "failed"}


@pytest.fixture(scope="module")
def twelve(small_pair, tmp_path_factory):
    """Ten good jobs of seeds and weights; one whose anchor tears the latent apart, one whose weights are cut."""
    folder = tmp_path_factory.mktemp("twelve")
    good = next(word.partition("=")[2] for word in small_pair if word.startswith("checkpoints.generator.path="))
    broken = folder / "broken.safetensors"
    broken.write_bytes(Path(good).read_bytes()[:-1000])
    to, pair = f"hydra.sweep.dir={folder / 'sweep'}", small_pair[1:]
    sgd = "optimizer={_target_:torch.optim.SGD,lr:1e6}"
    # Three commands into one folder: a sweep grows there.
    one = [to, sgd, "loss.anchor=0,1e6", "steps=8", f"checkpoints.generator.path={good}", "a fox"]
    assert sweep(*one, pair=pair) == 1
    assert sweep(to, "seed=1", f"checkpoints.generator.path={broken},{good}", "a fox", pair=pair) == 1
    more = [to, "seed=2,3", "loss.alpha=0.5,1,2,4", f"checkpoints.generator.path={good}", "a fox"]
    assert sweep(*more, pair=pair) == 0
    return folder / "sweep"


def rows(folder):
    with open(folder / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_twelve_rows_and_every_swept_key(twelve):
    found = rows(twelve)
    states = [row["status"] for row in found]
    assert len(found) == 12 and states.count("finished") == 10 and set(states) == GAPS | {"finished"}
    swept = {"seed", "loss.alpha", "loss.anchor", "checkpoints.generator.path"}
    assert swept | {"judge", "wandb", "started", "version.torch"} <= set(found[0])
    for row in found:
        assert bool(row["judge"]) == (row["status"] == "finished") and row["started"] and row["command"]
        assert row["status"] == "finished" or row["error"]
    assert (twelve / "compare.png").stat().st_size > 10_000


def test_the_page_shows_all_and_sorts_by_the_judge(twelve, browser):
    page = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True).new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((twelve / "compare.html").as_uri())
    assert {text.partition(":")[0] for text in page.locator(".gap").all_text_contents()} == GAPS
    page.select_option("#sort", "judge")
    found = rows(twelve)
    judged = [found[n]["judge"] for n in shown(page)]
    assert len(judged) == 12 and judged[10:] == ["", ""], "the gaps come last"
    assert [float(score) for score in judged[:10]] == sorted((float(score) for score in judged[:10]), reverse=True)
    page.context.close()
    assert errors == []
