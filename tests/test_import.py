"""Settings of other programs become experiments that compose and run; what has no equal is said."""

# ruff: noqa: E501
import math
import shlex

import pytest
import yaml
from PIL import Image

from vqclip.cli import main
from vqclip.cli.arguments import parse_arguments
from vqclip.config.check import errors_in
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve
from vqclip.peers.importer import PROGRAMS, converter, program, read_settings, translate
from vqclip.peers.prompts import Part, entries_of, scenes
from vqclip.prompts import parse
from vqclip.runs.execute import execute

# As people write them: by the options that each program's own help lists.
SOURCES = {
    "a plain one": ('python generate.py -p "a lighthouse in a storm"', {"steps": 500, "size": [512, 512]}),
    "weights": (
        "python generate.py -p 'a fox:2 | watercolor:1:.4 | blurry:-1' -i 300 -s 384 256 -se 25 -cuts 16 -opt AdamW -lr .2",
        {"steps": 300, "size": [256, 384], "snapshot_every": 25, "optimizer._target_": "torch.optim.AdamW",
         "optimizer.lr": 0.2, "augmentations.crops.count": 16, "prompts.exclude": ["blurry"]},
    ),
    "a photo": (
        "python3 generate.py -p 'an oil painting of a cat' -ii photo.png -iw 0.5 -m ViT-B/16 -cutm original -sd 7 -d True",
        {"init.path": "photo.png", "loss.anchor": 0.5, "seed": 7, "augmentations.crops.mean": 0.7},
    ),
    "zoom": (
        'python generate.py -p "the woods ^ the sea" -cpe 200 -zvid -zs 100 -zse 10 -zsc 1.02 -vl 10 -o out/zoom.png '
        "-ckpt checkpoints/wikiart_16384.ckpt -conf checkpoints/wikiart_16384.yaml -aug Af Pe Ji Er -cd cuda:1",
        {"checkpoints.generator.name": "wikiart_f16_16384", "trainer.devices": [1], "prompts.include": ["the woods", "the sea"]},
    ),
    "pytti": (
        "scenes: 'a castle:1.5 | fog || a ruin'\nscene_suffix: ' | text:-1'\nimage_model: VQGAN\nvqgan_model: imagenet\n"
        "width: 320\nheight: 192\nsteps_per_scene: 200\nsteps_per_frame: 20\ncutouts: 32\ncut_pow: 2\nViTB32: true\n"
        "RN50: true\nlearning_rate: 0.15\nsmoothing_weight: 0.05\nseed: 11\n",
        {"size": [192, 320], "steps": 200, "loss.terms.tv.weight": 0.05, "prompts.exclude": ["text"]},
    ),
    "pytti command": (
        'python -m pytti.workhorse conf=demo scenes="a whale | the deep sea" image_model=VQGAN vqgan_model=sflickr '
        "steps_per_scene=400 ViTB32=false ViTB16=true auto_stop=true auto_stop_threshold=0.01",
        {"steps": 400, "checkpoints.generator.name": "sflckr", "callbacks.auto_stop.threshold": 0.003},
    ),
    "pytti pixels": (
        "scenes: a garden\nimage_model: Limited Palette\npalette_size: 5\nanimation_mode: 2D\ntranslate_x: '2*sin(t)'\n"
        "direct_stabilization_weight: '1-t'\ndepth_stabilization_weight: ''\n",
        {"prompts.include": ["a garden"]},
    ),
    "pixray": (
        "prompts: a fox:2 | watercolor\nquality: better\naspect: square\ndrawer: vqgan\nvqgan_model: imagenet_f16_16384\n"
        "custom_loss: saturation\nlearning_rate_drops: [50, 75]\nseed: rainbow\nvector_prompts: textoff\n",
        {"steps": 300, "size": [432, 432], "augmentations.crops.count": 64, "memory.crop_chunk": 32},
    ),
    "pixray command": (
        'python pixray.py --prompts "a robot" --quality draft --size 256 128 --num_cuts 24 --batches 2 --losses symmetry:2,aesthetic '
        "--palette 'red;white;#0000ff' --init_weight_pix 0.3",
        {"steps": 200, "size": [128, 256], "augmentations.crops.count": 48, "loss.terms.symmetry.weight": 2,
         "loss.terms.palette.colours": ["red", "white", "#0000ff"], "loss.terms.pixels.weight": 0.3},
    ),
    "engine": (
        "text_prompts: a village\noutput_image_size: [256, 192]\ninit_noise: gradient\ncut_method: latest\nnum_cuts: 32\n"
        "optimizer: RAdam\nvqgan_checkpoint: models/vqgan_imagenet_f16_1024.ckpt\ncudnn_determinism: true\n",
        {"size": [192, 256], "optimizer._target_": "torch.optim.RAdam", "checkpoints.generator.name": "imagenet_f16_1024"},
    ),
}  # fmt: skip


def at(config, key):
    for part in key.split("."):
        config = config[part]
    return config


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 30), "teal").save("photo.png")
    return tmp_path


def imported(source, here):
    if "\n" in source or ": " in source.split("'")[0]:
        (here / "mine.yaml").write_text(source)
        source = "mine.yaml"
    with pytest.raises(SystemExit) as exit:
        main(["import", source, "--name", "mine"])
    assert exit.value.code == 0
    return here / "imported"


