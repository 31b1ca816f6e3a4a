"""Each attack on an older checkout and on this one: what is found after it there, and here; into before.csv.

    git worktree add --detach ../old 0ca2121
    python experiments/reliability/before.py ../old                      # all
    python experiments/reliability/before.py ../old --only link page     # these by a word; the other rows stay

Each tree draws a run of its own, which is then tampered with in that tree's own form (PNG record, config.yaml, folder)
and handed to that tree's own command line.  What counts is what is found afterwards: see ``Case.harm``.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml
from attacks import ATTACKS, SMALL
from PIL import Image
from PIL.PngImagePlugin import PngInfo

ROOT = Path(__file__).resolve().parents[2]
SECRET = "tell-nobody"
#: ``python -m vqclip`` in a process of its own for each line of words, the libraries imported once.
PROGRAM = """
import json, os, runpy, sys
import torch, torchvision, pytorch_lightning, clip, hydra.utils, av
for line in sys.stdin:
    sys.argv[1:], folder, environment = json.loads(line)
    if not (child := os.fork()):
        os.environ.clear(), os.environ.update(environment), os.chdir(folder)
        os.dup2(os.open(f"{folder}/../said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2), os.dup2(2, 1)
        runpy.run_module("vqclip", run_name="__main__")
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Tree:
    """A checkout, and a run that it drew; rerun and resume are seen to work where nobody tampered with it."""

    def __init__(self, path: Path, folder: Path):
        self.path, self.original = path, folder / "here" / "run"
        environment = os.environ | {"PYTHONPATH": f"{path}:{path / 'vqclip/plugins'}"}
        self.program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], env=environment, stdin=-1, stdout=-1, text=True, cwd=path
        )
        case = Case(self, folder, "", [])
        drawn = case.vqclip("a fox", "an owl", *SMALL, "init=sine", "logger=none", "hydra.run.dir=run")
        case.run = case.here / "again"
        if drawn or case.vqclip("rerun", case.png(dict)) or case.vqclip(f"resume={case.copy(dict)}", "steps=6"):
            sys.exit(f"{path}: what nobody tampered with ends with: {case.said}")


