"""One measured model in a process of its own: lines of JSON in, lines of JSON out.

``python -m match_rcnn.experiments.benchmarks.rcnn.worker WORKLOAD`` answers first with what it
runs on, then to each line: ``{"do": "step", "stages": bool}`` with seconds, stages and memory,
``{"do": "waits"}`` with their number by stage, ``{"do": "save", "file": path}`` when the last
step's outputs are in that npz file.
"""

import json
import logging
import os
import sys
import time
from dataclasses import asdict
from typing import Any, TextIO

import numpy as np
import torch

from match_rcnn.d2 import HOST, HOST_VERSION
from match_rcnn.experiments.benchmarks.harness import machine, peak_mib, reset_peak
from match_rcnn.experiments.benchmarks.rcnn.steps import Outputs, Step, as_arrays
from match_rcnn.experiments.benchmarks.rcnn.waits import WaitCounter
from match_rcnn.experiments.benchmarks.rcnn.workload import Workload


class Measured:
    """A step with a clock and a look at the memory.

    Memory is that of the processor's process (resident size), or of a GPU (allocated tensors).
    """

    def __init__(self, workload: Workload) -> None:
        self.on_gpu = torch.device(workload.device).type == "cuda"
        self.work = Step(workload)
        self.outputs: Outputs = {}
        self.is_first = True
        self.base_mib = self._reset()

    def step(self, stages: bool) -> dict[str, Any]:
        timer = self.work.timer
        timer.active = stages
        timer.seconds.clear()
        # The outputs of the first run are compared; GPUs round to TF32 in those that are timed.
        torch.backends.cudnn.allow_tf32 = not self.is_first
        self.is_first = False
        start = time.perf_counter()
        self.outputs = self.work()
        if self.on_gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated() / 2**20 if self.on_gpu else peak_mib()
        return {
            "seconds": seconds,
            "stages": dict(timer.seconds),
            "peak_mib": peak,
            "work_mib": max(0.0, peak - self.base_mib),
        }

    def waits(self) -> dict[str, int]:
        """Of one step, by stage; see :mod:`match_rcnn.experiments.benchmarks.rcnn.waits`."""
        counter = WaitCounter(lambda: self.work.timer.current or "elsewhere")
        with counter.counting():
            self.work()
        return dict(counter.counts)

    def save(self, file: str) -> dict[str, Any]:
        np.savez(file, **as_arrays(self.outputs))  # type: ignore[arg-type]  # its own keywords
        return {}

    def _reset(self) -> float:
        if not self.on_gpu:
            return reset_peak()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20


def serve(workload: Workload, requests: TextIO, answers: TextIO) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    measured = Measured(workload)
    about = {"host": HOST, "host_version": HOST_VERSION, "machine": machine()}
    _answer(answers, {**about, "workload": asdict(workload)})
    for line in requests:
        request = json.loads(line)
        if request["do"] == "step":
            _answer(answers, measured.step(request["stages"]))
        elif request["do"] == "waits":
            _answer(answers, measured.waits())
        else:
            _answer(answers, measured.save(request["file"]))


def _answer(answers: TextIO, what: dict[str, Any]) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


def main() -> None:
    # Whatever a library prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.disable(logging.INFO)
    serve(Workload.from_json(sys.argv[1]), sys.stdin, answers)


if __name__ == "__main__":
    main()
