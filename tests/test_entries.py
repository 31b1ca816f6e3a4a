"""Entries in time and space: schedules of weights, stops, templates, parts, regions."""

import json
import math
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from ways import stands_break_and_rerun

from vqclip import run
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve, time_varying
from vqclip.errors import UserError
from vqclip.guidance import part_of
from vqclip.io.regions import Region, box_of, parse_region
from vqclip.prompts import SEVERAL, Prompt, parse, parse_prompts
from vqclip.rng import StepRandom
from vqclip.runs.digests import inputs
from vqclip.runs.rerun import rerun
from vqclip.schedules import Points
from vqclip.targets import dot_with_stops, targets_of

WEIGHTS = {"include_weight": 1, "extras_weight": 1}


def targets(perceptor, include, extras=None, exclude=None, **more):
    with torch.no_grad():
        return targets_of(perceptor, *map(parse_prompts, (include, extras, exclude)), WEIGHTS | more)


def vector(perceptor, text):
    with torch.no_grad():
        return perceptor.encode_text([text])[0]


def test_a_short_form_with_a_stop_is_the_other_programs_distance():
    assert parse("a fox:2:0.5") == Prompt(text="a fox", weight=2, stop=math.cos(1))
    assert parse("blurry:-1:-0.9").stop == pytest.approx(math.cos(math.sqrt(1.8)))
    assert parse("ratio:16:9") == Prompt(text="ratio:16:9")  # no distance reaches 9
    a, b = F.normalize(torch.randn(2, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    distance = 2 * ((a - b).norm() / 2).arcsin().square()
    assert parse(f"a fox:1:{distance:.6f}").stop == pytest.approx((a @ b).item(), abs=1e-4)


class Lacking:
    """A schedule of one's own that fails."""

    def __call__(self, t):
        return self.height


@pytest.mark.parametrize(
    "entry,wrong",
    [
        ({"text": "a", "wieght": 2}, "there is no wieght in a prompt. Did you mean weight?"),
        ({"text": "a", "weight": {"points": []}}, "its weight is no schedule"),
        ({"text": "a", "weight": {"start": 0, "end": 1, "shape": "bumpy"}}, "shape 'bumpy' is not one of"),
        ({"text": "a", "weight": {"_target_": f"{__name__}.Lacking"}}, f"{__name__}.Lacking raised AttributeError: "),
        ({"text": "a", "weight": {"start": 0, "end": 0}}, "its weight is 0 all the time"),
        ({"text": "a", "stop": 3}, "its stop is 3; it is a cosine similarity, a number from -1 to 1"),
        ({"text": "a", "region": "lift"}, "Did you mean left?"),
        ({"text": "a", "region": [0, 0, 2, 1]}, "a box is [x0, y0, x1, y1], each from 0 to 1"),
        ({"text": "a", "region": [0.5, 0, 0.5, 1]}, "x0 < x1 and y0 < y1"),
        ({"text": "a", "templates": ["a photo"]}, "a template is a sentence with {}"),
        ({"parts": ["a"], "weight": 2}, "parts is a list of entries and stands alone"),
        ({"parts": [{"parts": ["a"]}]}, "parts of parts"),
        ({"row": [{"column": ["a"]}]}, "row of parts: one list is enough"),
        ({"row": ["a"], "column": ["b"]}, "row is a list of entries and stands alone"),
        ({"column": ["a", {"text": "b", "region": "left"}]}, "a column gives its entries their regions"),
    ],
)
def test_what_is_no_entry_says_why(entry, wrong):
    with pytest.raises(ValueError) as error:
        parse(entry, open_files=True)
    assert wrong in str(error.value)


def test_a_row_and_a_column_are_parts_in_equal_regions():
    halves = [{"text": "a fox", "region": "left"}, {"text": "an owl", "weight": 2, "region": "right"}]
    assert parse({"row": ["a fox", "an owl:2"]}) == parse({"parts": halves})
    column = parse({"column": ["a fox", "an owl", {"text": "a cat"}]})
    assert [part.region.box for part in column.parts if part.region] == [
        (0.0, 0.0, 1.0, 1 / 3),
        (0.0, 1 / 3, 1.0, 2 / 3),
        (0.0, 2 / 3, 1.0, 1.0),
    ]
    # Whatever the size, neighbours meet without a gap and without sharing a place.
    for height in range(3, 40):
        rows = [box_of(torch.zeros(1, 1, height, 4), part.region)[0][1] for part in column.parts]
        assert [row.start for row in rows] == [0, *(row.stop for row in rows[:-1])] and rows[-1].stop == height


def test_entries_without_time_or_place_are_one_target_for_the_whole_run(perceptor):
    made = targets(perceptor, ["a fox", {"parts": ["a fox", "an owl:2"]}], "paper", "blurry")
    ((place, found),) = made.at(0.0)
    assert place is None and found.share is None and found.parts is None and made.at(1.0)[0][1] is found
    fox, owl, paper = (vector(perceptor, text) for text in ("a fox", "an owl", "paper"))
    torch.testing.assert_close(found.include[1], F.normalize(fox + 2 * owl + paper, dim=-1))


def test_a_prompt_comes_and_goes(perceptor):
    going, coming = {"points": [[0, 1], [0.5, 0]]}, {"points": [[0.5, 0], [1, 2]]}
    parts = [{"text": "a fox", "weight": going}, {"text": "an owl", "weight": coming}]
    made = targets(perceptor, [{"parts": parts}])
    fox, owl = (F.normalize(vector(perceptor, text), dim=-1) for text in ("a fox", "an owl"))
    for t, expected in ((0.0, fox), (0.4, fox), (0.5, 0 * fox), (0.6, owl), (1.0, owl)):
        ((place, now),) = made.at(t)
        assert place is None
        torch.testing.assert_close(now.include[0], expected)


def test_constant_weights_that_warm_up_or_step_are_schedules_too(perceptor):
    for weight in ({"start": 1, "end": 1, "shape": "constant", "warmup": 0.2}, {"points": [[0, 1], [0.5, 0.1]]}):
        made = targets(perceptor, [{"parts": [{"text": "a fox", "weight": weight | {"shape": "constant"}}, "an owl"]}])
        (_, first), (_, last) = made.at(0.0)[0], made.at(1.0)[0]
        assert not torch.allclose(first.include, last.include)
    fox, held = targets(perceptor, "a fox"), {"start": 2, "end": 0, "shape": "constant"}
    for t in (0.0, 1.0):
        ((_, made),), ((_, plain),) = targets(perceptor, [{"text": "a fox", "weight": held}]).at(t), fox.at(t)
        assert torch.equal(made.include, plain.include)


def test_a_schedule_of_an_entry_is_one_of_the_run(small_pair):
    entry = "{text: a fox, weight: {points: [[0, 1], [1, 2]]}}"
    config = resolve(compose([*small_pair, f"prompts.include=[{entry}, a cat]"]))
    assert [key for key, _ in time_varying(config["prompts"])] == ["include.0.weight"]
    assert isinstance(parse(config["prompts"]["include"][0]).weight, Points)


def test_templates_are_averaged_and_one_that_changes_nothing_changes_nothing(perceptor):
    def include(*prompts, **more):
        return targets(perceptor, *prompts, **more).at(0.0)[0][1].include

    plain = include(["a fox"], "paper")
    torch.testing.assert_close(include(["a fox"], "paper", templates=["{}"]), plain)
    sentences = ["a photo of {}", "a drawing of {}"]
    both = torch.stack([F.normalize(vector(perceptor, s.replace("{}", "a fox")), dim=-1) for s in sentences]).mean(0)
    expected = F.normalize(both, dim=-1)
    torch.testing.assert_close(include(["a fox"], templates=sentences)[0], expected)
    own = [{"text": "a fox", "templates": sentences}]
    torch.testing.assert_close(include(own, templates=["{}"])[0], expected)


def test_a_stop_takes_the_gradient_of_what_has_come_near_enough_and_no_value(perceptor):
    made = targets(perceptor, [{"parts": [{"text": "a fox", "stop": 0.5}, "an owl:2"]}]).at(0.0)[0][1]
    torch.testing.assert_close(made.parts.sum(1), made.include)
    fox = F.normalize(made.parts[0, 0], dim=-1)
    near = F.normalize(fox + 0.1 * torch.randn_like(fox), dim=-1)
    crops = torch.stack([near, -near])[None].requires_grad_()
    value = dot_with_stops(crops, made.parts, made.stops)
    torch.testing.assert_close(value, torch.einsum("bnd,bd->bn", crops, made.include))
    (gradient,) = torch.autograd.grad(value.sum(), crops)
    torch.testing.assert_close(gradient[0, 0], made.parts[0, 1])  # the owl alone
    torch.testing.assert_close(gradient[0, 1], made.include[0])


def test_a_stop_of_what_is_excluded_is_reached_from_above(perceptor):
    made = targets(perceptor, ["a fox"], None, [{"text": "blurry", "stop": 0.0}]).at(0.0)[0][1]
    away = F.normalize(vector(perceptor, "blurry"), dim=-1)
    crops = torch.stack([away, -away])[None].requires_grad_()
    (gradient,) = torch.autograd.grad(dot_with_stops(crops, made.exclude_parts, made.exclude_stops, -1.0).sum(), crops)
    torch.testing.assert_close(gradient[0, 0], away)
    assert not gradient[0, 1].any()


def test_regions_share_the_loss_by_their_weights(perceptor):
    parts = [{"text": "a fox", "region": "left", "weight": 3}, {"text": "an owl", "region": "right"}]
    made = targets(perceptor, [{"parts": parts}, "a cat"])
    found = dict(made.at(0.0))
    assert list(found) == [None, Region((0.0, 0.0, 0.5, 1.0)), Region((0.5, 0.0, 1.0, 1.0))]
    shares = torch.stack([own.share for own in found.values()])
    torch.testing.assert_close(shares, torch.tensor([[0.0, 1.0], [0.75, 0.0], [0.25, 0.0]]))


def test_the_share_of_a_region_counts_the_weights_of_include_and_extras(perceptor):
    halves = [{"row": ["a fox", "an owl"]}]
    for extras, share in ((1, 1 / 3), (0.5, 0.2), (0, 0.0), (-1, 1 / 3)):
        whole = targets(perceptor, halves, "paper", extras_weight=extras).at(0.0)[0][1].share
        torch.testing.assert_close(whole, torch.tensor([share]))


def test_a_stop_takes_the_sign_of_all_its_weights(perceptor):
    """What is repelled stands still once it is far enough, whichever of its weights is negative."""
    paper = F.normalize(vector(perceptor, "paper"), dim=-1)
    far = F.normalize(paper.flip(0) - (paper.flip(0) @ paper) * paper, dim=-1)  # a cosine of 0
    for extras, weight in ((1, -1), (-1, 1)):
        entry = [{"text": "paper", "weight": weight, "stop": 0.5}]
        made = targets(perceptor, "a fox", entry, extras_weight=extras).at(0.0)[0][1]
        crops = torch.stack([paper, far])[None].requires_grad_()
        (gradient,) = torch.autograd.grad(dot_with_stops(crops, made.parts, made.stops).sum(), crops)
        torch.testing.assert_close(gradient[0], torch.stack([made.include[0], made.parts[0, 0]]))  # the fox alone


def test_regions_are_looked_at_in_one_order_and_the_crop_shown_is_of_a_pictures_own(make_module, perceptor):
    """In a batch as alone, whatever the others' regions are and in whatever order they are named."""
    halves = {"parts": [{"text": "an owl", "region": "right"}, {"text": "a fox", "region": "left"}]}

    def module(entries, seeds):
        made = make_module(prompts=["a"] * len(seeds), seeds=seeds)
        made.guides["small"] = type(made.guides["small"])(perceptor, 1.0, targets(perceptor, entries))
        return made

    both, alone = module(["a cat", halves], [0, 1]), module([halves], [1])
    assert alone.guidance.places(0.0) == both.guidance.places(0.0)[1:] == list(map(parse_region, ("left", "right")))
    torch.testing.assert_close(both.snapshot()[2][1:], alone.snapshot()[2])


def test_the_crops_of_a_region_lie_in_it(make_module, perceptor):
    module = make_module(size=(32, 64))
    entry = {"text": "a fox", "region": [0.5, 0.25, 1, 1]}
    module.guides["small"] = type(module.guides["small"])(perceptor, 1.0, targets(perceptor, [entry]))
    image = torch.rand(1, 3, 32, 64, requires_grad=True)
    module.on_crops(image, module.rng(0), 0.0, slice(None), backward=True)
    moved = image.grad[0].abs().sum(0) > 0
    assert moved[8:, 32:].any() and not moved[:8].any() and not moved[:, :32].any()


def test_what_a_mask_hides_is_seen_and_not_moved(tmp_path):
    mask = Image.new("L", (64, 64))
    ImageDraw.Draw(mask).ellipse((16, 32, 47, 63), fill=255)
    mask.save(tmp_path / "mask.png")
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    part = part_of(image, Region(mask=str(tmp_path / "mask.png")))
    assert part.shape == (1, 3, 16, 16)
    torch.testing.assert_close(part, image[..., 16:, 8:24])
    part.sum().backward()
    assert image.grad[0, 0, 24, 16] == 1 and image.grad[0, 0, 17, 9] < 0.5 and not image.grad[..., :16, :].any()


def test_a_mask_thinner_than_a_place_still_has_its_box(tmp_path):
    mask = Image.new("L", (64, 64))
    mask.putpixel((40, 8), 255)
    mask.save(tmp_path / "mask.png")
    box, white = box_of(torch.rand(1, 3, 8, 8), Region(mask=str(tmp_path / "mask.png")))
    assert box == (..., slice(1, 2), slice(5, 6)) and white.item() == pytest.approx(1 / 64)


def test_a_mask_draws_its_crops_by_what_is_in_it_and_a_box_by_its_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.uint8([[255, 0]])).save("mask.png")
    Image.fromarray(np.uint8([[255], [0]])).save("other.png")
    paths = ("mask.png", "./mask.png", str(tmp_path / "mask.png"), "other.png")
    one, *same, other = (StepRandom([0], 3).of(parse_region(path).name).uniform("crops.place", 4) for path in paths)
    assert all(torch.equal(one, numbers) for numbers in same) and not torch.equal(one, other)
    assert parse_region("left").name == "Region(box=(0.0, 0.0, 0.5, 1.0), mask=None)"  # in every box's random numbers


def test_a_mask_that_changes_during_a_run_changes_nothing_of_it(tmp_path):
    mask, maps = tmp_path / "mask.png", torch.rand(1, 3, 8, 8)
    Image.fromarray(np.uint8([[255, 0]])).save(mask)
    region = Region(mask=str(mask))
    before = box_of(maps, region)[0]
    Image.fromarray(np.uint8([[0, 255]])).save(mask)
    assert box_of(maps, region)[0] == before != box_of(maps, Region(mask=str(mask)))[0]
    mask.unlink()
    assert box_of(maps, region)[0] == before


@pytest.mark.parametrize(("mode", "black"), [("L", 0), ("1", 0), ("RGBA", (255, 255, 255, 0))])
def test_a_mask_without_white_is_refused(mode, black, tmp_path):
    Image.new(mode, (4, 4), black).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=r"mask\.png', black all over; a mask picture is white where the region is"):
        parse({"text": "a fox", "region": str(tmp_path / "mask.png")}, open_files=True)
    with pytest.raises(UserError, match=r"mask\.png: black all over"):  # it turned black after the check
        _ = Region(mask=str(tmp_path / "mask.png")).white


