"""The decoder again, with the encoder and everything that depends on its latents fixed.

`python train_decoder.py` needs `work/generator.ckpt` and `work/prior.ckpt`, sets the codebook anew by k-means and
writes `work/decoder.ckpt`, the whole VQGAN as it ships. A batch is: encoded pictures with a little noise, the same by
way of the codebook, and what the prior paints for a scene, whose target is the drawn scene itself: the decoder learns
to fix what the painter leaves soft.
"""

import json

import torch
from common import Run, parser
from data import Painter, load_icons, token_ids
from train_generator import picture_loss, pool, seed_codebook
from train_prior import CONFIG as PRIOR
from train_prior import load_generator, parts

from vqclip.models.prior import Prior


def main():
    p = parser(__doc__, minutes=12)
    p.add_argument("--pool", type=int, default=1024)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = load_generator(args.work, args.device)
    for part in (model.decoder, model.post_quant_conv):
        part.requires_grad_(True)
    prior = Prior(vocab_size=len(token_ids()), **PRIOR).to(args.device)
    prior.load_state_dict(torch.load(args.work / "prior.ckpt", map_location="cpu", weights_only=False)["average"])
    prior.requires_grad_(False)
    painter = Painter(load_icons("guide", args.work), args.device)
    pictures = pool(painter, args.pool, args.seed + 1)
    scenes = json.loads((args.work / "prior_scenes.json").read_text())
    run = Run(
        "decoder",
        args,
        model,
        torch.optim.AdamW(
            [q for q in model.parameters() if q.requires_grad], 2e-4, betas=(0.9, 0.99), weight_decay=1e-4
        ),
        2e-4,
        decay=0.995,
    )
    if not run.step:
        seed_codebook(model, pictures[:384].float() / 255)
        run.average.load_state_dict(model.state_dict())
    batch = args.batch or 4
    for _ in run:
        chosen = [scenes[i] for i in torch.randint(len(scenes), (batch // 2,)).tolist()]
        drawn = pictures[torch.randint(len(pictures), (batch - batch // 2,), device=pictures.device)].float() / 255
        x = torch.cat([painter.draw(chosen), drawn])
        with torch.no_grad():
            z = model.encode(drawn)
            z[::2] = model.quantise(z[::2])
            z[1::2] += 0.15 * torch.rand(len(z[1::2]), 1, 1, 1, device=z.device) * torch.randn_like(z[1::2])
            given = torch.cat([prior.paint(**parts(chosen, args.device)), z])
        out = model.decode_raw(given)
        loss = picture_loss(out, x * 2 - 1)
        with torch.no_grad():
            error = -10 * ((out.clamp(-1, 1) + 1) / 2 - x).square().mean((1, 2, 3)).log10()
        run.update(
            loss,
            painted=error[: len(chosen)].mean(),
            quantised=error[len(chosen) :: 2].mean(),
            encoded=error[len(chosen) + 1 :: 2].mean(),
        )


if __name__ == "__main__":
    main()
