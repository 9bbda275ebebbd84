"""Boxes for alexeygrigorev/clothing-dataset (CC0 photos with a word each), as one COCO file.

A model that was trained on other photos says where the garment is, the photo's word what it is.
What the model is not sure of is left out and counted.
"""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.experiments.weak_labels import label_photos
from match_rcnn.inference.predictor import MatchRCNNPredictor

#: All that the model finds is looked at, in whichever category.
_OPEN = ("TEST.AGNOSTIC_NMS_THRESH", "1.0", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.01")
_BOXES = ("MODEL.MASK_ON", "False", "MODEL.KEYPOINT_ON", "False", "MODEL.MATCH_ON", "False")


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--root", type=Path, required=True, metavar="CLONE")
    parser.add_argument("--config-file", "--config", type=Path, default=Path("street"))
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--most", type=int, metavar="N", help="photos of a word (default: all)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides of the config")
    return parser


def run(args: argparse.Namespace) -> Answer:
    predictor = MatchRCNNPredictor.from_files(
        args.config_file, args.weights, 0.0, [*_OPEN, *_BOXES, *args.opts]
    )
    report = label_photos(predictor, args.root, args.output, most=args.most)
    values = {"output": str(args.output), **vars(report)}
    return Answer(f"{args.output}: {report.summary()}", values)
