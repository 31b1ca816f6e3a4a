"""The comparison: sheet, table and page of real runs, the page driven in a real browser."""

import csv
import itertools
import json
import os
import shlex
import shutil
import subprocess
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import yaml
from PIL import Image

from vqclip import UserError, load, run
from vqclip.cli.compare import main
from vqclip.cli.evaluate import main as evaluate
from vqclip.cli.interpolate import main as interpolate
from vqclip.cli.main import main as cli
from vqclip.compare import page as page_module
from vqclip.compare import sheet as sheet_module
from vqclip.compare.keys import axes, distinct_values, further_keys
from vqclip.compare.pictures import find_runs, read_pictures
from vqclip.compare.sheet import _blocks
from vqclip.compare.write import compare
from vqclip.config.grammar import short_names
from vqclip.paths import without_our_files
from vqclip.runs.folder import RunFolder


@pytest.fixture(scope="module")
def sweep(small_pair, tmp_path_factory):
    """Two by three runs that tell what they are, and one of them failed."""
    folder = tmp_path_factory.mktemp("sweep")
    number = 0
    for alpha in (0.5, 1):
        for beta in (0, 0.5, 10):
            swept = f"sweep={{group: x, swept: {{loss.alpha: '{alpha}', loss.beta: '{beta}'}}}}"
            overrides = [f"loss.alpha={alpha}", f"loss.beta={beta}", swept, "prompts.exclude=blurry"]
            run("a </script> fox", [*small_pair, "callbacks=default", *overrides], folder / str(number))
            number += 1
    shutil.rmtree(folder / "4" / "picture-00")
    report = json.loads((folder / "4" / "run.json").read_text())
    report |= {"status": "failed", "error": "RuntimeError: out of paint"}
    for key in ("best", "final", "judge"):
        del report["pictures"][0][key]
    (folder / "4" / "run.json").write_text(json.dumps(report))
    compare([folder], folder)
    return folder


