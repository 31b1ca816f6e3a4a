"""Every option of four other programs, and what is typed here: composed, run, and written into README.md.

    python experiments/parity/study.py          compose every option, write README.md
    python experiments/parity/study.py --run    also run them at one step on the embedded pair, in groups

The options are the tables that ``vqclip import`` reads, ``vqclip/peers/*.yaml``.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from PIL import Image

from vqclip.cli.imports import experiment_of
from vqclip.cli.main import TOOLS
from vqclip.config.check import errors_in
from vqclip.config.compose import compose
from vqclip.config.resolve import resolve
from vqclip.peers.importer import PROGRAMS, Imported, lines_of, program
from vqclip.peers.prompts import strength_of_exclude
from vqclip.peers.values import NoEqual

HERE = Path(__file__).parent
#: Lines that are composed and not run: other weights, other devices, the place of the run.
NOT_RUN = ("checkpoints", "trainer.", "hydra.", "size=", "steps=", "logger=", "callbacks=")
#: Every run's own: one step, small.
SMALL = ["size=[64,64]", "steps=1", "snapshot_every=1", "logger=none"]


@dataclass
class Row:
    """One option."""

    program: str
    option: str
    says: str
    state: str  #: covered, tool, pointless or missing
    answer: str  #: a config line, a command, or a sentence
    lines: list[str] = field(default_factory=list)


def rows() -> list[Row]:
    """Every option of every program, with what is typed here."""
    found = []
    for name in PROGRAMS:
        for option, own in program(name)["options"].items():
            found.append(_row(name, option, own))
    return found


def _row(name: str, option: str, own: dict) -> Row:
    row = Row(name, option, own["says"], "covered", "")
    if "never" in own:
        row.state, row.answer = "pointless", own["never"]
    elif "tool" in own:
        row.state, row.answer = "tool", own["tool"]
    else:
        try:
            given = {option: own.get("example"), **own.get("with", {})}
            said = lines_of(own, own.get("example"), given)
            commands = [line for line in said if line.startswith("vqclip ")]
            row.lines = [line.removeprefix("+") for line in said if not line.startswith(("note: ", "vqclip "))]
            row.lines += strength_of_exclude(row.lines)
            row.answer = "  ".join(map(typed, row.lines)) or "the default"
            if commands:
                row.state, row.answer = "tool", "  ".join(commands)
        except NoEqual as error:
            row.state, row.answer = "missing", str(error)
    assert row.state != "tool" or row.answer.split()[1].split("=")[0] in {*TOOLS, "resume"}, row
    return row


def typed(line: str) -> str:
    """A config line as it is typed in a shell."""
    key, _, value = line.partition("=")
    if value[:1] in "[{" and '"' in value:
        value = yaml.safe_dump(json.loads(value), default_flow_style=True, width=10_000, allow_unicode=True).strip()
        value = value.replace("'", '"')
    plus = "+" if key == "loss/terms" else ""
    line = f"{plus}{key}={value}"
    return f"'{line}'" if set(" {}") & set(line) else line


def composed(lines: list[str], folder: Path) -> dict:
    """The checked config of the default with ``lines`` laid over it."""
    (folder / "experiment").mkdir(exist_ok=True)
    (folder / "experiment" / "it.yaml").write_text(experiment_of(Imported(lines=list(lines)), "."))
    config = resolve(compose(["experiment=it"], config_dir=str(folder)))
    assert not (errors := errors_in(config)), (lines, errors)
    return config


def groups(found: list[Row], left_out: tuple[str, ...] = NOT_RUN) -> list[list[Row]]:
    """Covered options that set no key twice, together: each group is one run."""
    made: list[tuple[set, list[Row]]] = []
    for row in found:
        lines = [line for line in row.lines if not line.startswith(left_out)]
        keys = {
            line.partition("=")[0].partition(".")[0] if "terms" in line else line.partition("=")[0] for line in lines
        }
        keys |= {key.partition(".")[0] for key in keys if key.startswith("init")}
        if not keys:
            continue
        for used, group in made:
            if not used & keys:
                used |= keys
                group.append(row)
                break
        else:
            made.append((keys, [row]))
    return [group for _, group in made]


def run(found: list[Row], folder: Path) -> None:
    """Run every group and say which options were in it: ``results.csv``."""
    from vqclip.runs.execute import execute

    with (HERE / "results.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["run", "status", "score", "program", "option"])
        for i, group in enumerate(groups(found)):
            lines = [line for row in group for line in row.lines if not line.startswith(NOT_RUN)]
            starts = [] if any(line.startswith("init=") for line in lines) else ["init=sine"]
            result = execute(_small(composed([*starts, *lines, *SMALL], folder)), folder / str(i))
            for row in group:
                score = round(result.scores[0]["best"]["score"], 4)
                table.writerow([i, result.report["status"], score, row.program, row.option])
            file.flush()


def _small(config: dict) -> dict:
    crops = config["augmentations"]["crops"]
    crops["count"] = min(crops["count"], 4)
    return config | {"callbacks": {}}


def page(found: list[Row], ran: set[tuple[str, str]]) -> str:
    """README.md."""
    states = ("covered", "tool", "pointless", "missing")
    counts = {
        name: [sum(r.program == name and r.state == state for r in found) for state in states] for name in PROGRAMS
    }
    total = [sum(own[i] for own in counts.values()) for i in range(4)]
    names = {name: program(name)["name"] for name in PROGRAMS}
    lines = [
        "# Every option of four other programs, and what is typed here",
        "",
        "Written by [study.py](study.py) from the tables that `vqclip import` reads,",
        "[`vqclip/peers`](../../vqclip/peers). It composes every config line and, with `--run`,",
        "runs it for a step on the embedded pair, in groups that set no key twice.",
        "",
        f"**Of {len(found)} options {total[0]} are config, {total[1]} a tool, "
        f"{total[2]} need nothing here; {total[3]} have no equal.** "
        f"{len(ran)} were run.",
        "",
        "| program | options | config | a tool | nothing to set | no equal |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, own in counts.items():
        lines.append(f"| {names[name]} | {sum(own)} | {' | '.join(map(str, own))} |")
    lines.append(f"| all | {len(found)} | {' | '.join(map(str, total))} |")
    for name in PROGRAMS:
        lines += ["", f"## {names[name]}", "", "| option | there | here | |", "| --- | --- | --- | --- |"]
        for row in (own for own in found if own.program == name):
            answer = f"`{row.answer}`" if row.state == "tool" or row.lines else row.answer
            state = {"covered": "composed", "tool": "a tool", "pointless": "nothing to set", "missing": "no equal"}[
                row.state
            ]
            state = "ran" if (row.program, row.option) in ran else state
            cells = [f"`{row.option}`", row.says, answer, state]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def ran() -> set[tuple[str, str]]:
    """Options of ``results.csv`` whose run ended well."""
    path = HERE / "results.csv"
    with path.open() as file:
        return {(row["program"], row["option"]) for row in csv.DictReader(file) if row["status"] == "finished"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="also run them, for a step")
    args = parser.parse_args()
    found = rows()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        here = Path.cwd()
        import os

        os.chdir(folder)  # where the pictures of the examples are
        try:
            for picture in ("photo.png", "mask.png"):
                Image.radial_gradient("L").resize((96, 64)).convert("RGB").save(picture)
            for row in found:
                if row.lines:
                    composed(row.lines, folder)
            if args.run:
                run(found, folder)
        finally:
            os.chdir(here)
    (HERE / "README.md").write_text(page(found, ran() if (HERE / "results.csv").exists() else set()))
    print("\n".join((HERE / "README.md").read_text().splitlines()[5:14]))


if __name__ == "__main__":
    main()
