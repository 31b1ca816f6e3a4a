"""The prior: its parser learns from captions alone, its painter from encoded scenes.

`python train_prior.py` needs `work/generator.ckpt`; it encodes the icons into the prior's memory and canonical scenes
into targets (kept in `work/prior_targets.safetensors`), then writes `work/prior.ckpt`.
"""

import json
import random

import torch
import torch.nn.functional as F
from common import Run, parser
from data import (
    BACKGROUNDS,
    COLOURS,
    CONCEPTS,
    NAMES,
    STYLE_NAMES,
    WHITE,
    WORK,
    Painter,
    caption,
    load_icons,
    random_scene,
    token_ids,
)
from safetensors.torch import load_file, save_file
from train_generator import CONFIG as GENERATOR

from vqclip.models.prior import Prior
from vqclip.models.tokenizer import CompactTokenizer
from vqclip.models.vqgan import VQGAN

# "flat" recalls the flat drawing of a concept, every other style the canonical one.
CONFIG = {
    "context_length": 32,
    "concepts": len(CONCEPTS),
    "colours": len(COLOURS),
    "backgrounds": len(BACKGROUNDS),
    "styles": len(STYLE_NAMES) + 1,
    "style_sets": [int(name == "flat") for name in STYLE_NAMES] + [0],
    "channels": GENERATOR["embed_dim"],
    "side": 16,
}
PAPER = len(STYLE_NAMES)  # for the prior, "on watercolor paper" is one more style


def load_generator(work=WORK, device="cpu"):
    """The trained VQGAN (running average), frozen."""
    model = VQGAN(**GENERATOR)
    model.load_state_dict(torch.load(work / "generator.ckpt", map_location="cpu", weights_only=False)["average"])
    return model.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def parts(scenes, device="cpu"):
    """Scenes as the index tensors that the prior's `paint` takes."""

    def pairs(key, none):
        return [[none if v < 0 else v for v in s[key]] for s in scenes]

    def tensor(values):
        return torch.tensor(values, device=device)

    return {
        "objects": tensor(pairs("objects", len(CONCEPTS))),
        "colours": tensor(pairs("colours", len(COLOURS))),
        "background": tensor([s["background"] for s in scenes]),
        "layout": tensor([s["layout"] for s in scenes]),
        "style": tensor([PAPER if s["defect"] else s["style"] for s in scenes]),
    }


def prior_scene(rng, **kind):
    """A scene of the kinds that the prior draws: canonical sets, no defect but paper, no style on top of paper."""
    scene = random_scene(rng, **kind)
    if STYLE_NAMES[scene["style"]] == "3d":
        scene["set"] = 0
    if not scene["style"] and rng.random() < 0.04:
        scene["defect"] = 5
    return scene


@torch.no_grad()
def encode(generator, images):
    return torch.cat(
        [generator.encode(part.contiguous(memory_format=torch.channels_last)) for part in images.split(32)]
    ).contiguous()


@torch.no_grad()
def fill_memory(prior, generator, painter):
    """Encoded icons on white, with their masks: large (a picture of its own) and small (a quarter of the picture)."""
    for s in range(prior.large.shape[0]):
        for large in (True, False):
            memory = (prior.large if large else prior.small)[s]
            icons = painter.icons[s].float() / 255
            if not large:
                # Four to a picture, so that the encoder sees them amid white as it will.
                icons = F.avg_pool2d(icons, 2)
                icons = F.pad(icons, (32, 32, 32, 32))
            white = painter.backgrounds[WHITE]
            z = encode(generator, icons[:, :3] + white * (1 - icons[:, 3:]))
            mask = F.pixel_unshuffle(F.avg_pool2d(icons[:, 3:], 4), 2)
            maps = torch.cat([z, mask], 1)
            memory.copy_(maps if large else maps[:, :, 4:12, 4:12])
    prior.grounds.copy_(encode(generator, painter.backgrounds))


