#!/usr/bin/env python
"""Make weights of other origin a start for Match R-CNN, on either host.

Takes ImageNet backbones (torchvision's .pth, MSRA's .pkl) and Mask or Keypoint R-CNN of
detectron2's model zoo (.pkl). What does not fit DeepFashion2's 13 categories and 294 landmarks is
left out and listed. The output is for MODEL.WEIGHTS.
"""

import argparse
import sys
from pathlib import Path

from match_rcnn.engine.weights import KINDS, TORCHVISION_SETTINGS, convert_weights


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", type=Path, required=True, metavar="FILE")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="a .pkl file")
    parser.add_argument("--kind", choices=KINDS, default="auto", help="default: by the names")
    return parser.parse_args()


def main() -> int:
    args = parse()
    try:
        result = convert_weights(args.input, args.output, args.kind)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.output}: {len(result.weights)} weights ({result.kind})")
    for left_out in result.left_out:
        print(f"left out: {left_out}")
    if result.kind == "torchvision":
        print("train with:", *(f'{k} "{v}"' for k, v in TORCHVISION_SETTINGS.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