def test_the_part_that_is_wrong_is_named():
    with pytest.raises(ValueError, match=r"entry 2: part 2: its stop is 1\.5; it is a cosine similarity"):
        parse_prompts(["a fox", {"parts": ["an owl", {"text": "a cat", "stop": 1.5}]}])


PARTS = (
    "[{parts: [{text: a fox, region: left, weight: {points: [[0, 1], [1, 2]]}, stop: .9}, "
    "{text: an owl, region: right, templates: ['a photo of {}']}]}]"
)


def test_a_run_of_parts_is_judged_named_resumed_and_made_again(small_pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = [*small_pair, f"prompts.include={PARTS}", "prompts.exclude=[{text: blurry, region: left}]"]
    whole = stands_break_and_rerun(overrides, tmp_path)
    assert json.loads((whole.folder / "run.json").read_text())["pictures"][0]["prompt"] == "a fox, an owl"


def test_the_mask_of_a_region_is_an_input_of_the_run(small_pair, tmp_path):
    Image.new("L", (8, 8), 255).save(tmp_path / "mask.png")
    entry = f"{{parts: [{{text: a fox, region: {tmp_path}/mask.png}}]}}"
    config = resolve(compose([*small_pair, f"prompts.include=[{entry}]"]))
    assert list(inputs(config)) == [str(tmp_path / "mask.png")]


@pytest.mark.parametrize("key", SEVERAL)
def test_a_picture_among_several_entries_is_refused_from_a_strangers_record(key, small_pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = tmp_path / "fox.png"
    Image.new("RGB", (8, 8)).save(picture)
    entry = f"{{{key}: [an owl, {{image: {picture}}}]}}"
    folder = run(None, [*small_pair, "steps=1", "init=sine", f"prompts.include=[{entry}]"], tmp_path / "run").folder
    assert rerun(folder)[1]
    Image.new("RGB", (8, 8), "red").save(picture)
    with pytest.raises(UserError, match=r"names the file .*fox\.png, which is not here"):
        rerun(folder)


def test_a_mask_that_is_another_now_is_told_with_words_that_make_the_run_again(small_pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mask = Path("a mask.png")
    Image.new("L", (8, 8), 255).save(mask)
    entries = '[{parts: [{text: "a fox: red, \\"old\\"", region: "a mask.png"}, "an owl"]}]'
    folder = run(None, [*small_pair, "steps=2", f"prompts.include={entries}"], tmp_path / "run").folder
    Image.new("L", (8, 8), 200).save(mask)
    with pytest.raises(UserError, match=r"names the file a mask\.png, which is not here") as refused:
        rerun(folder)
    typed = str(refused.value).partition("If it is yours: ")[2]
    word = shlex.split(typed.removesuffix(" on the command line of rerun or resume"))
    lines, same = rerun(folder, word)
    assert not same and not any("asked for" in line for line in lines)  # the prompts are the record's
    with pytest.raises(UserError, match="would change steps that are done") as refused:
        run(resume=folder, **{"prompts.include": ["a cat, black"]})
    assert shlex.split(str(refused.value).partition("Try: ")[2])[-1] == 'prompts.include=["a cat, black"]'


def test_a_wrong_template_is_told_before_models_load(small_pair):
    with pytest.raises(UserError, match=r"prompts\.templates='a photo'.*a template is a sentence with"):
        run(overrides=[*small_pair, "prompts.templates=a photo"])
