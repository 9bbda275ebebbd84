#!/usr/bin/env python
"""Score a result file in the official DeepFashion2 format against COCO-form ground truth.

The numbers are those of the official evaluator (pycocotools with DeepFashion2's sigmas). Ground
truth and landmark results may be dense (294 landmarks an item) or compact (the category's own).
"""

import argparse
import sys
from pathlib import Path

from match_rcnn.evaluation.coco_tasks import TASKS, evaluate_files, to_json
from match_rcnn.evaluation.tables import scores_table
from match_rcnn.utils.files import write_json


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=list(TASKS), required=True)
    parser.add_argument("--ground-truth", type=Path, required=True, metavar="GT")
    parser.add_argument("--results", type=Path, required=True, metavar="DT")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="JSON: stats (COCO's 12 or 10 numbers, -1 where nothing counts), per_category",
    )
    parser.add_argument(
        "--visible-only",
        action="store_true",
        help="keypoints: occluded landmarks (v = 1) count as unlabelled",
    )
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    try:
        scores = evaluate_files(args.task, args.ground_truth, args.results, args.visible_only)
        files = {"ground_truth": str(args.ground_truth), "results": str(args.results)}
        write_json(
            args.output, {**to_json(scores), "visible_only": args.visible_only, "files": files}
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(scores_table(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
