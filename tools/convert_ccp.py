#!/usr/bin/env python
"""Convert Clothing Co-Parsing (1,004 street photos with pixel maps) into one COCO file.

Reads a clone of the public repository bearpaw/clothing-co-parsing. Each label of a map becomes an
item of one of DeepFashion2's categories, as the labels file says photo by photo, with a box and
polygons; what cannot be told becomes an ignore region. Needs pip install 'match_rcnn[ccp]'.
"""

import argparse
import sys
from pathlib import Path

from match_rcnn.data.sources.ccp import LABELS, SPLITS, convert_ccp


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    try:
        report = convert_ccp(
            args.root, args.output, labels=args.labels, split=args.split, progress=True
        )
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    print(f"{args.output}: {report.summary()}")
    if report.problems:
        print(f"everything that was left out: {args.output}.problems.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
