"""Write generated data in the on-disk form of a benchmark of DeepFashion (2016).

Example: match-rcnn generate-deepfashion --benchmark category \\
    --output datasets/deepfashion/category --train 2000 --val 200 --test 400
"""

import argparse

from match_rcnn.commands import Answer, counts_text, new_parser, with_generator_options
from match_rcnn.data.synthetic.deepfashion import generate
from match_rcnn.data.synthetic.deepfashion_plan import IMAGES_OF


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--benchmark", required=True, choices=IMAGES_OF)
    parser.add_argument("--output", required=True, metavar="DIR", help="the benchmark's folder")
    parser.add_argument("--train", type=int, default=2000, metavar="N", help="training images")
    parser.add_argument("--val", type=int, default=0, metavar="N", help="validation images")
    parser.add_argument(
        "--test", type=int, default=400, metavar="N", help="test images; in-shop: query and gallery"
    )
    return with_generator_options(parser, size=192)


def run(args: argparse.Namespace) -> Answer:
    counts = args.train, args.val, args.test
    summary = generate(args.output, args.benchmark, *counts, args.seed, args.size, args.workers)
    return Answer(f"{counts_text(summary)}\n\nwritten to {args.output}", summary)
