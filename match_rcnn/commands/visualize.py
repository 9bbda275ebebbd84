"""Draw predictions or ground truth of an image, a folder or a data set.

match-rcnn visualize --config-file C --weights W --input photo.jpg --output pictures
match-rcnn visualize --config-file C --weights W --input deepfashion2_validation --limit 20
match-rcnn visualize --ground-truth --input deepfashion2_train --output pictures
"""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, UsageError, new_parser
from match_rcnn.inference.pictures import draw_sources, ground_truth_source, prediction_source
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.inference.weights import model_config, shown_from


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--input", required=True, help="image file, folder or data set's name")
    parser.add_argument("--output", type=Path, default=Path("output/pictures"))
    parser.add_argument("--ground-truth", action="store_true", help="draw annotations instead")
    parser.add_argument("--config-file", "--config", type=Path)
    parser.add_argument("--weights", help="a name, file or address (match-rcnn predict --help)")
    parser.add_argument(
        "--score-threshold", type=float, metavar="S", help="default: as match-rcnn predict"
    )
    parser.add_argument("--limit", type=int, help="at most so many images, evenly spread")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE config overrides")
    return parser


def run(args: argparse.Namespace) -> Answer:
    if args.ground_truth:
        source = ground_truth_source(args.input, args.limit)
    elif not args.weights:
        raise UsageError("predictions need --weights (or pass --ground-truth)")
    else:
        cfg = model_config(args.weights, args.config_file, args.opts)
        predictor = MatchRCNNPredictor(cfg, shown_from(cfg, args.score_threshold))
        source = prediction_source(args.input, args.limit, predictor=predictor)
    report = draw_sources(source, args.output)
    return Answer(str(report), vars(report))
