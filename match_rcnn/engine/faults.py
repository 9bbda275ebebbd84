"""What can end a training and is no bug: for each one message, what to do about it, an exit code;
and the signals that ask a run to end.

The codes are those of ``sysexits.h``, so that they differ from Python's 1 and a shell's 128 + n.

A scheduler signals every process of a job, ``kill`` one, and torchrun each of its own; a run must
end alike in all cases. So one process's signal counts for all (:mod:`.watch` makes them agree).
"""

import errno
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from match_rcnn.d2 import comm
from match_rcnn.data.image_size import UnreadableImageError
from match_rcnn.data.problems import MissingDataError
from match_rcnn.data.readable import TooManyUnreadableError
from match_rcnn.utils.signals import PREEMPTION_SIGNALS


class TrainingFault(RuntimeError):
    """Training cannot go on; the message says why, and what to do.

    Attributes:
        exit_code: of ``tools/train_net.py``.
    """

    exit_code = 1


class DataFault(TrainingFault):
    """A data set is not there, or images of it cannot be read: one of an evaluation, or too many of
    the training set."""

    exit_code = 65  # EX_DATAERR


class NonFiniteFault(TrainingFault):
    """A loss or a weight became infinite or NaN."""

    exit_code = 70  # EX_SOFTWARE


class WorkerFault(TrainingFault):
    """A process that loads data died."""

    exit_code = 71  # EX_OSERR


class WriteFault(TrainingFault):
    """A file cannot be written: the disk is full, over its quota, read-only or broken."""

    exit_code = 74  # EX_IOERR


class Preempted(TrainingFault):
    """A signal asked for the end; ``--resume`` goes on.

    Args:
        agreed: whether all processes of the run end now, and not this one alone.
    """

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, message: str, agreed: bool = False) -> None:
        super().__init__(message)
        self.agreed = agreed


class PeerFault(TrainingFault):
    """Another process of the run ended, which says why."""

    exit_code = 76  # EX_PROTOCOL


class Leave(BaseException):
    """Carries a fault out of the training loop, past the host's handlers of errors.

    Args:
        fault: None where training ends as it should, but before its last iteration.
    """

    def __init__(self, fault: TrainingFault | None = None) -> None:
        super().__init__(fault)
        self.fault = fault


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_WORKER = (
    "a process that loads data died: {} Memory is the usual cause: lower DATALOADER.NUM_WORKERS, "
    "or give the machine or container more memory (/dev/shm too)."
)
#: Parts of what gloo and NCCL say when the other side is gone.
_PEER = ("connection closed by peer", "connection reset by peer", "nccl error", "broken pipe")


def explain(error: BaseException, output_dir: str) -> TrainingFault | None:
    """The fault behind an error; None if it is none that is known here, such as a bug.

    Args:
        output_dir: named where the error does not say which file it is about.
    """
    if isinstance(error, TrainingFault):
        return error
    text = str(error)
    disk = explain_writing(error, f"into OUTPUT_DIR {output_dir}")
    if disk is not None:
        return disk
    if _lost_its_worker(error):
        return WorkerFault(_WORKER.format(f"{type(error).__name__}: {text}"))
    if isinstance(error, TooManyUnreadableError):
        return DataFault(_own_words(text))
    if isinstance(error, UnreadableImageError):
        return DataFault(f"{_own_words(text)}. Restore it, or leave it out of the data set.")
    if isinstance(error, MissingDataError):
        return DataFault(_own_words(text))
    if isinstance(error, RuntimeError) and "DataLoader worker" in text:
        return WorkerFault(_WORKER.format(text.splitlines()[0].strip()))
    if comm.get_world_size() > 1 and any(part in text.lower() for part in _PEER):
        return PeerFault("another process of this run ended; its message says why")
    return None


def _lost_its_worker(error: BaseException) -> bool:
    """Whether the loader was about to take a batch from a worker that is gone: then torch's message
    about its death comes too late."""
    if not isinstance(error, EOFError | ConnectionError | FileNotFoundError):
        return False
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    from_loader = any(name.endswith("torch/utils/data/dataloader.py") for name in frames)
    return from_loader and "multiprocessing" in frames[-1]


def explain_writing(error: BaseException | None, where: str) -> WriteFault | None:
    """The fault of a disk behind ``error``, also where torch.save raised one of its own after it.

    Args:
        where: the file, for errors that do not say it.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK:
            return WriteFault(
                f"cannot write {error.filename or where}: {error.strerror}. Make room "
                "(SOLVER.CHECKPOINTS_KEPT limits the checkpoints) or choose another OUTPUT_DIR."
            )
        error = error.__cause__ or error.__context__
    return None


def _own_words(text: str) -> str:
    """An error's message without the traceback that errors of a loader's workers come with."""
    if "Traceback (most recent call last)" not in text:
        return text
    return text.strip().splitlines()[-1].split(": ", 1)[-1]


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
