"""A parallel ``map`` that keeps the order and holds little."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

_T = TypeVar("_T")


@contextmanager
def ordered_map(function: Callable[[int], _T], count: int, workers: int) -> Iterator[Iterator[_T]]:
    """An iterator over ``function(0), ..., function(count - 1)``, computed in processes.

    Worker ``i`` computes ``i``, ``i + workers``, ... and waits until each result is taken, so at
    most two results a worker exist at any time. An exception in a worker is raised from the
    iterator at its place. The workers start with the block (so start it before any thread, such
    as a progress bar's) and end with it, however it ends; with one worker there is no process.

    Args:
        function: picklable, as are its results.
        workers: at least 1.
    """
    workers = max(1, min(workers, count))
    if workers == 1:
        yield map(function, range(count))
        return
    fork = can_fork()
    context: Any = multiprocessing.get_context("fork" if fork else "spawn")
    team: list[tuple[BaseProcess, Connection]] = []
    try:
        for first in range(workers):
            reader, writer = context.Pipe(duplex=False)
            # Under fork a worker inherits the reader and must close it: then a worker whose
            # parent was killed fails to send, and ends.
            inherited = reader if fork else None
            arguments = (function, range(first, count, workers), writer, inherited)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            writer.close()
            team.append((process, reader))
        yield _receive([reader for _, reader in team], count)
    finally:
        for process, reader in team:
            process.terminate()
            process.join()
            reader.close()


def available_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def can_fork() -> bool:
    """Forking is the quickest start, and safe only while this process has one thread."""
    return "fork" in multiprocessing.get_all_start_methods() and threading.active_count() == 1


def _receive(readers: list[Connection], count: int) -> Iterator[_T]:
    for index in range(count):
        try:
            result, error = readers[index % len(readers)].recv()
        except EOFError:
            raise RuntimeError("a worker process died; is the machine short of memory?") from None
        if error is not None:
            raise error
        yield result


def _work(
    function: Callable[[int], _T], indices: range, writer: Connection, inherited: Connection | None
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if inherited is not None:
        inherited.close()
    result: _T | None
    failure: Exception | None
    with contextlib.suppress(BrokenPipeError):
        for index in indices:
            try:
                result, failure = function(index), None
            except Exception as error:
                result, failure = None, error
            writer.send((result, failure))
