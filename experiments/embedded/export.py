"""The shipped files: `python export.py` writes the stages' running averages into `vqclip/embedded/`.

`python export.py robust` and `python export.py denoiser` write theirs, which are trained on the others' files.
fp16 safetensors; metadata: the constructor's arguments as JSON, licence, origin and how the weights came to be.
"""

import argparse
import random
import re
from pathlib import Path

import torch
import train_generator
import train_guide
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


def checkpoint_of(part, work):
    """The stage's file."""
    if part == "generator" and (work / "decoder.ckpt").exists():
        part = "decoder"
    elif part == "robust":
        part = "guide"
    elif part == "denoiser":
        import train_denoiser  # not before: its name is by the generator and the guide that lie there now

        part = f"denoiser-{train_denoiser.MADE_BY}"
    path = work / f"{part}.ckpt"
    if not path.exists():
        script = f"train_{part.partition('-')[0]}.py"
        raise SystemExit(f"{path}: there is no checkpoint to export. Try: python {script}; rebuild.sh has its flags")
    return path


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", type=Path, default=WORK)
    p.add_argument("--to", type=Path, default=HERE.parents[1] / "vqclip" / "embedded")
    p.add_argument("parts", nargs="*", default=["generator", "perceptor", "prior", "judge", "photo_judge"])
    args = p.parse_args()
    judges = {"judge": train_judge, "photo_judge": train_photo_judge}
    ids = token_ids()
    args.to.mkdir(exist_ok=True)
    (args.to / "words.txt").write_text(words())
    for name in args.parts:
        state = torch.load(checkpoint_of(name, args.work), map_location="cpu", weights_only=False)
        weights, asked = state["average"], state.get("asked", {})
        family, each = "judge" if name in judges else "guide", ""
        if name == "generator":
            config = train_generator.CONFIG
        elif name in ("perceptor", "robust"):
            weights = {k.removeprefix("clip."): v for k, v in weights.items() if k.startswith("clip.")}
            config = {**train_perceptor.CONFIG, "vocab_size": len(ids)}
            if name == "robust":
                config, family = train_guide.config_of(weights), asked.get("icons", "robust")
                each = f" of {asked.get('batch') or train_guide.BATCH} pictures"
            weights["token_ids"] = ids
        elif name == "prior":
            config = {**train_prior.CONFIG, "vocab_size": len(ids)}
        elif name == "denoiser":
            import train_denoiser

            config, family = train_denoiser.CONFIG, "robust"
            each = f" of {asked.get('batch') or train_denoiser.BATCH} latents"
        else:
            weights = {k.removeprefix("judge."): v for k, v in weights.items() if k.startswith("judge.")}
            config = judges[name].CONFIG
        export(
            args.to / f"{name}.safetensors",
            weights,
            config,
            eight_bits=name == "denoiser",
            licence=licence(family),
            origin=f"experiments/embedded, {state['step']} steps{each}, {state['spent'] / 60:.0f} minutes",
        )


if __name__ == "__main__":
    main()
