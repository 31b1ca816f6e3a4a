"""Draws docs/img/way.png, the data flow, from the files of one run:  python docs/draw.py"""

from __future__ import annotations

import csv
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from safetensors.numpy import load_file

TARGET = Path(__file__).parent / "img/way.png"
PROMPT = "an owl at night"
STEPS = 12
SIDE, SMALL, GAP, TOP = 128, 61, 6, 30
INK, GREY = (40, 40, 40), (130, 130, 130)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        run = Path(name)
        noisy = ["noise.factor=.3", "augmentations.crops.min=.4", "augmentations.crops.mean=.9"]
        command = [
            "vqclip",
            PROMPT,
            f"hydra.run.dir={run}",
            f"steps={STEPS}",
            "snapshot_every=1",
            "logger=none",
            *noisy,
        ]
        subprocess.run(command, check=True, capture_output=True)
        draw(run).save(TARGET, optimize=True)


def draw(run: Path) -> Image.Image:
    picture = run / "picture-00"
    sheet = Image.new("RGB", (930, 210), "white")
    pen = ImageDraw.Draw(sheet)
    left = 8
    left = place(
        sheet, pen, left, latent(picture / "latents.safetensors"), "latent [16,16,16]", "the one thing trained"
    )
    left = arrow(pen, left, "generator")
    left = place(sheet, pen, left, Image.open(picture / f"steps/{STEPS:06d}.png"), "image [3,128,128]", "in [0,1]")
    left = arrow(pen, left, "pad, turn,\ncrop, noise")
    crops = [Image.open(path) for path in sorted((picture / "crops").glob("*.png"))[1:9]]
    left = place(sheet, pen, left, grid(crops), "crops [16,3,64,64]", "one a step is shown")
    left = arrow(pen, left, "perceptor")
    place(sheet, pen, left, curve(run / "metrics.csv"), "cosine with the words", f'"{PROMPT}"')
    pen.line([(left + 60, 190), (left + 60, 202), (70, 202), (70, 190)], fill=GREY, width=2)
    pen.polygon([(65, 192), (75, 192), (70, 184)], fill=GREY)
    text(pen, (430, 188), "gradient: the latent is moved, and again", GREY)
    return sheet


def latent(path: Path) -> Image.Image:
    """The last latent, its three strongest directions as colours."""
    z = load_file(path)[f"{STEPS:06d}"].astype(np.float64)
    flat = z.reshape(z.shape[-3], -1)
    flat = flat - flat.mean(1, keepdims=True)
    directions = np.linalg.svd(flat, full_matrices=False)[0][:, :3]
    colours = (directions.T @ flat).reshape(3, *z.shape[-2:])
    low, high = colours.min((1, 2), keepdims=True), colours.max((1, 2), keepdims=True)
    pixels = ((colours - low) / (high - low) * 255).astype(np.uint8).transpose(1, 2, 0)
    return Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST)


def grid(pictures: list[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (4 * SMALL + 3 * GAP, 2 * SMALL + GAP), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture.resize((SMALL, SMALL)), (i % 4 * (SMALL + GAP), i // 4 * (SMALL + GAP)))
    return sheet


def curve(path: Path) -> Image.Image:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    values = [float(row[next(key for key in row if key.startswith("include"))] or "nan") for row in rows]
    values = [value for value in values if value == value]
    plot = Image.new("RGB", (SIDE, SIDE), (245, 243, 250))
    low, high = min(values), max(values)
    points = [
        (10 + i * (SIDE - 20) / (len(values) - 1), SIDE - 14 - (value - low) / (high - low) * (SIDE - 40))
        for i, value in enumerate(values)
    ]
    pen = ImageDraw.Draw(plot)
    pen.line(points, fill=(94, 53, 177), width=2)
    text(pen, (8, 4), f"{low:.2f} to {high:.2f}", GREY)
    return plot


def place(sheet: Image.Image, pen: ImageDraw.ImageDraw, left: int, picture: Image.Image, over: str, under: str) -> int:
    sheet.paste(picture.convert("RGB"), (left, TOP))
    text(pen, (left, 10), over, INK)
    text(pen, (left, TOP + SIDE + 6), under, GREY)
    return left + picture.width


def arrow(pen: ImageDraw.ImageDraw, left: int, label: str) -> int:
    middle = TOP + SIDE // 2
    pen.line([(left + 8, middle), (left + 70, middle)], fill=GREY, width=2)
    pen.polygon([(left + 70, middle - 5), (left + 70, middle + 5), (left + 79, middle)], fill=GREY)
    text(pen, (left + 9, middle - 16 - 12 * label.count("\n")), label, INK)
    return left + 87


def text(pen: ImageDraw.ImageDraw, at: tuple[int, int], words: str, colour: tuple[int, int, int]) -> None:
    pen.text(at, words, fill=colour, font=ImageFont.load_default(11))


if __name__ == "__main__":
    main()
