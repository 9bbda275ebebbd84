"""Write generated data in the on-disk form of a benchmark of DeepFashion (2016).

Example: match-rcnn generate-deepfashion --benchmark category \\
    --output datasets/deepfashion/category --train 2000 --val 200 --test 400
"""

import argparse
import os
from typing import Any

from match_rcnn.commands import Answer, new_parser
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
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--size", type=int, default=192, metavar="PIXELS", help="longer side")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="W")
    return parser


def _text(summary: dict[str, Any]) -> str:
    lines = []
    for name, value in summary.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key}: {count}" for key, count in value.items())
        lines.append(f"  {name:12} {value}")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> Answer:
    counts = args.train, args.val, args.test
    summary = generate(args.output, args.benchmark, *counts, args.seed, args.size, args.workers)
    return Answer(f"{_text(summary)}\n\nwritten to {args.output}", summary)
