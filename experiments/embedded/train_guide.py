"""The guide whose gradient draws: openai-clip's class, trained on adversarially perturbed pictures only.

`python train_guide.py` writes `work/guide.ckpt` and goes on from it; `python export.py robust` writes its running
average as `vqclip/embedded/robust.safetensors`. A perceptor that is right about the worst picture within a small
distance has a gradient that people can see shapes in (Tsipras et al. 2019, https://arxiv.org/abs/1805.12152); one
trained on clean pictures has a gradient of texture.

Pictures and their wordings are drawn once (`--pool` of them, in `work/pool-<size>.pt`) and cropped anew at every use,
so that the training core only trains. With a GPU (`--device cuda --bf16 --compile`) they are drawn there and stay
there.
"""

import multiprocessing
import os
import random

import torch
import torch.nn.functional as F
from common import Naming, Run, labels, match_loss, parser, require_pool, save
from data import FAMILIES, Painter, caption, load_icons, random_scene, token_ids
from torch import nn
from train_perceptor import crops

from vqclip.models.clip import MEAN, STD
from vqclip.models.clip_fast import CLIP
from vqclip.models.tokenizer import CompactTokenizer

RATE, BATCH = 2e-3, 256
WORDINGS = 4  #: captions a picture
CONFIG = {
    "embed_dim": 256,
    "image_resolution": 32,
    "vision_layers": [1, 2, 2, 1],
    "vision_width": 32,
    "vision_patch_size": None,
    "context_length": 32,
    "transformer_width": 128,
    "transformer_heads": 4,
    "transformer_layers": 2,
}


def config_of(weights):
    """The constructor's arguments that a checkpoint's weights were made with."""
    stages = [{k.split(".")[2] for k in weights if k.startswith(f"visual.layer{i}.")} for i in range(1, 5)]
    places = weights["visual.attnpool.positional_embedding"].shape[0] - 1
    return {
        **CONFIG,
        "vocab_size": len(weights["token_embedding.weight"]),
        "vision_layers": [len(s) for s in stages],
        "vision_width": weights["visual.conv3.weight"].shape[0],
        "image_resolution": int(places**0.5) * 32,
    }


class Guide(nn.Module):
    """A CLIP and the heads that name a picture's parts, which give most of the signal."""

    def __init__(self, config):
        super().__init__()
        self.clip = CLIP(**config)
        self.heads = Naming(config["embed_dim"])
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def encode_image(self, images):
        """Pictures [B,3,R,R] in [0,1] → vectors [B,D], not of unit length."""
        x = (images - self.mean) / self.std
        return self.clip.visual(x.contiguous(memory_format=torch.channels_last)).float()

    def encode_text(self, tokens):
        """Token ids [B,L] → unit vectors [B,D]."""
        return F.normalize(self.clip.encode_text(tokens).float(), dim=1)

    def loss(self, images, text, batch):
        """Contrastive loss + .2 × naming of pictures [B,3,R,R] against unit vectors [B,D]; and the parts of it."""
        image = self.encode_image(images)
        scale = self.clip.logit_scale.exp().clamp(max=60)
        match, hit = match_loss(F.normalize(image, dim=1), text, scale, batch["same"])
        naming = self.heads.loss(image, batch)
        return match + 0.2 * naming, {"match": match, "naming": naming, "hit": hit}


# ------------------------------------------------------------------------------------ pictures


def scenes_and_words(job):
    """`count` scenes of a seed and their tokens [count, WORDINGS, L]: a worker's part of the pool."""
    seed, count, sets = job
    torch.set_num_threads(1)
    rng, tokens = random.Random(f"pool {seed}"), CompactTokenizer(token_ids(), CONFIG["context_length"])
    scenes = [random_scene(rng, sets=sets, defects=0.15) for _ in range(count)]
    words = tokens([caption(s, rng, bare=0.2) for s in scenes for _ in range(WORDINGS)])
    return scenes, words.short().view(count, WORDINGS, -1)


def draw_pool(count, size, device, icons, seed, workers):
    """Drawn pictures uint8 [N,3,S,S], their tokens int16 [N,W,L], what the heads name, and a number a scene."""
    sets, part = len(icons), 2048
    painter = Painter(icons, device, size=size)
    generator = torch.Generator(device).manual_seed(seed)
    pictures = torch.empty(count, 3, size, size, dtype=torch.uint8, device=device)
    jobs = [(seed * 100_003 + i, min(part, count - i), sets) for i in range(0, count, part)]
    words, all_scenes = [], []
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for scenes, tokens in pool.imap(scenes_and_words, jobs):
            at = len(all_scenes)
            for i in range(0, len(scenes), 512 if device == "cpu" else part):
                some = scenes[i : i + (512 if device == "cpu" else part)]
                pictures[at + i : at + i + len(some)] = (painter.draw(some, generator) * 255).round().byte()
            words.append(tokens)
            all_scenes += scenes
            print(f"pool: {len(all_scenes)} of {count}", flush=True)
    keys = [tuple((k, str(v)) for k, v in s.items() if k not in ("set", "kind")) for s in all_scenes]
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return {
        "pictures": pictures,
        "tokens": torch.cat(words).to(device),
        "scene": torch.tensor([number[k] for k in keys], device=device),
        **labels(all_scenes, device),
    }


def pool_of(args):
    """The pool, from its file or drawn anew."""
    path = args.work / f"pool-{args.size}.pt"
    if path.exists() and not args.redraw:
        pool = torch.load(path, map_location=args.device, mmap=args.device == "cpu")
        require_pool(path, len(pool["pictures"]), args.pool)
        return pool
    icons = load_icons(args.icons, args.work)
    pool = draw_pool(args.pool, args.size, args.device, icons, args.seed, args.workers)
    save(pool, path)
    return pool


