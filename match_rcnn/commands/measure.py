"""Measure garments in photos: length, shoulders, chest, waist, hem, sleeve, inseam, neck depth, ...

    match-rcnn measure photo.jpg --output out
    match-rcnn measure photo.jpg --known length=70
    match-rcnn measure photos/ --reference 40,60,250,357=21x29.7 --json

Lengths come in pixels, as ratios to the garment's length and, where a scale is given, in cm: by
a length that is known (--known, of the most confident garment that has it, or of a category's:
trousers:length=104), or by an object of known size in the same plane (--reference: its box in
pixels = its width x height in cm). Lengths that rest on landmarks that are uncertain say so.
DIR/pictures shows them, DIR/measures.json holds the numbers; docs/measures.md says more.
"""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.commands.predict import add_model, predictor_of


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--output", type=Path, metavar="DIR", help="for pictures and numbers")
    add_model(parser)
    parser.add_argument("--known", metavar="NAME=CM", help="a length in each photo")
    parser.add_argument("--reference", metavar="X1,Y1,X2,Y2=WxH", help="an object in each photo")
    parser.add_argument("--measures", type=Path, metavar="FILE", help="rules of one's own")
    parser.add_argument(
        "--landmark-threshold",
        type=float,
        default=0.05,
        metavar="S",
        help="landmarks with a lower score are uncertain",
    )
    return parser


def run(args: argparse.Namespace) -> Answer:
    from match_rcnn.inference.measure_files import measure_files
    from match_rcnn.inference.measures import FILE

    measured = measure_files(
        predictor_of(args),
        args.paths,
        args.output,
        known=args.known,
        reference=args.reference,
        rules_file=args.measures or FILE,
        threshold=args.landmark_threshold,
    )
    return Answer(str(measured), measured.to_json())
