"""Makes every picture of the docs and the README by the commands that stand above them.

    python docs/pictures.py                    all of them, some minutes on two cores
    python docs/pictures.py docs/cookbook.md   those of one page
    python docs/pictures.py docs/cookbook.md 3 one of them

A page says what a picture shows in a remark between the commands and the picture:

    <!-- picture: best -->       the best snapshot of every picture that the commands made
    <!-- picture: steps -->      the snapshots of the last run's first picture, in order
    <!-- picture: frames -->     frames of the last video, evenly spaced
    <!-- picture: sweep -->      the sweep's sheet
    <!-- picture: page -->       the sweep's page, as a browser shows it
    <!-- picture: edit:FILE -->  FILE and the best snapshot beside it

The commands run in a folder of their own that holds nothing but `experiments` and `docs`.  Nothing is picked or
retouched.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

REPO = Path(__file__).parent.parent
PAGES = ("README.md", "docs/cookbook.md")
#: Pictures that no command line makes: drawn by `draw.py` beside this file.
DRAWN = ("way.png",)
_BLOCK = re.compile(
    r"```bash\n(?P<commands>(?:(?!```).)*?)```\s*<!-- picture: (?P<shows>\S+) -->\s*!\[[^\]]*\]\((?P<target>[^)]+)\)",
    re.DOTALL,
)
SIDE = 128  #: pixels of a picture in a strip
GAP = 6
WIDTH = 960  #: of a strip, at most


@dataclass(frozen=True)
class Shown:
    """A picture of a page and the commands that make it."""

    page: Path
    commands: str
    shows: str
    target: Path


def shown_in(page: Path) -> list[Shown]:
    return [
        Shown(page, match["commands"], match["shows"], page.parent / match["target"])
        for match in _BLOCK.finditer(page.read_text())
    ]


def make(picture: Shown) -> None:
    """Run the commands in an empty folder and put together what they made."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("experiments", "docs"):
            (folder / part).symlink_to(REPO / part)
        environment = os.environ | {"VQCLIP_OFFLINE": "1", "WANDB_MODE": "offline"}
        done = subprocess.run(
            ["bash", "-euc", picture.commands], cwd=folder, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{picture.page.name}: {picture.commands}\n{done.stderr}")
        tiles = list(tiles_of(picture.shows, folder))
        result = tiles[0] if len(tiles) == 1 else strip(tiles)
        save(result, picture.target)


def tiles_of(shows: str, folder: Path) -> Iterator[Image.Image]:
    if shows == "sweep":
        yield Image.open(sorted(folder.glob("multirun/**/compare.png"))[-1]).convert("RGB")
    elif shows == "page":
        yield screenshot(sorted(folder.glob("multirun/**/compare.html"))[-1], folder / "page.png")
    elif shows == "frames":
        yield from frames(max(folder.glob("outputs/**/*.mp4"), key=os.path.getmtime), 7)
    elif shows == "steps":
        run = max(folder.glob("outputs/**/run.json"), key=os.path.getmtime).parent
        for path in sorted((run / "picture-00/steps").glob("*.png")):
            yield Image.open(path).convert("RGB")
    else:
        if shows.startswith("edit:"):
            yield Image.open(folder / shows.removeprefix("edit:")).convert("RGB").resize((SIDE, SIDE))
        for path in sorted(folder.glob("outputs/**/picture-*/best.png")):
            yield Image.open(path).convert("RGB")


def frames(video: Path, count: int) -> list[Image.Image]:
    import av

    with av.open(str(video)) as container:
        every = [frame.to_image() for frame in container.decode(video=0)]
    return [every[round(i * (len(every) - 1) / (count - 1))] for i in range(count)]


def screenshot(page: Path, target: Path) -> Image.Image:
    """A page opened from the disk, as it first shows itself."""
    import shutil

    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1100, "height": 640})
        tab.goto(page.as_uri())
        tab.wait_for_timeout(500)
        tab.screenshot(path=target)
        browser.close()
    return Image.open(target).convert("RGB")


def strip(tiles: list[Image.Image]) -> Image.Image:
    """Pictures beside one another, white between them."""
    tiles = [tile.resize((round(tile.width * SIDE / tile.height), SIDE)) for tile in tiles]
    sheet = Image.new("RGB", (sum(t.width for t in tiles) + GAP * (len(tiles) - 1), SIDE), "white")
    left = 0
    for tile in tiles:
        sheet.paste(tile, (left, 0))
        left += tile.width + GAP
    return sheet


def save(picture: Image.Image, target: Path) -> None:
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    picture.save(target, quality=88, optimize=True)
    print(f"{target.relative_to(REPO)}  {target.stat().st_size // 1024} KB", flush=True)


def main(argv: list[str]) -> None:
    pages = [REPO / argv[0]] if argv else [REPO / page for page in PAGES]
    for page in pages:
        pictures = shown_in(page)
        for picture in pictures if len(argv) < 2 else [pictures[int(number) - 1] for number in argv[1:]]:
            make(picture)


if __name__ == "__main__":
    main(sys.argv[1:])
