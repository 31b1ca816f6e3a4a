"""The second judge: a head on what an ImageNet network sees in the judge's drawings (twemoji, emojione, fxemoji).

`python train_photo_judge.py` writes `work/photo_features.safetensors`, once, and `work/photo_judge.ckpt` (the extra
`judge` is needed); `export.py` makes the shipped file, the head alone.
"""

import random

import torch
import torch.nn.functional as F
from common import Pupil, Run, labels, match_loss, parser, same_scene
from data import Painter, caption, load_icons, random_scene
from safetensors.torch import load_file, save_file
from train_perceptor import crops

from vqclip.models.judge import PhotoJudge

CONFIG = {"dim": 192, "buckets": 8192, "text_width": 160, "hidden": 384}
PART = 64  # pictures at a time


def scenes_of(seed, count):
    """The scenes of a seed; the two pictures of scene i are rows 2i and 2i+1 of the features."""
    rng = random.Random(f"photo judge {seed}")
    return [random_scene(rng, sets=3, defects=0.22) for _ in range(count)]


@torch.no_grad()
def features_of(args):
    """Features float16 [2N,F] of N scenes, each as it was drawn at random, and through crops and noise.

    Goes on from what an interruption left.
    """
    path, scenes = args.work / "photo_features.safetensors", scenes_of(args.seed, args.scenes)
    done = [load_file(path)["features"]] if path.exists() else []
    painter = Painter(load_icons("judge", args.work), args.device)
    for i in range(sum(map(len, done)) // 2, len(scenes), PART):
        trng = torch.Generator().manual_seed(args.seed * 1_000_003 + i)
        drawn = painter.draw(scenes[i : i + PART], trng)
        both = torch.stack([drawn, crops(drawn, trng).clamp(0, 1)], 1).flatten(0, 1)
        done.append(PhotoJudge.features(both.contiguous(memory_format=torch.channels_last)).half().cpu())
        if i // PART % 8 == 7 or i + PART >= len(scenes):
            done = [torch.cat(done)]
            save_file({"features": done[0]}, path.with_suffix(".partial"))
            path.with_suffix(".partial").replace(path)
            print(f"features: {len(done[0]) // 2} of {len(scenes)} scenes", flush=True)
    return done[0][: 2 * len(scenes)]


def main():
    p = parser(__doc__, minutes=8)
    p.add_argument("--scenes", type=int, default=4_096, help="each is two pictures")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    batch, features, scenes = args.batch or 512, features_of(args), scenes_of(args.seed, args.scenes)
    model = Pupil(PhotoJudge, CONFIG).to(args.device)
    weights = torch.optim.AdamW(model.parameters(), 1e-3, betas=(0.9, 0.98), weight_decay=0.1)
    run = Run("photo_judge", args, model, weights, 1e-3)
    rng, trng = random.Random(args.seed + run.step), torch.Generator().manual_seed(args.seed + run.step)
    for _ in run:
        rows = torch.randint(0, len(features), (batch,), generator=trng)
        drawn = [scenes[row // 2] for row in rows.tolist()]
        image = F.normalize(model.judge.picture(features[rows].float().to(args.device)), dim=1)
        text = model.judge.encode_text([caption(s, rng, bare=0.2) for s in drawn])
        scale = model.judge.scale.exp().clamp(max=60)
        match, hit = match_loss(image, text, scale, same_scene(drawn, args.device))
        naming = model.heads.loss(image * 8, labels(drawn, args.device))
        run.update(match + 0.2 * naming, match=match, naming=naming, hit=hit)


if __name__ == "__main__":
    main()
