"""Lay the losses of several trainings over each other: a page (HTML) and a table (Markdown).

    match-rcnn compare-runs output/one output/two --labels "1 process" "2 processes" \\
        --output curves.html

A run is the OUTPUT_DIR of tools/train_net.py; its metrics.json is read, while it trains, too.
SOLVER.LOG_PERIOD 1 writes every iteration there.
"""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, UsageError, new_parser
from match_rcnn.reporting.loss_report import comparison_table, loss_page, read_curves


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="OUTPUT_DIRs")
    parser.add_argument("--output", type=Path, required=True, metavar="HTML")
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="default: the folders' names")
    parser.add_argument("--window", type=int, default=1, metavar="N", help="iterations of a mean")
    return parser


def run(args: argparse.Namespace) -> Answer:
    labels = args.labels or [run.resolve().name for run in args.runs]
    if len(set(labels)) != len(args.runs):
        raise UsageError(f"{len(args.runs)} runs need as many different --labels, got {labels}")
    if args.window < 1:
        raise UsageError(f"--window must be at least 1, got {args.window}")
    runs = dict(zip(labels, [read_curves(folder) for folder in args.runs], strict=True))
    page = loss_page(runs, args.window).write(args.output.with_suffix(""))
    return Answer(f"{comparison_table(runs).to_markdown()}\nreport: {page}", {"report": str(page)})
