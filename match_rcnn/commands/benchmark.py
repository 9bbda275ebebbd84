"""Run one benchmark: a table on the console, the figures in a JSON file."""

import argparse
import importlib
import pkgutil
from pathlib import Path

import match_rcnn.experiments.benchmarks as benchmarks
from match_rcnn.commands import Answer
from match_rcnn.utils.files import write_json

OWN_JSON = True  # --json FILE
#: What benchmarks share, and no benchmarks.
SHARED = {"harness", "rcnn"}


def names() -> list[str]:
    found = {module.name for module in pkgutil.iter_modules(benchmarks.__path__)}
    return sorted(name.replace("_", "-") for name in found - SHARED)


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
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
    return parser


def run(args: argparse.Namespace) -> Answer:
    result = args.run(args)
    if args.json:
        write_json(args.json, result.to_json())
    return Answer(result.table(), code=0 if result.correct else 1)