def runs_of(sweep, folder, settings, swept=True, pictures=()):
    """A run for each of ``settings``, values by dotted key, as it would have been made; its pictures are of another.

    ``pictures`` are laid over what each run says of its picture.
    """
    report = json.loads((sweep / "0" / "run.json").read_text())
    for n, values in enumerate(settings):
        own = folder / str(n)
        (own / "picture-00").mkdir(parents=True)
        shutil.copy(sweep / "0" / "picture-00" / "best.png", own / "picture-00")
        picture = report["pictures"][0] | (pictures[n] if pictures else {})
        (own / "run.json").write_text(json.dumps(report | {"pictures": [picture]}))
        config = yaml.safe_load((sweep / "0" / "config.yaml").read_text())
        config["sweep"] = (
            {"group": "x", "swept": {k: "null" if v is None else str(v) for k, v in values.items()}} if swept else None
        )
        for key, value in values.items():
            *path, name = key.split(".")
            at = config
            for part in path:
                at = at.setdefault(part, {})
            at[name] = value
        (own / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def data_of(folder):
    """What its page holds."""
    text = (folder / "compare.html").read_text().partition('type="application/json">')[2].partition("</script>")[0]
    return json.loads(text)


@pytest.fixture
def opened(browser):
    """Opens the page of a folder, made where there is none; no error may occur in it."""
    context, errors = browser.new_context(), []

    def open_page(folder, width=1400, height=900):
        if not (folder / "compare.html").exists():
            compare([folder], folder)
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((folder / "compare.html").as_uri())
        return page

    yield open_page
    context.close()
    assert errors == []


def test_runs_are_found_by_number_and_wrong_folders_refused(sweep, tmp_path):
    assert [path.name for path in find_runs([sweep])] == list("012345")
    assert find_runs([sweep / "2", sweep]) == [sweep / n for n in "201345"]
    with pytest.raises(UserError, match="no run in it"):
        find_runs([tmp_path])


def test_links_to_runs_are_named_and_not_followed(sweep, tmp_path, capsys):
    folder = tmp_path / "coll"
    folder.mkdir()
    (folder / "astray").symlink_to(tmp_path / "nowhere")
    (folder / "other").symlink_to(tmp_path)
    with pytest.raises(UserError, match="coll: no run in it"):
        find_runs([folder])
    (folder / "one").symlink_to(sweep / "1")
    with pytest.raises(UserError, match=r"coll: no run in it; links are .* named, as by \S*coll/\*\. Allowed"):
        find_runs([folder])
    assert find_runs(sorted(folder.glob("one"))) == [folder / "one"] and capsys.readouterr().err == ""
    shutil.copytree(sweep / "0", folder / "0")
    (folder / "latest").symlink_to(folder / "0")
    assert find_runs([folder]) == [folder / "0"]
    assert capsys.readouterr().err == f"note: links are followed only where they are named: {folder / 'one'}\n"
    assert find_runs([folder, folder / "one"]) == [folder / "0", folder / "one"] and capsys.readouterr().err == ""


def test_axes_are_the_swept_keys_then_what_else_differs(sweep):
    pictures = read_pictures(find_runs([sweep]))
    assert axes(pictures) == ["loss.alpha", "loss.beta"]
    for picture in pictures:
        picture.config["sweep"] = None  # runs of no sweep
        picture.config["noise"]["num_rands"] = int(picture.config["loss"]["beta"])  # tells nothing more
    assert axes(pictures) == ["loss.alpha", "loss.beta"]


def test_what_differs_beside_the_axes_is_told_by_all_three(sweep, tmp_path, opened):
    """Two keys that move together are one axis: a reader blamed the first alone."""
    both = [{"loss.anchor": 1 + n % 2, "optimizer.lr": 0.1 * (1 + n % 2), "seed": n} for n in range(4)]
    runs_of(sweep, tmp_path, both, swept=False)
    shutil.rmtree(tmp_path / "0" / "picture-00")
    (tmp_path / "0" / "run.json").write_text('{"status": "failed"}')
    compare([tmp_path], tmp_path)
    pictures = read_pictures(find_runs([tmp_path]))
    assert axes(pictures) == ["loss.anchor", "seed"] and further_keys(pictures, axes(pictures)) == ["optimizer.lr"]
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert list(rows[0])[-1] == "optimizer.lr" and {"file", "best.score"} < {*rows[0]}
    assert [row["optimizer.lr"] for row in rows] == ["0.1", "0.2", "0.1", "0.2"]
    assert Image.open(tmp_path / "compare.png").text["also differ"] == "optimizer.lr"
    page = opened(tmp_path)
    assert page.locator("#further summary").text_content() == "also differ: optimizer.lr"
    page.click("#further summary")
    page.select_option("select.filter[data-key='optimizer.lr']", "0.2")
    assert shown(page) == [1, 3]
    page.reload()
    assert shown(page) == [1, 3]
    page.select_option("select.filter[data-key='optimizer.lr']", "")
    page.select_option("#columns", "optimizer.lr")
    assert page.locator(".sheet th").all_text_contents()[:3] == ["optimizer.lr →loss.anchor ↓", "0.1", "1"]
    page.select_option("#layout", "table")
    page.select_option("#sort", "optimizer.lr")
    assert "optimizer.lr ▼" in page.locator("thead th").all_text_contents()
    assert page.locator("tbody tr").first.get_attribute("data-id") == "1"


def test_files_of_one_name_and_other_content_are_told(sweep, tmp_path):
    """Pictures of two inputs stood side by side as of one."""
    read = [("a", "1", "a"), ("a", "2", "b"), ("b", "3", "a")]  # path and sha256 of the generator, sha256 of an input
    runs_of(sweep, tmp_path, [{"checkpoints.generator.path": path, "seed": n} for n, (path, *_) in enumerate(read)])
    for n, (_, generator, picture) in enumerate(read):
        report = json.loads((tmp_path / f"{n}/run.json").read_text())
        report |= {"weights": {"generator": generator * 64}, "inputs": {"p.png": picture * 64, f"{n}.png": f"{n}" * 64}}
        (tmp_path / f"{n}/run.json").write_text(json.dumps(report))
    compare([tmp_path], tmp_path)
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert list(rows[0])[-2:] == ["inputs.p.png", "weights.generator"] and "inputs.0.png" not in rows[0]
    assert [row["weights.generator"] for row in rows] == ["1" * 12, "2" * 12, "3" * 12]
    assert Image.open(tmp_path / "compare.png").text["also differ"] == "inputs.p.png, weights.generator"
    assert "weights.generator" in (tmp_path / "compare.html").read_text()
    assert '"inputs.p.png":"inputs.p.png"' in (tmp_path / "compare.html").read_text().replace('": "', '":"')
    assert short_names(["inputs.a/p.png", "inputs.b/q.png", "loss.beta"]) == ["p.png", "q.png", "beta"]
    pictures = read_pictures(find_runs([tmp_path / "0", tmp_path / "2"]))  # of other files by their names
    assert further_keys(pictures, axes(pictures)) == []


def test_prompts_that_differ_beside_an_axis_are_told(sweep, tmp_path, opened):
    """They were blamed for nothing: the page said that the runs differ in steps."""
    settings = [{"prompts.include": [f"fox {n}"], "loss.beta": n, "steps": 9 - n} for n in range(3)]
    runs_of(sweep, tmp_path, settings, swept=False, pictures=[{"prompt": f"fox {n}"} for n in range(3)])
    compare([tmp_path], tmp_path)
    assert Image.open(tmp_path / "compare.png").text["also differ"] == "prompt, steps"
    assert (tmp_path / "results.csv").read_text().partition("\n")[0].split(",").count("prompt") == 1
    page = opened(tmp_path)
    assert page.locator("#further summary").text_content() == "also differ: prompt, steps"
    assert page.locator("#sort option[value=prompt]").count() == 1
    # As of a sweep over prompts, whose rows say it already.
    assert further_keys(read_pictures(find_runs([tmp_path])), ["prompts.include"]) == ["loss.beta", "steps"]
    (tmp_path / "2" / "run.json").write_text('{"status": "failed"}')
    pictures = read_pictures(find_runs([tmp_path]))
    assert further_keys(pictures, ["loss.beta"]) == ["prompt", "prompts.include", "steps"]
    assert further_keys(pictures[1:], ["loss.beta"]) == ["prompts.include", "steps"]


def test_hundreds_of_keys_and_long_values_keep_the_page_readable(sweep, tmp_path, opened):
    changes = [{f"changes.of{k:03d}": f"{n} " + "word " * (k % 2 * 200) for k in range(400)} for n in range(2)]
    runs_of(sweep, tmp_path, changes, swept=False)
    page = opened(tmp_path)
    assert page.evaluate("document.querySelector('header').getBoundingClientRect().height") < 200
    page.select_option("#layout", "table")
    assert page.locator("thead th").count() < 80
    assert page.locator("tbody tr").first.evaluate("e => e.getBoundingClientRect().height") < 200
    page.fill("#where", "changes.of398 ~ 1")
    assert page.locator("tbody tr").count() == 1


def test_a_group_that_one_run_swept_and_another_typed(sweep, tmp_path):
    runs_of(sweep, tmp_path, [{"noise.factor": n} for n in range(3)])
    pictures = read_pictures(find_runs([tmp_path]))
    commands = ["vqclip", "vqclip noise=none", "vqclip +noise=default optimizer.clip=null"]
    for picture, swept in zip(pictures, ({"noise": "none", "optimizer.clip": "null"}, {}, {}), strict=True):
        picture.config["sweep"]["swept"] = swept
        picture.config["optimizer"]["clip"] = None
    pictures = [replace(picture, command=command) for picture, command in zip(pictures, commands, strict=True)]
    assert [picture.value("noise") for picture in pictures] == ["none", "none", "default"]
    assert [picture.value("optimizer.clip") for picture in pictures] == ["null"] * 3


def test_a_group_that_one_run_swept_and_another_has_by_default(small_pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pair = [*small_pair, "steps=1", "a fox"]
    cli(["-m", "noise=default,none", *pair, "hydra.sweep.dir=sweep"])
    cli([*pair, "noise.factor=0", "hydra.run.dir=plain"])
    pictures = read_pictures(find_runs([Path("sweep"), Path("plain")]))
    assert axes(pictures) == ["noise", "noise.factor"]
    assert [picture.value("noise") for picture in pictures] == ["default", "none", "default"]
    (tmp_path / "plain/.hydra/hydra.yaml").write_text("hydra:\n  runtime:\n    choices:\n      - {\n")
    assert read_pictures([Path("plain")])[0].value("noise") is None


def test_axes_of_runs_of_no_sweep_are_their_experiment_then_what_differs(sweep, tmp_path):
    runs_of(sweep, tmp_path, [{"noise.factor": n / 10, "loss.alpha": n} for n in range(3)], swept=False)
    found = read_pictures(find_runs([tmp_path]))
    commands = ["vqclip rerun a/experiment=x", "vqclip experiment=drawing loss.alpha=1", "vqclip experiment=edit"]
    pictures = [replace(picture, command=command) for picture, command in zip(found, commands, strict=True)]
    assert axes(pictures) == ["experiment"]
    assert [picture.value("experiment") for picture in pictures] == [None, "drawing", "edit"]
    assert axes([replace(picture, command="vqclip init=prior") for picture in pictures]) == ["loss.alpha"]
    for picture, prompt in zip(pictures, ("a fox", "a fox", "an owl"), strict=True):
        picture.entry["prompt"] = prompt
        for group in ("noise", "loss"):
            picture.config[group] = pictures[0].config[group]
        picture.config["prompts"]["include"] = [prompt]
    assert axes([replace(picture, command="vqclip") for picture in pictures]) == ["prompt"]


def test_table_has_a_row_a_picture(sweep):
    rows = list(csv.DictReader((sweep / "results.csv").open()))
    assert len(rows) == 6
    for row in rows:
        report = json.loads((sweep / row["run"] / "run.json").read_text())
        assert row["status"] == report["status"] and row["prompt"] == "a </script> fox"
        if row["status"] == "finished":
            assert float(row["best.score"]) == report["pictures"][0]["best"]["score"]
            assert (sweep / row["file"]).is_file()
    assert rows[4]["error"] == "RuntimeError: out of paint" and rows[4]["file"] == ""


def test_sheet_shows_every_picture_where_its_keys_say(sweep):
    sheet = Image.open(sweep / "compare.png").convert("RGB")
    found = []
    for n in range(6):
        best = sweep / str(n) / "picture-00" / "best.png"
        if best.exists():
            picture = Image.open(best).convert("RGB").resize((256, 256), Image.Resampling.LANCZOS)
            found.append(_place(sheet, picture))
    xs, ys = sorted({x for x, _ in found}), sorted({y for _, y in found})
    assert found == [(x, y) for y in ys for x in xs if (x, y) != (xs[1], ys[1])]
    assert sheet.getpixel((xs[1] + 128, ys[1] + 200)) == (243, 220, 220), "the gap is not marked"


def _place(sheet, picture):
    """Where ``picture`` stands in ``sheet``, pixel for pixel."""
    import numpy as np

    whole, part = np.asarray(sheet).astype(int), np.asarray(picture).astype(int)
    h, w = part.shape[:2]
    line = part[0].ravel()
    for y in range(len(whole) - h + 1):
        for x in range(whole.shape[1] - w + 1):
            if (whole[y, x] == part[0, 0]).all() and (whole[y, x : x + w].ravel() == line).all():
                assert (whole[y : y + h, x : x + w] == part).all()
                return x, y
    raise AssertionError("the picture is not in the sheet")


def test_pictures_that_share_all_keys_have_a_cell_each(small_pair, tmp_path):
    for n in range(4):
        run(("a fox", "an owl")[n // 2], [*small_pair, "steps=1", "snapshot_every=1"], tmp_path / str(n))
    pictures = read_pictures(find_runs([tmp_path]))
    assert axes(pictures) == ["prompt"]
    [block] = _blocks(pictures, axes(pictures))
    assert {picture.run.name for picture in block.cells.values()} == set("0123")


@pytest.mark.parametrize("shape,largest", [((3, 3, 1), 1100), ((8, 8, 3), 4000)])
def test_sheets_of_many_sizes_keep_every_cell(sweep, tmp_path, shape, largest):
    keys = ("loss.alpha", "loss.beta", "noise.factor")
    cells = list(itertools.product(*map(range, shape)))
    runs_of(sweep, tmp_path, [dict(zip(keys, cell, strict=True)) for cell in cells])
    compare([tmp_path], tmp_path)
    assert max(Image.open(tmp_path / "compare.png").size) < largest
    assert len(list(csv.DictReader((tmp_path / "results.csv").open()))) == len(cells)


def test_a_long_grid_is_laid_in_parts(sweep, tmp_path):
    keys = ["prompts.include", "seed"]
    runs_of(sweep, tmp_path, [{keys[0]: [f"prompt {n}"], keys[1]: seed} for n in range(40) for seed in (0, 1)])
    compare([tmp_path], tmp_path)
    width, height = Image.open(tmp_path / "compare.png").size
    assert 0.5 < width / height < 2.5
    for order in (keys, keys[::-1]):
        [block] = _blocks(read_pictures(find_runs([tmp_path])), order)
        parts = list(sheet_module._parts(block))
        assert [max(len(part.rows), len(part.columns)) for part in parts] == [14, 14, 12]
        shown = [(part.rows[r], part.columns[c]) for part in parts for r, c in part.cells]
        assert len(shown) == 80 and {*shown} == {(block.rows[r], block.columns[c]) for r, c in block.cells}


def test_a_block_is_titled_by_all_its_values(sweep, tmp_path):
    """In one line, cut where the seed stands, all titles read the same."""
    runs_of(sweep, tmp_path, [{"noise.factor": 0.1, "loss.alpha": n, "seed": s} for n in (1, 2) for s in (0, 1)])
    pictures = read_pictures(find_runs([tmp_path]))
    keys = ["loss.alpha", "noise.factor", "prompts.include", "seed"]
    blocks = _blocks(pictures, keys)
    assert [block.title[-1] for block in blocks] == ["seed = 0", "seed = 1"]
    heads = [sheet_module._block(replace(block, cells=blocks[0].cells), 160, 160, 21) for block in blocks]
    assert heads[0].size == heads[1].size and heads[0].tobytes() != heads[1].tobytes()


def test_a_cell_of_its_own_says_run_and_values(sweep, tmp_path):
    for name in ("anna", "zip"):
        runs_of(sweep, tmp_path / name, [{"loss.alpha": 3, "loss.anchor": name == "zip", "seed": n} for n in range(5)])
    pictures = read_pictures(find_runs([tmp_path]))
    [block] = _blocks(pictures, ["loss.alpha", "loss.anchor", "experiment"])
    assert list(block.told.values())[5] == ["zip/0", "alpha=3", "anchor=true", "experiment=(none)", "seed=0"]
    font = sheet_module.ImageFont.load_default(18)
    for long in ("a/" * 50 + "7", "7"):
        lines = sheet_module._caption_lines(pictures[0], [long, *(f"key{n}=1" for n in range(40))], font, 160)
        assert lines[0].split()[0].endswith("7") and len(lines) <= 8 and lines[-1].endswith("…")
        assert all(sheet_module._wide(font, line) <= 160 for line in lines)


def test_a_cell_of_its_own_says_whose_value_is_whose(sweep, tmp_path):
    """Nine jobs of a search had "weight=0.2" alone; runs of other classes "_target_=…" three times."""
    swept = [{"loss.terms.contrast.weight": n / 8, "loss.terms.tv.weight": n % 2, "seed": n % 3} for n in range(9)]
    pictures = [
        replace(picture, config={"sweep": {"swept": {key: str(value) for key, value in values.items()}}})
        for picture, values in zip(read_pictures([sweep / "0"]) * 9, swept, strict=True)
    ]
    keys = axes(pictures)
    assert keys == ["loss.terms.contrast.weight"]
    [block] = _blocks(pictures, keys)
    assert list(block.told.values())[1][1:] == ["contrast.weight=0.125", "tv.weight=1", "seed=1"]
    lines = sheet_module._caption_lines(pictures[1], block.told[0, 1], sheet_module.ImageFont.load_default(18), 160)
    assert lines[1:] == ["contrast.weight=", "0.125, tv.weight=1,", "seed=1"]
    runs_of(sweep, tmp_path, [{"init._target_": n, "optimizer._target_": n} for n in range(2)], swept=False)
    keys = ["init._target_", "optimizer._target_"]
    [block] = _blocks([*read_pictures(find_runs([tmp_path])), *pictures[:3]], keys)
    assert block.told[0, 1][1:3] == ["init=1", "optimizer=1"]


def test_captions_of_the_page_tell_keys_of_one_last_word_apart(sweep, tmp_path, opened):
    runs_of(sweep, tmp_path, [{"init._target_": n, "optimizer._target_": n} for n in range(5)])
    page = opened(tmp_path)
    page.select_option("#rows", "init._target_")
    page.select_option("#columns", "optimizer._target_")
    assert page.locator("figcaption").nth(1).text_content().startswith("init=1  optimizer=1  ")


def test_a_cell_has_room_for_every_shape(sweep, tmp_path):
    """As wide as the widest, as high as the highest; the tallest shape made cells four pixels wide."""
    runs_of(sweep, tmp_path, [{"size": size} for size in ([32, 32], [1024, 16], [16, 512])])
    assert sheet_module._cell(read_pictures(find_runs([tmp_path])), 256) == (128, 256)


def test_labels_are_one_line_and_told_apart():
    assert sheet_module._legible("a\nfox 'x'") == "a fox 'x'"
    assert sheet_module._legible("狐") == "\\u72d0" and sheet_module._legible("猫\x07") == "\\u732b\\x07"
    assert sheet_module._legible("château") == sheet_module._legible("cha\u0302teau") == "chateau"
    assert sheet_module._legible("a ≠ b") == "a \\u2260 b"


@pytest.mark.parametrize(
    "values,shown",
    [
        ([10, None, 0.1, 1e-7, 9], ["1e-07", "0.1", "9", "10", "null"]),
        ([2, "warm", 1, "cold"], ["1", "2", "warm", "cold"]),
        ([0.123456789, 0.12345678], ["0.12345678", "0.123456789"]),
        ([0.1 + 0.2, True, False], ["0.3", "true", "false"]),
        ([[16, 16], None, [32, 32]], ["16, 16", "32, 32", "null"]),
        (
            [[{"share": 0.5, "size": [16, 16]}], [{"no command": {0: date(2026, 1, 1)}}]],
            ["{share:0.5,size:[16,16]}", "{'no command': {0: datetime.date(2026, 1, 1)}}"],
        ),
    ],
)
def test_values_are_written_as_typed_and_ordered(sweep, tmp_path, values, shown):
    runs_of(sweep, tmp_path, [{"optimizer.lr": value} for value in values])
    assert distinct_values(read_pictures(find_runs([tmp_path])), "optimizer.lr") == shown


def test_a_damaged_run_decides_no_axis_and_is_one_row(sweep, tmp_path):
    settings = [{"seed": 0}, {"seed": 1, "a_newer_key": 1}, {"seed": 10}, {"seed": 9}]
    runs_of(sweep, tmp_path, settings, swept=False)
    (tmp_path / "0" / "config.yaml").unlink()
    (tmp_path / "3" / "run.json").write_text("{")
    compare([tmp_path], tmp_path)
    assert [key["name"] for key in data_of(tmp_path)["keys"]] == ["seed"]
    assert data_of(tmp_path)["keys"][0]["values"] == ["1", "9", "10", ""]
    assert data_of(tmp_path)["common"]["steps"] == 4 and data_of(tmp_path)["pictures"][0]["config"] is None
    assert [row["seed"] for row in csv.DictReader((tmp_path / "results.csv").open())] == ["", "0", "0", "9"]


def test_a_damaged_last_picture_is_left_out(sweep, tmp_path, monkeypatch):
    runs_of(sweep, tmp_path, [{"seed": n} for n in range(3)], pictures=[{"final": {"step": 99, "score": 1.0}}] * 3)
    for n in range(3):
        shutil.copy(sweep / "0" / "picture-00" / "final.png", tmp_path / str(n) / "picture-00")
    (tmp_path / "1" / "picture-00" / "final.png").write_bytes(os.urandom(300_000))
    compare([tmp_path], tmp_path)
    finals = [picture["final"] for picture in data_of(tmp_path)["pictures"]]
    assert finals[1] is None and finals[0]["scores"]["step"] == 99
    # Some of them would make "picture: final" true of some only.
    monkeypatch.setattr(page_module, "INLINE_FINAL", len(finals[0]["image"]) + 10)
    compare([tmp_path], tmp_path)
    assert not any(picture["final"] for picture in data_of(tmp_path)["pictures"])


def test_a_folder_whose_name_is_no_utf_8(sweep, tmp_path):
    name = os.fsdecode(b"f\xff")
    runs_of(sweep, tmp_path / name, [{"seed": seed} for seed in range(2)])
    compare([tmp_path], tmp_path)
    assert [row["run"] for row in csv.DictReader((tmp_path / "results.csv").open())] == ["f\\udcff/0", "f\\udcff/1"]
    compare([tmp_path / name], tmp_path / name)
    assert Image.open(tmp_path / name / "compare.png").text["folder"] == "f\\udcff"


def test_where_a_comparison_is_written(sweep, tmp_path, monkeypatch, capsys):
    runs_of(sweep, tmp_path / "sweep", [{"seed": seed} for seed in range(3)])
    (tmp_path / "sweep" / "multirun.yaml").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"sweep is a sweep .* Try: vqclip compare sweep/0 sweep/2 --out compared"):
        main(["sweep/0", "sweep/2"])
    assert not (tmp_path / "sweep" / "results.csv").exists()
    with pytest.raises(UserError, match="--out: missing; / holds all"):
        main(["sweep/0", "/dev"])
    assert main(["sweep/0", "sweep/2", "--out", "compared"]) == 0 and (tmp_path / "compared" / "compare.html").is_file()
    shutil.copytree(sweep / "0", tmp_path / "other")
    (tmp_path / "sweep" / "link").symlink_to(tmp_path / "other")
    capsys.readouterr()
    assert main(["sweep/0", "sweep/1", "sweep/2"]) == 0 and (tmp_path / "sweep" / "results.csv").is_file()
    assert capsys.readouterr().err == ""  # what lies beside was not asked for
    (tmp_path / "here").mkdir()
    monkeypatch.chdir("here")
    assert main(["../sweep", "../compared/../sweep/0"]) == 0 and os.listdir() == []


def test_a_shells_pattern_names_what_lies_beside_runs_too(sweep, tmp_path, monkeypatch, capsys):
    for name in "01":
        shutil.copytree(sweep / name, tmp_path / "outputs/day" / name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs/day/wandb/offline-run-1").mkdir(parents=True)
    for _ in range(2):
        words = sorted(map(str, Path("outputs").glob("*/*")))
        assert main(words) == 0
    assert len(words) == 6 and Image.open("outputs/day/compare.png").text["folder"] == "0, 1"
    assert evaluate(words) == interpolate([*words, "--frames", "2", "--out", "out.mp4"]) == 0
    assert "left out" not in capsys.readouterr().err
    with pytest.raises(UserError, match=r"compare.html: no run in it\. .*, such as outputs$"):
        main(["outputs/day/compare.html"])
    (tmp_path / "outputs/day/notes.txt").touch()
    with pytest.raises(UserError, match=r"notes.txt: no run in it"):
        main([*words, "outputs/day/notes.txt"])


@pytest.mark.parametrize("name", ["results.csv", "compare.html", "compare.png"])
@pytest.mark.parametrize("words", [[], ["--out", "."]], ids=["", "out"])
def test_a_file_of_somebody_elses_is_not_replaced(sweep, tmp_path, monkeypatch, name, words):
    runs_of(sweep, tmp_path, [{"seed": seed} for seed in range(2)])
    (tmp_path / name).write_text("mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"^\S*{name}: would be replaced.* --out FOLDER.* Try: mv ") as refused:
        main(["0", "1", *words])
    found = [path.name for path in tmp_path.iterdir() if path.is_file()]
    assert found == [name] and (tmp_path / name).read_text() == "mine"
    subprocess.run(str(refused.value).partition("Try: ")[2], shell=True, check=True)
    assert main(["0", "1", *words]) == 0 and (tmp_path / f"{name}.mine").read_text() == "mine"


def test_a_judges_table_of_somebody_elses_is_not_replaced(sweep, tmp_path):
    shutil.copytree(sweep / "0", tmp_path / "0")
    (tmp_path / "judge.csv").write_text("mine")
    with pytest.raises(UserError, match=r"judge\.csv: would be replaced"):
        evaluate([str(tmp_path)])


def test_a_run_may_be_named_as_what_lies_beside_runs(sweep, tmp_path):
    for name in ("wandb", "mlflow"):
        shutil.copytree(sweep / "0", tmp_path / name)
    assert without_our_files([tmp_path / "wandb", tmp_path / "mlflow"]) == [tmp_path / "wandb", tmp_path / "mlflow"]


@pytest.mark.parametrize("lost", [[], ["results.csv", "compare.html"], ["compare.html", "compare.png"]], ids=" ".join)
def test_a_comparison_is_replaced_by_a_newer_one(sweep, tmp_path, lost):
    runs_of(sweep, tmp_path, [{"seed": seed} for seed in range(2)])
    before = {path: path.read_bytes() for path in compare([tmp_path], tmp_path)}
    for name in lost:
        (tmp_path / name).unlink()
    if not lost:  # a spreadsheet saved it again
        (tmp_path / "results.csv").write_text((tmp_path / "results.csv").read_text().replace(",", ";"))
    shutil.rmtree(tmp_path / "1")
    assert all(path.read_bytes() != before[path] for path in compare([tmp_path], tmp_path))


def test_a_sweeps_command_is_the_one_that_was_typed(sweep):
    hydra = sweep / "3" / ".hydra"
    hydra.mkdir(exist_ok=True)
    (hydra / "overrides.yaml").write_text(yaml.safe_dump(["loss.alpha=1", 'prompts.include=["a fox"]', "sweep={a: b}"]))
    sources = [{"path": str(Path("mine").absolute()), "provider": "command-line"}, {"path": "", "provider": "schema"}]
    (hydra / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": {"config_sources": sources}}}))
    command = read_pictures([sweep / "3"])[0].command
    assert command == "vqclip --config-dir mine loss.alpha=1 'prompts.include=[\"a fox\"]'"
    assert read_pictures([sweep / "2"])[0].command == f"vqclip rerun {sweep / '2'}"


@pytest.mark.parametrize(
    "own", [["--config-dir", "own", "--config-name", "mine"], ["hydra.searchpath=[file://own]", "experiment=mine"]]
)
def test_a_command_says_where_its_files_are(small_pair, tmp_path, monkeypatch, own):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/mine.yaml").write_text("defaults: [config, _self_]\nseed: 5\n")
    (tmp_path / "own/experiment/mine.yaml").write_text("# @package _global_\nseed: 5\n")
    cli([*own, *small_pair, "steps=1", "a fox", "hydra.run.dir=run"])
    command = shlex.split(read_pictures([Path("run")])[0].command)
    assert [word for word in own if word in command] == own
    cli([*command[1:], "hydra.run.dir=again"])
    assert load("again").config["seed"] == 5


def test_a_resumed_runs_command_goes_as_far_as_it_went(small_pair, tmp_path, monkeypatch):
    """Typed again it makes the same picture; the command of its first start ended earlier."""
    monkeypatch.chdir(tmp_path)
    words = [word for word in small_pair if not word.startswith("steps=")]
    cli(["a fox", *words, "steps=3", "trainer.limit_train_batches=2", "hydra.run.dir=run"])
    begun = read_pictures([Path("run")])[0].command
    assert "steps=3" in begun and "trainer.limit_train_batches=2" in begun
    run(None, ["resume=run", "steps=4", "trainer.limit_train_batches=null"])
    command = shlex.split(read_pictures([Path("run")])[0].command)
    assert command[-2:] == ["steps=4", "trainer.limit_train_batches=null"] and len(command) == len(shlex.split(begun))
    cli([*command[1:], "hydra.run.dir=again"])
    assert (Path("again") / "metrics.csv").read_bytes() == (Path("run") / "metrics.csv").read_bytes()


def test_runs_of_many_pictures_and_of_none_in_common(small_pair, tmp_path):
    run(["a fox", "an owl"], [*small_pair, "batch_size=2"], tmp_path / "one")
    run("a fox", [*small_pair, "seed=5", "size=[32,48]"], tmp_path / "two")
    assert main([str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [(row["prompt"], row["seed"]) for row in rows] == [
        ("a fox", "0"), ("a fox", "1"), ("an owl", "0"), ("an owl", "1"), ("a fox", "5"),
    ]  # fmt: skip


# The page.


@pytest.fixture
def page(sweep, browser):
    """The page, opened from disk; no request may leave it and no error may occur in it."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    address = (sweep / "compare.html").as_uri()
    page.goto(address)
    yield page
    context.close()
    assert address in requests
    assert [url for url in requests if url != address and not url.startswith("data:")] == []
    assert errors == []


def shown(page):
    return [int(figure.get_attribute("data-id")) for figure in page.locator("figure").all()]


def test_page_shows_the_sheet_with_its_gap(page):
    assert shown(page) == [0, 1, 2, 3, 4, 5]
    assert page.locator(".sheet tr").count() == 3
    assert page.locator(".gap").text_content() == "failed: RuntimeError: out of paint"
    assert page.locator("figure img").first.evaluate("i => i.complete && i.naturalWidth") == 32


def test_page_sorts_by_any_score(page, sweep):
    scores = {n: json.loads((sweep / str(n) / "run.json").read_text())["pictures"][0] for n in range(6)}
    wanted = sorted((n for n in range(6) if n != 4), key=lambda n: -scores[n]["best"]["include"])
    page.select_option("#sort", "include")
    assert shown(page) == [*wanted, 4]  # the gap comes last
    page.click("#direction")
    assert shown(page) == [*reversed(wanted), 4]


def test_page_filters_by_axis_and_by_any_key(page):
    page.select_option("select.filter[data-key='loss.beta']", "0.5")
    assert shown(page) == [1, 4]
    page.fill("#where", "status = finished")
    assert shown(page) == [1]
    page.select_option("select.filter[data-key='loss.beta']", "")
    page.fill("#where", "loss.beta > 0.2, loss.alpha != 1")
    assert shown(page) == [1, 2]
    page.fill("#where", "steps = 4, prompt ~ FOX, augmentations.crops.count < 5")
    assert shown(page) == [0, 1, 2, 3, 4, 5]
    page.fill("#where", "seed = 1")
    assert shown(page) == []
    for words in ("loss.beta < 0.3, cat", "status = finished, cat", "loss.beta < some", "status < 3"):
        page.fill("#where", words)
        assert shown(page) == []
    page.fill("#where", "loss.beta < 0.3, fox, status = finished")
    assert shown(page) == [0, 3]


def test_page_opens_a_picture_large_with_its_timelapse_and_command(page):
    page.locator("figure img").nth(1).click()
    dialog = page.locator("#dialog")
    assert dialog.locator("h2").first.text_content() == "a </script> fox"
    assert dialog.locator("img").evaluate("i => i.naturalWidth") == 32
    # Not wait_for_function: asking a second time it evaluates a text, which the page's policy forbids.
    loaded = (
        "v => v.readyState >= 1 || new Promise((yes, no) => { v.onloadedmetadata = () => yes(true); v.onerror = no })"
    )
    assert dialog.locator("video").evaluate(loaded)
    assert page.evaluate("document.querySelector('#dialog video').duration") > 0
    command = dialog.locator("code").text_content()
    assert command.startswith("vqclip rerun ")
    dialog.locator("button.copy").click()
    dialog.locator("button.copy", has_text="copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == command
    page.keyboard.press("ArrowRight")
    assert "10" in dialog.locator(".table").first.text_content()


def test_page_selects_the_command_where_there_is_no_clipboard(page):
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.locator("figure img").first.click()
    page.locator("button.copy").click()
    page.locator("button.copy", has_text="selected").wait_for()
    assert page.evaluate("String(getSelection())") == page.locator("#dialog code").text_content()


def test_page_of_another_size_keeps_its_figures(page):
    """The slider moves many times a second."""
    page.evaluate("document.querySelector('figure').mark = 1")
    page.locator("#side").evaluate("e => { e.value = 40; e.dispatchEvent(new Event('input')) }")
    assert page.evaluate("document.querySelector('figure').mark") == 1
    assert page.locator("figure").first.evaluate("f => f.getBoundingClientRect().width") == 40
    assert page.locator("main.small").count() == 1


def test_page_in_a_notebook_has_no_address(sweep, browser):
    page = browser.new_page()
    page.evaluate(
        "h => document.body.append(Object.assign(document.createElement('iframe'), {srcdoc: h}))",
        (sweep / "compare.html").read_text(),
    )
    inside = page.frame_locator("iframe")
    inside.locator("figure").nth(5).wait_for()
    inside.locator("#layout").select_option("table")
    inside.locator("tbody tr").nth(5).wait_for()
    page.close()


def differences(page):
    """Rows of the settings that differ, under their title."""
    return [row.locator("td").all_text_contents() for row in page.locator("#differences tr").all()[1:]]


def test_page_on_a_phone_is_no_wider_than_the_phone(sweep, opened):
    page = opened(sweep, 390, 844)
    for layout in ("sheet", "gallery", "table", "curves"):
        page.select_option("#layout", layout)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, layout
    page.select_option("#layout", "gallery")
    for n in range(3):
        page.locator("figure input").nth(n).check()
    page.click("#compare")
    assert (
        page.evaluate("document.querySelector('dialog').scrollWidth - document.querySelector('dialog').clientWidth")
        == 0
    )


def test_page_of_extreme_shapes_and_long_words_keeps_its_layout(sweep, tmp_path, opened):
    prompts = ["a fox that sleeps " * 12, "extraordinarily" * 12]
    runs_of(sweep, tmp_path, [{"prompts.include": [prompt]} for prompt in prompts])
    Image.new("RGB", (16, 1024)).save(tmp_path / "0" / "picture-00" / "best.png")
    page = opened(tmp_path, 360, 740)
    boxes = "all => all.map(e => e.getBoundingClientRect().height / e.getBoundingClientRect().width)"
    for layout in ("sheet", "gallery", "table"):
        page.select_option("#layout", layout)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, layout
        assert max(page.locator("main img").evaluate_all(boxes)) <= 2, layout
    page.select_option("#layout", "gallery")
    heights = page.locator("figcaption").evaluate_all("all => all.map(e => e.getBoundingClientRect().height)")
    assert len(heights) == 2 and max(heights) < 80
    page.locator("figure img").first.press("Enter")
    assert page.locator("#dialog img").evaluate("e => e.getBoundingClientRect().height / innerHeight") <= 1.2


#: Two runs that differ in forty settings with long names and values.
FORTY_SETTINGS = [{f"changes.a_setting_{k:02d}": f"{n} " + "some words " * 20 for k in range(40)} for n in range(2)]


@pytest.mark.parametrize("width", [1280, 390])
def test_what_also_differs_is_no_wider_than_the_page(sweep, tmp_path, opened, width):
    page = opened(runs_of(sweep, tmp_path, FORTY_SETTINGS, swept=False), width, 844)
    for _ in "closed", "open":
        inside = "document.querySelector('#further').getBoundingClientRect().right"
        assert page.evaluate(inside) <= width and page.evaluate("document.documentElement.scrollWidth") <= width
        page.click("#further summary")


def test_page_puts_two_side_by_side_with_what_differs(page):
    page.locator("figure input").nth(0).check()
    page.locator("figure input").nth(2).check()
    page.click("#compare")
    assert differences(page) == [["loss.beta", "0", "10"]]
    assert page.locator("#dialog .pair img").count() == 2


def test_page_as_a_table(page):
    page.select_option("#layout", "table")
    assert page.locator("tbody tr").count() == 6
    page.locator("thead th", has_text="loss.beta").click()
    column = [row.locator("td").nth(2).text_content() for row in page.locator("tbody tr").all()]
    assert column == ["10", "10", "0.5", "0.5", "0", "0"]


def test_page_is_one_file(sweep, tmp_path):
    alone = shutil.copy(sweep / "compare.html", tmp_path / "alone.html")
    text = Path(alone).read_text()
    assert "http://" not in text and "https://" not in text and 'src="' not in text


def test_page_says_why_it_has_no_score_and_sorts_by_the_judge(page, sweep):
    assert "differ in loss.alpha and loss.beta" in page.locator("#why").text_content()
    assert page.locator("#sort option[value=score]").count() == 0
    reports = {n: json.loads((sweep / str(n) / "run.json").read_text())["pictures"][0] for n in range(6) if n != 4}
    page.select_option("#sort", "judge")
    assert shown(page) == [*sorted(reports, key=lambda n: -reports[n]["judge"]), 4]
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    assert page.locator("#sort").input_value() == "judge" and page.locator("#layout").input_value() == "gallery"


def test_page_says_sorted_only_where_it_is(page):
    assert "sorted" not in page.locator("#why").text_content()
    for layout, told in (("gallery", True), ("table", True), ("curves", False)):
        page.select_option("#layout", layout)
        assert ("sorted by the judge" in page.locator("#why").text_content()) == told, layout
    page.select_option("#layout", "gallery")
    page.select_option("#sort", "include")
    assert "sorted" not in page.locator("#why").text_content()


def test_page_gives_the_rows_that_it_shows(sweep, tmp_path, opened):
    pictures = [{"prompt": f'a "fox",\nsaid {n}', "judge": n / 10} for n in range(4)]
    runs_of(sweep, tmp_path, [{"loss.beta": n} for n in range(4)], pictures=pictures)
    page = opened(tmp_path)
    whole = list(csv.DictReader((tmp_path / "results.csv").open(newline="")))
    for condition, wanted in (("", [3, 2, 1, 0]), ("loss.beta > 1", [3, 2]), ("seed = 7", [])):
        page.select_option("#layout", "table")
        page.select_option("#sort", "judge")
        page.fill("#where", condition)
        with page.expect_download() as download:
            page.click("#csv")
        rows = list(csv.DictReader(Path(download.value.path()).read_bytes().decode().splitlines(keepends=True)))
        assert rows == [whole[n] for n in wanted], condition


def test_page_names_a_key_that_no_picture_has(page):
    for condition, told in (
        ("beta = 0", '0 of 6 pictures; no key "beta": loss.beta?'),
        ("nothing > 1, loss.beta = 0", '0 of 6 pictures; no key "nothing"'),
        ("loss.beta == 0", "2 of 6 pictures"),
        ("loss.beta=0; loss.alpha=1", "1 of 6 pictures"),
        ("include > -2 and loss.beta=0", "2 of 6 pictures"),
        ("seconds < 999 AND loss.beta=0", "2 of 6 pictures"),
        ("loss.beta => .5", "4 of 6 pictures"),
        ("loss.beta =< .5", "4 of 6 pictures"),
        ("wandb = null", "6 pictures"),
        ("wandb ~ x", "0 of 6 pictures"),
        ("prompt ~ fox", "6 pictures"),
    ):
        page.fill("#where", condition)
        assert page.locator("#count").text_content() == told, condition
    assert page.locator("#where").get_attribute("placeholder").endswith("prompt ~ fox")


def test_page_is_told_to_who_does_not_see_it(page):
    image = page.locator("figure img").first
    told = "a </script> fox, loss.alpha = 0.5, loss.beta = 0"
    assert image.get_attribute("alt") == told and image.get_attribute("role") == "button"
    assert page.locator("figure input").first.get_attribute("aria-label") == f"to compare: {told}"
    assert page.locator("#count").get_attribute("aria-live") == "polite"
    assert page.locator("#direction").get_attribute("aria-label") == "sorted downwards"
    image.press("Space")
    assert page.locator("#dialog").get_attribute("aria-label") == "a </script> fox"
    page.keyboard.press("Escape")
    page.select_option("#layout", "table")
    assert page.locator("tbody img").first.get_attribute("alt")
    head = page.locator("thead th", has_text="loss.beta")
    for order in ("descending", "ascending"):
        head.press("Space")
        assert head.get_attribute("aria-sort") == order
    assert head.get_attribute("role") is None and page.locator("[aria-sort]").count() == 1
    page.select_option("#layout", "curves")
    assert page.get_by_role("row").count() == page.locator(".legend tr").count() == 6


@pytest.mark.parametrize("layout", ["sheet", "gallery", "table", "curves"])
def test_page_on_paper_is_no_wider_than_the_paper(sweep, tmp_path, opened, layout):
    settings = [{"loss.alpha": n // 8, "noise.factor": n % 8 / 8} for n in range(24)]
    runs_of(sweep, tmp_path, settings)
    page = opened(tmp_path)
    page.select_option("#layout", layout)
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 without its margins
    page.emulate_media(media="print")
    wider = "e => [e, ...e.querySelectorAll('section, .wide, .legend')].map(e => e.scrollWidth - e.clientWidth)"
    assert max(page.locator("main").evaluate(wider)) <= 0
    higher = "all => all.map(e => e.scrollHeight - e.clientHeight)"
    assert max(page.locator(".legend").evaluate_all(higher), default=0) <= 0
    assert page.locator("header select:visible, header input:visible, figure input:visible").count() == 0


def test_a_wide_table_prints_whole(sweep, tmp_path, opened):
    page = opened(runs_of(sweep, tmp_path, FORTY_SETTINGS, swept=False))
    page.select_option("#layout", "table")
    page.set_viewport_size({"width": 718, "height": 1000})
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    named = "all => all.filter(e => getComputedStyle(e, '::before').content.startsWith('\"changes.a_')).length"
    assert page.locator("tbody td").evaluate_all(named) == 80
    widths = page.locator("tbody tr").evaluate_all("all => all.map(e => e.getBoundingClientRect().width)")
    assert min(widths) > 600, "letter below letter"
    page.evaluate("document.querySelector('.many').className = 'table'")  # as of few columns
    cut = "all => all.filter(e => e.scrollHeight > e.clientHeight).length"
    assert page.locator(".wide td > div").evaluate_all(cut) == 0


def test_curves_are_numbered_as_in_the_legend(sweep, tmp_path, opened):
    runs_of(sweep, tmp_path, [{"loss.alpha": n} for n in range(20)])
    for n in range(20):
        (tmp_path / str(n) / "metrics.csv").write_text(f"step,include\n1,0\n2,{n % 3 / 10}\n")
    page = opened(tmp_path)
    page.select_option("#layout", "curves")
    numbers = page.locator("#plot .number")
    assert numbers.all_text_contents() == [str(n) for n in range(1, 21)]
    starts = [text.split()[0] for text in page.locator(".legend td:first-child").all_text_contents()]
    assert starts == numbers.all_text_contents()
    heights = [float(number.get_attribute("y")) for number in numbers.all()]
    assert all(b - a > 11 for a, b in itertools.pairwise(heights)) and max(heights) < 460


def test_page_compares_more_than_two(page):
    for n in (0, 2, 3):
        page.locator("figure input").nth(n).check()
    assert page.locator("#compare").text_content() == "compare the 3"
    page.click("#compare")
    assert differences(page) == [["loss.alpha", "0.5", "0.5", "1"], ["loss.beta", "0", "10", "0"]]
    assert page.locator("#dialog .pair img").count() == 3
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    assert page.locator("figure.chosen").count() == 3


def test_page_draws_a_curve_a_run(page, sweep):
    page.select_option("#layout", "curves")
    assert page.locator("#plot polyline").count() == 6 and page.locator("#plot polygon").count() == 0
    rows = list(csv.DictReader((sweep / "0" / "metrics.csv").open()))
    assert len(page.locator("#plot polyline").first.get_attribute("points").split()) == len(rows)
    page.select_option("#metric", "lr")
    shown_end = page.locator(".legend tr").first.locator("td").nth(1).text_content()
    assert float(shown_end) == pytest.approx(float(rows[-1]["lr"]), rel=1e-3)
    page.fill("#where", "loss.beta = 0")
    assert page.locator("#plot polyline").count() == 2


def test_page_draws_every_picture_of_a_sparse_grid(sweep, tmp_path, opened):
    settings = [{"loss.alpha": n % 15, "loss.beta": n * 7 % 12, "seed": n // 15} for n in range(45)]
    runs_of(sweep, tmp_path, settings)
    page = opened(tmp_path)
    page.select_option("#rows", "loss.alpha")
    page.select_option("#columns", "loss.beta")
    assert page.locator("figure").count() == 45 and page.locator("#more").count() == 0
    assert "alpha=0  beta=0" in page.locator("figcaption").first.text_content()
    page.evaluate("state.limit = 20; draw()")
    assert page.locator("figure").count() == 20 and page.locator("#more").text_content() == "25 more"
    page.click("#all")
    assert page.locator("figure").count() == 45 and page.locator("#more").count() == 0


def test_page_says_how_many_are_not_drawn(page):
    page.evaluate("state.limit = 2; draw()")
    assert shown(page) == [0, 1, 2] and page.locator("#more").text_content() == "3 more"
    page.click("#more")
    assert shown(page) == [0, 1, 2, 3, 4, 5] and page.locator("#more").count() == 0


def test_page_of_a_search_has_every_key_that_was_searched(sweep, tmp_path, opened):
    runs_of(sweep, tmp_path, [{"loss.alpha": n / 7, "noise.factor": n % 3 / 10, "steps": 5 - n} for n in range(4)])
    page = opened(tmp_path)
    page.select_option("#layout", "table")
    assert {"loss.alpha", "noise.factor", "steps"} <= {*page.locator("thead th").all_text_contents()}
    page.select_option("#sort", "noise.factor")
    assert [row.locator("td").nth(2).text_content() for row in page.locator("tbody tr").all()] == [
        "0.2",
        "0.1",
        "0",
        "0",
    ]


def test_page_ranks_by_no_score_where_the_objective_differs(sweep, tmp_path, opened):
    runs_of(sweep, tmp_path, [{"loss.beta": 1}, {"loss.beta": 2}, {"loss.beta": 1, "seed": 4}], swept=False)
    for n in range(3):
        path = tmp_path / str(n) / "config.yaml"
        config = yaml.safe_load(path.read_text())
        config["sweep"] = {"group": "x", "swept": {"experiment": "ab"[n % 2], "seed": str(n // 2 * 4)}}
        path.write_text(yaml.safe_dump(config))
    page = opened(tmp_path)
    assert [key["name"] for key in data_of(tmp_path)["keys"]] == ["experiment", "seed"]
    assert "the objectives differ in loss.beta" in page.locator("#why").text_content()
    assert page.locator("#sort option[value=score]").count() == 0
    page.fill("#where", "seed > 0")
    assert shown(page) == [2]


def test_page_ranks_by_score_where_only_the_anchor_differs(sweep, tmp_path, opened):
    runs_of(sweep, tmp_path, [{"loss.anchor": 1}, {"loss.anchor": 10}])
    page = opened(tmp_path)
    assert page.locator("#why").text_content() == ""
    assert page.locator("#sort option[value=score]").count() == 1


def test_page_leaves_out_an_empty_value_that_is_compared(sweep, tmp_path, opened):
    runs_of(sweep, tmp_path, [{"loss.anchor": value} for value in (10, 1, None, 20)])
    (tmp_path / "3" / "config.yaml").unlink()
    page = opened(tmp_path)
    for condition, left in (("> 5", {0}), (">= 0", {0, 1}), ("< 5", {1})):
        page.fill("#where", f"loss.anchor {condition}")
        assert {*shown(page)} == left, condition


def test_page_sorts_numbers_by_size_and_none_last(sweep, tmp_path, opened):
    runs_of(sweep, tmp_path, [{"optimizer.clip": value} for value in (10, None, 0.1, "warm", 1e-7, 9)])
    page = opened(tmp_path)
    page.select_option("#layout", "gallery")
    page.select_option("#sort", "optimizer.clip")
    assert shown(page) == [3, 0, 5, 2, 4, 1]
    page.click("#direction")
    assert shown(page) == [4, 2, 5, 0, 3, 1]
    page.fill("#where", "optimizer.clip = null")
    assert shown(page) == [1]


@pytest.mark.parametrize("swept", [True, False])
def test_page_finds_texts_lists_and_switches_as_they_are_typed(sweep, tmp_path, opened, swept):
    settings = [
        {"prompts.include": ["a fox, in snow"], "size": [16, 16], "search.clamp": True, "search.overlay": None},
        {"prompts.include": ["An Owl"], "size": [16, 32], "search.clamp": False, "search.overlay": 2},
    ]
    runs_of(sweep, tmp_path, settings, swept)
    page = opened(tmp_path)
    for condition in (
        "prompts.include = a fox, in snow",
        'prompts.include = ["a fox, in snow"]',
        "prompts.include ~ FOX, IN, size != 16, 32",
        "size = 16, 16",
        "size = [16,16], steps = 4,",
        "search.clamp = true",
        "search.clamp = True",
        "search.clamp != false",
        "search.overlay = null",
        "snow, in snow",
    ):
        page.fill("#where", condition)
        assert shown(page) == [0], condition
    page.fill("#where", "prompts.include = an owl, search.overlay > 1")
    assert shown(page) == [1]


def test_page_shows_settings_and_seeds_in_full(sweep, tmp_path, opened):
    settings = [{"seed": 123456789, "optimizer.lr": 0.123456789}, {"seed": 123456790, "optimizer.lr": 0.12345678}]
    runs_of(sweep, tmp_path, settings, swept=False, pictures=[{"seed": own["seed"]} for own in settings])
    page = opened(tmp_path)
    for n in range(2):
        page.locator("figure input").nth(n).check()
    page.click("#compare")
    assert differences(page) == [["optimizer.lr", "0.123456789", "0.12345678"], ["seed", "123456789", "123456790"]]
    seeds = page.locator("#scores tr", has_text="seed").locator("td").all_text_contents()
    assert seeds == ["seed", "123456789", "123456790"]


def test_page_is_used_by_the_keyboard(page):
    """What a click opens, Enter does; what was focused stays so where the page is drawn anew."""
    dialog = page.locator("#dialog")
    page.locator("#side").evaluate("e => { e.value = 48; e.dispatchEvent(new Event('input')) }")  # a small one
    page.focus("#side")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert dialog.is_visible() and dialog.locator(".large").count() == 1
    page.keyboard.press("Escape")
    for _ in range(2):
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert page.evaluate("document.activeElement.matches('figure input:checked')")
        assert page.evaluate("getComputedStyle(document.activeElement).opacity") == "1"
        page.keyboard.press("Tab")
    assert page.locator("figure.chosen").count() == 2
    page.locator(".gap").press("Enter")
    assert "out of paint" in dialog.text_content()
    page.keyboard.press("Escape")
    page.select_option("#layout", "table")
    for arrow in "▼▲":
        page.locator("thead th", has_text="loss.beta").press("Enter")
        assert page.evaluate("document.activeElement.textContent") == f"loss.beta {arrow}"
    page.select_option("#layout", "curves")
    page.locator(".legend tr").first.press("Enter")
    assert dialog.is_visible()


def test_curves_of_unlike_length_have_the_mean_of_the_same_steps(sweep, tmp_path, opened):
    """Seed 0 is at 1 all the time, seed 1 at 3, and ends earlier."""
    runs_of(sweep, tmp_path, [{"seed": 0}, {"seed": 1}])
    for n, steps in enumerate((500, 151)):
        rows = [f"{step},{1 + 2 * n}" for step in range(1, steps + 1)]
        (tmp_path / str(n) / "metrics.csv").write_text("\n".join(["step,include", *rows]) + "\n")
    compare([tmp_path], tmp_path)
    for picture in data_of(tmp_path)["pictures"]:
        assert len(picture["curves"]["step"]) <= 82
    page = opened(tmp_path)
    page.select_option("#layout", "curves")
    assert page.locator(".legend td").nth(1).text_content() == "1 (1 of 2)"
    means = [point["mean"] for point in page.evaluate("lines(pictures)[0].points")]
    assert means == [2] * means.count(2) + [1] * means.count(1) and means.count(2) > 15 and means.count(1) > 15
    page.evaluate(
        """pictures[0].curves = {step: Array.from({length: 2e5}, (_, i) => i), include: Array(2e5).fill(1)};
        draw()"""
    )
    assert page.locator("#plot polyline").count() == 1
    rows = [f"{step},1" for step in range(64, 64 * 1500, 64)]  # trainer.log_every_n_steps=64
    (tmp_path / "0" / "metrics.csv").write_text("\n".join(["step,include", *rows]) + "\n")
    compare([tmp_path], tmp_path)
    assert 40 <= len(data_of(tmp_path)["pictures"][0]["curves"]["step"]) <= 82


def test_page_plays_a_timelapse_that_lies_beside_it(sweep, tmp_path, opened, monkeypatch):
    folder = shutil.copytree(sweep / "0", tmp_path / "a #1? 50%20").parent
    monkeypatch.setattr(page_module, "INLINE_VIDEO", 0)
    page = opened(folder)
    page.locator("figure img").click()
    wait = """v => new Promise(done => {
        if (v.readyState || v.error) done(!v.error);
        v.onloadedmetadata = () => done(true);
        v.onerror = () => done(false);
    })"""
    assert page.locator("#dialog video").evaluate(wait)


#: The red of a picture's first pixel.
PIXEL = """i => {
    const canvas = document.createElement('canvas').getContext('2d');
    canvas.drawImage(i, 0, 0);
    return canvas.getImageData(0, 0, 1, 1).data[0];
}"""


def test_runs_that_each_differ_in_a_key_of_their_own(sweep, tmp_path):
    """One change a run: the grid of all changes would have a billion cells."""
    changes = [{f"changes.of{n:02d}": n == i for n in range(30)} for i in range(30)]
    runs_of(sweep, tmp_path, changes, swept=False)
    compare([tmp_path], tmp_path)
    with Image.open(tmp_path / "compare.png") as sheet:
        assert sheet.width < 4000 and sheet.height < 8000


@pytest.mark.parametrize("text", ["x" * 300_000, "x " * 150_000], ids=["a word", "words"])
def test_a_text_of_any_length_is_cut(sweep, tmp_path, text):
    """Letter by letter it would take an hour."""
    for name, changes in (("0", {"status": "failed", "error": text}), ("1", {})):
        folder = shutil.copytree(sweep / "0", tmp_path / name)
        report = json.loads((folder / "run.json").read_text()) | changes
        report["pictures"][0]["prompt"] = text + name
        (folder / "run.json").write_text(json.dumps(report))
    compare([tmp_path], tmp_path)
    with Image.open(tmp_path / "compare.png") as sheet:
        assert sheet.width < 4000


@pytest.fixture(scope="module")
def many(sweep, tmp_path_factory):
    """500 runs: ten alphas by five betas by ten seeds, with curves that are known."""
    folder = tmp_path_factory.mktemp("many")
    report = json.loads((sweep / "0" / "run.json").read_text())
    config = yaml.safe_load((sweep / "0" / "config.yaml").read_text())
    for n in range(500):
        alpha, beta, seed = n // 50, n // 10 % 5, n % 10
        config |= {
            "seed": seed,
            "sweep": {"group": "x", "swept": {"loss.alpha": str(alpha), "loss.beta": str(beta), "seed": str(seed)}},
        }
        config["loss"] |= {"alpha": alpha, "beta": beta}
        own = folder / str(n)
        (own / "picture-00").mkdir(parents=True)
        picture = report["pictures"][0] | {"seed": seed, "judge": n / 1000}
        picture["final"] = picture["best"] | {"step": 99}
        (own / "run.json").write_text(json.dumps(report | {"pictures": [picture]}))
        (own / "config.yaml").write_text(yaml.safe_dump(config))
        rows = [f"{step},{step / 200 + seed / 10}" for step in range(1, 201)]
        (own / "metrics.csv").write_text("\n".join(["step,include", *rows]) + "\n")
        for name, colour in (("best", (25 * alpha, 50 * beta, 25 * seed)), ("final", (0, 0, 0))):
            Image.new("RGB", (32, 32), colour).save(own / "picture-00" / f"{name}.png")
    compare([folder], folder)
    return folder


def test_page_of_500_runs_fits_a_few_screens(many, opened):
    page = opened(many)
    height = "document.documentElement.scrollHeight"
    assert page.locator("figure").count() == 500 and page.evaluate(height) < 5000
    assert page.locator(".blocks > section").count() == 10  # a block a seed, side by side
    tops = page.locator(".blocks > section").evaluate_all("all => all.map(e => e.getBoundingClientRect().top)")
    assert len(set(tops)) < 6
    page.select_option("#layout", "table")
    first = [page.locator("tbody tr").nth(n).get_attribute("data-id") for n in range(3)]
    assert page.locator("#sort").input_value() == "judge" and first == ["499", "498", "497"]
    assert (many / "compare.html").stat().st_size < 8 * 2**20
    page.select_option("#layout", "gallery")
    page.select_option("#which", "final")
    assert page.locator("figure img").first.evaluate(PIXEL) == 0
    page.select_option("#layout", "curves")
    assert page.locator("#plot polyline").count() == 50 and page.locator("#plot polygon").count() == 50
    # Seeds 0 to 9 end at 1 + seed / 10: mean 1.45, deviation of a sample .3028.
    assert page.locator(".legend tr td").nth(1).text_content() == "1.45 ± 0.3028 (10)"
    page.uncheck("#mean")
    assert page.locator("#plot polyline").count() == 500


def test_sheet_says_prompt_seed_steps_and_folder(sweep):
    sheet = Image.open(sweep / "compare.png")
    assert sheet.text == {"prompt": "a </script> fox", "seed": "0", "steps": "4", "folder": sweep.name}
    top = sheet.convert("L").crop((0, 0, sheet.width, 80))
    assert top.getextrema()[0] < 60, "the lines are not drawn"


@pytest.mark.parametrize("words", ["<!-- <script>", "<img src=x onerror=document.title='ran'>", "</script><b>"])
def test_no_prompt_and_no_name_runs_a_script(small_pair, tmp_path, opened, words):
    folder = tmp_path / "{{data}}"
    run(words, [*small_pair, "steps=1"], folder / "0")
    page = opened(folder)
    assert page.locator("figure").count() == 1
    assert page.title() == "{{data}} · vqclip" and page.locator("header h1 img").count() == 0
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert "default-src 'none'" in policy and "'unsafe-inline'" not in policy.partition("style-src")[0]
    page.close()


def test_the_table_of_a_run_is_read_once_for_all_its_pictures_and_reading_is_told(
    small_pair, tmp_path, monkeypatch, capsys
):
    folder = run(["a fox", "an owl"], [*small_pair, "batch_size=2"], tmp_path / "run").folder
    read, history = [], RunFolder.history
    monkeypatch.setattr(RunFolder, "history", lambda self: read.append(self.path) or history(self))
    monkeypatch.setattr("vqclip.io.progress._LOG", 0)
    monkeypatch.setattr("vqclip.io.progress._LIVE", 0)
    run("a fox", small_pair, tmp_path / "other")
    capsys.readouterr()
    compare([folder, tmp_path / "other"], tmp_path)
    assert read == [folder, tmp_path / "other"] and capsys.readouterr().err == "reading 1 of 2\n"