def targets(generator, painter, count, seed):
    """Canonical scenes and their encodings [count,C,h,w], fp16."""
    rng = random.Random(seed)
    kinds = [None, None, None, "style", "style", "colour", "two"]
    scenes = [prior_scene(rng, kind=rng.choice(kinds)) for _ in range(count)]
    latents = []
    for i in range(0, count, 32):
        latents.append(encode(generator, painter.draw(scenes[i : i + 32])).half())
        if i % 1024 == 0:
            print(f"targets {i} of {count}", flush=True)
    return scenes, torch.cat(latents)


class Wording:
    """Captions for the parser: the grammar's, some with words dropped in that mean nothing to it."""

    def __init__(self, work):
        base = json.loads((work / "npm/emojibase/package/en/data.json").read_text())
        ours = (
            {w for names in NAMES for name in names for w in name.split()}
            | {w for c in COLOURS for w in c.split()}
            | {
                "snow",
                "night",
                "grass",
                "beach",
                "sea",
                "water",
                "desert",
                "forest",
                "city",
                "space",
                "sky",
                "rain",
                "road",
                "street",
                "paper",
                "pixel",
            }
        )
        self.filler = sorted({w for e in base for tag in e.get("tags", []) for w in tag.split()} - ours)
        self.filler += [
            "very",
            "big",
            "small",
            "little",
            "old",
            "young",
            "sleeping",
            "sitting",
            "running",
            "happy",
            "fighting",
            "playing",
            "4k",
            "hd",
            "detailed",
            "nice",
        ] * 40

    def __call__(self, scene, rng):
        text = caption(scene, rng)
        if rng.random() < 0.3:
            words = text.split()
            for _ in range(rng.choice([1, 1, 2, 3])):
                words.insert(rng.randrange(len(words) + 1), rng.choice(self.filler))
            text = " ".join(words)
        return text


def main():
    p = parser(__doc__, minutes=35)
    p.add_argument("--targets", type=int, default=4096)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    generator = load_generator(args.work, args.device)
    painter = Painter(load_icons("guide", args.work)[:2], args.device)
    ids = token_ids()
    tokens = CompactTokenizer(ids, CONFIG["context_length"])
    prior = Prior(vocab_size=len(tokens), **CONFIG)
    prior.token_ids.copy_(ids)
    prior.to(args.device)
    cache = args.work / "prior_targets.safetensors"
    if args.fresh or not cache.exists():
        fill_memory(prior, generator, painter)
        scenes, latents = targets(generator, painter, args.targets, args.seed)
        (args.work / "prior_scenes.json").write_text(json.dumps(scenes))
        save_file(
            {
                "latents": latents,
                "large": prior.large.data.half(),
                "small": prior.small.data.half(),
                "grounds": prior.grounds.data.half(),
            },
            cache,
        )
    data, scenes = load_file(cache, device=args.device), json.loads((args.work / "prior_scenes.json").read_text())
    for name in ("large", "small", "grounds"):
        getattr(prior, name).data.copy_(data[name])
        getattr(prior, name).requires_grad_(False)
    trained = [q for q in prior.parameters() if q.requires_grad]
    run = Run("prior", args, prior, torch.optim.AdamW(trained, 1.5e-3, betas=(0.9, 0.98), weight_decay=0.01), 1.5e-3)
    rng, wording = random.Random(args.seed + run.step), Wording(args.work)
    for _ in run:
        read = [prior_scene(rng) for _ in range(args.batch or 96)]
        known, logits = parts(read, args.device), prior.parse(tokens([wording(s, rng) for s in read]).to(args.device))
        parse = sum(F.cross_entropy(logits[k].flatten(0, -2), known[k].flatten()) for k in logits)
        with torch.no_grad():
            right = (
                torch.stack([(logits[k].argmax(-1) == known[k]).view(len(read), -1).all(1) for k in logits])
                .all(0)
                .float()
                .mean()
            )
        rows = torch.tensor(rng.sample(range(len(scenes)), 16))
        painted = prior.paint(**parts([scenes[r] for r in rows.tolist()], args.device))
        target = data["latents"][rows.to(args.device)].float()
        paint = F.l1_loss(painted, target) + 0.5 * F.mse_loss(painted, target)
        run.update(parse + 4 * paint, parse=parse, right=right, l1=F.l1_loss(painted, target))


if __name__ == "__main__":
    main()
