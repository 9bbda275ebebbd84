"""Measuring several models in turn, each in a process of its own."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

import match_rcnn
from match_rcnn.d2 import HOST
from match_rcnn.experiments.benchmarks.rcnn.workload import Workload

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Runner:
    """Who measures: a workload, a host (lite or detectron2) and a Python that has it."""

    workload: Workload
    host: str = HOST
    python: str = sys.executable


@dataclass
class Measured:
    """Medians over the runs.

    Attributes:
        seconds: of a step or an inference of the whole batch.
        peak_mib: the process's peak memory (on a GPU: allocated tensors).
        work_mib: of it, what the work needed beyond model and inputs.
        stages: seconds by stage.
        outputs: of the first run, before any weight moved.
        about: host, its version, and the machine.
    """

    seconds: float
    peak_mib: float
    work_mib: float
    stages: dict[str, float]
    outputs: Arrays
    about: dict[str, Any]


class Worker:
    """The process of one runner; a context manager."""

    def __init__(self, runner: Runner) -> None:
        root = str(Path(match_rcnn.__file__).parents[1])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self.runner = runner
        self._process = subprocess.Popen(
            [
                *(runner.python, "-m", "match_rcnn.experiments.benchmarks.rcnn.worker"),
                runner.workload.to_json(),
            ],
            env={
                **os.environ,
                "MATCH_RCNN_HOST": runner.host,
                "PYTHONPATH": os.pathsep.join(paths),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Worker":
        try:
            self.about = self._read()
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if kind is not None:
            self._process.kill()
        self._process.wait()

    def step(self, stages: bool) -> dict[str, Any]:
        return self._ask({"do": "step", "stages": stages})

    def waits(self) -> dict[str, int]:
        return self._ask({"do": "waits"})

    def outputs(self) -> Arrays:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "outputs.npz"
            self._ask({"do": "save", "file": str(file)})
            with np.load(file) as arrays:
                return {name: arrays[name] for name in arrays.files}

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"the process that measures {self.runner.workload.model} on "
                f"{self.runner.host} ended with status {self._process.wait()}; see above"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer


def measure_in_turn(
    runners: Mapping[str, Runner], runs: int, warmup: int = 1
) -> dict[str, Measured]:
    """All runners A, B, ..., A, B, ...: a machine whose speed drifts treats them alike.

    The last run of each is timed by stage; on the CPU, where that costs nothing, it counts as a
    run, on a GPU it is an extra one. Peak memory is over all runs, the first one included.
    """
    workers: dict[str, Worker] = {}
    try:
        for name, runner in runners.items():
            workers[name] = Worker(runner).__enter__()
        outputs: dict[str, Arrays] = {}
        steps = _run_all(workers, runs, warmup, outputs)
        return {
            name: _summary(steps[name][warmup:], runs, outputs[name], worker.about)
            for name, worker in workers.items()
        }
    finally:
        for worker in workers.values():
            worker.__exit__(*sys.exc_info())


def _run_all(
    workers: dict[str, Worker], runs: int, warmup: int, outputs: dict[str, Arrays]
) -> dict[str, list[dict[str, Any]]]:
    on_gpu = any(w.runner.workload.device != "cpu" for w in workers.values())
    total = warmup + runs + on_gpu
    steps: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    for run in range(total):
        for name, worker in workers.items():
            steps[name].append(worker.step(stages=run == total - 1))
            if run == 0:
                outputs[name] = worker.outputs()
    return steps


def _summary(
    steps: list[dict[str, Any]], runs: int, outputs: Arrays, about: dict[str, Any]
) -> Measured:
    return Measured(
        seconds=statistics.median(step["seconds"] for step in steps[:runs]),
        peak_mib=steps[-1]["peak_mib"],
        work_mib=steps[-1]["work_mib"],
        stages=steps[-1]["stages"],
        outputs=outputs,
        about=about,
    )