class Case:
    """A user with a tree, what a stranger sends, and what is found after the last command.

    Args:
        folder: for this case alone: here (where commands run), outside (private files), cache, home.
        site: of a web server that has weights under any name; what was asked of it is in asked.
    """

    def __init__(self, tree: Tree, folder: Path, site: str, asked: list[str]):
        self.tree, self.folder, self.site, self.asked, self.noticed = tree, folder, site, asked, []
        self.here, self.outside = folder / "here", folder / "outside"
        self.run = self.here / "run"
        for name in ("here", "outside", "cache", "home"):
            (folder / name).mkdir(parents=True)
        (self.outside / "private.txt").write_text(f"{SECRET}\n")
        Image.new("RGB", (32, 32), "#123456").save(self.outside / "private.png")
        weights = (tree.path / "vqclip" / "embedded" / "generator.safetensors").read_bytes()
        (self.outside / "private.safetensors").write_bytes(weights[:-1] + b"?")  # of the same form, and others

    def vqclip(self, *words: object) -> int:
        """One command of the tree's."""
        self.before = self._files()
        environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "SECRET": SECRET, "WANDB_MODE": "offline"}
        environment |= {"HOME": str(self.folder / "home"), "VQCLIP_HOME": str(self.folder / "cache"), "NO_PROXY": "*"}
        print(json.dumps([[*map(str, words)], str(self.here), environment]), file=self.tree.program.stdin, flush=True)
        return int(self.tree.program.stdout.readline())

    @property
    def said(self) -> str:
        """The last line of the last command."""
        text = (self.folder / "said").read_text(errors="replace").strip()
        return text.splitlines()[-1] if text else ""

    def _files(self) -> dict[str, bytes]:
        paths = [p for name in ("here", "outside", "cache") for p in (self.folder / name).rglob("*")]
        files = {str(p.relative_to(self.folder)): p.read_bytes() for p in paths if p.is_file() and not p.is_symlink()}
        return {name: content for name, content in files.items() if not name.endswith(".lock") or "outside" in name}

    def harm(self) -> str:
        """A command that ran, requests to the stranger's address, files that are not here, private things that are."""
        after = self._files()
        changed = [name for name in sorted({*self.before, *after}) if self.before.get(name) != after.get(name)]
        private = [after[name] for name in after if name.startswith("outside/private")]
        leaks = [SECRET.encode(), *(hashlib.sha256(own).hexdigest().encode() for own in private)]
        leaks += [base64.b64encode(own) for own in private if len(own) < 10_000]
        found = ["its command ran"] if (self.folder / "ran").exists() else []
        found += [f"{len(self.asked)} request to its address"] if self.asked else []
        found += [
            f"{name} {'gone' if name not in after else 'changed' if name in self.before else 'made'}"
            for name in changed
            if not name.startswith("here/")
        ][:3]
        told = [name for name in changed if any(leak in name.encode() + after.get(name, b"") for leak in leaks)]
        told = dict.fromkeys(name.rpartition("/")[2] for name in told if name.startswith("here/"))
        found += [f"what is private in {', '.join([*told][:3])}"] if told else []
        return "; ".join([*found, *self.noticed])

    def png(self, change: Callable[[dict], object]) -> Path:
        """A picture of the run whose record is changed."""
        with Image.open(self.tree.original / "picture-00" / "final.png") as picture:
            record, info = json.loads(picture.text["vqclip"]), PngInfo()
            change(record["config"])
            info.add_itxt("vqclip", json.dumps(record))
            picture.save(self.here / "strange.png", pnginfo=info)
        return self.here / "strange.png"

    def copy(self, change: Callable[[dict], object], status: str = "finished") -> Path:
        """The run as a folder whose config is changed."""
        shutil.copytree(self.tree.original, self.run)
        config = yaml.safe_load((self.run / "config.yaml").read_text())
        change(config)
        (self.run / "config.yaml").write_text(yaml.safe_dump(config))
        report = json.loads((self.run / "run.json").read_text())
        (self.run / "run.json").write_text(json.dumps(report | {"status": status}))
        return self.run

    def use(self, tool: str, change: Callable[[dict], object]) -> None:
        """What the user does with what he was sent."""
        if tool == "a PNG":
            self.vqclip("rerun", self.png(change))
        elif tool == "resume":
            self.vqclip(f"resume={self.copy(change)}", "steps=6")
        else:
            self.vqclip(tool, self.copy(change), *(["--frames", "3"] if tool == "interpolate" else []))


@contextmanager
def website(weights: bytes) -> Iterator[tuple[str, list[str]]]:
    """A server that has the same weights under every name, and what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(weights)))
            self.end_headers()
            self.wfile.write(weights)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def seen(name: str, tree: Tree) -> tuple[str, str]:
    """What is found after an attack on a tree (nothing where it does no harm), and the last words of its command."""
    weights = (tree.path / "vqclip" / "embedded" / "generator.safetensors").read_bytes()
    with tempfile.TemporaryDirectory() as folder, website(weights) as (site, asked):
        case = Case(tree, Path(folder), site, asked)
        ATTACKS[name](case)
        return case.harm(), case.said.replace(folder, "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="a checkout of an older tree")
    parser.add_argument("--only", nargs="+", default=[""], help="words, one of them in an attack's name")
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_name("before.csv"))
    given = parser.parse_args()
    rows = list(csv.DictReader(given.csv.read_text().splitlines())) if given.csv.is_file() else []
    rows = {row["attack"]: row for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        trees = {"before": given.old.resolve(), "now": ROOT}
        trees = {when: Tree(path, Path(folder) / when) for when, path in trees.items()}
        for name in [name for name in ATTACKS if any(word in name for word in given.only)]:
            found = {when: seen(name, tree) for when, tree in trees.items()}
            row = {"attack": name, **{when: harm for when, (harm, _) in found.items()}}
            rows[name] = row | {f"said {when}": said for when, (_, said) in found.items()}
            print(" | ".join([name, row["before"] or "held", row["now"] or "held"]), flush=True)
    rows = [rows[name] for name in ATTACKS if name in rows]
    with open(given.csv, "w", newline="") as file:
        writer = csv.DictWriter(file, ["attack", "before", "now", "said before", "said now"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    succeed = {when: sum(bool(row[when]) for row in rows) for when in trees}
    print(f"{len(rows)} attacks: {succeed['before']} succeed before, {succeed['now']} now")
    return int(succeed["now"] > 0)


if __name__ == "__main__":
    sys.exit(main())
