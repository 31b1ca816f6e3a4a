"""The shipped files: `python export.py` writes the stages' running averages into `vqclip/embedded/`.

fp16 safetensors; metadata: the constructor's arguments as JSON, licence, origin and how the weights came to be.
"""

import argparse
import random
import re
from pathlib import Path

import torch
import train_generator
import train_judge
import train_perceptor
import train_photo_judge
import train_prior
from common import export
from data import (
    COLOURS,
    DEFECTS,
    FAMILIES,
    HERE,
    NAMES,
    PLACES,
    STYLES,
    WORK,
    caption,
    random_scene,
    token_ids,
)

LICENCES = {
    "noto": "Apache-2.0",
    "fluent-emoji-flat": "MIT",
    "fluent-emoji": "MIT",
    "twemoji": "CC-BY-4.0",
    "emojione": "CC-BY-4.0",
    "fxemoji": "Apache-2.0",
    "noto-v1": "Apache-2.0",
    "streamline-emojis": "CC-BY-4.0",
}


def licence(family):
    """Of weights that a family of icon sets taught."""
    return "MIT; training pictures: " + ", ".join(f"{s} {LICENCES[s]}" for s in FAMILIES[family])


def words():
    """All that captions are made of, one line a thing: `words.txt`, by which a run knows what was not taught."""
    wordings = [w.replace("{}", " ") for group in (STYLES, DEFECTS, PLACES) for ws in group.values() for w in ws]
    named = [", ".join(names) for names in NAMES]
    rng = random.Random(0)
    said = {w for _ in range(4000) for w in re.findall(r"[a-z]+", caption(random_scene(rng), rng).lower())}
    said -= set(re.findall(r"[a-z]+", " ".join([*named, *wordings]).lower()))
    return (
        "\n".join([*named, *COLOURS, *(" ".join(w.split()).strip(" ,") for w in wordings), " ".join(sorted(said))])
        + "\n"
    )


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", type=Path, default=WORK)
    p.add_argument("--to", type=Path, default=HERE.parents[1] / "vqclip" / "embedded")
    p.add_argument("parts", nargs="*", default=["generator", "perceptor", "prior", "judge", "photo_judge"])
    args = p.parse_args()
    args.to.mkdir(exist_ok=True)
    (args.to / "words.txt").write_text(words())
    ids = token_ids()
    judges = {"judge": train_judge, "photo_judge": train_photo_judge}
    for name in args.parts:
        decoded = name == "generator" and (args.work / "decoder.ckpt").exists()
        state = torch.load(args.work / f"{'decoder' if decoded else name}.ckpt", map_location="cpu", weights_only=False)
        weights, config = state["average"], None
        if name == "generator":
            config = train_generator.CONFIG
        elif name == "perceptor":
            weights = {k.removeprefix("clip."): v for k, v in weights.items() if k.startswith("clip.")} | {
                "token_ids": ids
            }
            config = {**train_perceptor.CONFIG, "vocab_size": len(ids)}
        elif name == "prior":
            config = {**train_prior.CONFIG, "vocab_size": len(ids)}
        elif name in judges:
            weights = {k.removeprefix("judge."): v for k, v in weights.items() if k.startswith("judge.")}
            config = judges[name].CONFIG
        export(
            args.to / f"{name}.safetensors",
            weights,
            config,
            licence=licence("judge" if name in judges else "guide"),
            origin=f"experiments/embedded, {state['step']} steps, {state['spent'] / 60:.0f} minutes",
        )


if __name__ == "__main__":
    main()
