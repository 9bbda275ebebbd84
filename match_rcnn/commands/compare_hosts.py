"""Compare what two hosts, or two versions of one, compute from one config.

Losses, gradients, weights after a few iterations, and all that is found in generated images; the
largest difference of each. Two environments at once:

    match-rcnn compare-hosts --config-file FILE --other-python VENV/bin/python

or one environment before and after an upgrade:

    match-rcnn compare-hosts --config-file FILE --save before.npz
    match-rcnn compare-hosts --config-file FILE --against before.npz

The exit status is 1 where a relative difference is larger than --tolerance.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tabulate import tabulate

import match_rcnn
from match_rcnn.commands import Answer, new_parser
from match_rcnn.d2 import HOSTS
from match_rcnn.experiments.host_comparison import (
    Observation,
    Plan,
    compare,
    load,
    made_by,
    observe,
    save,
)
from match_rcnn.utils.shipped import config_file


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    default = Plan("")
    parser.add_argument("--config-file", "--config", required=True, metavar="FILE")
    parser.add_argument("--weights", default="", metavar="FILE", help="default: from the seed")
    parser.add_argument("--iterations", type=int, default=default.iterations, metavar="N")
    parser.add_argument("--images", type=int, default=default.images, metavar="N")
    parser.add_argument("--pixels", type=int, default=default.pixels, metavar="N")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--save", type=Path, metavar="FILE", help="write this run's numbers")
    what.add_argument("--against", type=Path, metavar="FILE", help="compare with numbers of --save")
    what.add_argument("--other-python", metavar="PYTHON", help="an interpreter to compare with")
    parser.add_argument(
        "--other-host", choices=HOSTS, default="auto", help="MATCH_RCNN_HOST of --other-python"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="of the config")
    # KEY VALUE pairs may stand between flags.
    parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign]
    return parser


def observe_other(args: argparse.Namespace) -> Observation:
    """This program, with the same arguments, under the other interpreter."""
    root = Path(match_rcnn.__file__).resolve().parent.parent
    environment = {**os.environ, "MATCH_RCNN_HOST": args.other_host, "PYTHONPATH": str(root)}
    flags = ("iterations", "images", "pixels", "seed", "weights")
    given = [x for name in flags for x in (f"--{name}", str(getattr(args, name)))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "other.npz"
        command = [args.other_python, "-m", "match_rcnn", "compare-hosts", "--save", str(file)]
        command += ["--config-file", args.config_file, *given, *args.overrides]
        done = subprocess.run(command, env=environment, check=False)
        if done.returncode:
            raise ValueError(f"{args.other_python} ended with exit code {done.returncode}")
        return load(file)


def _run(args: argparse.Namespace) -> int:
    names = ("config_file", "weights", "iterations", "images", "pixels", "seed")
    args.config_file = str(config_file(args.config_file))
    plan = Plan(**{name: getattr(args, name) for name in names}, overrides=tuple(args.overrides))
    # What can fail quickly comes first.
    other = load(args.against) if args.against else None
    found = observe(plan)
    if args.save:
        save(args.save, found)
        print(f"{made_by(found)}: {len(found) - 1} arrays in {args.save}")
        return 0
    other = observe_other(args) if other is None else other
    lines = compare(found, other)
    print(f"this:  {made_by(found)}\nother: {made_by(other)}\n")
    headers = ("", "values", "different", "largest value", "difference", "relative")
    print(tabulate([vars(line).values() for line in lines], headers, floatfmt=".3g"))
    beyond = sum(line.relative > args.tolerance for line in lines)
    print(f"\n{beyond} of {len(lines)} lines differ by more than {args.tolerance:g}")
    return int(beyond > 0)


def run(args: argparse.Namespace) -> Answer:
    try:
        return Answer("", code=_run(args))
    except (ValueError, KeyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return Answer("", code=2)
