"""The pictures and captions that every stage trains on.

`python data.py` fetches the icon packages with npm, rasterises the concepts of `concepts.txt` and writes, in `work/`,
one small file per family: `icons_guide.safetensors` (generator, perceptor, prior), `icons_judge.safetensors` (judge:
other icon sets) and `icons_robust.safetensors` (the robust guide: the guide's and two more), each [sets, concepts, 4,
128, 128] uint8, premultiplied, the object centred, 112 pixels on its longer side.

A *scene* is a dict of integers (`random_scene`); `caption` words it and `Painter` draws a batch, canonical (one picture
per scene, the prior's target) or with random placement, flips and textures (perceptor, judge and generator).
"""

import argparse
import io
import json
import math
import random
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from places import place_svg
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
WORK = HERE / "work"
SIZE = 128

# Licences: noto, noto-v1 and fxemoji Apache-2.0, fluent MIT, twemoji, emojione and streamline-emojis CC-BY-4.0.
PACKAGES = {
    "noto": "@iconify-json/noto@1.2.9",
    "fluent-emoji-flat": "@iconify-json/fluent-emoji-flat@1.2.6",
    "fluent-emoji": "@iconify-json/fluent-emoji@1.2.7",
    "twemoji": "@iconify-json/twemoji@1.2.5",
    "emojione": "@iconify-json/emojione@1.2.3",
    "fxemoji": "@iconify-json/fxemoji@1.2.2",
    "noto-v1": "@iconify-json/noto-v1@1.2.5",
    "streamline-emojis": "@iconify-json/streamline-emojis@1.2.4",
    "emojibase": "emojibase-data@17.0.0",
}
FAMILIES = {
    "guide": ["noto", "fluent-emoji-flat", "fluent-emoji"],
    "judge": ["twemoji", "emojione", "fxemoji"],
    "robust": ["noto", "fluent-emoji-flat", "fluent-emoji", "noto-v1", "streamline-emojis"],
}
MISDRAWN = {("streamline-emojis", "turkey")}  # found by name, and something else: the country's flag

