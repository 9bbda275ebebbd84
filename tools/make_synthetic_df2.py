"""Write a generated DeepFashion2 in its on-disk format.

Example: python tools/make_synthetic_df2.py --output data --train 1500 --validation 300
"""

import argparse
import os
import sys
from typing import Any

from match_rcnn.data.synthetic import generate


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", required=True, metavar="DIR", help="ROOT of the data")
    parser.add_argument("--train", type=int, default=1500, metavar="N", help="training images")
    parser.add_argument(
        "--validation", type=int, default=300, metavar="M", help="validation images"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--size", type=int, default=256, metavar="PIXELS", help="longer side")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="W")
    return parser.parse_args()


def _print(summary: dict[str, Any]) -> None:
    for split, counts in summary["splits"].items():
        print(f"\n{split}")
        for name, value in counts.items():
            if isinstance(value, dict):
                value = ", ".join(f"{key}: {count}" for key, count in value.items())
            print(f"  {name:15} {value}")


def main() -> int:
    """Run the command line."""
    a = _arguments()
    try:
        summary = generate(a.output, a.train, a.validation, a.seed, a.size, a.workers)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _print(summary)
    print(f"\nwritten to {a.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
