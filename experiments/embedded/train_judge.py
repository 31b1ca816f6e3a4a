"""The judge: another family of model, on other drawings than the guide's (twemoji, emojione, fxemoji).

`python train_judge.py` writes `work/judge.ckpt`; `export.py` makes the shipped file.
"""

import random

import torch
from common import Pupil, Run, labels, match_loss, parser, same_scene
from data import Painter, caption, load_icons, random_scene
from train_perceptor import crops

from vqclip.models.judge import Judge

CONFIG = {
    "dim": 192,
    "buckets": 8192,
    "text_width": 160,
    "widths": [64, 128, 224],
    "depths": [1, 2, 2],
    "input_size": 64,
}


def main():
    args = parser(__doc__, minutes=20).parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    batch = args.batch or 256
    painter = Painter(load_icons("judge", args.work), args.device, size=64)
    model = Pupil(Judge, CONFIG).to(args.device, memory_format=torch.channels_last)
    run = Run(
        "judge", args, model, torch.optim.AdamW(model.parameters(), 2e-3, betas=(0.9, 0.98), weight_decay=0.05), 2e-3
    )
    rng, trng = random.Random(args.seed + run.step), torch.Generator().manual_seed(args.seed + run.step)
    for _ in run:
        scenes = [random_scene(rng, sets=3, defects=0.22) for _ in range(batch // 2)]
        drawn = painter.draw(scenes, trng)
        # One view as it is, one through crops and noise: the pictures it will judge are whole and not quite clean.
        image = model.judge.encode_image(
            torch.cat([drawn, crops(drawn, trng)]).contiguous(memory_format=torch.channels_last)
        )
        scenes = scenes * 2
        text = model.judge.encode_text([caption(s, rng, bare=0.2) for s in scenes])
        match, hit = match_loss(image, text, model.judge.scale.exp().clamp(max=60), same_scene(scenes, args.device))
        naming = model.heads.loss(image * 8, labels(scenes, args.device))
        run.update(match + 0.2 * naming, match=match, naming=naming, hit=hit)


if __name__ == "__main__":
    main()
