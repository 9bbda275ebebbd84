"""Search a gallery by photo or words: a table of the best matches, and a picture of them.

match-rcnn search --index shop.gallery --query photo.jpg --top 20 --output results
match-rcnn search --index shop.gallery --query photo.jpg --category skirt
match-rcnn search --index shop.gallery --text "striped dress"
match-rcnn search --index shop.gallery --query photo.jpg --change "pattern=striped"

The model is the one that the gallery was built with, from where it was then.
"""

import argparse
from pathlib import Path

from match_rcnn.catalogue.commands import search
from match_rcnn.commands import Answer, new_parser
from match_rcnn.retrieval.gallery.gallery import GROUPS
from match_rcnn.retrieval.gallery.search import METHODS
from match_rcnn.utils.files import located


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--index", type=located, required=True, help="what `index` made")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--query", type=Path, metavar="PHOTO")
    query.add_argument("--text", metavar="WORDS", help="of a gallery of a model that learned words")
    parser.add_argument("--top", type=int, default=20, metavar="K")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--category", metavar="NAME", help="find items of this category only")
    which.add_argument(
        "--same-category", action="store_true", help="find items of the garment's category only"
    )
    parser.add_argument(
        "--change",
        action="append",
        default=[],
        metavar="TYPE=VALUE",
        help="find the garment with this value in place of its own, such as pattern=striped; once "
        "a type; of a gallery of a model that exchanges attributes",
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
    parser.add_argument(
        "--shortlist",
        type=int,
        metavar="N",
        help="of a model with a similarity: it orders the best N; 0: none; else TEST.SHORTLIST",
    )
    parser.add_argument("--output", type=Path, default=Path("output/search"), metavar="DIR")
    parser.add_argument("--config-file", "--config", type=Path, help="by default the gallery's own")
    parser.add_argument("--weights", help="by default the gallery's own")
    parser.add_argument("--image-root", type=located, help="where the gallery's photos are now")
    parser.add_argument(
        "--min-score",
        type=float,
        metavar="S",
        help="of a garment of the query; default: the model's own, else 0.5",
    )
    parser.add_argument("--method", choices=METHODS, default="auto")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE config overrides")
    return parser


def run(args: argparse.Namespace) -> Answer:
    return Answer(*search(args))
