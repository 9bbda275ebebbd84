"""FashionNet on generated data, and its ideas with and without, over seeds.

    match-rcnn fashionnet --rows FashionNet --seeds 1
    match-rcnn fashionnet --markdown docs/fashionnet.md

Generates data below --output, or takes --datasets; trains and evaluates a row and seed after the
other. What is finished is passed over; interrupted, the same command goes on; what was made with
other settings or data is refused. KEY VALUE pairs at the end override the config in every run.
"""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.experiments.fashionnet import (
    PAGE,
    ROWS,
    FashionNetExperiment,
    FashionNetPlan,
    markdown,
)
from match_rcnn.utils.shipped import config_file


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--output", type=Path, default=Path("output/fashionnet"), metavar="DIR")
    parser.add_argument("--config-file", "--config", type=Path, default=Path("fashionnet_quick"))
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    FashionNetPlan.add_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> Answer:
    plan = FashionNetPlan.of_arguments(args, rows=tuple(args.rows))
    datasets = args.datasets or args.output / "datasets"
    experiment = FashionNetExperiment(args.output, config_file(args.config_file), plan, datasets)
    if args.markdown:
        PAGE.around(args.markdown)  # not only after hours
    experiment.generate(args.workers)
    summary = experiment.run()
    tables = markdown(summary)
    if args.markdown:
        PAGE.write(args.markdown, tables)
    return Answer(f"\n{tables}\nfigures: {experiment.output / 'fashionnet.json'}", summary)
