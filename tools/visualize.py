#!/usr/bin/env python
"""Draw predictions or ground truth of an image, a folder or a data set.

tools/visualize.py --config-file C --weights W --input photo.jpg --output pictures
tools/visualize.py --config-file C --weights W --input deepfashion2_validation --limit 20
tools/visualize.py --ground-truth --input deepfashion2_train --output pictures
"""

import argparse
import sys
from pathlib import Path

from match_rcnn.inference.pictures import draw_sources, ground_truth_source, prediction_source
from match_rcnn.inference.predictor import MatchRCNNPredictor


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", required=True, help="image file, folder or data set's name")
    parser.add_argument("--output", type=Path, default=Path("output/pictures"))
    parser.add_argument("--ground-truth", action="store_true", help="draw annotations instead")
    parser.add_argument("--config-file", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--score-threshold", type=float, default=0.5)
    parser.add_argument("--limit", type=int, help="at most so many images, evenly spread")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE config overrides")
    args = parser.parse_args()
    if not args.ground_truth and not (args.config_file and args.weights):
        parser.error("predictions need --config-file and --weights (or pass --ground-truth)")
    return args


def main() -> int:
    args = parse()
    try:
        if args.ground_truth:
            source = ground_truth_source(args.input, args.limit)
        else:
            predictor = MatchRCNNPredictor.from_files(
                args.config_file, args.weights, args.score_threshold, args.opts
            )
            source = prediction_source(args.input, args.limit, predictor=predictor)
        report = draw_sources(source, args.output)
    except (ValueError, FileNotFoundError) as error:
        print(f"visualize: {error}", file=sys.stderr)
        return 1
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
