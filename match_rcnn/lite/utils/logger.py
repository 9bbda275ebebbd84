"""Where log messages go."""

import atexit
import copy
import functools
import logging
import os
import sys
from typing import TextIO

from termcolor import colored

from .file_io import PathManager

__all__ = ["setup_logger"]

_PACKAGE = __name__.rsplit(".", 2)[0]
_DATE = "%m/%d %H:%M:%S"


class _ColorFormatter(logging.Formatter):
    """Colours warnings and errors, and calls this package "lite"."""

    def __init__(self, format: str) -> None:
        super().__init__(format, datefmt=_DATE)

    def formatMessage(self, record: logging.LogRecord) -> str:
        if f"{record.name}.".startswith(f"{_PACKAGE}."):
            # A copy: other handlers show the full name.
            record = copy.copy(record)
            record.name = "lite" + record.name[len(_PACKAGE) :]
        text = super().formatMessage(record)
        if record.levelno >= logging.WARNING:
            return colored(record.levelname, "red", attrs=["bold"]) + " " + text
        return text


@functools.lru_cache
def setup_logger(
    output: str | None = None, distributed_rank: int = 0, *, name: str = _PACKAGE
) -> logging.Logger:
    """Let a logger, and all below it, write: to the console in colours, and to a file.

    Calling it again with equal arguments does nothing more.

    Args:
        output: a folder for ``log.txt``, or a file's name ending in .txt or .log; None writes no
            file. Ranks above 0 add ``.rank<N>``.
        distributed_rank: only rank 0 writes to the console.
        name: of the logger.
    """
    handlers: list[logging.Handler] = []
    if distributed_rank == 0:
        handlers.append(logging.StreamHandler(sys.stdout))
        bright = colored("[%(asctime)s %(name)s]: ", "green") + "%(message)s"
        handlers[0].setFormatter(_ColorFormatter(bright))
    if output is not None:
        handlers.append(logging.StreamHandler(_log_stream(_log_file(output, distributed_rank))))
        plain = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"
        handlers[-1].setFormatter(logging.Formatter(plain, datefmt=_DATE))
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    # The loggers above would write everything a second time.
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    return logger


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
