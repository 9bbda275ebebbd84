"""Generate data, convert it, train, evaluate and draw: the whole chain on two CPU cores."""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.experiments.demo import Demo, DemoSize, print_summary
from match_rcnn.utils.shipped import config_file


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    default = DemoSize()
    parser = new_parser(__doc__, prog)
    parser.add_argument("--output", type=Path, default=Path("output/demo"))
    parser.add_argument(
        *("--config-files", "--configs"),
        type=Path,
        nargs="+",
        default=[Path("quickstart"), Path("quickstart_match")],
        help="trainings, each of which starts from the weights of the one before",
    )
    parser.add_argument("--train", type=int, default=default.train, help="training images")
    parser.add_argument("--validation", type=int, default=default.validation)
    parser.add_argument("--size", type=int, default=default.pixels, help="longer side in pixels")
    parser.add_argument("--iterations", type=int, help="instead of the config's")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def run(args: argparse.Namespace) -> Answer:
    size = DemoSize(args.train, args.validation, args.size, args.iterations)
    demo = Demo(args.output, size, [config_file(one) for one in args.config_files], args.seed)
    summary = demo.run()
    print_summary(summary)
    lines = (
        f"figures:  {demo.output / 'summary.json'}",
        f"report:   {demo.output / 'report'}",
        f"pictures: {demo.output / 'pictures'}",
    )
    return Answer("\n".join(lines), summary)
