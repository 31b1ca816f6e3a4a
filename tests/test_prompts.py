"""The grammar of prompts, their files, and what they do to a picture's target."""

import json

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from vqclip import run
from vqclip.cli import main
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve
from vqclip.io.images import read_record
from vqclip.io.pixels import fit, read_image
from vqclip.loggers.base import run_name
from vqclip.prompts import Prompt, expand_files, parse, parse_prompts
from vqclip.runs.build import build
from vqclip.runs.cost import sizes
from vqclip.runs.plan import RunPlan
from vqclip.runs.provenance import inputs


@pytest.mark.parametrize(
    "entry,text,weight",
    [
        ("a red fox", "a red fox", 1),
        ("a red fox:2", "a red fox", 2),
        ("a red fox:.5", "a red fox", 0.5),
        ("a red fox:-1.5", "a red fox", -1.5),
        ("a red fox:1e-1", "a red fox", 0.1),
        ("a red fox:2  ", "a red fox", 2),
        ("a castle: gothic", "a castle: gothic", 1),
        ("the answer: 42", "the answer: 42", 1),
        ("a clock at 10:30", "a clock at 10:30", 1),
        ("a photo, 16:9", "a photo, 16:9", 1),
        ("a: b:2", "a: b", 2),
        (r"Blade Runner\:2049", "Blade Runner:2049", 1),
        (r"Blade Runner\:2049:3", "Blade Runner\\:2049:3".replace("\\", ""), 1),  # the digit before it: text
        (r"ratio \: wide:3", "ratio : wide", 3),
        ("a\nb:2", "a\nb", 2),
        ("back\\slash", "back\\slash", 1),
        ("猫:2", "猫", 2),
        ({"text": "a fox:2"}, "a fox:2", 1),
        ({"text": "a fox", "weight": 3}, "a fox", 3),
    ],
)
def test_grammar(entry, text, weight):
    assert parse(entry) == Prompt(text=text, weight=weight)


def test_a_part_that_shows_only_briefly_is_one_of_the_prompts_texts():
    brief = {"text": "an owl", "weight": {"points": [[0, 0], [0.51, 0], [0.52, 1], [0.53, 0]]}}
    assert parse({"parts": ["a fox", brief]}).text == "a fox, an owl"


WRONG = {
    '""': "an empty text",
    '":2"': "a weight without a text before it",
    '"a fox:0"': "its weight is 0.0; it may be any number but 0",
    '"a fox:1e999"': "its weight is inf; it may be any number but 0",
    "7": "neither a text nor one of its longer forms; a number goes in quotes: '\"7\"'",
    '{"text": "a", "size": 2}': "there is no size in a prompt",
    '{"weight": 2}': "it needs a text or an image, and not both",
    '{"text": "a", "image": "b.png"}': "it needs a text or an image, and not both",
    '{"text": " "}': "its text is ' '",
    '{"text": "a", "weight": "much"}': "its weight is 'much'; it may be any number but 0",
    '{"image": "gone.png"}': "the path of a picture file; gone.png: there is no such file",
}


@pytest.mark.parametrize("entry", WRONG)
def test_what_is_no_prompt_says_why(entry):
    with pytest.raises(ValueError) as wrong:
        parse(json.loads(entry), open_files=True)
    assert str(wrong.value) == WRONG[entry]


def test_nothing_is_no_prompt():
    assert parse_prompts(None) == parse_prompts("") == parse_prompts("  ") == parse_prompts([]) == []
    assert parse_prompts("blurry") == [Prompt(text="blurry")]


def lines_of(tmp_path, content):
    path = tmp_path / "prompts.txt"
    path.write_text(content)
    return [{"file": str(path)}]


def test_a_file_stands_for_its_lines(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "fox.png")
    value = [
        "an owl",
        *lines_of(tmp_path, f"# my prompts\n\na fox:2\n  a cat  \n{{image: {tmp_path}/fox.png, weight: .5}}\n"),
    ]
    assert [(p.label, p.weight) for p in parse_prompts(value)] == [
        ("an owl", 1),
        ("a fox", 2),
        ("a cat", 1),
        (f"{tmp_path}/fox.png", 0.5),
    ]
    assert expand_files(value) == ["an owl", "a fox:2", "a cat", {"image": f"{tmp_path}/fox.png", "weight": 0.5}]
    assert parse_prompts(expand_files(value)) == parse_prompts(value)


def test_a_bad_line_of_200_is_named_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = [f"a fox number {i}, red" for i in range(1, 201)]
    lines[136] = "a fox:0"
    lines[150] = "{image: gone.png}"
    (tmp_path / "prompts.txt").write_text("\n".join(lines))
    with pytest.raises(SystemExit) as exit:
        main(["prompts.include=[{file: prompts.txt}]", "logger=none"])
    assert exit.value.code == 2
    err = capsys.readouterr().err
    assert "prompts.txt line 137: its weight is 0.0; it may be any number but 0; " in err
    assert "prompts.txt line 151: the path of a picture file; gone.png: there is no such file. Try: " in err
    assert [p.name for p in tmp_path.iterdir()] == ["prompts.txt"]


