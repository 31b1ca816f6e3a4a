"""Is the picture what the words say? Judges that never guided; `naming.py` asks the eye, blind.

    python evaluate.py judge prior --count 120   what both judges find among 512 captions, on held-out prompts
    python evaluate.py battery                   the frozen prompts of `vqclip evaluate --battery`
    python evaluate.py judges                    what both judges can do, on renderings of held-out prompts

Settings: `prior` (no optimisation), `default` (the default config), `reference` (the reference recipe from noise, with
this pair), `ceiling` (real renderings through encode and decode).
"""

import argparse
import json
import random
import tempfile
from importlib.resources import files
from pathlib import Path

import torch
from data import WORK, Painter, caption, load_icons, random_scene
from PIL import Image, ImageDraw, ImageFont
from torchvision.transforms.functional import to_pil_image

from vqclip.checkpoints.load import load_generator
from vqclip.compare.battery import Found, hits
from vqclip.models.prior import Prior
from vqclip.runs.evaluate import Bench

EMBEDDED = files("vqclip") / "embedded"
GENERATOR = {"path": str(EMBEDDED / "generator.safetensors")}
KINDS = {"single": 14, "background": 8, "colour": 6, "two": 8, "style": 4}
OVERRIDES = {
    "default": [],
    "reference": ["experiment=reference", "checkpoints=embedded", "size=[128,128]", "steps=100"],
}
QUIET = ["logger=none", "callbacks=none"]


def prompts(seed, count=1):
    """(kind, scene, prompt) by program, `count` times 40; every combination was held out of training."""
    rng = random.Random(f"prompts {seed}")
    scenes = [
        (kind, random_scene(rng, kind, held=kind != "single"))
        for _ in range(count)
        for kind, n in KINDS.items()
        for _ in range(n)
    ]
    for _, scene in scenes:
        scene["set"] = int(scene["style"] == 1)  # "flat" is drawn from the flat set
    return [(kind, scene, caption(scene, rng, plain=True)) for kind, scene in scenes]


def distractors(texts):
    """512 captions: the texts and, after them, other prompts of the same kinds."""
    out, seed = list(texts), 10_000
    while len(out) < 512:
        out += dict.fromkeys(p for _, _, p in prompts(seed) if p not in out)
        seed += 1
    return out[:512]


@torch.no_grad()
def without_engine(setting, scenes, texts, work):
    generator = load_generator(GENERATOR)
    if setting == "prior":
        prior = Prior.load(EMBEDDED / "prior.safetensors")
        latents = prior(prior.tokenize(texts))
    else:
        images = Painter(load_icons("guide", work)).draw(scenes)
        latents = torch.cat([generator.encode(part) for part in images.split(16)])
    return torch.cat([generator.decode(part) for part in latents.split(16)])


def pictures(setting, scenes, texts, work, overrides=()):
    """Pictures [B,3,128,128] in [0,1] of a setting; texts go through the engine eight at a time."""
    if setting in ("prior", "ceiling"):
        return without_engine(setting, scenes, texts, work)
    from vqclip import run

    out = []
    for i in range(0, len(texts), 8):
        with tempfile.TemporaryDirectory() as folder:
            out.append(
                run(
                    texts[i : i + 8], overrides=[*QUIET, *OVERRIDES[setting], *overrides], folder=Path(folder) / "run"
                ).images
            )
    return torch.cat(out)


def recall(images, texts):
    """R@1, R@5 of every picture's own text among 512, and the similarity, by the judge."""
    rows = verdicts(Bench(distractors(texts)), images, texts)["judge"]
    found = {f"R@{n}": sum(row.rank <= n for row in rows) / len(rows) for n in (1, 5)}
    found["similarity"] = sum(row.similarity for row in rows) / len(rows)
    return {name: round(value, 3) for name, value in found.items()}


def sheet(images, columns=8, scale=1):
    """Numbered contact sheet."""
    tile, head = images.shape[-1] * scale, 16
    rows = -(-len(images) // columns)
    canvas = Image.new("RGB", (columns * (tile + 4), rows * (tile + head + 4)), "#222")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=12)
    for i, image in enumerate(images):
        x, y = i % columns * (tile + 4) + 2, i // columns * (tile + head + 4)
        pen.text((x + 2, y), str(i + 1), fill="white", font=font)
        canvas.paste(to_pil_image(image.clamp(0, 1)).resize((tile, tile), Image.Resampling.BICUBIC), (x, y + head))
    return canvas


def verdicts(bench, images, texts):
    """What each judge says of the pictures: rows by judge."""
    found = [bench.opinions(image[None], text) for image, text in zip(images, texts, strict=True)]
    rows = list(zip(texts, found, strict=True))
    return {name: [Found("", text, 0, name, o[name].similarity, o[name].rank) for text, o in rows] for name in found[0]}


def judge(args):
    drawn = prompts(args.seed, -(-args.count // 40))[: args.count]
    texts = [p for *_, p in drawn]
    images = pictures(args.setting, [s for _, s, _ in drawn], texts, args.work, args.override)
    for name, rows in verdicts(Bench(distractors(list(dict.fromkeys(texts)))), images, texts).items():
        print("|", " | ".join([" ".join([args.setting, *args.override]), name, *hits(rows)]), "|", flush=True)


@torch.no_grad()
def judges(args):
    """Both judges on renderings of held-out prompts: hits among 512 captions, 95 % by a bootstrap over prompts."""
    drawn = prompts(args.seed, -(-args.count // 40))[: args.count]
    scenes, texts = [s for _, s, _ in drawn], [p for *_, p in drawn]
    bench, generator = Bench(distractors(list(dict.fromkeys(texts)))), load_generator(GENERATOR)
    judged, guides = (Painter(load_icons(f, args.work)).draw(scenes) for f in ("judge", "guide"))
    decoded = torch.cat([generator.decode(generator.encode(part)) for part in guides.split(16)])
    kinds = {"the judges' icons": judged, "the guide's icons": guides, "the same, encoded and decoded": decoded}
    print("| pictures | judge | R@1 | R@5 |\n| --- | --- | --- | --- |")
    for kind, images in kinds.items():
        for judge, rows in verdicts(bench, images, texts).items():
            print(f"| {kind} | {judge} | " + " | ".join(hits(rows)[:2]) + " |")


def battery(args):
    """24 prompts, and 512 captions that begin with them, beside the weights."""
    kinds = {"single": 12, "background": 4, "colour": 4, "two": 4}
    drawn = prompts(args.seed)
    texts = [p for kind, n in kinds.items() for p in [p for k, _, p in drawn if k == kind][:n]]
    frozen = {"prompts": texts, "captions": distractors(texts)}
    (EMBEDDED / "battery.json").write_text(json.dumps(frozen, indent=0, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", type=Path, default=WORK)
    commands = p.add_subparsers(required=True)
    for name, function in (("judge", judge), ("battery", battery), ("judges", judges)):
        c = commands.add_parser(name)
        c.set_defaults(function=function)
        c.add_argument("--seed", type=int, default=1)
        if name == "judge":
            c.add_argument("setting", choices=["prior", "default", "reference", "ceiling"])
            c.add_argument("--override", action="append", default=[], help="a config override for the engine")
        if name != "battery":
            c.add_argument("--count", type=int, default=120)
    args = p.parse_args()
    args.function(args)
