#!/usr/bin/env python
"""Draw queries with their best results: right ones framed green, wrong ones red.

    tools/retrieval_figure.py --results output/my_run/inference/deepfashion2_validation/\
retrieval_results.json --output queries.jpg
"""

import argparse
import sys
from pathlib import Path

from match_rcnn.data.datasets import register_deepfashion2
from match_rcnn.data.images import write_image
from match_rcnn.reporting.charts.queries import draw_retrieval


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, required=True, help="in the official format")
    parser.add_argument("--dataset", default="deepfashion2_validation", metavar="NAME")
    parser.add_argument("--output", type=Path, required=True, metavar="PICTURE", help=".jpg, .png")
    parser.add_argument("--queries", type=int, default=8, metavar="N", help="at most")
    parser.add_argument("--top", type=int, default=5, metavar="K")
    return parser.parse_args()


def main() -> int:
    args = parse()
    register_deepfashion2()
    try:
        picture = draw_retrieval(args.results, args.dataset, args.queries, args.top)
        write_image(args.output, picture)
    except (ValueError, OSError) as error:
        print(f"retrieval_figure: {error}", file=sys.stderr)
        return 1
    print(f"written to {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
