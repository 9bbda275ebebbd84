"""Where log messages go."""

import atexit
import copy
import functools
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from tabulate import tabulate
from termcolor import colored

from .file_io import PathManager

__all__ = ["create_small_table", "setup_logger"]

_PACKAGE = __name__.rsplit(".", 2)[0]
_DATE = "%m/%d %H:%M:%S"


class _ColorFormatter(logging.Formatter):
    """Colours warnings and errors, and shortens one logger's name."""

    def __init__(self, format: str, root: str, abbreviation: str) -> None:
        super().__init__(format, datefmt=_DATE)
        self._root, self._abbreviation = root, abbreviation

    def formatMessage(self, record: logging.LogRecord) -> str:
        if self._root and (record.name + ".").startswith(self._root + "."):
            # A copy: other handlers show the full name.
            record = copy.copy(record)
            record.name = self._abbreviation + record.name[len(self._root) :]
        text = super().formatMessage(record)
        if record.levelno == logging.WARNING:
            return colored("WARNING", "red", attrs=["blink"]) + " " + text
        if record.levelno >= logging.ERROR:
            return colored("ERROR", "red", attrs=["blink", "underline"]) + " " + text
        return text


@functools.lru_cache
def setup_logger(
    output: str | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = _PACKAGE,
    abbrev_name: str | None = None,
    enable_propagation: bool = False,
    configure_stdout: bool = True,
) -> logging.Logger:
    """Make a logger write everything from DEBUG up.

    Calling it again with equal arguments does nothing more.

    Args:
        output: a folder for ``log.txt``, or a file's name ending in .txt or .log; None writes no
            file. Ranks above 0 add ``.rank<N>``.
        distributed_rank: rank 0 writes to the console too.
        color: on the console.
        name: of the logger; all loggers below it take part.
        abbrev_name: shown in place of ``name`` on the console, if in colour.
        enable_propagation: hand messages on to the loggers above as well.
        configure_stdout: False writes nothing to the console.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = enable_propagation
    if abbrev_name is None:
        abbrev_name = "lite" if name == _PACKAGE else name
    plain = logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s", datefmt=_DATE)
    if configure_stdout and distributed_rank == 0:
        bright = colored("[%(asctime)s %(name)s]: ", "green") + "%(message)s"
        formatter = _ColorFormatter(bright, name, abbrev_name) if color else plain
        _add_handler(logger, logging.StreamHandler(stream=sys.stdout), formatter)
    if output is not None:
        file = logging.StreamHandler(_log_stream(_log_file(output, distributed_rank)))
        _add_handler(logger, file, plain)
    return logger


def _add_handler(
    logger: logging.Logger, handler: logging.Handler, formatter: logging.Formatter
) -> None:
    handler.setLevel(logging.DEBUG)
    handler.setFormatter(formatter)
    logger.addHandler(handler)


def _log_file(output: str, rank: int) -> str:
    output = os.fspath(output)
    name = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
    return f"{name}.rank{rank}" if rank > 0 else name


@functools.lru_cache
def _log_stream(filename: str) -> TextIO:
    """One stream per file, for all loggers that write to it."""
    PathManager.mkdirs(os.path.dirname(filename) or ".")
    # By lines: what a killed process logged last is what one wants to read.
    stream: TextIO = PathManager.open(filename, "a", buffering=1)
    atexit.register(stream.close)
    return stream


def create_small_table(small_dict: Mapping[str, Any]) -> str:
    """A table of one row, the keys as its head: for a few figures."""
    return tabulate(
        [tuple(small_dict.values())],
        headers=list(small_dict),
        tablefmt="pipe",
        floatfmt=".3f",
        stralign="center",
        numalign="center",
    )
