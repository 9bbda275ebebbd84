#!/usr/bin/env python
"""Lay the losses of several trainings over each other: a page (HTML) and a table (Markdown).

    tools/compare_runs.py output/one output/two --labels "1 process" "2 processes" \\
        --output curves.html

A run is the OUTPUT_DIR of tools/train_net.py; its metrics.json is read, while it trains, too.
SOLVER.LOG_PERIOD 1 writes every iteration there.
"""

import argparse
import sys
from pathlib import Path

from match_rcnn.reporting.loss_report import comparison_table, loss_page, read_curves


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="OUTPUT_DIRs")
    parser.add_argument("--output", type=Path, required=True, metavar="HTML")
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="default: the folders' names")
    parser.add_argument("--window", type=int, default=1, metavar="N", help="iterations of a mean")
    args = parser.parse_args()
    args.labels = args.labels or [run.resolve().name for run in args.runs]
    if len(set(args.labels)) != len(args.runs):
        parser.error(f"{len(args.runs)} runs need as many different --labels, got {args.labels}")
    if args.window < 1:
        parser.error(f"--window must be at least 1, got {args.window}")
    return args


def main() -> int:
    args = parse_arguments()
    try:
        read = [read_curves(folder) for folder in args.runs]
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    runs = dict(zip(args.labels, read, strict=True))
    page = loss_page(runs, args.window).write(args.output.with_suffix(""))
    print(f"{comparison_table(runs).to_markdown()}\nreport: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
