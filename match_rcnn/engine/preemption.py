"""Signals that ask a run to end: a trainer notes them, a process that started others hands them on.

A scheduler signals every process of a job, ``kill`` one, and torchrun each of its own; a run must
end alike in all cases. So one process's signal counts for all (:mod:`.watch` makes them agree).
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from match_rcnn.engine.faults import Leave, Preempted
from match_rcnn.utils.signals import PREEMPTION_SIGNALS


class PreemptionSignals:
    """A context in which SIGTERM and SIGUSR1 are noted and do nothing else.

    Attributes:
        received: the first signal's name; "" as long as there was none.
    """

    def __init__(self) -> None:
        self.received = ""
        self._leave_at_once = False
        self._process = -1
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "PreemptionSignals":
        # Python delivers signals to its main thread only, and lets no other set handlers.
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            self._before = {n: signal.signal(n, self._note) for n in PREEMPTION_SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: object) -> None:
        if os.getpid() != self._process:
            return  # a forked helper, such as a loader's worker: it ends with its parent
        self.received = self.received or signal.Signals(number).name
        self._check()

    def _check(self) -> None:
        if self.received and self._leave_at_once:
            raise Leave(
                Preempted(f"{self.received} during an evaluation, which --resume does again.")
            )

    @contextmanager
    def leave_at_once(self) -> Iterator[None]:
        """Within, a signal (one from before, too) raises :class:`Leave` right away: for work that
        changes nothing and takes long."""
        self._leave_at_once = True
        try:
            self._check()
            yield
        finally:
            self._leave_at_once = False


def hand_on_signals() -> None:
    """From now on this process passes the signals to the processes that it started, and ends, with
    :class:`Preempted`'s exit code, if there are none."""

    def hand_on(number: int, frame: object) -> None:
        children = multiprocessing.active_children()
        for child in children:
            if child.pid is not None:
                os.kill(child.pid, number)
        if not children:
            raise SystemExit(Preempted.exit_code)

    for number in PREEMPTION_SIGNALS:
        signal.signal(number, hand_on)