@pytest.mark.parametrize("name", SOURCES)
def test_settings_become_an_experiment_that_composes(here, capsys, name):
    source, expected = SOURCES[name]
    folder = imported(source, here)
    config = resolve(compose(["experiment=mine"], config_dir=str(folder)))
    assert {key: at(config, key) for key in expected} == expected
    here_too = {**config, "trainer": {**config["trainer"], "accelerator": "cpu", "devices": 1}}
    assert errors_in(here_too) == []
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert all(note.startswith("note: trainer") for note in notes)  # a GPU that may not be here


@pytest.mark.parametrize("name", ["weights", "pixray command"])
def test_it_runs_on_a_small_pair(small_pair, here, name):
    folder = imported(SOURCES[name][0], here)
    words = [word for word in small_pair if not word.startswith(("init=", "steps="))]
    words = ["experiment=mine", "checkpoints=embedded", "checkpoints/perceptors=[embedded]", *words, "steps=2"]
    config = resolve(compose(words, config_dir=str(folder)))
    overrides = yaml.safe_load((folder / "experiment" / "mine.yaml").read_text())
    assert overrides["defaults"]
    made = execute(compose(words, config_dir=str(folder), output_dir=str(here / "run")), here / "run")
    assert made.images.shape == (1, 3, 32, 32) and config["steps"] == 2


def test_what_has_no_equal_is_listed_with_what_comes_nearest(here, capsys):
    imported(SOURCES["pytti pixels"][0], here)
    said = capsys.readouterr().out
    assert "image_model=Limited Palette: 'Limited Palette' is another kind of picture" in said
    assert "direct_stabilization_weight=1-t: a formula (1-t)" in said and "palette_size=5" in said
    assert "translate_x=2*sin(t): a formula (2*sin(t))" in said and "depth" not in said
    text = (here / "imported" / "experiment" / "mine.yaml").read_text()
    assert "# No equal here: image_model=Limited Palette" in text


@pytest.mark.parametrize("key", ["smoothing_weight", "direct_init_weight", "learning_rate", "cutout_border"])
def test_a_formula_is_told_and_the_experiment_is_without_it(here, capsys, key):
    folder = imported(f"scenes: a fox\n{key}: 2*t\n", here)
    assert f"{key}=2*t: a formula (2*t). Allowed here: a number, or a schedule" in capsys.readouterr().out
    assert errors_in(resolve(compose(["experiment=mine"], config_dir=str(folder)))) == []


def test_an_option_that_there_is_not_is_told(here, capsys):
    imported('python generate.py -p "a fox" --iteratons 30', here)
    assert "iteratons: VQGAN-CLIP has no such option. Did you mean iterations?" in capsys.readouterr().out


@pytest.mark.parametrize(
    "source,message",
    [
        ("", "'' is neither a file nor a command line"),
        ("main.py", "neither a file nor a command line"),
        ("python main.py", "neither a file nor a command line"),
        ("gone.yaml", "neither a file nor a command line"),
        ("letter.txt", "'letter.txt' holds no settings"),
        ("other_settings.txt", "has no key of"),
        ("notebook.ipynb", "has no key of"),
        ('dream "a pyramid"', "neither a file nor a command line with settings"),
        ("python generate.py -p 'a fox' && python generate.py -p 'an owl'", "two commands. Allowed: one"),
        ("python -m pixray --prompts fox; ./generate.py -p owl", "pixray and ./generate.py: two commands"),
        ("python -m pixray --prompts fox\npython generate.py -p owl", "pixray and generate.py: two commands"),
        ("./generate.py -p fox\n./generate.py -p owl", "two commands. Allowed: one"),
        ("empty.yaml", "holds no settings"),
        ("other.yaml", "has no key of"),
        ("bytes.yaml", "not in UTF-8"),
        ("broken.yaml", "no YAML (line 2"),
        ('python generate.py -p "a fox', "No closing quotation"),
    ],
)
def test_what_is_no_settings_is_refused(here, capsys, source, message):
    (here / "bytes.yaml").write_bytes(b"caf\xe9: 3\n")
    (here / "broken.yaml").write_text("prompts: [a fox\n")
    (here / "empty.yaml").write_text("# nothing\n")
    (here / "letter.txt").write_text("Dear all,\nthis is a letter\nwith no settings at all\n")
    (here / "other_settings.txt").write_text('{\n "clip_guidance_scale": 5000\n}\n')
    (here / "notebook.ipynb").write_text('{"cells": [{"source": ["text = 1"]}], "nbformat": 4}\n')
    (here / "other.yaml").write_text("lr_of_mine: 3\n")
    with pytest.raises(SystemExit) as exit:
        main(["import", source])
    assert exit.value.code == 2 and message in capsys.readouterr().err


