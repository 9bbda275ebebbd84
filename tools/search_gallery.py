#!/usr/bin/env python
"""Search a gallery by photo: a table of each garment's best matches, and a picture of them.

tools/search_gallery.py --index shop.gallery --query photo.jpg --top 20 --output results
tools/search_gallery.py --index shop.gallery --query photo.jpg --category skirt

The model is the one that the gallery was built with, from where it was then.
"""

import argparse
import sys
from pathlib import Path

from match_rcnn.catalogue.commands import search
from match_rcnn.retrieval.gallery.gallery import GROUPS
from match_rcnn.retrieval.gallery.search import METHODS


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--index", type=Path, required=True, help="a folder of build_gallery.py")
    parser.add_argument("--query", type=Path, required=True, metavar="PHOTO")
    parser.add_argument("--top", type=int, default=20, metavar="K")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--category", metavar="NAME", help="find items of this category only")
    which.add_argument(
        "--same-category", action="store_true", help="find items of the garment's category only"
    )
    parser.add_argument(
        "--where", metavar="SQL", help='find items that pass only, such as "price < 50"'
    )
    parser.add_argument(
        "--group-by",
        choices=(*GROUPS, "none"),
        default="product",
        help="one result a product where that is known, else a photo; a photo; or all items",
    )
    parser.add_argument("--output", type=Path, default=Path("output/search"), metavar="DIR")
    parser.add_argument("--config-file", type=Path, help="by default the gallery's own")
    parser.add_argument("--weights", help="by default the gallery's own")
    parser.add_argument("--image-root", type=Path, help="where the gallery's photos are now")
    parser.add_argument("--min-score", type=float, default=0.5, help="of a garment of the query")
    parser.add_argument("--method", choices=METHODS, default="auto")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE config overrides")
    return parser.parse_args()


def main() -> int:
    args = parse()
    try:
        search(args)
    except (ValueError, OSError, ImportError) as error:
        print(f"search_gallery: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
