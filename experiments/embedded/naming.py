"""Blind naming, row by row: the same prompts for every row, a fresh pair of eyes for each.

    python naming.py prompts --seed 602   prompts.json, by program; commit it before anything is drawn
    python naming.py draw drawing         a row: <row>.jpg, numbered, shuffled; the key is in work/sealed
    (one who knows neither prompts nor concept list writes <row>.json, {"1": "what you see", …})
    python naming.py open drawing         the key beside the names; set "right" in <row>.opened.json
    python naming.py table

All of it in results/naming_60, or in `--place`: results/naming has the first round, twenty prompts of seed 601.
Rows: `prior`, `default`, `ceiling` (renderings through encode and decode), `drawing` (experiment=drawing),
`drawing-unguided` (by its denoiser alone), or any by --override.  `drawing-first`, `drawing-first-unguided`,
`drawing-second` and `drawing-third` are by the denoiser's weights of 75, 160 and 235 minutes with words, from sigma 8;
`drawing-put-back` by a sampler that puts noise back.  `wordless`, `wordless-quiet` (without noise on the crops) and
`wordless-contrastive` (by the other guide) are of an earlier recipe, whose denoiser read no words.
"""

import argparse
import json
import random
from collections import Counter
from pathlib import Path

import torch
from data import HERE, WORK, caption, random_scene
from evaluate import pictures, recall, sheet
from safetensors.torch import save_file

KINDS = {"single": 20, "background": 12, "colour": 12, "two": 12, "style": 4}
ROWS = {
    "drawing": ["experiment=drawing"],
    "drawing-unguided": ["experiment=drawing", "loss.alpha=0"],
}


def prompts(args):
    """Draw scenes and their captions; combinations were held out of training."""
    rng, rows = random.Random(f"naming {args.seed}"), []
    for kind, n in KINDS.items():
        for _ in range(n):
            scene = random_scene(rng, kind, held=kind != "single")
            scene["set"] = int(scene["style"] == 1)
            rows.append({"kind": kind, "prompt": caption(scene, rng, plain=True), "scene": scene})
    args.place.mkdir(parents=True, exist_ok=True)
    (args.place / "prompts.json").write_text(json.dumps(rows, indent=1) + "\n")


def asked(place):
    """The rows of prompts.json."""
    return json.loads((place / "prompts.json").read_text())


def draw(args):
    rows = asked(args.place)
    setting = args.row if args.row in ("prior", "ceiling") else "default"
    overrides = [*ROWS.get(args.row, []), *args.override]
    texts = [row["prompt"] for row in rows]
    images = pictures(setting, [row["scene"] for row in rows], texts, args.work, overrides)
    order = list(range(len(rows)))
    random.Random(f"{args.salt} {args.row}").shuffle(order)
    key = args.work / "sealed" / f"naming-{args.row}.json"
    key.parent.mkdir(parents=True, exist_ok=True)
    key.write_text(json.dumps({"overrides": overrides, "judge": recall(images, texts), "order": order}) + "\n")
    save_file({"images": images.half().contiguous()}, key.with_suffix(".safetensors"))
    sheet(images[order], columns=10, scale=args.scale).save(args.place / f"{args.row}.jpg", quality=90)
    print(args.place / f"{args.row}.jpg")


def open_key(args):
    rows = asked(args.place)
    key = json.loads((args.work / "sealed" / f"naming-{args.row}.json").read_text())
    names = json.loads((args.place / f"{args.row}.json").read_text())
    found = {n + 1: rows[i] | {"named": names[str(n + 1)], "right": None} for n, i in enumerate(key["order"])}
    for n, row in found.items():
        del row["scene"]
        print(f"{n:>3}  {row['kind']:10}  {row['prompt']:48}  {row['named']}")
    opened = {"overrides": key["overrides"], "judge": key["judge"], "pictures": found}
    (args.place / f"{args.row}.opened.json").write_text(json.dumps(opened, indent=1, ensure_ascii=False) + "\n")


def table(args):
    kinds = Counter(row["kind"] for row in asked(args.place))
    heads = [*(f"{kind} ({n})" for kind, n in kinds.items()), "all", "R@1", "R@5"]
    print(f"| row | {' | '.join(heads)} |\n|{' --- |' * (len(heads) + 1)}")
    for path in sorted(args.place.glob("*.opened.json")):
        opened = json.loads(path.read_text())
        right = [row["kind"] for row in opened["pictures"].values() if row["right"]]
        counts = [*(right.count(kind) for kind in kinds), len(right), opened["judge"]["R@1"], opened["judge"]["R@5"]]
        print(f"| {path.name.removesuffix('.opened.json')} | {' | '.join(map(str, counts))} |")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", type=Path, default=WORK)
    p.add_argument("--place", type=Path, default=HERE / "results" / "naming_60")
    commands = p.add_subparsers(required=True)
    for name, function in (("prompts", prompts), ("draw", draw), ("open", open_key), ("table", table)):
        c = commands.add_parser(name)
        c.set_defaults(function=function)
        if name == "prompts":
            c.add_argument("--seed", type=int, default=602)
        if name in ("draw", "open"):
            c.add_argument("row")
        if name == "draw":
            c.add_argument("--override", action="append", default=[], help="a config override for the engine")
            c.add_argument("--salt", default="", help="of the shuffle, so that nobody can work the order out")
            c.add_argument("--scale", type=int, default=2)
    args = p.parse_args()
    args.function(args)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
