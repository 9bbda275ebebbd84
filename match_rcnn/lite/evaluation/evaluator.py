"""Evaluators, and the loop that feeds them a model's outputs."""

import datetime
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..utils import comm

logger = logging.getLogger(__name__)

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
        self._members = tuple(evaluators)

    def reset(self) -> None:
        for member in self._members:
            member.reset()

    def process(self, inputs: Any, outputs: Any) -> None:
        for member in self._members:
            member.process(inputs, outputs)

    def evaluate(self) -> dict[str, Any]:
        """All results together; in the main process alone.

        Raises:
            ValueError: two evaluators have a result of the same name.
        """
        found = [member.evaluate() or {} for member in self._members]
        if not comm.is_main_process():
            return {}
        names = [name for results in found for name in results]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"several evaluators give results for {sorted(twice)}")
        return {name: value for results in found for name, value in results.items()}


class _Stopwatch:
    """Seconds spent on loading, on the model and on the evaluator, after the warm-up."""

    def __init__(self, total: int):
        self._total = total
        self._warmup = min(WARMUP_BATCHES, total - 1)
        self._restart()
        self._last = self._logged = self._start

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._parts = {"loading": 0.0, "model": 0.0, "evaluator": 0.0}

    def lap(self, part: str) -> None:
        """The time since the last call went into ``part``."""
        now = time.perf_counter()
        self._parts[part] += now - self._last
        self._last = now

    def end_batch(self, done: int) -> None:
        if done == self._warmup:
            self._restart()
        if done > self._warmup and self._last - self._logged >= LOG_SECONDS:
            self._logged = self._last
            self.log(done)

    def log(self, done: int) -> None:
        """What a batch took on average, and what the rest will take."""
        counted = max(done - self._warmup, 1)
        each = (self._last - self._start) / counted
        left = datetime.timedelta(seconds=round(each * (self._total - done)))
        parts = ", ".join(f"{part} {spent / counted:.4f}" for part, spent in self._parts.items())
        logger.info(
            "%d of %d batches, %.4f s each (%s); %s left", done, self._total, each, parts, left
        )


def inference_on_dataset(
    model: Callable[[Any], Any],
    data_loader: Any,
    evaluator: DatasetEvaluator | Sequence[DatasetEvaluator] | None,
) -> dict[str, Any]:
    """Run a model over a data set and evaluate its outputs.

    Args:
        model: a module, put into evaluation mode meanwhile, or any function of a batch.
        data_loader: batches, with a length.
        evaluator: one, several, or None to only run (as a benchmark).

    Returns:
        The evaluator's results; ``{}`` in all but the main process.
    """
    total = len(data_loader)
    logger.info("Inference on %d batches, in each of %d processes", total, comm.get_world_size())
    if not isinstance(evaluator, DatasetEvaluator):
        evaluator = DatasetEvaluators(evaluator or ())
    evaluator.reset()
    watch = _Stopwatch(total)
    with torch.no_grad(), _at_rest(model):
        for done, inputs in enumerate(data_loader, start=1):
            watch.lap("loading")
            outputs = model(inputs)
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # or the evaluator would seem to take the model's time
            watch.lap("model")
            evaluator.process(inputs, outputs)
            watch.lap("evaluator")
            watch.end_batch(done)
    watch.log(total)
    return evaluator.evaluate() or {}


@contextmanager
def _at_rest(model: Any) -> Iterator[None]:
    """A module in evaluation mode, and then in the mode it was in."""
    learning = isinstance(model, nn.Module) and model.training
    if isinstance(model, nn.Module):
        model.eval()
    try:
        yield
    finally:
        if learning:
            model.train()
