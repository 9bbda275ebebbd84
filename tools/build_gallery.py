#!/usr/bin/env python
"""Index a catalogue of photos, so that it can be searched by photo.

    tools/build_gallery.py --config-file C --weights W --catalogue photos --output shop.gallery
    tools/build_gallery.py ... --catalogue catalogue.json --boxes annotated
    tools/build_gallery.py ... --num-gpus 8      (or: torchrun --nproc-per-node 8 tools/build...)
    tools/build_gallery.py ... --index ivf       (for large galleries; needs match_rcnn[index])

The same command goes on after an interruption and takes in new photos. Photos that cannot be read
are listed in OUTPUT/report.json.
"""

import argparse
import sys
from pathlib import Path

from match_rcnn.engine.launch import launch
from match_rcnn.retrieval.gallery.commands import build
from match_rcnn.retrieval.gallery.faiss import KINDS
from match_rcnn.retrieval.gallery.indexing import BOXES


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument(
        "--catalogue", type=Path, required=True, metavar="FOLDER|COCO.json", help="the photos"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="INDEX")
    parser.add_argument(
        "--image-root",
        type=Path,
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
    parser.add_argument("--min-score", type=float, default=0.5, help="of a detected garment")
    parser.add_argument("--index", choices=KINDS, help="build a FAISS index at the end")
    parser.add_argument("--target-recall", type=float, default=0.95, help="of the index, at 20")
    parser.add_argument("--num-gpus", type=int, default=1, help="processes; on the CPU as well")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE config overrides")
    return parser.parse_args()


def main() -> int:
    args = parse()
    try:
        launch(build, args.num_gpus, dist_url="auto", args=(args,))
    except (ValueError, OSError, ImportError) as error:
        print(f"build_gallery: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
