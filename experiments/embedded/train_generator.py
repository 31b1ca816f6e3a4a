"""The VQGAN: scenes through taming's encoder and decoder, half of them by way of the codebook.

`python train_generator.py` writes `work/generator.ckpt`. Pictures are drawn once (`--pool`) and cropped: small crops
first (four times the throughput), whole pictures for the last third, because a group normalisation's statistics are
those of what it sees.
"""

import random

import torch
import torch.nn.functional as F
from common import Run, parser
from data import Painter, load_icons, random_scene

from vqclip.models.vqgan import VQGAN

CONFIG = {
    "ddconfig": {
        "double_z": False,
        "z_channels": 16,
        "resolution": 128,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 2, 4],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
    },
    "n_embed": 1024,
    "embed_dim": 16,
    "norm_groups": 1,
}


def pool(painter, count, seed):
    """[count, 3, 128, 128] uint8: a third drawn canonically, the rest with random placement."""
    rng, trng, out = random.Random(seed), torch.Generator().manual_seed(seed), []
    for i in range(0, count, 64):
        scenes = [random_scene(rng, sets=3, defects=0.08) for _ in range(64)]
        out.append((painter.draw(scenes, None if i // 64 % 3 == 0 else trng) * 255).round().byte())
    return torch.cat(out)


def picture_loss(out, target):
    """Both [-1,1]: L1, L1 of the gradients (edges), and of colour apart from brightness, which L1 alone learns last."""

    def tint(x):
        return F.avg_pool2d(x, 2) - F.avg_pool2d(x, 2).mean(1, keepdim=True)

    loss = (
        F.l1_loss(out, target)
        + F.l1_loss(tint(out), tint(target))
        + 2 * F.mse_loss(F.avg_pool2d(out, 8), F.avg_pool2d(target, 8))
    )
    for dim in (2, 3):
        loss = loss + 0.5 * F.l1_loss(out.diff(dim=dim), target.diff(dim=dim))
    return loss


def seed_codebook(model, pictures):
    """Codes from encoded pictures: k-means, ten rounds."""
    with torch.no_grad():
        z = torch.cat([model.encode(p) for p in pictures.split(16)]).movedim(1, -1).flatten(0, -2)
        codes = z[torch.randperm(len(z), device=z.device)[: model.codebook.shape[0]]].clone()
        for _ in range(10):
            nearest = torch.cat([torch.cdist(part, codes).argmin(1) for part in z.split(8192)])
            total = torch.zeros_like(codes).index_add_(0, nearest, z)
            count = torch.bincount(nearest, minlength=len(codes))[:, None]
            codes = torch.where(
                count > 0, total / count.clamp_min(1), z[torch.randint(len(z), (len(codes),), device=z.device)]
            )
        model.quantize.embedding.weight.copy_(codes)


def main():
    p = parser(__doc__, minutes=40)
    p.add_argument("--pool", type=int, default=4096)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    pictures = pool(Painter(load_icons("guide", args.work), args.device), args.pool, args.seed)
    print("pool", tuple(pictures.shape), flush=True)
    model = VQGAN(**CONFIG).to(args.device, memory_format=torch.channels_last)
    run = Run(
        "generator",
        args,
        model,
        torch.optim.AdamW(model.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=1e-4),
        1e-3,
    )
    seeded = run.progress > 0.3
    for _ in run:
        side, batch = (64, args.batch or 8) if run.progress < 0.7 else (128, (args.batch or 8) // 4)
        rows = torch.randint(len(pictures), (batch,), device=pictures.device)
        top, left = (torch.randint(0, (128 - side) // 8 + 1, (2,)) * 8).tolist()
        x = pictures[rows, :, top : top + side, left : left + side].float() / 255
        z = model.encode(x)
        # Noise on the latent: the decoder must forgive a predicted or optimised latent that is nearly right.
        given = z + torch.randn_like(z) * 0.15 * torch.rand(batch, 1, 1, 1, device=z.device)
        codes = z.new_zeros(())
        if run.progress > 0.3:
            if not seeded:
                seed_codebook(
                    model, pictures[torch.randint(len(pictures), (256,), device=pictures.device)].float() / 255
                )
                run.average.load_state_dict(model.state_dict())
                seeded = True
            half = batch // 2
            quantised, codes, _ = model.quantize(z[:half])
            given = torch.cat([quantised, given[half:]])
        out = model.decode_raw(given)
        loss = picture_loss(out, x * 2 - 1)
        with torch.no_grad():
            psnr = -10 * ((out.clamp(-1, 1) + 1) / 2 - x)[batch // 2 :].square().mean().log10()
        # The first three channels are held to the cell's mean colour: left to itself, the encoder learns green last.
        colour = F.mse_loss(z[:, :3], 1.5 * F.avg_pool2d(x * 2 - 1, 8))
        run.update(
            loss + codes + colour + 1e-3 * z.square().mean(),
            picture=loss,
            codes=codes,
            colour=colour,
            psnr=psnr,
            std=z.std(),
        )


if __name__ == "__main__":
    main()
