"""Serve a page and a JSON API: garments of photos, and what a gallery has like them.

    match-rcnn serve
    match-rcnn serve --gallery shop.gallery --host 0.0.0.0 --port 80

With a gallery the model is the one that it was built with, unless --weights says another. Photos
that are sent are neither stored nor logged. docs/serve.md: limits, the API, who may change items.
"""

import argparse

from match_rcnn.commands import Answer, new_parser
from match_rcnn.retrieval.gallery.items import optional_module
from match_rcnn.utils.files import located


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--gallery", type=located, metavar="DIR", help="what `index` made")
    parser.add_argument("--weights", metavar="W", help="default: the gallery's own, else street")
    parser.add_argument("--config-file", "--config", metavar="C", help="as predict's")
    parser.add_argument("--image-root", type=located, help="where the gallery's photos are now")
    parser.add_argument(
        "--min-score", type=float, default=0.2, metavar="S", help="of a garment; the page can hide"
    )
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: all of this machine's")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--workers", type=int, metavar="N", help="threads of one model; default: one a core"
    )
    parser.add_argument("--max-bytes", type=int, default=16 << 20, metavar="N", help="of a photo")
    parser.add_argument("--max-pixels", type=int, default=25_000_000, metavar="N")
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="to send, and to answer"
    )
    parser.add_argument(
        "--opts", nargs="+", default=[], metavar="KEY VALUE", help="overrides of the config"
    )
    return parser


def run(args: argparse.Namespace) -> Answer:
    for package in ("starlette.applications", "uvicorn", "prometheus_client"):
        optional_module(package)
    from match_rcnn.serving.app import find_model, serve
    from match_rcnn.serving.limits import Limits

    limits = Limits(args.max_bytes, args.max_pixels, args.timeout)
    serve(
        find_model(args.gallery, args.weights, args.config_file, args.opts, args.min_score),
        args.gallery,
        args.image_root,
        limits,
        host=args.host,
        port=args.port,
        workers=args.workers,
    )
    return Answer("")
