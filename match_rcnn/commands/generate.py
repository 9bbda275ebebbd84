"""Write a generated DeepFashion2 in its on-disk format.

Example: match-rcnn generate --output data --train 1500 --validation 300
"""

import argparse
import os
from typing import Any

from match_rcnn.commands import Answer, new_parser
from match_rcnn.data.synthetic import generate


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--output", required=True, metavar="DIR", help="ROOT of the data")
    parser.add_argument("--train", type=int, default=1500, metavar="N", help="training images")
    parser.add_argument(
        "--validation", type=int, default=300, metavar="M", help="validation images"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--size", type=int, default=256, metavar="PIXELS", help="longer side")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="W")
    return parser


def _text(summary: dict[str, Any]) -> str:
    lines = []
    for split, counts in summary["splits"].items():
        lines.append(f"\n{split}")
        for name, value in counts.items():
            if isinstance(value, dict):
                value = ", ".join(f"{key}: {count}" for key, count in value.items())
            lines.append(f"  {name:15} {value}")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> Answer:
    summary = generate(args.output, args.train, args.validation, args.seed, args.size, args.workers)
    return Answer(f"{_text(summary)}\n\nwritten to {args.output}", summary)
