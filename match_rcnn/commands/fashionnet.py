"""FashionNet on generated data, and its ideas with and without, over seeds.

    match-rcnn fashionnet --rows FashionNet --seeds 1
    match-rcnn fashionnet --markdown docs/fashionnet.md

Generates data below --output, or takes --datasets; trains and evaluates a row and seed after the
other. What is finished is passed over; interrupted, the same command goes on; what was made with
other settings or data is refused. KEY VALUE pairs at the end override the config in every run.
"""

import argparse
import os
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.experiments.fashionnet import (
    ROWS,
    FashionNetExperiment,
    FashionNetPlan,
    around_page,
    markdown,
    write_markdown,
)
from match_rcnn.utils.shipped import config_file


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    plan = FashionNetPlan()
    parser = new_parser(__doc__, prog)
    parser.add_argument("--output", type=Path, default=Path("output/fashionnet"))
    parser.add_argument("--config-file", "--config", type=Path, default=Path("fashionnet_quick"))
    parser.add_argument("--datasets", type=Path, metavar="DIR", help="for deepfashion/")
    parser.add_argument("--train", type=int, default=plan.train, help="images to generate")
    parser.add_argument("--test", type=int, default=plan.test)
    parser.add_argument("--size", type=int, default=plan.pixels, help="longer side in pixels")
    parser.add_argument("--data-seed", type=int, default=plan.data_seed)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(plan.seeds))
    parser.add_argument("--markdown", type=Path, metavar="PAGE", help="write the table there")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE config overrides")
    return parser


def run(args: argparse.Namespace) -> Answer:
    plan = FashionNetPlan(
        rows=tuple(args.rows),
        seeds=tuple(args.seeds),
        train=args.train,
        test=args.test,
        pixels=args.size,
        data_seed=args.data_seed,
        opts=tuple(args.opts),
    )
    datasets = args.datasets or args.output / "datasets"
    experiment = FashionNetExperiment(args.output, config_file(args.config_file), plan, datasets)
    if args.markdown:
        around_page(args.markdown)  # not only after hours
    experiment.generate(args.workers)
    summary = experiment.run()
    if args.markdown:
        write_markdown(args.markdown, summary)
    text = f"\n{markdown(summary)}\nfigures: {experiment.output / 'fashionnet.json'}"
    return Answer(text, summary)