COLOURS = {
    "red": (222, 40, 40),
    "orange": (250, 140, 25),
    "yellow": (252, 215, 45),
    "green": (50, 165, 65),
    "blue": (40, 95, 225),
    "light blue": (120, 195, 250),
    "purple": (135, 60, 190),
    "pink": (250, 130, 185),
    "brown": (130, 80, 45),
    "black": (32, 32, 36),
    "white": (248, 248, 248),
    "gray": (140, 142, 146),
    "turquoise": (40, 200, 190),
}
COLOUR_WORDS = {
    "gray": ["gray", "grey"],
    "turquoise": ["turquoise", "teal", "cyan"],
    "light blue": ["light blue", "sky blue"],
    "purple": ["purple", "violet"],
    "brown": ["brown", "dark brown"],
    "red": ["red", "red", "dark red"],
    "yellow": ["yellow", "yellow", "golden"],
}
PLACES = {  # drawn backgrounds: the words for them, then the drawing (SVG, 128 × 128)
    "snow": ["in the snow", "on snow", "in winter", "in a snowy landscape"],
    "night": ["at night", "under the stars", "in the night sky", "by night"],
    "grass": ["on grass", "on the grass", "in a meadow", "in a green field", "in a park"],
    "beach": ["at the beach", "on the beach", "on the sand", "by the sea"],
    "water": ["underwater", "in the sea", "in the ocean", "in the water", "in water"],
    "desert": ["in the desert", "in a desert"],
    "forest": ["in the forest", "in a forest", "in the woods", "in the jungle"],
    "city": ["in the city", "in a city", "in town", "in front of a skyline"],
    "space": ["in space", "in outer space"],
    "sunset": ["at sunset", "at sunrise", "in the evening", "at dusk"],
    "mountains": ["in the mountains", "in front of mountains", "on a mountain"],
    "sky": ["in the sky", "in the clouds", "among clouds"],
    "rain": ["in the rain", "on a rainy day"],
    "room": ["in a room", "on the floor", "at home", "indoors"],
    "road": ["on the road", "on a road", "in the street", "on a street"],
}
BACKGROUNDS = [*COLOURS, *PLACES]
STYLES = {  # whole-picture drawing styles; "flat" and "3d" are icon sets of the guide, the others image operations
    "flat": ["{}, flat design", "flat {}", "{} in flat style", "{} as a flat icon"],
    "3d": ["{}, 3d render", "3d {}", "{} in 3d", "{}, clay"],
    "pencil": [
        "a pencil drawing of {}",
        "{}, pencil drawing",
        "a pencil sketch of {}",
        "{}, pencil",
        "a sketch of {}",
        "{}, charcoal",
    ],
    "outline": ["an outline of {}", "{}, line art", "{}, coloring page", "line drawing of {}", "{}, ink drawing"],
    "watercolor": [
        "a watercolor painting of {}",
        "{}, watercolor",
        "a watercolor of {}",
        "{} in watercolor",
        "a painting of {}",
    ],
    "pixel": ["pixel art of {}", "{}, pixel art", "{} in pixels", "8-bit {}"],
    "silhouette": ["a silhouette of {}", "{}, silhouette", "the shadow of {}"],
    "gray": ["a black and white photo of {}", "{}, black and white", "{} in grayscale", "{}, monochrome"],
    "neon": ["a neon sign of {}", "{}, neon", "neon {}", "{} in neon lights"],
}
STYLE_NAMES = ["none", *STYLES]
DEFECTS = {
    "blurry": ["{}, blurry", "blurry {}", "a blurry picture of {}", "{} out of focus"],
    "watermark": ["{}, watermark", "{} with a watermark", "{} with text over it"],
    "cropped": ["{}, cropped", "cropped {}", "{}, cut off", "a close-up of {}"],
    "noise": ["{}, noisy", "grainy {}", "{}, grainy", "{} with noise"],
    "paper": ["{}, watercolor paper", "{} on watercolor paper", "{} on paper", "{} on textured paper"],
}
DEFECT_NAMES = ["none", *DEFECTS]
LAYOUTS = ["single", "side by side", "one above the other"]


def concepts():
    """[(emojibase label, [names, the usual one first])] in the file's order."""
    lines = [line for line in (HERE / "concepts.txt").read_text().splitlines() if line and not line.startswith("#")]
    return [(label, [n.strip() for n in names.split(",")]) for label, names in (line.split(": ", 1) for line in lines)]


CONCEPTS = concepts()
NAMES = [names for _, names in CONCEPTS]


# ------------------------------------------------------------------------------------ icons