def batch_of(pool, rows, resolution, generator):
    """Cropped pictures [B,3,R,R], tokens [B,L] and the heads' targets of some rows; `same`: who belongs together."""
    device = pool["pictures"].device
    rows = rows.to(device)
    drawn = crops(pool["pictures"][rows].float() / 255, generator).clamp(0, 1)
    drawn = F.adaptive_avg_pool2d(drawn, resolution)
    which = torch.randint(0, WORDINGS, (len(rows),), generator=generator, device=generator.device).to(device)
    tokens = pool["tokens"][rows, which].long()
    batch = {k: v[rows] for k, v in pool.items() if k not in ("pictures", "tokens")}
    said = (tokens * torch.arange(1, tokens.shape[1] + 1, device=device) ** 3).sum(1)
    batch["same"] = (batch["scene"][:, None] == batch["scene"]) | (said[:, None] == said)
    return drawn, tokens, batch


# ------------------------------------------------------------------------------------ perturbation


def unit(x):
    """Each picture's pixels to length 1."""
    return x / x.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)


def perturb(loss_of, images, eps, steps, generator):
    """Pictures moved by at most ``eps`` [B,1,1,1] (L2 over all pixels of [0,1]) to raise ``loss_of(pictures)``.

    Projected gradient ascent from a random start (Madry et al. 2018, https://arxiv.org/abs/1706.06083).
    """
    where = {"generator": generator, "device": generator.device}
    delta = unit(torch.randn(images.shape, **where).to(images.device))
    delta = delta * eps * torch.rand(len(images), 1, 1, 1, **where).to(images.device)
    rate = 1.5 * eps / steps
    for _ in range(steps):
        moved = (images + delta).clamp(0, 1).requires_grad_()
        (gradient,) = torch.autograd.grad(loss_of(moved), moved)
        delta = moved.detach() - images + rate * unit(gradient.float())
        delta = delta * (eps / delta.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)).clamp(max=1)
    return (images + delta).clamp(0, 1)


# ------------------------------------------------------------------------------------ training


def arguments():
    """The stage's flags."""
    p = parser(__doc__, minutes=600)
    p.add_argument("--name", default="guide", help="of the checkpoint in work/")
    p.add_argument("--resolution", type=int, default=32, help="what the guide sees, pixels")
    p.add_argument("--width", type=int, default=CONFIG["vision_width"])
    p.add_argument("--layers", type=int, nargs=4, default=CONFIG["vision_layers"])
    p.add_argument("--pool", type=int, default=80_000, help="pictures drawn before training begins")
    p.add_argument("--icons", default="robust", choices=[*FAMILIES], help="family of the drawings")
    p.add_argument("--size", type=int, default=64, help="of the pool's pictures, pixels")
    p.add_argument("--redraw", action="store_true", help="draw the pool anew (with another --seed: other pictures)")
    p.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that word the pool's scenes")
    p.add_argument("--eps", type=float, default=1.5, help="largest perturbation, L2 in [0,1], at 32 px; ∝ resolution")
    p.add_argument("--attack", type=int, default=2, help="gradient steps of the perturbation after its first third")
    p.add_argument("--bf16", action="store_true", help="autocast: quicker on GPUs and on CPUs with AMX")
    p.add_argument("--compile", action="store_true", help="torch.compile: quicker after a minute, on a GPU")
    return p.parse_args()


class Trainer:
    """One step of training, and what it needs."""

    def __init__(self, args, model, pool, run):
        self.args, self.model, self.pool, self.run = args, model, pool, run
        self.generator = torch.Generator(args.device).manual_seed(args.seed + run.step)
        if args.compile:
            model.encode_image = torch.compile(model.encode_image)
        self.scale = args.resolution / 32

    def _eps(self, batch):
        ramp = min(1.0, 0.2 + self.run.progress / 0.4)
        spread = torch.rand(batch, 1, 1, 1, generator=self.generator, device=self.generator.device)
        return self.args.eps * self.scale * ramp * (0.5 + spread).to(self.args.device)

    def step(self, batch):
        """The loss of one batch, and what to log."""
        args, model = self.args, self.model
        rows = torch.randint(0, len(self.pool["pictures"]), (batch,), generator=self.generator, device=args.device)
        with torch.no_grad():
            images, tokens, targets = batch_of(self.pool, rows, args.resolution, self.generator)
        with torch.autocast(args.device, torch.bfloat16, enabled=args.bf16):
            text = model.encode_text(tokens)
            fixed = text.detach()
            model.eval()  # the attack sees the batch norms as a run will
            model.requires_grad_(False)
            steps = 1 if self.run.progress < 1 / 3 else args.attack
            moved = perturb(lambda x: model.loss(x, fixed, targets)[0], images, self._eps(batch), steps, self.generator)
            model.train()
            model.requires_grad_(True)
            return model.loss(moved, text, targets)


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    batch = args.batch or BATCH
    config = {
        **CONFIG,
        "vocab_size": len(token_ids()),
        "image_resolution": args.resolution,
        "vision_width": args.width,
        "vision_layers": args.layers,
    }
    model = Guide(config).to(args.device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(
        model.parameters(), RATE, betas=(0.9, 0.98), weight_decay=0.05, fused=args.device == "cuda"
    )
    run = Run(args.name, args, model, optimiser, RATE)
    trainer = Trainer(args, model, pool_of(args), run)
    for _ in run:
        loss, stats = trainer.step(batch)
        run.update(loss, **stats)
    seen, minutes = run.step * batch / 1e6, run.spent / 60
    print(f"{args.name}: {run.step} steps of {batch}, {seen:.2f} million pictures, {minutes:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
