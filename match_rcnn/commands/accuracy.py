"""Measure what makes a model for photos better, by the protocol of docs/accuracy.md.

    match-rcnn accuracy --datasets output/street/datasets --output output/accuracy \\
        --weights output/street/quickstart/model_final.pth --markdown docs/accuracy.md

What is finished is passed over; interrupted, the same command goes on. --markdown writes the table
between two marks of the page. KEY VALUE pairs at the end override the config in every training.
"""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.experiments.accuracy import CANDIDATES, PAGE, Accuracy, markdown


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--datasets", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--weights", type=Path, required=True, metavar="PTH", help="to start from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--iterations", type=int, metavar="N", help="of a training")
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--markdown", type=Path, metavar="PAGE", help="write the table there")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE config overrides")
    return parser


def run(args: argparse.Namespace) -> Answer:
    if args.markdown is not None:
        PAGE.around(args.markdown)  # a page without marks is told before the work
    experiment = Accuracy(args.output, args.datasets, args.weights, args.iterations, args.opts)
    summary = experiment.run(args.candidates, args.seeds)
    table = markdown(summary)
    if args.markdown is not None:
        PAGE.write(args.markdown, table)
    return Answer(table, summary)
