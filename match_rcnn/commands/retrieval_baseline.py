"""What a match network has to beat: retrieval by a colour histogram of the box, and by chance.

    match-rcnn retrieval-baseline --dataset deepfashion2_validation
    match-rcnn retrieval-baseline --run output/my_run --output baseline.json

With --run, the run's own figures stand beside them, on the same boxes by the same protocol.
"""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.data.datasets import register_deepfashion2
from match_rcnn.evaluation.retrieval.baselines import compare, comparison_table
from match_rcnn.utils.files import write_json


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--dataset", default="deepfashion2_validation", metavar="NAME")
    parser.add_argument("--run", type=Path, metavar="OUTPUT_DIR", help="that was evaluated on it")
    parser.add_argument("--output", type=Path, metavar="JSON", help="write the figures there too")
    return parser


def run(args: argparse.Namespace) -> Answer:
    register_deepfashion2()
    rows = compare(args.dataset, args.run)
    if args.output:
        write_json(args.output, rows)
    return Answer(comparison_table(rows), rows)