@pytest.mark.parametrize(
    "content,message",
    [
        (b"\xff\xfe\x00", "not a text file in UTF-8"),
        (b"# nothing\n\n", "no prompt in it"),
        (None, "there is no such file"),
    ],
)
def test_a_file_that_holds_no_prompts_says_why(tmp_path, content, message):
    path = tmp_path / "prompts.txt"
    if content:
        path.write_bytes(content)
    with pytest.raises(ValueError) as wrong:
        parse_prompts([{"file": str(path)}])
    assert f"{path}: {message}" in str(wrong.value)


def target(small_pair, **prompts):
    cfg = compose([*small_pair, *(f"prompts.{key}={value}" for key, value in prompts.items())])
    (guide,) = build(RunPlan.of(resolve(cfg))).guides.values()
    ((place, found),) = guide.targets.at(0.0)
    assert place is None
    return found


def test_weights_mix_the_vectors_of_a_target(small_pair, perceptor):
    fox, cat, paper, ink = (perceptor.encode_text([text])[0] for text in ("a fox", "a cat", "paper", "ink"))
    made = target(
        small_pair,
        include='["a fox:3", "a cat"]',
        extras='[{text: paper, weight: .5}, "ink:-1"]',
        exclude='["paper:2", ink]',
    )
    expected = torch.stack([3 * fox + 0.5 * paper - ink, cat + 0.5 * paper - ink])
    torch.testing.assert_close(made.include, F.normalize(expected, dim=-1))
    torch.testing.assert_close(made.exclude[1], 2 * paper + ink)


def test_a_picture_is_a_prompt_of_the_length_of_a_text(small_pair, perceptor, tmp_path):
    path = tmp_path / "fox.png"
    Image.effect_mandelbrot((48, 32), (-2, -1, 1, 1), 20).save(path)
    made = target(small_pair, include=f"[{{image: {path}}}]", exclude=f"[{{image: {path}, weight: 2}}]")
    vector = perceptor.encode_image(fit(read_image(path), 32, 32))[0]
    torch.testing.assert_close(made.include[0], F.normalize(vector, dim=-1))
    assert made.exclude[0].norm() == pytest.approx(2 * perceptor.encode_text([""]).norm().item(), rel=1e-5)


def test_a_picture_is_opened_once_before_a_run_and_once_to_be_encoded(small_pair, tmp_path, monkeypatch):
    fox, mask = tmp_path / "fox.png", tmp_path / "mask.png"
    Image.new("RGB", (40, 30), "red").save(fox)
    Image.new("L", (40, 30), 255).save(mask)
    opened, pillows = [], Image.open
    monkeypatch.setattr(Image, "open", lambda path, *more: (opened.append(path), pillows(path, *more))[1])
    include = f"[{{parts: [{{image: {fox}}}, {{text: a fox, region: {mask}}}]}}]"
    config = resolve(compose([*small_pair, f"prompts.include={include}"]))
    plan = RunPlan.of(config)
    assert sizes(config).endswith(': "a fox"') and list(inputs(config)) == [str(fox), str(mask)]
    assert opened == [str(fox), str(mask)]
    build(plan)
    assert sorted(opened) == sorted([str(fox), str(mask)] * 2)


def test_a_run_whose_picture_is_gone_still_has_its_name():
    assert run_name({"prompts": {"include": [{"image": "gone.png"}, "a fox"]}}) == "gone.png and 1 more"


def test_a_run_of_mixed_prompts_keeps_what_it_was_asked(small_pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 30), "red").save("red.png")
    (tmp_path / "more.txt").write_text("a cat:2\nan owl\n")
    include = "prompts.include=[a fox, {image: red.png}, {file: more.txt}]"
    folder = run(None, [*small_pair, include], tmp_path / "run").folder
    report = json.loads((folder / "run.json").read_text())
    assert [own["prompt"] for own in report["pictures"]] == ["a fox", "red.png", "a cat", "an owl"]
    assert len(report["inputs"]["red.png"]) == 64
    (tmp_path / "more.txt").unlink()  # its lines are in the record
    assert read_record(folder / "picture-02/final.png")["config"]["prompts"]["include"] == [
        "a fox",
        {"image": "red.png"},
        "a cat:2",
        "an owl",
    ]


def test_a_picture_prompt_needs_another_start_than_the_prior(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 30), "red").save("red.png")
    with pytest.raises(SystemExit):
        main(["prompts.include=[{image: red.png}]"])
    assert capsys.readouterr().err == (
        "vqclip: init=prior: predicts the start from words, and prompts.include has a picture. Allowed with it: "
        "init=sine, codebook or image. Try: init=sine, or init=image init.path=red.png\n"
    )
