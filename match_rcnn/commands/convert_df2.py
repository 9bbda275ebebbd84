"""Convert a split of DeepFashion2 into one COCO file.

Reads ROOT/SPLIT/image and ROOT/SPLIT/annos. The output is, value for value, what DeepFashion2's
official converter gives, with the keys that it drops. What is broken is left out and listed in
FILE.problems.json. --retrieval writes the ground truth of the retrieval task as well.
"""

import argparse
import signal
import sys
from pathlib import Path

from match_rcnn.commands import Answer, converted, new_parser
from match_rcnn.data.conversion import ON_ERROR, convert
from match_rcnn.data.retrieval_truth import truth_paths


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--root", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--split", required=True, help="such as train or validation")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--compact",
        action="store_true",
        help="keep each category's own landmarks only, not zeros for the other categories'; "
        "our loaders read both, COCO tools need the default",
    )
    parser.add_argument(
        "--retrieval",
        type=Path,
        metavar="PREFIX",
        help="also write PREFIX_query.json, the items of consumer photos, and PREFIX_gallery.json, "
        "those of shop photos: the official ground truth of the retrieval task",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: by cores and images)"
    )
    parser.add_argument(
        "--on-error",
        choices=ON_ERROR,
        default="report",
        help="leave broken items out and list them, or end at the first",
    )
    return parser


def run(args: argparse.Namespace) -> Answer:
    # An exception rather than sudden death: the unfinished file is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    report = convert(
        args.root,
        args.split,
        args.output,
        compact=args.compact,
        workers=args.workers,
        on_error=args.on_error,
        retrieval=args.retrieval,
        progress=True,
    )
    return converted(args.output, report, args.retrieval and truth_paths(args.retrieval))
