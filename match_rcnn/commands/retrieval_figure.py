"""Draw queries with their best results: right ones framed green, wrong ones red.

    match-rcnn retrieval-figure --results output/my_run/inference/deepfashion2_validation/\
retrieval_results.json --output queries.jpg
"""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.data.datasets import register_deepfashion2
from match_rcnn.data.images import write_image
from match_rcnn.reporting.charts.queries import draw_retrieval


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--results", type=Path, required=True, help="in the official format")
    parser.add_argument("--dataset", default="deepfashion2_validation", metavar="NAME")
    parser.add_argument("--output", type=Path, required=True, metavar="PICTURE", help=".jpg, .png")
    parser.add_argument("--queries", type=int, default=8, metavar="N", help="at most")
    parser.add_argument("--top", type=int, default=5, metavar="K")
    return parser


def run(args: argparse.Namespace) -> Answer:
    register_deepfashion2()
    picture = draw_retrieval(args.results, args.dataset, args.queries, args.top)
    write_image(args.output, picture)
    return Answer(f"written to {args.output}", {"picture": str(args.output)})
