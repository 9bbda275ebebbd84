#!/usr/bin/env python
"""What a match network has to beat: retrieval by a colour histogram of the box, and by chance.

    tools/retrieval_baseline.py --dataset deepfashion2_validation
    tools/retrieval_baseline.py --run output/my_run --output baseline.json

With --run, the run's own figures stand beside them, on the same boxes by the same protocol.
"""

import argparse
import sys
from pathlib import Path

from match_rcnn.data.datasets import register_deepfashion2
from match_rcnn.evaluation.retrieval.baselines import compare, comparison_table
from match_rcnn.utils.files import write_json


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="deepfashion2_validation", metavar="NAME")
    parser.add_argument("--run", type=Path, metavar="OUTPUT_DIR", help="that was evaluated on it")
    parser.add_argument("--output", type=Path, metavar="JSON", help="write the figures there too")
    return parser.parse_args()


def main() -> int:
    args = parse()
    register_deepfashion2()
    try:
        rows = compare(args.dataset, args.run)
    except (ValueError, OSError) as error:
        print(f"retrieval_baseline: {error}", file=sys.stderr)
        return 1
    print(comparison_table(rows))
    if args.output:
        write_json(args.output, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
