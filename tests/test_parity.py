"""The page of all options of other programs is what its program writes, and as good as it says."""

import shlex

import pytest
from PIL import Image
from scripts import load


@pytest.fixture(scope="module")
def study():
    return load("parity/study.py")


def test_the_page_is_what_the_program_writes(study):
    assert (study.HERE / "README.md").read_text() == study.page(study.rows(), study.ran())


def test_all_options_are_counted_and_most_have_an_answer(study):
    rows = study.rows()
    assert len(rows) == 224 and len({(row.program, row.option) for row in rows}) == 224
    assert sum(row.state != "missing" for row in rows) >= 190
    assert all(row.answer and row.says for row in rows)
    assert len(study.ran()) >= 90


def test_every_line_composes_without_a_mistake(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for picture in ("photo.png", "mask.png"):
        Image.radial_gradient("L").resize((96, 64)).convert("RGB").save(picture)
    rows = study.rows()
    groups = study.groups(rows, left_out=())  # together, and those that are not run too
    assert {row.option for group in groups for row in group} == {row.option for row in rows if row.lines}
    for group in groups:
        study.composed([line for row in group for line in row.lines], tmp_path)


def test_what_is_a_tool_has_the_flags_that_are_named(study):
    from vqclip.cli.film import _arguments

    films = [row.answer for row in study.rows() if row.answer.startswith("vqclip film")]
    assert len(films) >= 15
    for line in films:
        words = shlex.split(line)[2:]
        assert all("--" not in word for word in _arguments(words)[1]), line
