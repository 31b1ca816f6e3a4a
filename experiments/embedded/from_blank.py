"""Pictures out of noise: `python from_blank.py strips|weights` writes `results/from_blank/<name>.jpg`.

`strips`: six prompts by `experiment=drawing`, a row each, from the first snapshot to the last. `weights`: four
prompts, a row each; over the columns loss.alpha, loss.beta with an exclude, then noise.factor.
Further arguments are overrides of the engine.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from data import HERE, grid
from PIL import Image, ImageDraw
from torchvision.io import read_image

from vqclip import run

RESULTS = HERE / "results" / "from_blank"
SIX = ["a red apple", "a fox", "a green frog", "a blue car", "a tree", "a butterfly"]
FOUR = ["an apple", "a mushroom", "a car", "a heart"]
QUIET = ["experiment=drawing", "logger=none", "callbacks=none"]
#: Overrides by what stands above their column.
COLUMNS = {
    "alpha 0": ["loss.alpha=0"],
    "alpha 1": [],
    "alpha 5": ["loss.alpha=5"],
    "without red, beta 2": ["prompts.exclude=red", "loss.beta=2"],
    "without red, beta 5": ["prompts.exclude=red", "loss.beta=5"],
    "noise 1": ["noise.factor=1"],
}


def drawn(prompts, overrides, snapshots=False):
    """Pictures [P,3,H,W] of a run; with `snapshots` every one of them, prompt by prompt."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        result = run(prompts, overrides=[*QUIET, *overrides], folder=Path(folder) / "run")
        scores = ", ".join(f"{own['best']['score']:.2f}" for own in result.scores)
        print(*overrides, f"{time.time() - began:.0f} s, scores {scores}", flush=True)
        if not snapshots:
            return result.images
        frames = [sorted(path.parent.glob("steps/*.png")) for path in result.pictures]
        return torch.stack([read_image(str(frame)) / 255 for own in frames for frame in own])


def headed(page, titles):
    """A sheet with a title above every column."""
    out = Image.new("RGB", (page.width, page.height + 16), "white")
    out.paste(page, (0, 16))
    for i, title in enumerate(titles):
        ImageDraw.Draw(out).text((i * page.width // len(titles) + 4, 2), title, "black")
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["strips", "weights"])
    p.add_argument("overrides", nargs="*")
    args = p.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if args.what == "strips":
        pictures = drawn(SIX, args.overrides, snapshots=True)
        page = grid(pictures, len(pictures) // len(SIX))
    else:
        by_column = [drawn(FOUR, [*args.overrides, *column]) for column in COLUMNS.values()]
        page = headed(grid(torch.stack(by_column, 1).flatten(0, 1), len(COLUMNS)), COLUMNS)
    page.save(RESULTS / f"{args.what}.jpg", quality=85)


if __name__ == "__main__":
    main()
