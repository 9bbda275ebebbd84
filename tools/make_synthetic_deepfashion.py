"""Write generated data in the on-disk form of a benchmark of DeepFashion (2016).

Example: python tools/make_synthetic_deepfashion.py --benchmark category \
    --output datasets/deepfashion/category --train 2000 --val 200 --test 400
"""

import argparse
import os
import sys
from typing import Any

from match_rcnn.data.synthetic.deepfashion import IMAGES_OF, generate


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--benchmark", required=True, choices=IMAGES_OF)
    parser.add_argument("--output", required=True, metavar="DIR", help="the benchmark's folder")
    parser.add_argument("--train", type=int, default=2000, metavar="N", help="training images")
    parser.add_argument("--val", type=int, default=0, metavar="N", help="validation images")
    parser.add_argument(
        "--test", type=int, default=400, metavar="N", help="test images; in-shop: query and gallery"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--size", type=int, default=192, metavar="PIXELS", help="longer side")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="W")
    return parser.parse_args()


def _print(summary: dict[str, Any]) -> None:
    for name, value in summary.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key}: {count}" for key, count in value.items())
        print(f"  {name:12} {value}")


def main() -> int:
    """Run the command line."""
    a = _arguments()
    try:
        summary = generate(a.output, a.benchmark, a.train, a.val, a.test, a.seed, a.size, a.workers)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _print(summary)
    print(f"\nwritten to {a.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
