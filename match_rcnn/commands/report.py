"""Write a report of one or more runs: one HTML page, with everything in it, and one Markdown file
each; for several runs also index.html, with all of them side by side.

A run is the OUTPUT_DIR of tools/train_net.py: metrics.json, config.yaml and the result files below
inference/. Ground truth and photos are those that the evaluation had (data.json beside the result
files), or those of the data set's name (DETECTRON2_DATASETS), or given. Figures are called
"measured", and "measured on generated data" where the data set's folder says that a program made
it.
"""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.reporting.numbers.runs import Where
from match_rcnn.reporting.run_report import write_reports


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="OUTPUT_DIRs")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--dataset", metavar="NAME", help="which of a run's inference/NAME")
    parser.add_argument("--ground-truth", type=Path, metavar="GT", help="COCO form")
    parser.add_argument("--images", type=Path, metavar="DIR", help="the folder of the photos")
    parser.add_argument("--label", metavar="WORDS", help='in place of "measured"')
    parser.add_argument("--photos", type=int, default=6, metavar="N", help="of each kind")
    return parser


def run(args: argparse.Namespace) -> Answer:
    where = Where(args.ground_truth, args.images, args.label)
    pages = write_reports(args.results, args.output, where, args.dataset, args.photos)
    names = [str(page) for page in pages]
    return Answer("\n".join(f"report: {name}" for name in names), {"reports": names})
