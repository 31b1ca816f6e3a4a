"""``vqclip evaluate RUN…``: what a judge that did not guide the runs says of their pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vqclip.runs.evaluate import judge_runs

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """The command line tool."""
    parser = argparse.ArgumentParser(prog="vqclip evaluate", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument("--final", action="store_true", help="judge the last picture instead of the best")
    arguments = parser.parse_args(argv)
    verdicts = judge_runs(arguments.runs, "final.png" if arguments.final else "best.png")
    several = len({verdict.prompt for verdict in verdicts}) > 1
    for v in verdicts:
        rank = f"  rank {v.rank}" if several else ""
        print(f"judge {v.judge:.3f}  guide {v.guide:.3f}{rank}  {v.prompt}  {v.picture}")
    mean = sum(v.judge for v in verdicts) / len(verdicts)
    first = f", {sum(v.rank == 1 for v in verdicts)} of {len(verdicts)} rank their own prompt first" if several else ""
    print(f"mean judge {mean:.3f}{first}")
    return 0
