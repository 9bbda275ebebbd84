"""Evaluations during training, of a moving average of the weights if there is one: what they gave
is remembered over a resume, and decides which checkpoint is the best and when to stop.
"""

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from match_rcnn.d2 import CfgNode, HookBase, comm, hooks
from match_rcnn.engine.checkpoints import EnduringCheckpointer
from match_rcnn.engine.faults import PreemptionSignals
from match_rcnn.utils.files import read_json, write_json


class WeightAverage(HookBase):
    """After each step ``average += (1 - decay) * (weights - average)``; buffers, such as the
    statistics of normalisation layers, are copied. The first step's weights begin it.

    Args:
        model: without a wrapper for parallel training.
        decay: in [0, 1).
    """

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"MODEL_EMA.DECAY must be in [0, 1), got {decay}")
        self._model = model
        self._averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self._averaged.requires_grad_(False)

    @property
    def averaged(self) -> torch.nn.Module:
        """A copy of the model with the averaged weights; with the model's own before any step."""
        if not int(self._averaged.n_averaged):
            self._averaged.module.load_state_dict(self._model.state_dict())
        module: torch.nn.Module = self._averaged.module
        return module

    def after_step(self) -> None:
        self._averaged.update_parameters(self._model)

    @contextmanager
    def evaluated(self, trainer: Any) -> Iterator[None]:
        """Within, ``trainer.model`` is the averaged one."""
        model, trainer.model = trainer.model, self.averaged
        try:
            yield
        finally:
            trainer.model = model

    def state_dict(self) -> dict[str, Any]:
        return dict(self._averaged.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._averaged.load_state_dict(state)


def averaged_weights(rest: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The averaged weights by the model's names.

    Args:
        rest: what a checkpoint holds beside the model (as its checkpointer's ``load`` returns).

    Returns:
        Empty if the checkpoint has no average.
    """
    state = rest.get("trainer", {}).get("hooks", {}).get(WeightAverage.__qualname__, {})
    prefix = "module."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


logger = logging.getLogger(__name__)


def best_metric(cfg: CfgNode) -> str:
    """The metric by which checkpoints are compared: ``TEST.BEST_METRIC``, or by what is learned."""
    metric: str = cfg.TEST.BEST_METRIC
    if metric != "auto":
        return metric
    return "retrieval/top20" if cfg.MODEL.MATCH_ON else "bbox/AP"


class EvaluationLog:
    """The metrics of each evaluation by the last iteration before it, in a file of the main
    process.

    Args:
        path: of the file.
        metric: whose values are compared (more is better); "" compares none.
    """

    def __init__(self, path: Path, metric: str) -> None:
        self._path = path
        self._metric = metric
        self._metrics: dict[int, dict[str, float | None]] = {}

    def open(self, start_iter: int) -> None:
        """Take up what was there before ``start_iter``; forget what came after it."""
        kept: list[dict[str, Any]] = []
        if self._path.exists():
            kept = [e for e in read_json(self._path) if e["iteration"] < start_iter]
            write_json(self._path, kept)
        self._metrics = {e["iteration"]: e["metrics"] for e in kept}

    def __contains__(self, iteration: int) -> bool:
        return iteration in self._metrics

    def add(self, iteration: int, metrics: Mapping[str, float]) -> None:
        self._metrics[iteration] = dict(metrics)
        write_json(self._path, [{"iteration": i, "metrics": m} for i, m in self._metrics.items()])

    def _values(self) -> list[tuple[int, float]]:
        """(iteration, value) of the evaluations that gave the metric."""
        found = ((i, m.get(self._metric)) for i, m in sorted(self._metrics.items()))
        return [(i, v) for i, v in found if v is not None and math.isfinite(v)]

    @property
    def best(self) -> tuple[int, float] | None:
        """The first evaluation with the largest value."""
        return max(self._values(), key=lambda entry: (entry[1], -entry[0]), default=None)

    def evaluations_since_best(self) -> int:
        if self.best is None:
            return 0
        return sum(iteration > self.best[0] for iteration in self._metrics)


class EnduringEvaluation(hooks.EvalHook):
    """The host's evaluation, with a memory.

    - A checkpoint comes before it: no fault of an evaluation costs an iteration.
    - One that did not end is done again by the resumed run.
    - ``model_best.pth`` is written when the metric is better than in all evaluations before, also
      those before a resume.
    - It evaluates the averaged weights, if there are any.

    Args:
        period, function: as the host's hook has them.
        log: in OUTPUT_DIR.
        metric: "" keeps no best checkpoint.
        patience: evaluations in a row without a better value after which ``trainer.stop_reason`` is
            set; 0: never.
    """

    def __init__(
        self,
        period: int,
        function: Callable[[], Mapping[str, Any] | None],
        *,
        checkpointer: EnduringCheckpointer,
        log: EvaluationLog,
        signals: PreemptionSignals,
        average: WeightAverage | None = None,
        metric: str = "",
        patience: int = 0,
    ) -> None:
        super().__init__(period, self._evaluate)
        self._function = function
        self._every = period
        self._checkpointer = checkpointer
        self._log = log
        self._signals = signals
        self._average = average
        self._metric = metric
        self._patience = patience
        self._results: Mapping[str, Any] = {}

    def _evaluate(self) -> Mapping[str, Any]:
        self._results = self._function() or {}
        return self._results

    def before_train(self) -> None:
        start = self.trainer.start_iter
        if comm.is_main_process():
            self._log.open(start)
        if self._agree(start < self.trainer.max_iter and self._is_pending(start)):
            logger.info("The evaluation after iteration %d did not end; again.", start - 1)
            with at_iteration(self.trainer, start - 1):
                self._do_eval()
        self._consider_stopping()

    def _is_pending(self, start: int) -> bool:
        is_due = start > 0 and self._every > 0 and start % self._every == 0
        return is_due and start - 1 not in self._log

    @staticmethod
    def _agree(value: bool) -> bool:
        """The main process's value in all processes: the log is its own."""
        answers: list[bool] = comm.all_gather(value)
        return answers[0]

    def _do_eval(self) -> None:
        trainer: Any = self.trainer
        if trainer.is_leaving():
            return
        done = min(trainer.iter, trainer.max_iter - 1)
        self._checkpointer.save_iteration(done)
        with self._signals.leave_at_once(), self._weights():
            super()._do_eval()
        if comm.is_main_process():
            with at_iteration(trainer, done):  # after the loop, hosts count on
                self._remember(done, dict(_flat(self._results)))
        self._consider_stopping()

    def _weights(self) -> AbstractContextManager[None]:
        return self._average.evaluated(self.trainer) if self._average else nullcontext()

    def _remember(self, iteration: int, metrics: dict[str, float]) -> None:
        """The best checkpoint first: without the log's entry the evaluation is done again."""
        value = metrics.get(self._metric)
        best = self._log.best
        if self._metric and value is None:
            logger.warning("TEST.BEST_METRIC %s is not among the results", self._metric)
        elif value is not None and math.isfinite(value) and (best is None or value > best[1]):
            logger.info("%s is %.5f, the best so far: saved as model_best", self._metric, value)
            self._checkpointer.save(
                "model_best",
                resumable=False,
                weights=self._average.averaged.state_dict() if self._average else None,
                iteration=iteration,
                best={"name": self._metric, "value": value, "iteration": iteration},
            )
        self._log.add(iteration, metrics)

    def _consider_stopping(self) -> None:
        if not self._patience:
            return
        stale = self._log.evaluations_since_best() if comm.is_main_process() else 0
        if self._agree(stale >= self._patience):
            trainer: Any = self.trainer
            trainer.stop_reason = (
                f"{self._metric} did not get better in the last {self._patience} evaluations"
            )


@contextmanager
def at_iteration(trainer: Any, iteration: int) -> Iterator[None]:
    """Do now what belonged behind ``iteration``."""
    now = trainer.iter
    trainer.storage.iter = trainer.iter = iteration
    try:
        yield
    finally:
        trainer.storage.iter = trainer.iter = now


def _flat(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Nested metrics by names such as "bbox/AP"."""
    for name, value in results.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", float(value)


def cut_metrics(path: Path, start_iter: int) -> None:
    """Remove the lines of ``start_iter`` and later from a metrics file, and one that a killed
    process did not finish: the continued run writes them (again). In place, since its writer has
    the file open."""
    if not path.exists():
        return
    kept = 0
    with path.open("rb+") as file:
        for line in file:
            try:
                iteration = json.loads(line)["iteration"]
            except (ValueError, KeyError, TypeError):
                break
            if iteration >= start_iter or not line.endswith(b"\n"):
                break
            kept += len(line)
        file.truncate(kept)
