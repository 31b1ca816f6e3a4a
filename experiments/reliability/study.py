"""The catalogue of what goes wrong, by category: how many were tried, how many held; into results.csv and table.png.

    python experiments/reliability/study.py                                     # all; on two cores an hour or more
    python experiments/reliability/study.py --categories attacks wrong_inputs   # these; the other rows stay
    python experiments/reliability/study.py --categories fuzz --hours 1         # random inputs, other ones each round

Each case is a test of the suite, those marked slow among them; what a test expects is written in the test.
"""

from __future__ import annotations

import argparse
import base64
import csv
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
#: Category → the test files, or parts of them.
CATEGORIES = {
    "attacks": ["test_attacks.py"],
    "weights": ["test_safe_load.py"],
    "wrong_inputs": [
        *("test_cli.py", "test_schema.py", "test_config.py", "test_prompts.py", "test_entries.py", "test_arguments.py")
    ],
    "damaged_folders": ["test_damage.py"],
    "faults": ["test_faults.py", "test_permissions.py"],
    "kills": ["test_resume.py"],
    "fuzz": ["test_fuzz.py"],
    "jobs": [],
}
#: In a round of --hours each property is tried so many times as often as in the suite.
MORE = 20


@dataclass
class Row:
    """What was seen of a category."""

    category: str
    tried: int
    held: int
    not_run: int
    seconds: float
    seen: str  #: the day
    inputs: int  #: of these tests; some hold many
    lost: str = ""  #: names of those that did not hold


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'vqclip/plugins'}"} | more


def pytest_row(category: str, words: list[str], more: int = 1) -> Row:
    """Run some tests and count: one that ends in an error is lost, one that is skipped was not run."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", f"--junitxml={report}", *words]
        code = subprocess.run(
            command, cwd=ROOT, env=environment(HYPOTHESIS_EXAMPLES=str(more)), stdout=sys.stderr
        ).returncode
        if code > 1 or not report.is_file():
            sys.exit(f"{category}: pytest ended with status {code}, and nothing was counted")
        cases = list(ElementTree.parse(report).iter("testcase"))
        inputs = inputs_of(report)
    lost = [str(case.get("name")) for case in cases if {"failure", "error"} & {part.tag for part in case}]
    skipped = sum(case.find("skipped") is not None for case in cases)
    tried = len(cases) - skipped
    seconds = round(time.perf_counter() - began, 1)
    today = date.today().isoformat()
    return Row(category, tried, tried - len(lost), skipped, seconds, today, inputs - skipped, " ".join(lost))


def inputs_of(report: Path) -> int:
    """How many inputs the tests of a report hold: one each, or as many as a test says, or as Hypothesis drew."""
    tree = ElementTree.parse(report)
    said = [int(own.get("value", 1)) - 1 for own in tree.iter("property") if own.get("name") == "inputs"]
    texts = [own.get("value", "") for own in tree.iter("property") if "hypothesis" in own.get("name", "")]
    drawn = [
        sum(map(int, re.findall(r"(\d+) (?:passing|failing) examples", base64.b64decode(text).decode()))) - 1
        for text in texts
    ]
    return len(list(tree.iter("testcase"))) + sum(said) + sum(drawn)


def fuzz_row(hours: float) -> Row:
    """Random inputs: once as in the suite, or rounds of other ones until the hours are over."""
    row = pytest_row("fuzz", tests_of("fuzz"), MORE if hours else 1)
    while row.seconds < hours * 3600:
        next_row = pytest_row("fuzz", tests_of("fuzz"), MORE)
        row.tried, row.held = row.tried + next_row.tried, row.held + next_row.held
        row.inputs += next_row.inputs
        row.seconds, row.lost = round(row.seconds + next_row.seconds, 1), f"{row.lost} {next_row.lost}".strip()
    return row


def kills_row() -> Row:
    """The suite's kills, and those of kills.py with its full disks."""
    row = pytest_row("kills", tests_of("kills"))
    began, table = time.perf_counter(), HERE / "kills.csv"
    before = table.stat().st_mtime_ns if table.is_file() else 0
    code = subprocess.run(
        [sys.executable, str(HERE / "kills.py")], cwd=ROOT, env=environment(), stdout=sys.stderr
    ).returncode
    if not table.is_file() or table.stat().st_mtime_ns == before:
        sys.exit(f"kills: kills.py ended with status {code} and wrote no kills.csv, and nothing was counted")
    from kills import held

    with open(table, newline="") as file:
        kills = list(csv.DictReader(file))
    row.inputs += len(kills)
    row.tried, row.held = row.tried + len(kills), row.held + sum(map(held, kills))
    row.seconds = round(row.seconds + time.perf_counter() - began, 1)
    row.lost = " ".join([row.lost, *(own["what"] for own in kills if not held(own))]).strip()
    return row


