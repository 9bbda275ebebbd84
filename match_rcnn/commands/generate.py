"""Write a generated DeepFashion2 in its on-disk format.

Example: match-rcnn generate --output data --train 1500 --validation 300
"""

import argparse
from typing import Any

from match_rcnn.commands import Answer, counts_text, new_parser, with_generator_options
from match_rcnn.data.synthetic import generate


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--output", required=True, metavar="DIR", help="ROOT of the data")
    parser.add_argument("--train", type=int, default=1500, metavar="N", help="training images")
    parser.add_argument(
        "--validation", type=int, default=300, metavar="M", help="validation images"
    )
    return with_generator_options(parser, size=256)


def _text(summary: dict[str, Any]) -> str:
    splits = summary["splits"].items()
    return "\n".join(f"\n{split}\n{counts_text(counts)}" for split, counts in splits)


def run(args: argparse.Namespace) -> Answer:
    summary = generate(args.output, args.train, args.validation, args.seed, args.size, args.workers)
    return Answer(f"{_text(summary)}\n\nwritten to {args.output}", summary)
