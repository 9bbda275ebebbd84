#!/usr/bin/env python
"""Generate data, convert it, train, evaluate and draw: the whole chain on two CPU cores."""

import argparse
import sys
from pathlib import Path

from match_rcnn.experiments.demo import Demo, DemoSize, print_summary


def main() -> int:
    default = DemoSize()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("output/demo"))
    parser.add_argument(
        "--config-files",
        type=Path,
        nargs="+",
        default=[Path("configs/quickstart.yaml"), Path("configs/quickstart_match.yaml")],
        help="trainings, each of which starts from the weights of the one before",
    )
    parser.add_argument("--train", type=int, default=default.train, help="training images")
    parser.add_argument("--validation", type=int, default=default.validation)
    parser.add_argument("--size", type=int, default=default.pixels, help="longer side in pixels")
    parser.add_argument("--iterations", type=int, help="instead of the config's")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    size = DemoSize(args.train, args.validation, args.size, args.iterations)
    demo = Demo(args.output, size, args.config_files, args.seed)
    try:
        summary = demo.run()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print_summary(summary)
    print(f"figures:  {demo.output / 'summary.json'}")
    print(f"report:   {demo.output / 'report'}")
    print(f"pictures: {demo.output / 'pictures'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