def test_their_prompts():
    assert scenes("a fox:2 | b : -1 |c:1:.5 ^ d") == [[Part("a fox", 2), Part("b", -1), Part("c", 1, 0.5)], [Part("d")]]
    assert scenes("16:9 picture | at 10:30 || x:1:-inf") == [
        [Part("16:9 picture"), Part("at 10", 30)],
        [Part("x:1:-inf")],
    ]
    assert entries_of([[Part("a", 2), Part("b", -1.5), Part("c", 1, 0.5)]]) == (
        [{"parts": ["a:2", "c:1:0.5"]}],
        ["b:1.5"],
    )
    assert entries_of([[Part("a fox")]]) == (["a fox"], [])


@pytest.mark.parametrize(
    "theirs,ours",
    [
        ("blade runner 2049:2 | neon:.5", [("blade runner 2049", 2, None), ("neon", 0.5, None)]),
        ("level 3:2:.5", [("level 3", 2, math.cos(1))]),
        ("a fox:2:.5", [("a fox", 2, math.cos(1))]),
        ("16:9", [("16", 9, None)]),
        ("a C:\\\\ drive:2", [("a C:\\\\ drive", 2, None)]),
    ],
)
def test_a_weight_counts_whatever_its_text_ends_in(theirs, ours):
    ((parts),) = scenes(theirs)
    read = parse({"parts": [part.entry for part in parts]}).parts
    assert [(one.text, one.weight) for one in read] == [(text, weight) for text, weight, _ in ours]
    assert [one.stop for one in read] == [stop and pytest.approx(stop, abs=1e-6) for _, _, stop in ours]


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_option_of_the_tables_says_what_it_does_and_has_one_answer(name):
    for key, option in program(name)["options"].items():
        answers = {"here", "by", "tool", "never", "none"} & set(option)
        assert len(answers) == 1 and option["says"], key
        assert "by" not in option or callable(converter(option["by"])), key
        assert answers & {"never", "none"} or "example" in option, key


