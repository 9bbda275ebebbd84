"""One model for all requests: threads that share its memory, and photos that go together.

torch gives up Python's lock while it computes, so threads of one process work side by side, and a
thread more costs no second model. A worker that is free takes the photo that has waited longest
and those of its size that wait as well; nothing waits for a batch to fill. Decoding is done by the
same threads and comes first, so that a crowd's photos are there together, and there are never more
threads at work than workers.

On the CPU each worker has its share of the cores, of no more than torch was given.
"""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import torch

from match_rcnn.inference.bulk import Batches, Ready
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.structures import Garment

T = TypeVar("T")


class _Job(NamedTuple):
    ready: Ready
    finish: Callable[[list[Garment]], Any]
    result: "Future[Any]"


class Batcher:
    """A predictor behind a queue.

    Args:
        workers: threads.
        batch: photos at once, at most.
        seen: is told each batch's size.
    """

    def __init__(
        self,
        predictor: MatchRCNNPredictor,
        workers: int = 1,
        batch: int = 8,
        seen: Callable[[int], object] = lambda size: None,
    ) -> None:
        self._batches, self._batch, self._seen = Batches(predictor), batch, seen
        self._waiting: deque[_Job] = deque()
        self._lock = Lock()
        threads = max(1, min(torch.get_num_threads(), cores() // workers))
        self._pool = ThreadPoolExecutor(
            workers, "serve", initializer=torch.set_num_threads, initargs=(threads,)
        )

    def run(self, work: Callable[[], T]) -> "Future[T]":
        """Anything that computes, in a worker."""
        return self._pool.submit(work)

    def garments(self, ready: Ready, finish: Callable[[list[Garment]], T]) -> "Future[T]":
        """What ``finish``, in a worker, makes of a photo's garments. A photo whose future is
        cancelled in time is not looked at."""
        result: Future[T] = Future()
        with self._lock:
            self._waiting.append(_Job(ready, finish, result))
        self._pool.submit(self._work)
        return result

    def close(self) -> None:
        """Ends when the work in hand is done."""
        self._pool.shutdown(cancel_futures=True)

    def _work(self) -> None:
        """The photos that wait longest; each photo was announced once, so none stays."""
        jobs = self._next()
        if not jobs:
            return
        self._seen(len(jobs))
        try:
            found = self._batches.garments([job.ready for job in jobs])
        except Exception as error:  # whatever it is, it is the answer's
            for job in jobs:
                job.result.set_exception(error)
            return
        for job, garments in zip(jobs, found, strict=True):
            try:
                job.result.set_result(job.finish(garments))
            except Exception as error:
                job.result.set_exception(error)

    def _next(self) -> list[_Job]:
        chosen: list[_Job] = []
        with self._lock:
            left: deque[_Job] = deque()
            while self._waiting and len(chosen) < self._batch:
                job = self._waiting.popleft()
                if chosen and not self._batches.fits(job.ready, [one.ready for one in chosen]):
                    left.append(job)
                elif job.result.set_running_or_notify_cancel():
                    chosen.append(job)
            self._waiting.extendleft(reversed(left))
        return chosen


def cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
