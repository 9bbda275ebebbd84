"""Signals by which a machine's owner asks a program to end soon."""

import multiprocessing
import multiprocessing.util
import signal

#: SIGTERM: kill, container runtimes, most schedulers. SIGUSR1: what SLURM jobs ask for ahead of
#: their end (``--signal=USR1@90``); Windows has none.
PREEMPTION_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)
)


def ignore_preemption(*_: object) -> None:
    """For helper processes: they get the signal too, but end when their parent lets them.

    Their parent calls :func:`kill_helpers_at_exit`.
    """
    for number in PREEMPTION_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def kill_helpers_at_exit() -> None:
    """An interpreter that ends sends its helpers SIGTERM and waits: for ever, if they ignore it."""
    # Finalizers with a priority run before that, and in this process alone.
    multiprocessing.util.Finalize(None, _kill_helpers, exitpriority=0)


def _kill_helpers() -> None:
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()