LABEL = [f"a {kind} of a {{}}" for kind in ("photo", "picture", "close-up", "good photo")]
STRANGE = {
    "quotes inside": ("""python generate.py -p 'it is a "fox":1.5 | blurry:-0.5'""",
        {"prompts.include": ['it is a "fox":1.5'], "prompts.exclude": ["blurry:0.5"]}, ""),
    "no spaces": ("python generate.py -p 'a:1|b:-0.5'", {"prompts.include": ["a"], "prompts.exclude": ["b:0.5"]}, ""),
    "remarks": ("# mine\npython generate.py \\\n  -p 'a fox' \\\n\n  -i 20 # few", {"steps": 20}, ""),
    "flags unknown": ("generate.py --prompts='a fox' --foo-bar --baz 3 4", {}, "foo_bar: VQGAN-CLIP has no such option"),
    "a seed of chance": ("python generate.py -p x -sd -1", {"seed": 0}, "another seed every time"),
    "a seed by a resolver": ("scenes: a fox\nseed: ${now:%f}", {"seed": 0}, "another seed every time"),
    "python's None": ("scenes: a fox\nwidth: 64  # small\nheight: None\nViTB32: True", {"size": [512, 64]}, ""),
    "a resolver in a text": ("scenes: a ${oc.env:HOME} fox", {"prompts.include": ["a ${oc.env:HOME} fox"]}, ""),
    "one behind a backslash": (
        r"scenes: a \${oc.env:HOME} fox",
        {"prompts.include": [r"a \${oc.env:HOME} fox"]},
        "",
    ),
    "a formula": ("scenes: 'a castle:2*sin(t) | fog'", {}, "'a castle:2*sin(t)': a formula or a mask"),
    "a mask": ("scenes: 'a whale:2_[mask.png]'", {}, "'a whale:2_[mask.png]': a formula or a mask"),
    "one side": ("prompts: [a fox, an owl]\nsize: [100]", {"steps": 500}, "size=[100]: no value that VQGAN-CLIP takes"),
    "no quality": ("prompts: a fox\nquality: excellent", {"prompts.include": ["a fox"]}, "quality=excellent: no quality"),
    "a long command": ("python generate.py -p '" + "a fox and an owl " * 20 + "'", {"steps": 500}, ""),
    "a division by nothing": ("python generate.py -p 'a fox' -vl 0", {}, "video_length=0: no value that VQGAN-CLIP takes"),
    "crops of no size": ("scenes: a fox\ncut_pow: -1", {}, "cut_pow=-1: no value that pytti takes. One is 2"),
    "infinity": ("scenes: a fox\nwidth: 64\ncutouts: 8\npixel_size: .inf", {}, "pixel_size=inf: no value that pytti takes"),
    "texts before and after": (
        "scenes: 'a fox | text:-1'\nscene_prefix: 'oil |'\nscene_suffix: '| canvas | blurry:-2'",
        {"prompts.include": [{"parts": ["oil", "a fox", "canvas"]}], "prompts.exclude": ["text", "blurry:2"], "loss.beta": 1}, ""),
    "a text around every scene": (
        "scenes: a fox || an owl \nscene_prefix: 'a drawing of '\nscene_suffix: ' at night | text:-1:-.9'",
        {"prompts.include": ["a drawing of a fox at night", "a drawing of an owl at night"], "prompts.exclude": ["text:1:0.9"]}, ""),
    "a picture alone": ("python generate.py -ip 'photo.png:.5:.5'",
        {"prompts.include": [{"image": "photo.png", "weight": 0.5, "stop": 0.540302}], "prompts.extras": ""}, ""),
    "a picture with a stop": ("python generate.py -p x -ip 'photo.png:1:.5 | photo.png:-2'",
        {"prompts.extras": [{"image": "photo.png", "stop": 0.540302}], "prompts.exclude": [{"image": "photo.png", "weight": 2.0}], "loss.beta": 1}, ""),
    "pictures and an empty text": ('{"text_prompts": [], "image_prompts": ["photo.png", "photo.png:.5"]}',
        {"prompts.include": [{"parts": [{"image": "photo.png"}, {"image": "photo.png", "weight": 0.5}]}]}, ""),
    "a spot and a class alone": ("python pixray.py --spot 'an owl:2' --labels cat",
        {"prompts.include": [{"parts": [{"text": "an owl", "region": [0.25, 0.25, 0.75, 0.75], "weight": 2.0}, {"text": "cat", "templates": LABEL}]}]}, ""),
    "red in one scene only": ("python generate.py -p 'a fox | red:-1 | text:-1 ^ a red apple | text:-1'",
        {"prompts.include": [{"parts": ["a fox", "red:-1", "text:-1"]}, {"parts": ["a red apple", "text:-1"]}], "prompts.exclude": ""}, ""),
    "pictures that weigh nothing": ("prompts: x\nimage_prompts: photo.png\nimage_prompt_weight: 0\nquality: draft", {"prompts.extras": ""}, ""),
    "a spot and a picture": (
        "prompts: a fox\nspot: an owl\nimage_prompts: photo.png\nlabels: cat\nquality: draft",
        {"prompts.include": ["a fox"],
         "prompts.extras": [{"text": "an owl", "region": [0.25, 0.25, 0.75, 0.75]}, {"image": "photo.png"},
                            {"text": "cat", "templates": LABEL}]}, ""),
    "one key of two options": ("python generate.py -p 'a fox' -vl 10 -ofps 30", {"callbacks.timelapse.fps": 30},
        "output_video_fps: callbacks.timelapse.fps=30 counts, and callbacks.timelapse.fps=1 of video_length does not"),
    "a rate that drops": ("prompts: a fox\nlearning_rate_drops: [50]\nlearning_rate: 0.4\nquality: draft",
        {"optimizer.lr": {"points": [[0, 0.4], [0.5, 0.04]], "shape": "steps"}}, ""),
    "switched off": ("scenes: a fox\nrandom_initial_palette: false\nlock_camera: false\nrotate_2d: false", {"init._target_": "vqclip.init.Codebook"}, ""),
    "a start and another": (
        "scenes: a fox\ninit_image: photo.png\ninit_spectrum_falloff: 1.2\nrandom_initial_palette: true",
        {"init._target_": "vqclip.init.Image", "init.path": "photo.png"}, ""),
    "two starts": ("scenes: a fox\ninit_spectrum: other\ninit_spectrum_falloff: 1.2", {"init.slope": 1.2},
        "init_spectrum_falloff: init=fractal counts, and init=blank of init_spectrum does not"),
    "a canvas and a model": ("scenes: a fox\nimage_model: Unlimited Palette\nvqgan_model: sflckr", {"checkpoints.generator.name": "pixels"}, ""),
    "only away": ("python generate.py -p 'blurry:-1'", {"prompts.include": ["blurry:-1"]}, ""),
    "words behind no option": ("python generate.py 'a fox' 'an owl' -i 20", {"steps": 20}, "'an owl': no option stands before it"),
    "a program of others": ("dream 'a pyramid' --save-every 10", {"snapshot_every": 10}, "'a pyramid': no option stands before it"),
    "a file of pytti's": ("python -m pytti.workhorse conf=demo seed=3 scenes=x", {"seed": 3}, "conf=demo: a file of its own"),
    "a module's name": ("python -m pixray --prompts fox --iterations 9 --clip_models RN50", {"steps": 9, "prompts.include": ["fox"]}, ""),
    "JSON by scenes": ('{"text_prompts": {"0": ["a lighthouse", "yellow:2"], "90": ["an owl"]}, "seed": 5}',
        {"seed": 5, "prompts.include": [{"parts": ["a lighthouse", "yellow:2"]}, "an owl"]}, ""),
    "one augmentation": ("python generate.py -p x -aug Ji",
        {"augmentations.effects.perspective": 0, "augmentations.effects.erase": 0, "augmentations.effects.jitter": 0.1,
         "augmentations.affine.degrees": 0, "augmentations.flip": 0}, ""),
    "the original crops": ("python generate.py -p x -cutm original -aug Ji",
        {"augmentations.effects.perspective": 0, "augmentations.effects.jitter": 0, "noise.factor": 0},
        "augments: cut_method original has augmentations of its own"),
    "noise of pixels": ("python generate.py -p x -in pixels", {"init.slope": 0}, ""),
    "pixray's noise": ("prompts: x\ninit_noise: pixels\nquality: draft", {"init.slope": 1}, ""),
    "pixray's model and terms": ("prompts: x\nquality: draft\nvqgan_model: wikiart_1024\ncustom_loss: saturation:2",
        {"checkpoints.generator.name": "wikiart_f16_1024", "loss.terms.saturation.weight": 2}, ""),
    "a canvas of pixray's": ("prompts: x\nvqgan_model: coco\ndrawer: pixel", {"checkpoints.generator.name": "pixels"}, ""),
    "spots with weights": ("prompts: a fox\nspot: 'an owl:2 | a cat'\nquality: draft",
        {"prompts.extras": [{"text": "an owl", "region": [0.25, 0.25, 0.75, 0.75], "weight": 2.0},
                            {"text": "a cat", "region": [0.25, 0.25, 0.75, 0.75]}]}, ""),
    "pictures as goals": ("prompts: x\ntarget_images: [photo.png, 'photo.png:2']\nquality: draft",
        {"prompts.extras": [{"image": "photo.png"}, {"image": "photo.png", "weight": 2.0}]}, ""),
    "pixels as goals": ("scenes: a\ndirect_image_prompts: 'photo.png:2 | b.png'",
        {"init.path": "photo.png", "loss.terms.pixels.weight": 2}, "direct_image_prompts: b.png: one picture's pixels are the goal"),
    "a picture laid over": ("prompts: x\ninit_image: photo.png\noverlay_image: photo.png\noverlay_every: 5\nquality: draft",
        {"search.overlay": {"every": 5, "strength": 1.0, "until": 1.0}}, ""),
    "parts of what is off": ("scenes: a\nauto_stop_window: 50\ncoarse_stages: 2\nanimation_mode: off\ntranslate_x: 3",
        {"search.stages": None, "callbacks.timelapse._target_": "vqclip.callbacks.Timelapse"}, ""),
    "no overlay": ("prompts: x\nquality: draft\noverlay_every: 0\noverlay_image: photo.png\ninit_image: photo.png", {"search.overlay": None}, ""),
    "an overlay without alpha": (  # there 0 is no alpha of its own
        "prompts: x\nquality: draft\ninit_image: photo.png\noverlay_image: photo.png\noverlay_alpha: 0", {"search.overlay.strength": 1.0}, ""),
    "an overlay until the start": (
        "prompts: x\nquality: draft\ninit_image: photo.png\noverlay_image: photo.png\noverlay_until: 0", {"search.overlay": None}, ""),
    "an end at no fall at all": ("scenes: x\nauto_stop: true\nauto_stop_threshold: 0", {"callbacks.auto_stop.threshold": 0}, ""),
    "what a palette has": ("scenes: x\nhdr_weight: 0.01", {"loss.terms": {"tv": {"_target_": "vqclip.terms.TotalVariation", "weight": 0.02}}}, ""),
    "a notebook": (
        "!pip install x\nimport pixray\npixray.add_settings(prompts='a fox', size=[64, 32])\npixray.do_init(pixray.apply_settings())",
        {"prompts.include": ["a fox"], "size": [32, 64]}, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_what_people_have_in_their_files(here, capsys, name):
    source, expected, said = STRANGE[name]
    if source.startswith("{"):
        (here / "mine_settings.txt").write_text(source)
        source = "mine_settings.txt"
    if "add_settings" in source or "\n  -" in source:
        (here / "mine.py").write_text(source)
        source = "mine.py"
    config = resolve(compose(["experiment=mine"], config_dir=str(imported(source, here))))
    assert errors_in(config) == []
    assert {key: at(config, key) for key in expected} == expected
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("empty", [None, "", []], ids=str)
def test_an_option_without_a_value_is_as_not_given(name, empty):
    given = {"pixray": {"prompts": "a fox", "quality": "best", "aspect": "square"}}.get(name, {})
    options = program(name)["options"]
    others = {key: empty for key, option in options.items() if key not in given and "never" not in option}
    assert translate(name, {**others, **given}) == translate(name, given)


@pytest.mark.parametrize(
    "name,given,beta",
    [
        ("vqgan_clip", {"prompts": "a fox | blurry:-0.1"}, 0.1),
        ("vqgan_clip", {"prompts": "a fox | blurry:-1", "image_prompts": "photo.png:3 | b.png:-3"}, 1),
        ("pixray", {"prompts": ["a fox:2", "rain:-0.5"]}, 0.25),
        ("pixray", {"prompts": "a fox:2 | rain:-0.5", "vector_prompts": "textoff", "spot": "an owl:2"}, 0.2),
        ("pytti", {"scenes": "a fox || an owl:3", "scene_suffix": " | text:-1:-.9 | watermark:-1:-.9"}, 1),
    ],
)
def test_what_repels_is_as_strong_as_its_weights_are_against_those_that_attract(name, given, beta):
    assert translate(name, given).lines[-1] == f"loss.beta={beta}"


@pytest.mark.parametrize("weight", [1, 0.5, -1, -0.5])
@pytest.mark.parametrize("stop", [None, 0.5, -0.5])
@pytest.mark.parametrize("distance", [0.3, 0.8])
def test_a_text_moves_a_crop_where_it_does_so_there(weight, stop, distance):
    """There a distance has its weight's sign, and moves while it is more than the stop."""
    there = stop is None or math.copysign(distance, weight) > stop
    ((part,),) = scenes(f"a fox:{weight}" + ("" if stop is None else f":{stop}"))
    here = part.weight != 0
    if here and (limit := parse(part.entry).stop) is not None:
        likeness = math.cos(math.sqrt(2 * distance))
        here = likeness < limit if part.weight > 0 else likeness > limit
    assert here == there


@pytest.mark.parametrize("options", ["-i 20", "-p '' -i 20", "-ip photo.png", "-p rain:-1"])
def test_no_run_that_is_told_draws_the_text_of_the_default(here, capsys, options):
    imported(f"python generate.py {options}", here)
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines() if line.startswith("  vqclip")]
    assert len(commands) == 2
    for command in map(parse_arguments, (words[1:] for words in commands)):
        (entry,) = resolve(compose(command.overrides, command.flags["--config-dir"]))["prompts"]["include"]
        assert entry in ("a fox", {"image": "photo.png"}, "rain:-1")


def test_what_is_switched_off_lacks_nothing():
    result = translate("pytti", {"lock_camera": False, "random_initial_palette": False, "rotate_2d": False})
    assert not (result.missing or result.notes or result.tools)
    zeros = translate("pytti", {"auto_stop": 0, "phase_scheduling": 0, "use_tensorboard": 0})
    assert zeros.lines == translate("pytti", {}).lines


@pytest.mark.parametrize(
    "source",
    ["scenes: a fox\ncoarse_to_fine: true\nwidth: 512\nheight: 512", "python generate.py -p 'a fox' -ckpt mine.ckpt"],
)
def test_the_command_without_a_download_is_one(here, capsys, source):
    imported(source, here)
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert command[:2] == ["vqclip", "--config-dir"]
    assert errors_in(resolve(compose(command[3:], config_dir=command[2]))) == []


FILMS = {
    "-p x -zvid -zs 50 -zse 20 -zsc 1.05 -zsx 3": "--zoom 1.05 --pan=3,0 --border wrap --frames 22 --each 20 --fps 10 steps=50",
    "-p x -zvid -zsx 3 -vl 2 -i 300": "--zoom 0.99 --pan=3,0 --frames 30 --each 10 --fps 15 steps=1",
    "-p x -zvid -zs 1500 -i 3000": "--zoom 0.99 --frames 150 --each 10 --fps 30 steps=1500",
    "-p x -zvid -i 3000 -ofps 60": "--zoom 0.99 --frames 300 --each 10 --fps 15 steps=1",
    "-p x -zvid -i 3000 -ofps 60 -ifps 12.5 -vl 5": "--zoom 0.99 --frames 300 --each 10 --fps 12 steps=1",
    "-p x -zvid -i 3000 -ofps 5 -ifps 20": "--zoom 0.99 --frames 300 --each 10 --fps 30 steps=1",
    "-p 'a ^ b' -cpe 250 -i 500": "--frames 50 --each 10 --fps 10 steps=1",
    "-p 'a ^ b|c:-1' -cpe 100 -i 250": (
        """--frames 25 --each 10 --fps 10 steps=1 'prompts.include=["a",{parts:["b","c:-1"]},"a"]'"""
    ),
    "-p 'a ^ b ^ c' -cpe 100 -i 150": """--frames 15 --each 10 --fps 10 steps=1 'prompts.include=["a","b"]'""",
    "-p 'a ^ b ^ c' -cpe 100 -i 300 -zvid -zs 100": (
        """--zoom 0.99 --frames 20 --each 10 --fps 10 steps=100 'prompts.include=["b","c"]'"""
    ),
    "-p 'a ^ b ^ c' -cpe 100 -i 310 -zvid -zs 150": (
        """--zoom 0.99 --frames 16 --each 10 --fps 10 steps=150 'prompts.include=["b","c","a"]'"""
    ),
    "-p 'a ^ b ^ c' -cpe 100 -i 300 -zvid -zs 50": "--zoom 0.99 --frames 25 --each 10 --fps 10 steps=50",
    "-p 'a ^ b' -cpe 100 -i 300 -zvid -zs 300": (
        """--zoom 0.99 --frames 1 --each 10 --fps 10 steps=300 'prompts.include=["b"]'"""
    ),
    "-cpe 100 -i 200": "--frames 20 --each 10 --fps 10 steps=1",
    "-p x -vsd frames -ofps 25": "--video frames --each 500 --fps 15",
    "-p x -vsd 'my frames' -i 30": "--video 'my frames' --each 30",
    "-p x -zs 50 -zsc 1.05": "",
    "translate_x: -1.5\ntranslate_y: -2\nrotate_2d: 1.7*sin(t)": "--pan=-1.5,2",
    "animation_mode: 2D\nwidth: 200\nzoom_x_2d: 40\nrotate_2d: 3\ninfill_mode: smear\npre_animation_steps: 9": (
        "--turn=-3 --zoom 1.25 --border reflect steps=9"
    ),
    "animation_mode: 2D\nscenes: a || b\nsteps_per_scene: 100\nsteps_per_frame: 20\ntranslate_x: '0'": "--frames 10 --each 20",
    "animation_mode: 2D\nscenes: a\ntranslate_x: 2\nframes_per_second: 12": "--pan=2,0 --fps 12",
    "animation_mode: Video Source\nvideo_path: my.mp4\nframe_stride: 3\ntranslate_x: 3": "--video my.mp4 --stride 3",
    "animation_mode: 'off'\nvideo_path: my.mp4\ntranslate_x: 3": "",
    "animation_dir: out\ninit_image: in/*.png\nanimation_alpha: 51\niterations: 9": "--video in --keep 0.2 --each 9 --to out",
    "animation_alpha: 51\nprompts: x\nquality: draft": "",
}


@pytest.mark.parametrize("given", FILMS)
def test_all_that_moves_is_one_film_of_the_same_experiment(here, capsys, given):
    from vqclip.cli.film import _arguments

    imported(f"python generate.py {given}" if given.startswith("-") else f"{given}\n", here)
    said = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  vqclip film")]
    text = "" if any(key in given for key in ("-p ", "scenes:", "prompts:")) else '"a fox" '
    before = f"vqclip film --config-dir imported experiment=mine {text}"
    assert said == ([before + FILMS[given]] if FILMS[given] else [])
    for line in said:
        assert not [
            word for word in _arguments(shlex.split(line)[2:])[1] if word.startswith("--") and "config" not in word
        ]


def test_a_formula_of_one_motion_is_told_and_the_others_move():
    result = translate("pytti", {"translate_x": -1.5, "rotate_2d": "1.7*sin(t)", "video_path": "", "zoom_x_2d": True})
    assert result.tools == ["vqclip film --pan=-1.5,0"]
    assert result.missing[0].startswith("rotate_2d=1.7*sin(t): a formula")
    assert result.missing[1].startswith("zoom_x_2d=True: no value that pytti takes")


@pytest.mark.parametrize(
    "peer,bad,film",
    [
        ("pytti", {"infill_mode": "foo"}, "--pan=5,0"),
        ("pytti", {"zoom_x_2d": 512, "width": 512}, "--pan=5,0"),
        ("pytti", {"zoom_y_2d": 600}, "--pan=5,0"),
        ("pytti", {"frame_stride": "abc", "video_path": "a.mp4"}, "--video a.mp4"),
        ("pytti", {"pre_animation_steps": "abc"}, "--pan=5,0"),
        ("vqgan_clip", {"zoom_frequency": "abc"}, "--zoom 0.99 --frames 50 --each 10 --fps 10 steps=1"),
        ("vqgan_clip", {"change_prompt_every": math.inf}, "--zoom 0.99 --frames 50 --each 10 --fps 10 steps=1"),
    ],
)
def test_a_bad_value_blames_no_other_option(peer, bad, film):
    others = {"pytti": {"translate_x": 5}, "vqgan_clip": {"zoom_video": True}}[peer]
    result = translate(peer, {**others, **bad})
    assert result.tools == [f"vqclip film {film}"]
    assert [line.partition("=")[0] for line in result.missing] == [next(iter(bad))]


def test_steps_that_are_none_are_told_once(here, capsys):
    imported("python generate.py -p x -zvid -zse 10 -i abc", here)
    said = capsys.readouterr().out
    assert "vqclip film --config-dir imported experiment=mine --zoom 0.99" in said and "no value" not in said
    assert "note: steps" in said


def test_two_zooms_that_differ_are_told():
    given = {"zoom_x_2d": 10, "zoom_y_2d": 5, "width": 200, "height": 100}
    assert translate("pytti", given).notes == []
    assert translate("pytti", {**given, "zoom_y_2d": 9}).notes == [
        "zoom_y_2d: vqclip film zooms alike in both directions, by 1.053 as zoom_x_2d says"
    ]


def test_of_a_film_that_is_named_no_other_is():
    scenes = {"scenes": "a || b"}
    assert "as a film" in translate("pytti", scenes).notes[0]
    assert translate("pytti", {**scenes, "translate_x": 2}).notes == []


@pytest.mark.parametrize("name", ["reference", "edit"])
def test_a_file_of_the_name_of_a_shipped_experiment_is_not_hidden_by_it(here, capsys, name):
    (here / f"{name}.yaml").write_text("prompts: a zebra in snow\niterations: 77\n")
    with pytest.raises(SystemExit):
        main(["import", f"{name}.yaml"])
    command = shlex.split(capsys.readouterr().out.splitlines()[2])
    config = resolve(compose(command[3:], config_dir=command[2]))
    assert command[3] == f"experiment={name}_2"
    assert (config["steps"], config["prompts"]["include"]) == (77, ["a zebra in snow"])


@pytest.mark.parametrize(
    "name", ["null", "2021", "1e5", "True", "nan", "a" * 300, "猫" * 100], ids=lambda name: name[:4]
)
def test_whatever_it_is_called_the_command_that_is_told_chooses_it(here, capsys, name):
    with pytest.raises(SystemExit):
        main(["import", "python generate.py -p 'a zebra in snow' -i 77", "--name", name])
    command = shlex.split(capsys.readouterr().out.splitlines()[2])
    config = resolve(compose(command[3:], config_dir=command[2]))
    assert (config["steps"], config["prompts"]["include"]) == (77, ["a zebra in snow"])


def test_a_file_is_no_folder_to_import_to(here, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["import", "python generate.py", "--to", "photo.png"])
    assert exit.value.code == 2 and "--to photo.png: is a file. Allowed: a config folder" in capsys.readouterr().err


def test_an_experiment_that_is_there_is_not_written_over(here, capsys):
    for text, path in (("a fox", "imported"), ("an owl", "imported_2"), ("a fox", "imported"), ("a cat", "imported_3")):
        with pytest.raises(SystemExit):
            main(["import", f"python generate.py -p '{text}'"])
        assert capsys.readouterr().out.splitlines()[0] == f"imported/experiment/{path}.yaml"
    (here / "imported/experiment/imported.yaml").write_text("# mine")
    with pytest.raises(SystemExit):
        main(["import", "python generate.py -p 'a fox'"])
    assert (here / "imported/experiment/imported.yaml").read_text() == "# mine"


@pytest.mark.parametrize(
    "given,line",
    [
        ("my/imagenet_1024_cats.ckpt", "checkpoints.generator.path=my/imagenet_1024_cats.ckpt"),
        ("my/coco_mine.ckpt", "checkpoints.generator.path=my/coco_mine.ckpt"),
        ("models/vqgan_gumbel_f8_8192.ckpt", "checkpoints/generator=openimages_f8_8192"),
        ("wikiart_16384.ckpt", "checkpoints/generator=wikiart_f16_16384"),
        ("sflckr", "checkpoints/generator=sflckr"),
    ],
)
def test_weights_are_official_where_their_whole_name_is(given, line):
    assert translate("vqgan_clip", {"vqgan_checkpoint": given}).lines[-1] == line


@pytest.mark.parametrize("path", ["my  pic.png", "ink^2.png"])
def test_a_path_is_split_at_nothing_but_bars(path):
    pictures = f'prompts.extras=[{{"image": "{path}"}}, {{"image": "b.png", "weight": 2.0}}]'
    assert pictures in translate("vqgan_clip", {"prompts": "x", "image_prompts": f"{path} | b.png:2"}).lines
    assert pictures in translate("pixray", {"prompts": "x", "target_images": [path, "b.png:2"]}).lines
    pixels = translate("pytti", {"scenes": "x", "direct_image_prompts": f"{path}:2 | b.png"})
    assert f'init.path="{path}"' in pixels.lines and not pixels.missing


def test_a_name_of_two_words_is_a_folder_of_two_words():
    assert 'hydra.run.dir="outputs/my foxes"' in translate("pytti", {"file_namespace": "my foxes"}).lines


@pytest.mark.parametrize(
    "source,message",
    [
        ("python generate.py -p 'a fox", "No closing quotation"),
        ("add_settings(a=b) # pixray", "its add_settings cannot be read"),
    ],
)
def test_what_cannot_be_read_is_told(here, capsys, source, message):
    with pytest.raises(SystemExit) as exit:
        main(["import", source])
    assert exit.value.code == 2 and message in capsys.readouterr().err


FOX = {"prompts": "a fox"}
TYPED = {
    'nohup python generate.py -p "a fox" > log.txt 2>&1 &': FOX,
    'python generate.py -p "a fox" &> "my log.txt"': FOX,
    'python generate.py 2>errors.txt -p "a fox"': FOX,
    'python generate.py -p "a fox" < /dev/null | tee log.txt': FOX,
    'cd there && python -u generate.py -p "a fox" -i 300 && echo done; rm -f x': {**FOX, "iterations": 300},
    "python generate.py -i 300;echo done": {"iterations": 300},
    "python generate.py -p 'a > b; c & d | e' -o a\\;b": {"prompts": "a > b; c & d | e", "output": "a;b"},
    'python generate.py -p "the file main.py" -i 3': {"prompts": "the file main.py", "iterations": 3},
    "python generate.py -p main.py -i 3": {"prompts": "main.py", "iterations": 3},
    'python -m torch.distributed.launch --nproc_per_node 2 generate.py -p "a fox"': FOX,
    "CUDA_VISIBLE_DEVICES=1 python -m pytti.workhorse scenes=fox > a=b && echo c=d": {"scenes": "fox"},
    r"python C:\there\generate.py -sd 0123 -ii C:\pics\a.png": {"seed": 123, "init_image": r"C:\pics\a.png"},
    "python generate.py": {},
    "python3 -m pytti.workhorse > log.txt": {},
}


@pytest.mark.parametrize("command", TYPED)
def test_what_is_the_shells_is_no_setting(here, command):
    assert read_settings(command) == ("pytti" if "pytti" in command else "vqgan_clip", TYPED[command])


def test_a_command_without_options_is_an_experiment_of_the_defaults(here):
    assert compose(["experiment=mine"], config_dir=str(imported("python generate.py", here)))["steps"] == 500


def test_a_command_line_in_a_script_over_several_lines(here):
    (here / "run.sh").write_text('#!/bin/bash\npython generate.py \\\n  -p "a fox" \\\n  -i 20\n')
    assert read_settings("run.sh") == ("vqgan_clip", {"prompts": "a fox", "iterations": 20})
    assert "steps=20" in translate(*read_settings("run.sh")).lines
