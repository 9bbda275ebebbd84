#!/usr/bin/env python
"""Run one benchmark: a table on the console, the figures in a JSON file."""

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

import match_rcnn.experiments.benchmarks as benchmarks
from match_rcnn.utils.files import write_json

#: What benchmarks share, and no benchmarks.
SHARED = {"harness", "rcnn"}


def names() -> list[str]:
    found = {module.name for module in pkgutil.iter_modules(benchmarks.__path__)}
    return sorted(name.replace("_", "-") for name in found - SHARED)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    subparsers = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name in names():
        module = importlib.import_module(
            f"match_rcnn.experiments.benchmarks.{name.replace('-', '_')}"
        )
        sub = subparsers.add_parser(
            name, help=(module.__doc__ or "").splitlines()[0], description=module.__doc__
        )
        sub.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    args = parser.parse_args()
    result = args.run(args)
    print(result.table())
    if args.json:
        write_json(args.json, result.to_json())
    return 0 if result.correct else 1


if __name__ == "__main__":
    sys.exit(main())
