#!/usr/bin/env python
"""Train or evaluate Match R-CNN.

    tools/train_net.py --config-file configs/quickstart.yaml
    tools/train_net.py --config-file ... --num-gpus 8
    tools/train_net.py --config-file ... --resume
    tools/train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/model_final.pth

    tools/train_net.py --config-file ... --data shop.yaml DATASETS.TRAIN "('shop_train',)"

``--data`` names a yaml of data sets of your own (docs/your_data.md); ``KEY VALUE`` pairs at the end
override the config.
"""

import sys

from match_rcnn.d2 import PathManager, default_argument_parser
from match_rcnn.engine.run import run_program


def main() -> int:
    parser = default_argument_parser(epilog=__doc__)
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="FILE",
        help="a yaml that describes data sets",
    )
    args = parser.parse_args()
    if not args.config_file:
        parser.error("--config-file is needed; configs/quickstart.yaml is a first one")
    if not PathManager.isfile(args.config_file):
        parser.error(f"there is no config file {args.config_file}")
    return run_program(args)


if __name__ == "__main__":
    sys.exit(main())
