"""Draw the ten pictures that the study edits, and their masks: plain shapes of our own, no model behind them.

python experiments/editing/draw.py
"""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter

HERE = Path(__file__).parent
SIDE, FINE = 128, 4  # drawn at four times the size, for smooth edges


def shapes(draw: ImageDraw.ImageDraw, name: str, colour: str) -> None:
    """One object in the middle of a unit square, in thousandths."""

    def oval(x0, y0, x1, y1, fill=colour):
        draw.ellipse([v * SIDE * FINE / 1000 for v in (x0, y0, x1, y1)], fill=fill)

    def area(*points, fill=colour):
        draw.polygon([(x * SIDE * FINE / 1000, y * SIDE * FINE / 1000) for x, y in points], fill=fill)

    def box(x0, y0, x1, y1, fill=colour):
        area((x0, y0), (x1, y0), (x1, y1), (x0, y1), fill=fill)

    if name == "apple":
        oval(230, 300, 560, 800), oval(440, 300, 770, 800), box(485, 180, 515, 340, "saddlebrown")
        oval(510, 190, 680, 280, "forestgreen")
    elif name == "star":
        corners = [(0.38 if i % 2 else 0.9, math.pi * (i / 5 - 0.5)) for i in range(10)]
        area(*((500 + 400 * r * math.cos(a), 520 + 400 * r * math.sin(a)) for r, a in corners))
    elif name == "heart":
        oval(200, 220, 520, 540), oval(480, 220, 800, 540), area((222, 450), (778, 450), (500, 830))
    elif name == "moon":
        oval(220, 180, 800, 800), oval(400, 120, 900, 680, "midnightblue")
    elif name == "tree":
        box(450, 600, 550, 860, "saddlebrown"), oval(240, 160, 760, 680)
    elif name == "house":
        box(260, 460, 740, 840), area((200, 480), (500, 180), (800, 480), fill="firebrick")
        box(450, 620, 550, 840, "saddlebrown"), box(320, 540, 410, 630, "lightyellow")
        box(590, 540, 680, 630, "lightyellow")
    elif name == "fish":
        oval(160, 340, 680, 680), area((640, 510), (860, 360), (860, 660)), oval(250, 440, 310, 500, "white")
        oval(268, 458, 296, 486, "black")
    elif name == "mushroom":
        box(420, 500, 580, 840, "bisque")
        draw.pieslice([v * SIDE * FINE / 1000 for v in (180, 200, 820, 840)], 180, 360, fill=colour)
        oval(300, 330, 390, 420, "white"), oval(470, 260, 560, 350, "white"), oval(620, 350, 700, 430, "white")
    elif name == "balloon":
        oval(290, 130, 710, 630), area((470, 680), (530, 680), (500, 615)), box(495, 670, 505, 900, "black")
    elif name == "cup":
        oval(620, 400, 860, 680), oval(680, 450, 800, 630, "wheat"), box(260, 340, 700, 780)
        oval(260, 290, 700, 390, "sienna")


#: Name → colour of the object, colour of the ground.
PICTURES = {
    "apple": ("gold", "whitesmoke"),
    "star": ("silver", "midnightblue"),
    "heart": ("hotpink", "whitesmoke"),
    "moon": ("khaki", "midnightblue"),
    "tree": ("forestgreen", "skyblue"),
    "house": ("tan", "palegreen"),
    "fish": ("orange", "lightcyan"),
    "mushroom": ("firebrick", "wheat"),
    "balloon": ("royalblue", "whitesmoke"),
    "cup": ("steelblue", "wheat"),
}


def main() -> None:
    folder = HERE / "inputs"
    folder.mkdir(exist_ok=True)
    for name, (colour, ground) in PICTURES.items():
        size = (SIDE * FINE, SIDE * FINE)
        picture = Image.new("RGB", size, ground)
        shapes(ImageDraw.Draw(picture), name, colour)
        picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(folder / f"{name}.png")
        # The mask: the object, grown by nine pixels.
        drawn = ImageChops.difference(picture, Image.new("RGB", size, ground)).convert("L")
        drawn = drawn.point(lambda v: 255 * (v > 0))
        grown = drawn.resize((SIDE, SIDE)).filter(ImageFilter.MaxFilter(19))
        grown.point(lambda v: 255 * (v > 0)).save(folder / f"{name}.mask.png")


if __name__ == "__main__":
    main()
