"""Signals by which a machine's owner asks a program to end soon."""

import signal

#: SIGTERM: kill, container runtimes, most schedulers. SIGUSR1: what SLURM jobs ask for ahead of
#: their end (``--signal=USR1@90``).
PREEMPTION_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def ignore_preemption(*_: object) -> None:
    """For helper processes: they get the signal too, but end when their parent lets them."""
    for number in PREEMPTION_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
