"""Words that the pair was never taught: named at the run's start, with what is spelt most like them."""

import re
import shlex
from pathlib import Path

import pytest

from vqclip import run
from vqclip.checkpoints.vocabulary import known_words, unknown_words
from vqclip.cli import main

EMBEDDED = Path(__file__).parents[1] / "vqclip" / "embedded" / "perceptor.safetensors"


@pytest.mark.parametrize(
    "text,missing",
    [
        ("a castel", {"castel": "castle"}),
        ("two cats and wolves on the grass", {}),
        ("A Red Fox, watercolor paper", {}),
        ("a fox’s tree, a cat's hat", {}),
        ("a gru\u0308n castlé", {"grün": None, "castlé": "castle"}),
        ("红苹果", {"红苹果": None}),
        ("🦊🍓 ☂", {"🦊": None, "🍓": None, "☂": None}),
        ("boys playing a zxqv", {"playing": None, "zxqv": None}),
    ],
)
def test_unknown_words_and_their_nearest(text, missing):
    assert unknown_words([text], known_words(EMBEDDED)) == missing


def test_a_perceptor_without_a_list_knows_all(tmp_path):
    assert unknown_words(["zxqv"], known_words(tmp_path / "rn50.safetensors")) == {}


def test_a_run_says_of_which_text_the_end_is_not_read(tmp_path, capsys):
    quiet = ["steps=1", "size=[32,32]", "logger=none", "callbacks=none"]
    run(["a fox " * 15, "a fox " * 16], quiet, tmp_path / "run")
    said = capsys.readouterr().err
    assert said.count("a fox") == 6 and "embedded reads the first 30 tokens of a text" in said


def test_a_run_says_so_and_goes_on(tmp_path, capsys):
    quiet = ["steps=1", "logger=none", "callbacks=none", "prompts.exclude=blurri"]
    assert len(run("a castel", quiet, tmp_path / "run").images) == 1
    said = capsys.readouterr().err
    assert '"castel" (nearest: castle), "blurri" (nearest: blurry)' in said
    run("a castle", quiet[:3], tmp_path / "quiet")
    assert "does not know" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["experiment=drawing", "a cat and a red car"], "[128,256]"),
        (["experiment=drawing", "a 'blue' cat and a \"red\" car"], "[128,256]"),
        (["experiment=drawing", "a cat, an owl, and a fox"], "[128,384]"),
        (["experiment=drawing", "a crown above an owl"], "[256,128]"),
        (["experiment=drawing", "a black and white cat"], None),
        (["experiment=drawing", "a cat, watercolor"], None),
        (["experiment=drawing", "loss.terms.denoised.guidance_scale=0", "a cat and a red car"], None),
        (["a cat and a red car"], None),  # the prior puts both where they belong
    ],
)
def test_things_out_of_noise_want_a_place_each(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quick = ["steps=2", "augmentations.crops.count=1", "size=[32,32]", "logger=none", "callbacks=none"]
    main([*words, *quick])
    found = re.findall(r"Try: ('size=(.*?)' '.*')", capsys.readouterr().err)
    assert [size for _, size in found] == ([said] if said else [])
    if found:
        main(["experiment=drawing", *shlex.split(found[0][0]), *quick])
        assert "each has its place" not in capsys.readouterr().err
