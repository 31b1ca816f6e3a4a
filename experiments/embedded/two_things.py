"""Two things out of noise, each in its half of the picture: naming.py's twelve prompts of two, split by program.

"A and B" stand side by side on 128×256, "A above B" one over the other on 256×128.

    python two_things.py     results/two_things: sheet.jpg, numbered and shuffled, and key.json

Two who had seen neither prompts nor concepts wrote named-1.json and named-2.json from the sheet.
"""

import json
import random
import tempfile

from data import HERE
from PIL import Image, ImageDraw, ImageFont

from vqclip import run

PLACE = HERE / "results" / "two_things"
PLACES = {" and ": ("[128,256]", "row"), " above ": ("[256,128]", "column")}


def drawn(folder):
    """Every prompt with its picture."""
    asked = json.loads((HERE / "results" / "naming_60" / "prompts.json").read_text())
    texts = [row["prompt"] for row in asked if row["kind"] == "two"]
    for word, (size, key) in PLACES.items():
        split = [text.split(word) for text in texts if word in text]
        include = ", ".join(f"{{{key}: [{', '.join(two)}]}}" for two in split)
        words = ["experiment=drawing", "logger=none", "callbacks=none", f"size={size}", f"prompts.include=[{include}]"]
        result = run(None, words, f"{folder}/{word.strip()}")
        yield from zip([word.join(two) for two in split], map(Image.open, result.pictures), strict=True)


def main():
    with tempfile.TemporaryDirectory() as folder:
        pictures = list(drawn(folder))
        random.Random("regions 1").shuffle(pictures)
        sheet = Image.new("RGB", (3 * 560, 4 * 560), "white")
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(20)
        for i, (_, picture) in enumerate(pictures):
            x, y = i % 3 * 560 + 10, i // 3 * 560 + 30
            sheet.paste(
                picture.convert("RGB").resize([2 * side for side in picture.size], Image.Resampling.LANCZOS), (x, y)
            )
            pen.text((x, y - 22), str(i + 1), fill="black", font=font)
    PLACE.mkdir(parents=True, exist_ok=True)
    sheet.resize((840, 1120), Image.Resampling.LANCZOS).save(PLACE / "sheet.jpg", quality=90)
    key = {str(i): text for i, (text, _) in enumerate(pictures, 1)}
    (PLACE / "key.json").write_text(json.dumps(key, indent=1) + "\n")


if __name__ == "__main__":
    main()
