"""Do exclude, extras and the default's steps show? Pairs of pictures, seen blind by the eye, and by both judges.

    python pairs.py prompts --seed 701     results/pairs/prompts.json, by program; commit it before anything is drawn
    python pairs.py draw exclude           20 pairs: results/pairs/exclude.jpg, sides by chance; the key is sealed
    (one who has not seen the key writes results/pairs/exclude.json, {"1": "left", "2": "right", …})
    python pairs.py open exclude           who chose which

`exclude`: which has less of the word (the commonest colour of the prior's own picture)? `extras`: which is more as the
word says? `steps`: which shows its prompt better, the prior's picture or that after the default's steps?
"""

import argparse
import json
import random
import tempfile
from pathlib import Path

import torch
from data import COLOURS, HERE, PLACES, STYLES, WORK, caption, random_scene
from evaluate import QUIET, sheet, without_engine

from vqclip import run
from vqclip.io.pixels import read_image
from vqclip.runs.evaluate import Bench

PLACE = HERE / "results" / "pairs"
KINDS = ("exclude", "extras", "steps")
ASKED = {
    "exclude": "which has less {}?",
    "extras": "which is more: {}?",
    "steps": "which shows it better: {}?",
}
#: What people add to a prompt: a style's or a place's first wording, without the thing.
EXTRAS = [words[0].replace("{}", "").strip(" ,").removesuffix(" of") for words in (*STYLES.values(), *PLACES.values())]


def commonest_colour(image):
    """The chromatic colour nearest to most pixels of [3,H,W], where they are an eighth of all; else None."""
    names = [name for name in COLOURS if name not in ("white", "black", "gray")]
    palette = torch.tensor(list(COLOURS.values())) / 255
    nearest = (image.flatten(1).T[:, None] - palette).square().sum(2).argmin(1)
    share = {name: (nearest == list(COLOURS).index(name)).float().mean().item() for name in names}
    best = max(share, key=share.get)
    return best if share[best] > 1 / 8 else None


def prompts(args):
    """20 single things with a colour of theirs, 20 with an extra, 20 of all kinds."""
    rng, rows = random.Random(f"pairs {args.seed}"), {kind: [] for kind in KINDS}

    def draw(kind):
        scene = random_scene(rng, kind, held=kind != "single")
        return scene, caption(scene, rng, plain=True)

    while len(rows["exclude"]) < args.count:
        scene, text = draw("single")
        colour = commonest_colour(without_engine("prior", [scene], [text], args.work)[0])
        if colour and colour not in text:
            rows["exclude"].append({"prompt": text, "word": colour})
    rows["extras"] = [{"prompt": draw("single")[1], "word": rng.choice(EXTRAS)} for _ in range(args.count)]
    kinds = ["single"] * 8 + ["background"] * 4 + ["colour"] * 4 + ["two"] * 4
    texts = [draw(kinds[i % len(kinds)])[1] for i in range(args.count)]
    rows["steps"] = [{"prompt": text, "word": text} for text in texts]
    args.place.mkdir(parents=True, exist_ok=True)
    (args.place / "prompts.json").write_text(json.dumps(rows, indent=1) + "\n")


def pictures(texts, overrides):
    """Of a run: what it starts from and what it ends with, each [B,3,H,W]."""
    with tempfile.TemporaryDirectory() as folder:
        done = run(texts, [*QUIET, "snapshot_every=1000", *overrides], Path(folder) / "run")
        starts = sorted(done.folder.glob("picture-*/steps/000000.png"))
        return torch.cat([read_image(path) for path in starts]), done.images


def both(kind, rows, overrides):
    """Without and with, [B,3,H,W] each: the word as exclude or extras, or the default's steps."""
    if kind == "steps":
        return pictures([row["prompt"] for row in rows], overrides)
    _, without = pictures([row["prompt"] for row in rows], overrides)
    having = [
        pictures([row["prompt"]], [*overrides, f"seed={i}", f'prompts.{kind}="{row["word"]}"'])[1]
        for i, row in enumerate(rows)  # picture i of a batch has seed i
    ]
    return without, torch.cat(having)


def draw(args):
    rows = json.loads((args.place / "prompts.json").read_text())[args.kind]
    without, having = both(args.kind, rows, args.override)
    bench = Bench(sorted({row["word"] for row in rows}))
    sides, shown = random.Random(f"{args.salt} {args.kind}"), []
    for row, a, b in zip(rows, without, having, strict=True):
        row["with"] = sides.choice(["left", "right"])
        shown += [b, a] if row["with"] == "left" else [a, b]
        for key, image in (("without", a), ("having", b)):
            row[key] = {name: o.similarity for name, o in bench.opinions(image[None], row["word"]).items()}
    key = args.work / "sealed" / f"pairs-{args.kind}.json"
    key.parent.mkdir(parents=True, exist_ok=True)
    key.write_text(json.dumps({"overrides": args.override, "pairs": rows}, indent=1) + "\n")
    sheet(torch.stack(shown), columns=8).save(args.place / f"{args.kind}.jpg", quality=88)
    for i, row in enumerate(rows):
        print(f"{i + 1} (pictures {2 * i + 1}, {2 * i + 2}) {ASKED[args.kind].format(row['word'])}  [{row['prompt']}]")


def open_key(args):
    key = json.loads((args.work / "sealed" / f"pairs-{args.kind}.json").read_text())
    chosen = json.loads((args.place / f"{args.kind}.json").read_text())
    for i, row in enumerate(key["pairs"]):
        row["eye"] = chosen[str(i + 1)]
    (args.place / f"{args.kind}.opened.json").write_text(json.dumps(key, indent=1) + "\n")
    table(args)


def table(args):
    """Who says of how many pairs that the words, or the steps, did what they should."""
    print("| | pairs | eye | judge | photo judge |\n| --- | --- | --- | --- | --- |")
    for path in sorted(args.place.glob("*.opened.json")):
        rows, kind = json.loads(path.read_text())["pairs"], path.name.removesuffix(".opened.json")
        turn = -1 if kind == "exclude" else 1
        eye = sum(row["eye"] == row["with"] for row in rows)
        same = sum(row["eye"] not in ("left", "right") for row in rows)
        cells = [f"{eye}" + (f", {same} no difference" if same else "")]
        for judge in rows[0]["having"]:
            change = [turn * (row["having"][judge] - row["without"][judge]) for row in rows]
            cells.append(f"{sum(c > 0 for c in change)} ({turn * sum(change) / len(change):+.3f})")
        print(f"| {kind} | {len(rows)} | {' | '.join(cells)} |")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", type=Path, default=WORK)
    p.add_argument("--place", type=Path, default=PLACE)
    commands = p.add_subparsers(required=True)
    for name, function in (("prompts", prompts), ("draw", draw), ("open", open_key), ("table", table)):
        c = commands.add_parser(name)
        c.set_defaults(function=function)
        if name == "prompts":
            c.add_argument("--seed", type=int, default=701)
            c.add_argument("--count", type=int, default=20)
        if name in ("draw", "open"):
            c.add_argument("kind", choices=KINDS)
        if name == "draw":
            c.add_argument("--override", action="append", default=[], help="a config override for the engine")
            c.add_argument("--salt", default="", help="of the sides, so that nobody can work them out")
    args = p.parse_args()
    args.function(args)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
