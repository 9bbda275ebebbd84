"""A whole run as a program: its processes, one message for what ended it, and an exit code."""

import argparse
import logging
import multiprocessing
import signal
import sys
import threading
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from torch.multiprocessing import ProcessExitedException

from match_rcnn.d2 import comm
from match_rcnn.engine.faults import Preempted, TrainingFault, explain, explain_writing
from match_rcnn.engine.launch import launch
from match_rcnn.engine.preemption import hand_on_signals
from match_rcnn.engine.run import train_or_evaluate

logger = logging.getLogger(__name__)


def run_program(args: argparse.Namespace) -> int:
    """Train or evaluate in the processes that ``args`` asks for.

    Returns:
        The exit code: 0, or that of the :class:`TrainingFault` that ended the run.
    """
    code: Any = multiprocessing.get_context("spawn").Value("i", 0)
    _quiet_threads()
    hand_on_signals()
    try:
        launch(
            _run_process,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args, code),
        )
    except ProcessExitedException as error:
        if not code.value:
            code.value = _code_of(error)
    return int(code.value)


def _run_process(args: argparse.Namespace, code: "Synchronized[int]") -> None:
    """One process of a run; sets ``code`` if it is the first that a fault ends."""
    _quiet_threads()  # for processes that were started, too
    try:
        train_or_evaluate(args)
    except Exception as error:
        fault = explain(error, "of the config")
        if fault is None:
            raise
        with code.get_lock():
            code.value = code.value or fault.exit_code
        _say(fault)
        # Alone, or when all end now, this is a process that did its work. Otherwise the others
        # wait for it: its exit code is what makes its parent end them.
        agreed = isinstance(fault, Preempted) and fault.agreed
        if comm.get_world_size() > 1 and not agreed:
            raise SystemExit(fault.exit_code) from None


def _quiet_threads() -> None:
    """TensorBoard writes in a thread: a full disk there is told by the next one who writes."""
    usual = threading.excepthook

    def hook(args: Any) -> None:
        if explain_writing(args.exc_value, "") is None:
            usual(args)

    threading.excepthook = hook
    logging.raiseExceptions = False  # a log on a full disk is no reason for a traceback a line


def _say(fault: TrainingFault) -> None:
    """In the log; on the console as well where a process's log does not go there."""
    level = logging.WARNING if isinstance(fault, Preempted) else logging.ERROR
    logger.log(level, "%s (exit code %d)", fault, fault.exit_code)
    if not comm.is_main_process() and not getattr(fault, "agreed", False):
        print(f"process {comm.get_rank()}: {fault}", file=sys.stderr, flush=True)


def _code_of(error: ProcessExitedException) -> int:
    """Of a process that ended without a word, such as one that the system killed."""
    if error.exit_code >= 0:
        return int(error.exit_code)
    number = -error.exit_code
    name = signal.Signals(number).name
    if name in ("SIGTERM", "SIGUSR1"):
        return Preempted.exit_code  # before its training began
    print(
        f"process {error.error_index} of this run was ended by {name}; with SIGKILL it is mostly "
        "the system, for want of memory. --resume goes on from the last checkpoint.",
        file=sys.stderr,
    )
    return 128 + number
