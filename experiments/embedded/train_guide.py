"""The guide whose gradient draws: openai-clip's class at 32 pixels, trained on adversarially perturbed pictures only.

`python train_guide.py` writes `work/guide.ckpt` and goes on from it; `--export` writes its running average as
`vqclip/embedded/robust.safetensors`. A perceptor that is right about the worst picture within a small distance has a
gradient that people can see shapes in (Tsipras et al. 2019, https://arxiv.org/abs/1805.12152); one trained on clean
pictures has a gradient of texture.

Pictures are drawn once at 64 pixels into a file of `--pool` of them, and cropped and captioned anew at every use, so
that the training core only trains. On a GPU (`--device cuda`) the pool is drawn there and stays there.
"""

import json
import random

import numpy as np
import torch
import torch.nn.functional as F
from common import Naming, Run, export, match_loss, parser
from data import FAMILIES, HERE, Painter, caption, load_icons, random_scene, token_ids
from export import LICENCES
from torch import nn
from train_perceptor import crops

from vqclip.models.clip import MEAN, STD, build_clip
from vqclip.models.tokenizer import CompactTokenizer

SIZE = 64  #: of the pool's pictures; crops of them are halved
RATE = 2e-3
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


class Guide(nn.Module):
    """A CLIP and the heads that name a picture's parts, which give most of the signal."""

    def __init__(self, config):
        super().__init__()
        self.clip = build_clip(config)
        self.heads = Naming(config["embed_dim"])
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def encode_image(self, images):
        """Pictures [B,3,32,32] in [0,1] → vectors [B,D], not of unit length."""
        x = (images - self.mean) / self.std
        return self.clip.encode_image(x.contiguous(memory_format=torch.channels_last)).float()

    def loss(self, images, text, scenes):
        """Contrastive loss + .2 × naming of pictures [B,3,32,32] against unit vectors [B,D]; and the parts of it."""
        image = self.encode_image(images)
        scale = self.clip.logit_scale.exp().clamp(max=60)
        match, hit = match_loss(F.normalize(image, dim=1), text, scale, scenes)
        naming = self.heads.loss(image, scenes)
        return match + 0.2 * naming, {"match": match, "naming": naming, "hit": hit}


def pool_of(args):
    """Pictures [N,3,64,64] uint8, drawn once, and the scene of each."""
    pictures, scenes_file = args.work / "pool.npy", args.work / "pool.json"
    if scenes_file.exists():
        return np.load(pictures, mmap_mode="r"), json.loads(scenes_file.read_text())
    painter = Painter(load_icons("guide", args.work), args.device, size=SIZE)
    rng, trng = random.Random(args.seed), torch.Generator().manual_seed(args.seed)
    pool = np.lib.format.open_memmap(pictures, "w+", np.uint8, (args.pool, 3, SIZE, SIZE))
    scenes = []
    for i in range(0, args.pool, 512):
        batch = [random_scene(rng, sets=3, defects=0.15) for _ in range(min(512, args.pool - i))]
        pool[i : i + len(batch)] = (painter.draw(batch, trng) * 255).round().byte().cpu().numpy()
        scenes += batch
    scenes_file.write_text(json.dumps(scenes))
    return pool, scenes


def unit(x):
    """Each picture's pixels to length 1."""
    return x / x.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)


def perturb(model, images, text, scenes, eps, steps, rng):
    """Pictures moved by at most ``eps`` [B,1,1,1] (L2 over all pixels of [0,1]) to raise the model's loss.

    Projected gradient ascent from a random start (Madry et al. 2018, https://arxiv.org/abs/1706.06083).
    """
    delta = unit(torch.randn(images.shape, generator=rng).to(images.device))
    delta = delta * eps * torch.rand(len(images), 1, 1, 1, generator=rng).to(images.device)
    rate = 1.5 * eps / steps
    for _ in range(steps):
        moved = (images + delta).clamp(0, 1).requires_grad_()
        (gradient,) = torch.autograd.grad(model.loss(moved, text, scenes)[0], moved)
        delta = moved.detach() - images + rate * unit(gradient.float())
        delta = delta * (eps / delta.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)).clamp(max=1)
    return (images + delta).clamp(0, 1)


def main():
    p = parser(__doc__, minutes=600)
    p.add_argument("--pool", type=int, default=120_000, help="pictures drawn before training begins")
    p.add_argument("--eps", type=float, default=1.5, help="largest perturbation, L2 over 3,072 numbers in [0,1]")
    p.add_argument("--attack", type=int, default=2, help="gradient steps of the perturbation after its first third")
    p.add_argument("--bf16", action="store_true", help="autocast: quicker on GPUs and on CPUs with AMX")
    p.add_argument("--export", action="store_true", help="write the shipped file from the checkpoint, and stop")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    batch, ids = args.batch or 256, token_ids()
    tokens = CompactTokenizer(ids, CONFIG["context_length"])
    config = {**CONFIG, "vocab_size": len(tokens)}
    model = Guide(config).to(args.device, memory_format=torch.channels_last)
    run = Run(
        "guide", args, model, torch.optim.AdamW(model.parameters(), RATE, betas=(0.9, 0.98), weight_decay=0.05), RATE
    )
    if args.export:
        ship(run, config, ids, batch)
        return
    pool, scenes_of = pool_of(args)
    if args.device != "cpu":
        pool = torch.from_numpy(np.ascontiguousarray(pool)).to(args.device)
    rng, trng = random.Random(args.seed + run.step), torch.Generator().manual_seed(args.seed + run.step)
    for _ in run:
        rows = rng.sample(range(len(scenes_of)), batch)
        drawn = pool[rows] if args.device != "cpu" else torch.from_numpy(pool[sorted(rows)])
        scenes = [scenes_of[i] for i in (rows if args.device != "cpu" else sorted(rows))]
        images = F.avg_pool2d(crops(drawn.float() / 255, trng), 2).clamp(0, 1)
        texts = tokens([caption(s, rng, bare=0.2) for s in scenes]).to(args.device)
        with torch.autocast(args.device, torch.bfloat16, enabled=args.bf16):
            text = F.normalize(model.clip.encode_text(texts).float(), dim=1)
            model.eval()  # the attack sees the batch norms as a run will
            ramp = min(1.0, 0.2 + run.progress / 0.4)
            eps = args.eps * ramp * (0.7 + 0.6 * torch.rand(batch, 1, 1, 1, generator=trng)).to(args.device)
            steps = 1 if run.progress < 1 / 3 else args.attack
            moved = perturb(model, images, text.detach(), scenes, eps, steps, trng)
            model.train()
            loss, stats = model.loss(moved, text, scenes)
        run.update(loss, **stats)


def ship(run, config, ids, batch):
    """Write the running average as a perceptor of the pair."""
    weights = {k.removeprefix("clip."): v for k, v in run.average.state_dict().items() if k.startswith("clip.")}
    export(
        HERE.parents[1] / "vqclip" / "embedded" / "robust.safetensors",
        weights | {"token_ids": ids},
        config,
        licence="MIT; training pictures: " + ", ".join(f"{s} {LICENCES[s]}" for s in FAMILIES["guide"]),
        origin=f"experiments/embedded, {run.step} steps of {batch} pictures, {run.spent / 60:.0f} minutes",
    )


if __name__ == "__main__":
    main()
