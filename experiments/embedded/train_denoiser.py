"""The denoiser of the pair's latents: what drawings look like, whatever they show.

`python train_denoiser.py` needs the generator (as it ships) and `work/icons_robust.safetensors`; it encodes `--pool`
pictures once (`work/latents.pt`), trains on them with noise of every size, and writes `work/denoiser.ckpt`; it goes on
from there.  `--export` writes the running average as `vqclip/embedded/denoiser.safetensors`, and stops.

The noise's deviation is log-uniform over [.05, 4] standard deviations of the latents; the network, its scaling and the
loss's weight are those of Karras et al. 2022 (https://arxiv.org/abs/2206.00364).
"""

import math
import random
from pathlib import Path

import torch
from common import Run, export, parser
from data import FAMILIES, HERE, Painter, load_icons, random_scene
from export import licence

from vqclip.checkpoints.load import load_generator
from vqclip.models.denoiser import Denoiser

CONFIG = {"channels": 16, "side": 16, "patch": 2, "width": 192, "depth": 6, "heads": 3}
RATE, BATCH, SMALLEST, LARGEST = 1.5e-3, 128, 0.05, 4.0
EMBEDDED = HERE.parents[1] / "vqclip" / "embedded"


@torch.no_grad()
def latents_of(args):
    """Encoded pictures [N,16,16,16] in half precision, from their file or drawn: a quarter canonically."""
    path = args.work / "latents.pt"
    if path.exists():
        return torch.load(path)
    generator = load_generator({"path": str(EMBEDDED / "generator.safetensors")}).to(args.device)
    painter = Painter(load_icons("robust", args.work), args.device)
    rng, places, out = random.Random(args.seed), torch.Generator().manual_seed(args.seed), []
    for i in range(0, args.pool, 64):
        kinds = ("single" if rng.random() < 0.35 else None for _ in range(64))
        scenes = [random_scene(rng, kind=kind, sets=len(FAMILIES["robust"])) for kind in kinds]
        pictures = painter.draw(scenes, None if i // 64 % 4 == 0 else places)
        with torch.autocast(args.device, torch.bfloat16):
            out.append(generator.encode(pictures).half().cpu())
        if i % 1280 == 0:
            print(f"latents: {i} of {args.pool}", flush=True)
    latents = torch.cat(out)[: args.pool]
    torch.save(latents, path)
    return latents


def main():
    p = parser(__doc__, minutes=146)
    p.add_argument("--pool", type=int, default=56_064, help="pictures encoded before training begins")
    p.add_argument("--export", action="store_true", help="write the shipped file from the checkpoint, and stop")
    p.add_argument("--to", type=Path, default=EMBEDDED / "denoiser.safetensors")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = Denoiser(**CONFIG).to(args.device)
    batch = args.batch or BATCH
    optimiser = torch.optim.AdamW(model.parameters(), RATE, betas=(0.9, 0.99), weight_decay=0.01)
    if args.export:
        ship(args, Run("denoiser", args, model, optimiser, RATE), batch)
        return
    latents = latents_of(args).to(args.device)
    some = latents[:4000].float()
    model.mean.copy_(some.mean((0, 2, 3)))  # before the run copies the model for its average
    model.std.copy_(some.std((0, 2, 3)))
    run = Run("denoiser", args, model, optimiser, RATE)
    generator = torch.Generator(args.device).manual_seed(args.seed + run.step)
    draw = {"generator": generator, "device": args.device}
    for _ in run:
        x = model.standard(latents[torch.randint(len(latents), (batch,), **draw)].float())
        sigma = SMALLEST * torch.exp(torch.rand(batch, **draw) * math.log(LARGEST / SMALLEST))
        noise = torch.randn(x.shape, **draw) * sigma.view(-1, 1, 1, 1)
        with torch.autocast(args.device, torch.bfloat16):
            clean = model(x + noise, sigma)
        error = (clean.float() - x).square().mean((1, 2, 3))
        middle = error[(sigma > 0.5) & (sigma < 1)]
        stats = {"middle": middle.mean()} if len(middle) else {}
        run.update((error * (sigma.square() + 1) / sigma.square()).mean(), **stats)


def ship(args, run, batch):
    """Write the running average."""
    export(
        args.to,
        run.average.state_dict(),
        CONFIG,
        licence=licence("robust"),
        origin=f"experiments/embedded, {run.step} steps of {batch} latents, {run.spent / 60:.0f} minutes",
    )


if __name__ == "__main__":
    main()
