"""Find the garments of photos, folders, lists of files (.txt) and videos.

    match-rcnn predict photos/ clip.mp4 --output out
    match-rcnn predict photos/ --output out --format coco,pictures --score-threshold 0.3
    match-rcnn predict photo.jpg --output out --weights output/model_final.pth --config quickstart

OUT/predictions.jsonl has a line for each photo and video frame; coco and parquet make files of it,
pictures draws. The same command goes on after an interruption, and takes in new photos. Files that
cannot be read are listed in OUT/report.json.

Weights are those of a model that comes with the package, a file (safetensors or a checkpoint), an
address with a checksum (https://...#sha256=...), or hf://owner/repository/file.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from match_rcnn.commands import Answer, new_parser
from match_rcnn.utils.memory import bound_primitives

if TYPE_CHECKING:
    from match_rcnn.inference.predictor import MatchRCNNPredictor


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    add_model(parser)
    parser.add_argument(
        "--format",
        default="jsonl",
        metavar="F,F",
        help="of jsonl (always written), coco, parquet, pictures",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each n-th video frame")
    parser.add_argument("--embeddings", action="store_true", help="write garments' vectors too")
    parser.add_argument(
        "--batch", type=int, default=16, metavar="N", help="images at once, at most"
    )
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """Arguments that say a model."""
    parser.add_argument("--weights", default="street", metavar="W", help="default: street")
    parser.add_argument(
        *("--config", "--config-file"),
        metavar="C",
        help="file, or name of a config of the package; default: the model file's own, or the "
        "config.yaml beside a checkpoint",
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        metavar="S",
        help="default: the model's own (TEST.SHOWN_FROM), 0.5 where it has none",
    )
    parser.add_argument(
        "--opts", nargs="+", default=[], metavar="KEY VALUE", help="overrides of the config"
    )


def predictor_of(args: argparse.Namespace) -> "MatchRCNNPredictor":
    """The model that :func:`add_model`'s arguments say."""
    from match_rcnn.inference.predictor import MatchRCNNPredictor
    from match_rcnn.inference.weights import model_config, shown_from

    bound_primitives()
    cfg = model_config(args.weights, args.config, args.opts)
    return MatchRCNNPredictor(cfg, shown_from(cfg, args.score_threshold))


def run(args: argparse.Namespace) -> Answer:
    from match_rcnn.inference.predict_files import predict_files

    report = predict_files(
        predictor_of(args),
        args.paths,
        args.output,
        formats=[name.strip() for name in args.format.split(",")],
        every=args.every,
        embeddings=args.embeddings,
        batch=args.batch,
        progress=True,
    )
    return Answer(str(report), report.to_json())
