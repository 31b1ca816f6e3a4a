"""The CLIP that guides: openai-clip's own class, small, trained on captioned scenes as the engine will show them to it.

`python train_perceptor.py` writes `work/perceptor.ckpt`. Besides the contrastive loss, linear heads (thrown away
afterwards) name each picture's parts from its vector.
"""

import random

import torch
import torch.nn.functional as F
from common import Naming, Run, labels, match_loss, parser, same_scene
from data import Painter, caption, load_icons, random_scene, token_ids
from torch import nn

from vqclip.models.clip import MEAN, STD
from vqclip.models.clip_fast import CLIP
from vqclip.models.tokenizer import CompactTokenizer

CONFIG = {
    "embed_dim": 256,
    "image_resolution": 64,
    "vision_layers": [1, 2, 2, 1],
    "vision_width": 24,
    "vision_patch_size": None,
    "context_length": 32,
    "transformer_width": 128,
    "transformer_heads": 4,
    "transformer_layers": 2,
}


class Perceptor(nn.Module):
    """A CLIP and the heads that name a picture's parts."""

    def __init__(self, config):
        super().__init__()
        self.clip = CLIP(**config)
        self.heads = Naming(config["embed_dim"])


def crops(images, rng):
    """The engine's views of pictures [B,3,S,S]: half nearly whole, the rest zoomed, moved and tilted over black."""
    b = len(images)

    def r(*shape):
        return torch.rand(*shape, generator=rng, device=rng.device).to(images.device)

    wild = r(b) < 0.5
    side = torch.where(wild, 0.55 + 1.25 * r(b), 0.9 + 0.3 * r(b))  # of the picture's side
    angle = (r(b) - 0.5) * torch.where(wild, 0.9, 0.1)
    reach = torch.where(wild, 0.25 + 0.45 * (side - 1).abs(), 0.1)
    at = (r(b, 2) - 0.5) * 2 * reach[:, None]
    mirror = torch.where(r(b) < 0.5, -1.0, 1.0)
    rotation = torch.stack(
        [torch.stack([mirror * angle.cos(), -angle.sin()], 1), torch.stack([mirror * angle.sin(), angle.cos()], 1)], 1
    )
    theta = torch.cat([rotation * side[:, None, None], at[:, :, None]], 2)
    out = F.grid_sample(
        images, F.affine_grid(theta, list(images.shape), align_corners=False), padding_mode="zeros", align_corners=False
    )
    factor = 0.22 * r(b, 1, 1, 1) * (r(b, 1, 1, 1) < 0.6)
    return out + factor * torch.randn(out.shape, generator=rng, device=rng.device).to(out.device)


def main():
    args = parser(__doc__, minutes=70).parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    batch = args.batch or 256
    painter = Painter(load_icons("guide", args.work), args.device, size=64)
    tokens = CompactTokenizer(token_ids(), CONFIG["context_length"])
    model = Perceptor({**CONFIG, "vocab_size": len(tokens)}).to(args.device, memory_format=torch.channels_last)
    mean, std = (torch.tensor(v, device=args.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    run = Run(
        "perceptor",
        args,
        model,
        torch.optim.AdamW(model.parameters(), 1.5e-3, betas=(0.9, 0.98), weight_decay=0.05),
        1.5e-3,
    )
    rng, trng = random.Random(args.seed + run.step), torch.Generator().manual_seed(args.seed + run.step)
    for _ in run:
        # Two views of each drawn picture, under two wordings: drawing costs as much as a third of a training step.
        scenes = [random_scene(rng, sets=3, defects=0.22) for _ in range(batch // 2)]
        drawn = painter.draw(scenes, trng)
        scenes = scenes * 2
        images = crops(torch.cat([drawn, drawn]), trng).contiguous(memory_format=torch.channels_last)
        texts = tokens([caption(s, rng, bare=0.2) for s in scenes]).to(args.device)
        image = model.clip.encode_image((images - mean) / std)
        text = model.clip.encode_text(texts)
        match, hit = match_loss(
            F.normalize(image, dim=1),
            F.normalize(text, dim=1),
            model.clip.logit_scale.exp().clamp(max=60),
            same_scene(scenes, args.device),
        )
        naming = model.heads.loss(image, labels(scenes, args.device))
        run.update(match + 0.2 * naming, match=match, naming=naming, hit=hit)


if __name__ == "__main__":
    main()
