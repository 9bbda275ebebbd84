"""The commands: ``match-rcnn NAME`` and the files of ``tools/``, one module each.

A command's module has ``parser(prog)``, which knows its arguments, and ``run(args)``, which does
the work and gives an :class:`Answer`. What a user can get wrong is raised, as ValueError, OSError
or ImportError; :mod:`match_rcnn.cli` says it in one line.
"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What a command says at its end.

    Attributes:
        text: for people; "" if all was said on the way.
        values: the same for machines (``--json``), made of what JSON has and numpy.
        code: the exit status.
    """

    text: str
    values: Any = None
    code: int = 0


class UsageError(ValueError):
    """Arguments that do not go together."""


def new_parser(description: str | None, prog: str | None) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as it is written.

    Args:
        prog: the command's name; None: the file that was started.
    """
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def with_generator_options(parser: argparse.ArgumentParser, size: int) -> argparse.ArgumentParser:
    """What both generators ask for. Args: size: pixels, unless another is asked for."""
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--size", type=int, default=size, metavar="PIXELS", help="longer side")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="W")
    return parser


def counts_text(counts: Mapping[str, Any]) -> str:
    """A line a count; some are counts of several things."""
    lines = []
    for name, value in counts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key}: {count}" for key, count in value.items())
        lines.append(f"  {name:15} {value}")
    return "\n".join(lines)


def converted(file: Path, report: Any, more: Mapping[str, Path] | None = None) -> Answer:
    """What became of annotations. Args: more: files of the retrieval task that were written."""
    lines = [f"{file}: {report.summary()}"]
    if more:
        lines.append(" ".join(["retrieval:", *map(str, more.values())]))
    problems = f"{file}.problems.json" if report.problems else None
    if problems:
        lines.append(f"everything that was left out: {problems}")
    return Answer("\n".join(lines), {"output": str(file), "problems": problems, **(more or {})})
