"""Index a catalogue of photos, so that it can be searched by photo.

    match-rcnn index --config-file C --weights W --catalogue photos --output shop.gallery
    match-rcnn index ... --catalogue catalogue.json --boxes annotated
    match-rcnn index ... --catalogue deepfashion_inshop_gallery --boxes annotated
    match-rcnn index ... --num-gpus 8      (or: torchrun --nproc-per-node 8 tools/build...)
    match-rcnn index ... --index ivf       (for large galleries; needs match_rcnn[index])
    match-rcnn index ... --engine ray --address auto    (needs match_rcnn[ray])
    match-rcnn index --convert OLD --output NEW    (a gallery of format 1)

The same command goes on after an interruption and takes in new photos. Photos that cannot be read
are listed in OUTPUT/report.json. Photos, gallery and COCO file may lie in an object store (s3://...).
"""

import argparse
from pathlib import Path

from match_rcnn.catalogue.commands import build
from match_rcnn.catalogue.indexing import BOXES, REPORT
from match_rcnn.commands import Answer, UsageError, new_parser
from match_rcnn.engine.launch import launch
from match_rcnn.retrieval.gallery.index import KINDS
from match_rcnn.utils.files import located, read_json
from match_rcnn.utils.shipped import config_file


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--config-file", "--config", type=Path)
    parser.add_argument("--weights")
    parser.add_argument(
        "--catalogue",
        type=located,
        metavar="FOLDER|COCO.json",
        help="the photos; or a data set's name",
    )
    parser.add_argument("--convert", type=Path, metavar="OLD", help="a gallery of format 1")
    parser.add_argument("--output", type=located, required=True, metavar="INDEX")
    parser.add_argument(
        "--image-root",
        type=located,
        metavar="FOLDER",
        help="where a COCO file's photos are; by default its own folder, or ROOT/SPLIT/image for "
        "ROOT/annotations/SPLIT.json",
    )
    parser.add_argument(
        "--boxes",
        choices=BOXES,
        default="detected",
        help="garments that the model finds, or those of the COCO file",
    )
    parser.add_argument(
        "--min-score",
        type=float,
        metavar="S",
        help="of a detected garment; default: the model's own, else 0.5",
    )
    parser.add_argument("--index", choices=KINDS, help="build a FAISS index at the end")
    parser.add_argument("--target-recall", type=float, default=0.95, help="of the index, at 20")
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="ray: a cluster's machines"
    )
    parser.add_argument("--address", help="of the Ray cluster; by default one on this machine")
    parser.add_argument("--num-gpus", type=int, default=1, help="processes; on the CPU as well")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE config overrides")
    return parser


def run(args: argparse.Namespace) -> Answer:
    missing = [n for n in ("weights", "catalogue") if getattr(args, n) is None]
    if missing and not args.convert:
        raise UsageError(f"--{missing[0].replace('_', '-')} is needed to index photos")
    if args.config_file:
        args.config_file = config_file(args.config_file)
    launch(build, args.num_gpus, dist_url="auto", args=(args,))
    report = Path(args.output) / REPORT
    return Answer("", read_json(report) if report.is_file() else {"gallery": str(args.output)})
