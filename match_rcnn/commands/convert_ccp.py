"""Convert Clothing Co-Parsing (1,004 street photos with pixel maps) into one COCO file.

Reads a clone of the public repository bearpaw/clothing-co-parsing. Each label of a map becomes an
item of one of DeepFashion2's categories, as the labels file says photo by photo, with a box and
polygons; what cannot be told becomes an ignore region. Needs pip install 'match_rcnn[ccp]'.
"""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, converted, new_parser
from match_rcnn.data.sources.ccp import LABELS, SPLITS, convert_ccp


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--root", type=Path, required=True, metavar="CLONE")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--labels",
        type=Path,
        default=LABELS,
        metavar="FILE",
        help="what each label of each photo is (default: the one that comes with the package)",
    )
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default="all",
        help="which photos: those kept for validation, the others, or all (default)",
    )
    return parser


def run(args: argparse.Namespace) -> Answer:
    chosen = {"labels": args.labels, "split": args.split}
    return converted(args.output, convert_ccp(args.root, args.output, **chosen, progress=True))