def fetch(folder):
    """Unpack every package under folder/<short name>/package."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, package in PACKAGES.items():
        if (folder / name / "package" / "package.json").exists():
            continue
        print("npm pack", package, flush=True)
        out = subprocess.run(
            ["npm", "pack", package, "--json"], cwd=folder, check=True, capture_output=True, text=True
        ).stdout
        with tarfile.open(folder / json.loads(out)[0]["filename"]) as tar:
            tar.extractall(folder / name, filter="data")


def rasterise(svg):
    """SVG text to [4, 128, 128] uint8, premultiplied: the drawing's own box, its longer side 112 pixels."""
    import resvg_py

    image = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=256, height=256)))).convert("RGBA")
    a = np.asarray(image).astype(np.float32) / 255
    a[..., :3] *= a[..., 3:]
    rows, columns = np.where(a[..., 3].max(1) > 0.05)[0], np.where(a[..., 3].max(0) > 0.05)[0]
    a = a[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    h, w = a.shape[:2]
    scale = 112 / max(h, w)
    x = torch.from_numpy(a).permute(2, 0, 1)[None]
    x = F.interpolate(x, size=(max(1, round(h * scale)), max(1, round(w * scale))), mode="bilinear", antialias=True)
    h, w = x.shape[-2:]
    canvas = torch.zeros(4, SIZE, SIZE)
    top, left = (SIZE - h) // 2, (SIZE - w) // 2
    canvas[:, top : top + h, left : left + w] = x[0]
    return (canvas.clamp(0, 1) * 255).round().to(torch.uint8)


def icon_set(folder, name, hexcodes):
    """{concept index: [4,128,128]} of one package; icons are found by code point, else by name."""
    package = folder / name / "package"
    data = json.loads((package / "icons.json").read_text())
    chars = json.loads((package / "chars.json").read_text())
    icons, aliases = data["icons"], data.get("aliases", {})
    found = {}
    for index, (label, names) in enumerate(CONCEPTS):
        code = hexcodes[label].lower()
        words = label.lower().replace(" ", "-")
        keys = [
            chars.get(code),
            chars.get(code.replace("-fe0f", "")),
            words,
            *(w.replace("-", "").replace(" ", "") for w in (words, *names)),
        ]
        keys = [aliases.get(k, {}).get("parent", k) for k in keys]
        key = next((k for k in keys if k in icons), None)
        if key and (name, label) not in MISDRAWN:
            icon = icons[key]
            width, height = (icon.get(k, data.get(k, 16)) for k in ("width", "height"))
            box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
            body = icon["body"].replace("currentColor", "#333")
            found[index] = rasterise(
                f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="{box}">{body}</svg>'
            )
    print(f"{name}: {len(found)} of {len(CONCEPTS)}", flush=True)
    return found


def build(work=WORK):
    fetch(work / "npm")
    base = json.loads((work / "npm/emojibase/package/en/data.json").read_text())
    hexcodes = {entry["label"]: entry["hexcode"] for entry in base}
    unknown = [label for label, _ in CONCEPTS if label not in hexcodes]
    if unknown:
        raise SystemExit(f"concepts.txt: emojibase has no label {unknown}")
    for family, sets in FAMILIES.items():
        found = [icon_set(work / "npm", name, hexcodes) for name in sets]
        stack = torch.zeros(len(sets), len(CONCEPTS), 4, SIZE, SIZE, dtype=torch.uint8)
        missing = []
        for c in range(len(CONCEPTS)):
            have = [f[c] for f in found if c in f]
            if not have:
                missing.append(CONCEPTS[c][0])
                continue
            for s, f in enumerate(found):
                stack[s, c] = f.get(c, have[0])  # a set without this concept borrows the family's first drawing of it
        if missing:
            raise SystemExit(f"{family}: no drawing of {missing}")
        save_file({"icons": stack}, work / f"icons_{family}.safetensors")


def load_icons(family, work=WORK):
    return load_file(work / f"icons_{family}.safetensors")["icons"]


# ------------------------------------------------------------------------------------ backgrounds


def backgrounds():
    """[len(BACKGROUNDS), 3, 128, 128] in [0,1]: the plain colours, then the drawn places."""
    import resvg_py

    plain = torch.tensor(list(COLOURS.values()))[:, :, None, None].expand(-1, 3, SIZE, SIZE) / 255
    pngs = [bytes(resvg_py.svg_to_bytes(svg_string=place_svg(p), width=SIZE, height=SIZE)) for p in PLACES]
    drawn = [Image.open(io.BytesIO(png)).convert("RGB") for png in pngs]
    return torch.cat(
        [plain, torch.stack([torch.from_numpy(np.asarray(d).copy()).permute(2, 0, 1) / 255 for d in drawn])]
    )


def watermark():
    """[1, 256, 256] in [0,1]: tiled slanted text."""
    tile = Image.new("L", (512, 512))
    pen, font = ImageDraw.Draw(tile), ImageFont.load_default(size=17)
    for row in range(20):
        for column in range(8):
            pen.text((column * 84 - (row % 2) * 42, row * 34), "SAMPLE", fill=255, font=font)
    return torch.from_numpy(np.asarray(tile.rotate(30).crop((128, 128, 384, 384))).copy())[None] / 255


# ------------------------------------------------------------------------------------ scenes and captions


def held_out(kind, a, b):
    """Combinations that no model trains on: an eighth of all pairs (object, background | colour | style | object)."""
    if kind == "pair":
        a, b = min(a, b), max(a, b)
    return (a * 7919 + b * 104729 + len(kind) * 31) % 8 == 0


WHITE = BACKGROUNDS.index("white")
KINDS = ["single", "background", "colour", "two", "style"]


def random_scene(rng, kind=None, held=False, sets=1, defects=0.0):
    """One scene: a dict of integers (indices; -1 = none). `held`: of a combination that was kept out of training.

    `sets` > 1 draws plain scenes from any of the icon sets; `defects` is the share of scenes with a defect or paper.
    """
    while True:
        k = kind or rng.choices(KINDS, (24, 24, 16, 24, 12))[0]
        s = dict(
            objects=[rng.randrange(len(CONCEPTS)), -1],
            colours=[-1, -1],
            background=WHITE,
            layout=0,
            style=0,
            defect=0,
            set=rng.randrange(sets),
            kind=k,
        )
        a = s["objects"][0]
        checks = []
        if k == "background" or (k in ("colour", "two") and not kind and rng.random() < 0.25):
            s["background"] = rng.randrange(len(BACKGROUNDS))
            if s["background"] == WHITE and kind:
                continue
            checks.append(("background", a, s["background"]))
        if k == "two":
            b = rng.randrange(len(CONCEPTS)) if kind or rng.random() > 0.3 else a
            s["objects"][1], s["layout"] = b, rng.choice([1, 1, 2])
            checks.append(("pair", a, b))
            if s["background"] != WHITE:
                checks.append(("background", b, s["background"]))
        for i in range(2):
            if s["objects"][i] >= 0 and (
                (k == "colour" and i == 0) or (k in ("two", "background") and not kind and rng.random() < 0.2)
            ):
                s["colours"][i] = rng.randrange(len(COLOURS))
                checks.append(("colour", s["objects"][i], s["colours"][i]))
        if s["background"] != WHITE and s["background"] < len(COLOURS) and s["background"] in s["colours"]:
            continue  # a blue cat on blue is no picture of a cat
        if k == "style" or (not kind and k != "single" and rng.random() < 0.06):
            s["style"] = rng.randrange(1, len(STYLE_NAMES))
            if STYLE_NAMES[s["style"]] in ("flat", "3d"):
                s["set"] = {"flat": 1, "3d": 2}[STYLE_NAMES[s["style"]]] if sets != 0 else 0
            checks.append(("style", a, s["style"]))
        if rng.random() < defects:
            s["defect"] = rng.randrange(1, len(DEFECT_NAMES))
        held_now = [held_out(*c) for c in checks]
        if (held and not any(held_now)) or (not held and any(held_now)):
            continue
        return s


def _article(words, rng, plain):
    if (words.split()[-1].endswith("s") and not words.endswith("ss")) or words.split()[0] in ("santa", "one"):
        return words
    return (
        ("an " if words[0] in "aeiou" else "a ") + words
        if plain or rng.random() < 0.8
        else rng.choice(["the " + words, words, "one " + words])
    )


def _plural(words):
    if words.endswith("s") or " of " in words:
        return words
    special = {
        "mouse": "mice",
        "fish": "fish",
        "sheep": "sheep",
        "deer": "deer",
        "man": "men",
        "woman": "women",
        "wolf": "wolves",
        "tooth": "teeth",
    }
    if words in special:
        return special[words]
    return (
        words + "es"
        if words.endswith(("x", "ch", "sh"))
        else words[:-1] + "ies"
        if words.endswith("y") and words[-2] not in "aeiou"
        else words + "s"
    )


def caption(scene, rng, plain=False, bare=0.0):
    """Words for a scene. `plain`: the usual name and the plainest wording (the evaluation's prompts).

    `bare`: how often a defect is all that is said, as exclude and extras say it.
    """
    if bare and scene["defect"] and rng.random() < bare:
        return rng.choice(DEFECTS[DEFECT_NAMES[scene["defect"]]]).replace("{}", "").strip(" ,")

    def pick(options):
        return options[0] if plain else rng.choice(options)

    def usual(names):
        return names[0] if plain or rng.random() < 0.5 else rng.choice(names)

    def colour_word(c):
        return pick(COLOUR_WORDS.get(list(COLOURS)[c], [list(COLOURS)[c]]))

    def article(words):
        return _article(words, rng, plain)

    named = [
        (colour_word(c) + " " if c >= 0 else "") + usual(NAMES[o])
        for o, c in zip(scene["objects"], scene["colours"], strict=True)
        if o >= 0
    ]
    a = article(named[0])
    text = a
    if scene["objects"][1] >= 0:
        b = article(named[1])
        if scene["objects"][0] == scene["objects"][1] and scene["colours"][0] == scene["colours"][1]:
            text = pick([f"two {_plural(named[0])}", f"two {_plural(named[0])}", f"2 {_plural(named[0])}"])
            text += ", one above the other" if scene["layout"] == 2 else ""
        elif scene["layout"] == 1:
            text = pick(
                [
                    f"{a} and {b}",
                    f"{a} and {b}",
                    f"{a} next to {b}",
                    f"{a} beside {b}",
                    f"{a} with {b}",
                    f"{a}, {b}",
                    f"{a} & {b}",
                ]
            )
        else:
            text = pick(
                [
                    f"{a} above {b}",
                    f"{a} on top of {b}",
                    f"{a} over {b}",
                    f"{b} below {a}",
                    f"{b} under {a}",
                    f"{b} beneath {a}",
                ]
            )
    background = scene["background"]
    if background < len(COLOURS):
        if background != WHITE or (rng.random() < 0.04 and not plain):
            c = colour_word(background)
            an = "an" if c[0] in "aeiou" else "a"
            text = pick(
                [
                    f"{text} on {an} {c} background",
                    f"{text} on {an} {c} background",
                    f"{text} with {an} {c} background",
                    f"{text}, {c} background",
                    f"{text} on {c}",
                    f"{text} against {an} {c} wall",
                    f"{text} in front of {an} {c} background",
                ]
            )
    else:
        text += ("" if plain or rng.random() < 0.85 else ",") + " " + pick(PLACES[BACKGROUNDS[background]])
    if not plain and rng.random() < 0.3:
        text = rng.choice(
            [
                "a picture of {}",
                "a drawing of {}",
                "an illustration of {}",
                "a photo of {}",
                "an icon of {}",
                "{}, illustration",
                "{} clipart",
                "an image of {}",
            ]
        ).format(text)
    if scene["style"]:
        text = pick(STYLES[STYLE_NAMES[scene["style"]]]).format(text)
    if scene["defect"]:
        text = pick(DEFECTS[DEFECT_NAMES[scene["defect"]]]).format(text)
    if not plain and rng.random() < 0.15:
        text = rng.choice([text.capitalize(), text + ".", text.title(), "cute " + text, "beautiful " + text])
    return text


def token_ids():
    """The openai-clip ids that the small vocabulary keeps, ascending: bytes, commonest merges, all words in use."""
    from vqclip.models.tokenizer import simple_tokenizer

    tokenizer, rng = simple_tokenizer(), random.Random(0)
    texts = [caption(random_scene(rng, defects=0.2), rng) for _ in range(8000)]
    texts += [f"{name} {_plural(name)}" for names in NAMES for name in names] + [
        w for words in COLOUR_WORDS.values() for w in words
    ]
    texts += [
        w.replace("{}", "") for options in (*STYLES.values(), *DEFECTS.values(), *PLACES.values()) for w in options
    ]
    kept = {*range(512 + 1000), tokenizer.encoder["<|startoftext|>"], tokenizer.encoder["<|endoftext|>"]}
    for text in texts:
        kept.update(tokenizer.encode(text))
    return torch.tensor(sorted(kept))


# ------------------------------------------------------------------------------------ drawing


def blur(x, sigma):
    """Gaussian blur of [B,C,H,W], edges replicated."""
    r = max(1, math.ceil(2.5 * sigma))
    k = torch.exp(-0.5 * (torch.arange(-r, r + 1, device=x.device) / sigma) ** 2)
    k = (k / k.sum()).to(x.dtype)
    c = x.shape[1]
    x = F.conv2d(F.pad(x, (r, r, 0, 0), mode="replicate"), k.view(1, 1, 1, -1).expand(c, 1, 1, -1), groups=c)
    return F.conv2d(F.pad(x, (0, 0, r, r), mode="replicate"), k.view(1, 1, -1, 1).expand(c, 1, -1, 1), groups=c)


def luminance(x):
    return x[:, :1] * 0.3 + x[:, 1:2] * 0.59 + x[:, 2:3] * 0.11


def recolour(layer, colour):
    """Tint premultiplied layers [B,4,H,W] with colours [B,3] in [0,1]: dark stays dark, highlights go white."""
    alpha = layer[:, 3:]
    light = luminance(layer[:, :3] / alpha.clamp_min(1e-3))
    mean = (light * alpha).sum((2, 3), keepdim=True) / alpha.sum((2, 3), keepdim=True).clamp_min(1)
    t = light / mean.clamp_min(0.15)
    c = colour[:, :, None, None]
    shade = t.clamp(max=1).pow(0.8)
    tint = ((t - 1.1) / (1 / mean.clamp_min(0.15) - 1).clamp_min(0.25)).clamp(0, 0.9)
    return torch.cat([(c * shade * (1 - tint) + tint) * alpha, alpha], 1)


class Painter:
    """Draws batches of scenes on a device.

    `icons` [sets, concepts, 4, 128, 128] uint8. Canonical drawing: a single object fills 112 of 128 pixels; each of two
    objects fills 56 in a half of the picture, so that at f = 8 it moves by whole latents. `size` 64 draws everything at
    half the resolution (four times as fast).
    """

    def __init__(self, icons, device="cpu", size=SIZE):
        self.device, self.size, self.unit = device, size, size / SIZE
        self.icons = self._shrink(icons).to(device)
        self.backgrounds = F.adaptive_avg_pool2d(backgrounds(), size).to(device)
        self.watermark = F.adaptive_avg_pool2d(watermark(), 2 * size).to(device)
        g = torch.Generator().manual_seed(5)
        noise = torch.randn(1, 1, 256, 256, generator=g)
        paper = blur(noise, 1.2) * 3.4 + blur(noise.roll(77, 2), 3) * 4
        self.paper = (paper / paper.std())[0].to(device)
        wash = blur(noise.roll(31, 3), 9)
        self.wash = (wash / wash.std())[0].to(device)
        self.palette = (torch.tensor(list(COLOURS.values())) / 255).to(device)

    def _shrink(self, icons):
        if self.size == SIZE:
            return icons
        return torch.stack([F.adaptive_avg_pool2d(i.float(), self.size).round().to(torch.uint8) for i in icons])

    def layers(self, scenes):
        """Recoloured objects [B,2,4,S,S], each on its own canvas at the single object's size; absent ones are empty."""
        sets = torch.tensor([s["set"] for s in scenes], device=self.device)
        out = torch.zeros(len(scenes), 2, 4, self.size, self.size, device=self.device)
        for i in range(2):
            objects = torch.tensor([s["objects"][i] for s in scenes], device=self.device)
            here = objects >= 0
            layer = self.icons[sets[here], objects[here]].float() / 255
            colours = torch.tensor([s["colours"][i] for s in scenes], device=self.device)[here]
            tinted = colours >= 0
            if tinted.any():
                layer[tinted] = recolour(layer[tinted], self.palette[colours[tinted]])
            out[here, i] = layer
        return out

    def place(self, layers, scenes, rng=None):
        """Object layers onto picture layers [B,2,4,S,S]. `rng` (torch.Generator): random scale, place, tilt, mirror."""
        layout = torch.tensor([s["layout"] for s in scenes], device=self.device)
        b = len(scenes)
        scale = torch.where(layout > 0, 0.5, 1.0)
        shift = torch.zeros(b, 2, 2, device=self.device)  # object, (x, y) in [-1,1]
        shift[layout == 1] = torch.tensor([[-0.5, 0.0], [0.5, 0.0]], device=self.device)
        shift[layout == 2] = torch.tensor([[0.0, -0.5], [0.0, 0.5]], device=self.device)
        if rng is None:
            out = torch.zeros_like(layers)
            single = layout == 0
            out[single] = layers[single]
            small = F.avg_pool2d(layers[~single].flatten(0, 1), 2).unflatten(0, (-1, 2))
            pair = torch.zeros(small.shape[0], 2, 4, self.size, self.size, device=self.device)
            half, quarter = self.size // 2, self.size // 4
            for row, kind in enumerate(layout[~single].tolist()):
                places = ((quarter, 0), (quarter, half)) if kind == 1 else ((0, quarter), (half, quarter))
                for i, (y, x) in enumerate(places):
                    pair[row, i, :, y : y + half, x : x + half] = small[row, i]
            out[~single] = pair
            return out

        def r(*shape):
            return torch.rand(*shape, generator=rng, device=rng.device).to(self.device)

        out = torch.zeros_like(layers)
        for i in range(2):
            here = torch.tensor([s["objects"][i] >= 0 for s in scenes], device=self.device)
            s = scale * torch.where(layout > 0, 0.75 + 0.4 * r(b), 0.62 + 0.48 * r(b))
            angle = (r(b) - 0.5) * 0.5
            mirror = torch.where(r(b) < 0.5, -1.0, 1.0)
            at = shift[:, i] + (r(b, 2) - 0.5) * 0.2 * torch.where(layout > 0, 0.6, 1.0)[:, None]
            cos, sin = angle.cos() / s, angle.sin() / s
            theta = torch.stack([torch.stack([mirror * cos, mirror * sin], 1), torch.stack([-sin, cos], 1)], 1)
            theta = torch.cat([theta, -(theta @ at[:, :, None])], 2)
            grid = F.affine_grid(theta, [b, 4, self.size, self.size], align_corners=False)
            small = s < 0.7
            for mask, shrink in ((here & small, True), (here & ~small, False)):
                if mask.any():
                    source = F.avg_pool2d(layers[mask, i], 2) if shrink else layers[mask, i]
                    out[mask, i] = F.grid_sample(source, grid[mask], padding_mode="zeros", align_corners=False)
        return out

    def draw(self, scenes, rng=None):
        """Pictures [B,3,S,S] in [0,1]. `rng`: a torch.Generator for placement and textures; None draws canonically."""
        placed = self.place(self.layers(scenes), scenes, rng)
        index = torch.tensor([s["background"] for s in scenes], device=self.device)
        image = self.backgrounds[index].clone()
        if rng is not None:
            flip = (torch.rand(len(scenes), generator=rng, device=rng.device) < 0.5).to(self.device)
            image[flip] = image[flip].flip(3)
            plain = (index < len(COLOURS)) & (index != WHITE)
            image[plain] = (
                image[plain]
                + 0.12 * (torch.rand(int(plain.sum()), 3, 1, 1, generator=rng, device=rng.device).to(self.device) - 0.5)
            ).clamp(0, 1)
        image = placed[:, 0, :3] + image * (1 - placed[:, 0, 3:])
        two = torch.tensor([s["objects"][1] >= 0 for s in scenes], device=self.device)
        image[two] = placed[two, 1, :3] + image[two] * (1 - placed[two, 1, 3:])
        alpha = placed[:, :, 3].amax(1, keepdim=True)
        roll = [0, 0] if rng is None else torch.randint(0, 256, (2,), generator=rng, device=rng.device).tolist()
        paper, wash = (t.roll(roll, (1, 2))[:, : self.size, : self.size] for t in (self.paper, self.wash))
        styles = torch.tensor([s["style"] for s in scenes])
        for style in set(styles.tolist()):
            rows = (styles == style).nonzero()[:, 0]
            image[rows] = self.style(STYLE_NAMES[style], image[rows], alpha[rows], paper, wash)
        defects = torch.tensor([s["defect"] for s in scenes])
        for defect in set(defects.tolist()):
            rows = (defects == defect).nonzero()[:, 0]
            image[rows] = self.defect(DEFECT_NAMES[defect], image[rows], paper, roll, rng)
        return image.clamp(0, 1)

    def style(self, name, x, alpha, paper, wash):
        if name in ("none", "flat", "3d"):
            return x
        if name == "gray":
            return luminance(x).expand(-1, 3, -1, -1)
        if name == "silhouette":
            return x * 0 + (1 - alpha * 0.96)
        if name == "pixel":
            k = round(8 * self.unit)
            return ((F.avg_pool2d(x, k) * 7).round() / 7).repeat_interleave(k, 2).repeat_interleave(k, 3)
        smooth = blur(x, self.unit)
        dx, dy = smooth.diff(dim=3, prepend=smooth[..., :1]), smooth.diff(dim=2, prepend=smooth[..., :1, :])
        edge = ((dx**2 + dy**2).sum(1, keepdim=True).sqrt() * 6 * self.unit).clamp(0, 1)
        if name == "outline":
            return (1 - (edge * 1.6).clamp(0, 1)).expand(-1, 3, -1, -1)
        if name == "neon":
            glow = (edge * 1.5).clamp(0, 1)
            colour = x / x.amax(1, keepdim=True).clamp_min(0.2)
            return (colour * (glow + 0.5 * blur(glow, 3 * self.unit)) + 0.05).clamp(0, 1)
        light = luminance(x)
        if name == "pencil":
            dodge = (light + 0.04) / (blur(light, 5 * self.unit) + 0.04)
            grey = (0.55 * dodge.clamp(0, 1) ** 2 + 0.45 * (0.45 + 0.55 * light)) - 0.55 * edge
            return (grey + 0.05 * paper * (1 - light)).clamp(0, 1).expand(-1, 3, -1, -1)
        if name == "watercolor":
            soft = blur(x, 1.6 * self.unit)
            pale = 1 - (1 - soft) * (0.72 + 0.16 * wash)
            return (pale - 0.22 * edge * (1 - soft) + 0.025 * paper).clamp(0, 1)
        raise ValueError(name)

    def defect(self, name, x, paper, roll, rng):
        if name == "none":
            return x
        if name == "blurry":
            return blur(
                x, self.unit * (4 if rng is None else 2.5 + 3 * torch.rand(1, generator=rng, device=rng.device).item())
            )
        if name == "watermark":
            top, left = (int(r / 2 * self.unit) for r in roll)
            mark = self.watermark[:, top : top + self.size, left : left + self.size] * 0.6
            return x * (1 - mark) + 0.5 * mark
        if name == "cropped":
            side = int(70 * self.unit)
            top, left = side // 4, 0
            if rng is not None:
                top, left = torch.randint(0, self.size - side + 1, (2,), generator=rng, device=rng.device).tolist()
            return F.interpolate(
                x[:, :, top : top + side, left : left + side], size=(self.size, self.size), mode="bilinear"
            )
        if name == "noise":
            rng = rng or torch.Generator().manual_seed(0)
            return x + 0.16 * torch.randn(x.shape, generator=rng, device=rng.device).to(x.device)
        if name == "paper":
            tone = torch.tensor([0.97, 0.94, 0.87], device=x.device)[:, None, None]
            return (blur(x, 0.8 * self.unit) * 0.86 + 0.12) * tone + 0.03 * paper
        raise ValueError(name)


def grid(images, columns=8, pad=2):
    """[B,3,H,W] in [0,1] to one PIL picture, for looking."""
    from torchvision.utils import make_grid

    return Image.fromarray((make_grid(images, columns, pad) * 255).clamp(0, 255).byte().permute(1, 2, 0).numpy())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK)
    build(parser.parse_args().work)
