"""Train or evaluate Match R-CNN.

    match-rcnn train --config quickstart
    match-rcnn train --config ... --num-gpus 8
    match-rcnn train --config ... --resume
    match-rcnn train --config ... --eval-only MODEL.WEIGHTS output/model_final.pth

    match-rcnn train --config ... --data shop.yaml DATASETS.TRAIN "('shop_train',)"

``--config`` (or ``--config-file``) takes a file or the name of a config that comes with the
package; ``--data`` names a yaml of data sets of your own (docs/your_data.md); ``KEY VALUE`` pairs
at the end override the config. From a clone, torchrun and SLURM start tools/train_net.py, which is
the same.
"""

import argparse

from match_rcnn.commands import Answer, UsageError
from match_rcnn.d2 import default_argument_parser
from match_rcnn.engine.run import run_program
from match_rcnn.utils.shipped import config_file

#: Faults of a run are told by the run; anything else is a bug and keeps its traceback.
EXPECTED: tuple[type[Exception], ...] = (UsageError,)


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = default_argument_parser(epilog=__doc__)
    parser.prog = prog or parser.prog
    parser.add_argument("--config", dest="config_file", metavar="NAME", help="as --config-file")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="FILE",
        help="a yaml that describes data sets",
    )
    return parser


def run(args: argparse.Namespace) -> Answer:
    if not args.config_file:
        raise UsageError("--config-file is needed; configs/quickstart.yaml is a first one")
    try:
        if "://" not in args.config_file:
            args.config_file = str(config_file(args.config_file))
    except FileNotFoundError as error:
        raise UsageError(str(error)) from error
    code = run_program(args)
    return Answer("", {"exit_code": code}, code)
