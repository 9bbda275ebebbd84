"""Evaluators, and the loop that feeds them a model's outputs."""

import datetime
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from ..utils import comm

logger = logging.getLogger(__name__)

Callbacks = Mapping[str, Callable[[], None]]
# The first batches are slow: memory is allocated, workers start.
WARMUP_BATCHES = 5
LOG_SECONDS = 5


class DatasetEvaluator:
    """Collects inputs and outputs batch by batch and evaluates them in the end."""

    def reset(self) -> None:
        """Forget what was collected."""

    def process(self, inputs: Any, outputs: Any) -> None:
        """Collect one batch.

        Args:
            inputs: what the model was given, a list of dicts.
            outputs: what it returned, one an input.
        """

    def evaluate(self) -> Any:
        """Evaluate what was collected; in the main process over all processes.

        Returns:
            ``{task: {metric: value}}``, or None in the other processes.
        """


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators over the same outputs."""

    def __init__(self, evaluators: Sequence[DatasetEvaluator]):
        super().__init__()
        self._evaluators = evaluators

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: Any, outputs: Any) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> dict[str, Any]:
        """All results together.

        Raises:
            ValueError: two evaluators have a result of the same name.
        """
        results: dict[str, Any] = {}
        for evaluator in self._evaluators:
            found = evaluator.evaluate()
            if comm.is_main_process() and found is not None:
                twice = results.keys() & found.keys()
                if twice:
                    raise ValueError(f"several evaluators give results for {sorted(twice)}")
                results |= found
        return results


class _Stopwatch:
    """Seconds spent on loading, on the model and on the evaluator, after the warm-up."""

    def __init__(self, total: int):
        self._total = total
        self._warmup = min(WARMUP_BATCHES, total - 1)
        self._parts = {"Dataloading": 0.0, "Inference": 0.0, "Eval": 0.0}
        self.start = self._last = time.perf_counter()
        self._logged = -math.inf

    def lap(self, part: str) -> None:
        """The time since the last call went into ``part``."""
        now = time.perf_counter()
        self._parts[part] += now - self._last
        self._last = now

    def end_batch(self, done: int) -> None:
        if done == self._warmup:
            self.start = time.perf_counter()
            self._parts = dict.fromkeys(self._parts, 0.0)
        counted = done - self._warmup
        if counted > 0 and (done >= 2 * self._warmup or self._parts["Inference"] > LOG_SECONDS):
            now = time.perf_counter()
            if now - self._logged >= LOG_SECONDS:
                self._logged = now
                logger.info(self._progress(done, counted))

    def _progress(self, done: int, counted: int) -> str:
        per_batch = (time.perf_counter() - self.start) / counted
        left = datetime.timedelta(seconds=int(per_batch * (self._total - done)))
        parts = " ".join(f"{k}: {v / counted:.4f} s/iter." for k, v in self._parts.items())
        return (
            f"Inference done {done}/{self._total}. {parts} "
            f"Total: {per_batch:.4f} s/iter. ETA={left}"
        )

    def log_summary(self) -> None:
        counted = max(1, self._total - self._warmup)
        seconds = {
            "": time.perf_counter() - self.start,
            "pure compute ": self._parts["Inference"],
        }
        for kind, spent in seconds.items():
            logger.info(
                "Total inference %stime: %s (%.6f s / iter per device, on %d devices)",
                kind,
                datetime.timedelta(seconds=int(spent)),
                spent / counted,
                comm.get_world_size(),
            )


def inference_on_dataset(
    model: Callable[[Any], Any],
    data_loader: Any,
    evaluator: DatasetEvaluator | Sequence[DatasetEvaluator] | None,
    callbacks: Callbacks | None = None,
) -> dict[str, Any]:
    """Run a model over a data set and evaluate its outputs.

    Args:
        model: a module, put into evaluation mode meanwhile, or any function of a batch.
        data_loader: batches, with a length.
        evaluator: one, several, or None to only run (as a benchmark).
        callbacks: functions to call "on_start", "on_end", "before_inference",
            "after_inference".

    Returns:
        The evaluator's results; ``{}`` in all but the main process.
    """
    total = len(data_loader)
    logger.info("Start inference on %d batches", total)
    if evaluator is None or isinstance(evaluator, Sequence):
        evaluator = DatasetEvaluators(evaluator or [])
    evaluator.reset()
    with ExitStack() as stack:
        if isinstance(model, nn.Module):
            stack.enter_context(inference_context(model))
        stack.enter_context(torch.no_grad())
        _run(model, data_loader, evaluator, callbacks or {})
    return evaluator.evaluate() or {}


def _run(
    model: Callable[[Any], Any], data_loader: Any, evaluator: DatasetEvaluator, callbacks: Callbacks
) -> None:
    def call(name: str) -> None:
        if name in callbacks:
            callbacks[name]()

    watch = _Stopwatch(len(data_loader))
    call("on_start")
    for done, inputs in enumerate(data_loader, start=1):
        watch.lap("Dataloading")
        call("before_inference")
        outputs = model(inputs)
        call("after_inference")
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        watch.lap("Inference")
        evaluator.process(inputs, outputs)
        watch.lap("Eval")
        watch.end_batch(done)
    watch.log_summary()
    call("on_end")


@contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, and then in the mode it was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