def jobs_row(jobs: int) -> Row:
    """A sweep of jobs of one step; a job that did not end is lost."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "jobs.csv"
        script = ROOT / "experiments" / "benchmarks" / "many_jobs.py"
        command = [sys.executable, str(script), "--jobs", str(jobs), "--csv", str(table)]
        code = subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode
        held = max(0, len(table.read_text().splitlines()) - 1) if table.is_file() else 0
    lost = f"status {code}" if code else ""
    return Row("jobs", jobs, held, 0, round(time.perf_counter() - began, 1), date.today().isoformat(), jobs, lost)


def tests_of(category: str) -> list[str]:
    return [str(Path("tests") / name) for name in CATEGORIES[category]]


def run_category(category: str, jobs: int = 1000, hours: float = 0.0) -> Row:
    """One row of the table."""
    if category == "jobs":
        return jobs_row(jobs)
    if category == "kills":
        return kills_row()
    return fuzz_row(hours) if category == "fuzz" else pytest_row(category, tests_of(category))


def keep(row: Row, path: Path) -> list[dict[str, str]]:
    """The table with a row in the place of the earlier one of its category."""
    known = {}
    if path.is_file():
        with open(path, newline="") as file:
            known = {one["category"]: one for one in csv.DictReader(file)}
    known[row.category] = {key: str(value) for key, value in asdict(row).items()}
    rows = [known[name] for name in CATEGORIES if name in known]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return rows


def markdown(rows: list[dict[str, str]]) -> str:
    """Rows for README.md."""
    columns = ("category", "inputs", "tried", "held", "not_run", "seconds", "seen")
    lines = [f"| {' | '.join(columns).replace('_', ' ')} |", f"|{' --- |' * len(columns)}"]
    lines += [f"| {' | '.join(row.get(name, '') for name in columns)} |" for row in rows]
    return "\n".join(lines)


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """A bar a category: how many held, and behind it how many were tried."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 0.5 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    names = [row["category"].replace("_", " ") for row in rows][::-1]
    tried, held = ([int(row[name]) for row in rows][::-1] for name in ("tried", "held"))
    axes.barh(names, tried, color="#d62728", label="tried")
    bars = axes.barh(names, held, color="#4c78a8", label="held")
    axes.bar_label(bars, [f"{h} of {t}" for h, t in zip(held, tried, strict=True)], padding=3)
    axes.set_xscale("log")
    axes.set_xlim(1, 10 * max(tried))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--categories", nargs="+", choices=CATEGORIES, default=list(CATEGORIES))
    parser.add_argument("--jobs", type=int, default=1000, help="of the category jobs")
    parser.add_argument("--hours", type=float, default=0.0, help="of the category fuzz; 0: as in the suite")
    asked = parser.parse_args()
    whole = True
    for category in asked.categories:
        row = run_category(category, asked.jobs, asked.hours)
        rows = keep(row, HERE / "results.csv")
        draw(rows, HERE / "table.png")
        print(markdown(rows), flush=True)
        whole = whole and row.tried == row.held
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
