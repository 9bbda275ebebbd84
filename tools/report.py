#!/usr/bin/env python
"""Write a report of one or more runs: one HTML page, with everything in it, and one Markdown file
each; for several runs also index.html, with all of them side by side.

A run is the OUTPUT_DIR of tools/train_net.py: metrics.json, config.yaml and the result files below
inference/. Ground truth and photos are those that the evaluation had (data.json beside the result
files), or those of the data set's name (DETECTRON2_DATASETS), or given. Figures are called
"measured", and "measured on generated data" where the data set's folder says that a program made
it.
"""

import argparse
import sys
from pathlib import Path

from match_rcnn.reporting.numbers.runs import Where
from match_rcnn.reporting.run_report import write_reports


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="OUTPUT_DIRs")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--dataset", metavar="NAME", help="which of a run's inference/NAME")
    parser.add_argument("--ground-truth", type=Path, metavar="GT", help="COCO form")
    parser.add_argument("--images", type=Path, metavar="DIR", help="the folder of the photos")
    parser.add_argument("--label", metavar="WORDS", help='in place of "measured"')
    parser.add_argument("--photos", type=int, default=6, metavar="N", help="of each kind")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    where = Where(args.ground_truth, args.images, args.label)
    try:
        pages = write_reports(args.results, args.output, where, args.dataset, args.photos)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(f"report: {page}" for page in pages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
