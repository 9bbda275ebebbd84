"""The hooks that every training has."""

import datetime
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fvcore.common.checkpoint import PeriodicCheckpointer as _PeriodicCheckpointer
from fvcore.common.timer import Timer
from torch.optim import Optimizer

from ..evaluation.testing import flatten_results_dict
from ..utils import comm
from ..utils.events import EventWriter
from .train_loop import HookBase, is_due, is_last

__all__ = ["EvalHook", "IterationTimer", "LRScheduler", "PeriodicCheckpointer", "PeriodicWriter"]

logger = logging.getLogger(__name__)


class IterationTimer(HookBase):
    """Seconds of each step, as "time" in the event storage; when training ends, its speed and how
    much time went to the other hooks.

    What lies between this hook's ``before_step`` and ``after_step`` is the step, so it has to be
    the first one.
    """

    def __init__(self, warmup_iter: int = 3):
        """
        Args:
            warmup_iter: which iteration of a run is the first to count; they are counted from 1.
        """
        self._warmup_iter = warmup_iter
        self._step = Timer()
        # Another hook may fail before our before_train, and after_train is called even then.
        self._restart()

    def before_train(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._started = time.perf_counter()
        self._steps = Timer()
        self._steps.pause()

    def after_train(self) -> None:
        total, steps = time.perf_counter() - self._started, self._steps.seconds()
        counted = self.trainer.iter - self.trainer.start_iter - self._warmup_iter + 1
        if counted > 0 and steps > 0:
            text = "Overall training speed: %d iterations in %s (%.4f s / it)"
            logger.info(text, counted, _duration(steps), steps / counted)
        logger.info(
            "Total training time: %s (%s on hooks)", _duration(total), _duration(total - steps)
        )

    def before_step(self) -> None:
        self._step.reset()
        self._steps.resume()

    def after_step(self) -> None:
        if self.trainer.iter - self.trainer.start_iter + 1 < self._warmup_iter:
            self._restart()
            return
        self.trainer.storage.put_scalar("time", self._step.seconds())
        self._steps.pause()


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=int(seconds)))


class PeriodicWriter(HookBase):
    """Has events written: after each ``period``-th iteration, after the last, and once more when
    the other hooks are through."""

    def __init__(self, writers: Sequence[EventWriter], period: int = 20):
        self._writers = writers
        self._period = period

    def after_step(self) -> None:
        if is_last(self) or (self.trainer.iter + 1) % self._period == 0:
            self._write()

    def after_train(self) -> None:
        self._write()
        for writer in self._writers:
            writer.close()

    def _write(self) -> None:
        for writer in self._writers:
            writer.write()


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """fvcore's, called by the trainer. What it saves includes the state of hooks before it."""

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        self.step(self.trainer.iter)


class LRScheduler(HookBase):
    """Notes the learning rate of the step that was done ("lr"), then sets the next one's.

    Works on ``trainer.optimizer`` and ``trainer.scheduler``.
    """

    @property
    def scheduler(self) -> Any:
        """The trainer's, a torch scheduler that counts iterations."""
        return self.trainer.scheduler  # type: ignore[attr-defined]

    def before_train(self) -> None:
        optimizer: Optimizer = self.trainer.optimizer  # type: ignore[attr-defined]
        self._shown = optimizer.param_groups[self.get_best_param_group_id(optimizer)]

    @staticmethod
    def get_best_param_group_id(optimizer: Optimizer) -> int:
        """Whose rate stands for all: the group of most parameters; where each has a single one,
        the first that has the most common rate."""
        groups = optimizer.param_groups
        sizes = [len(group["params"]) for group in groups]
        if max(sizes) > 1:
            return sizes.index(max(sizes))
        rates = [group["lr"] for group in groups]
        return rates.index(Counter(rates).most_common(1)[0][0])

    def after_step(self) -> None:
        self.trainer.storage.put_scalar("lr", self._shown["lr"], smoothing_hint=False)
        self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = self.scheduler.state_dict()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.scheduler.load_state_dict(dict(state_dict))


class EvalHook(HookBase):
    """Evaluates now and then while training runs, and the trained model; the numbers go to the
    event storage under the path of their names ("bbox/AP50")."""

    def __init__(
        self,
        eval_period: int,
        eval_function: Callable[[], Mapping[str, Any] | None],
        eval_after_train: bool = True,
    ):
        """
        Args:
            eval_period: iterations from one to the next; with 0 there is only the one at the end.
            eval_function: gives numbers in a dict of dicts, or nothing. It runs in all processes;
                what the main one returns is used.
            eval_after_train: whether there is one at the end.
        """
        self._period = eval_period
        self._func = eval_function
        self._eval_after_train = eval_after_train

    def _do_eval(self) -> None:
        results = self._func()
        if results:
            for name, value in _flat_numbers(results).items():
                self.trainer.storage.put_scalar(name, value, smoothing_hint=False)
        # Processes that evaluate nothing would otherwise run ahead and time out.
        comm.synchronize()

    def after_step(self) -> None:
        if is_due(self, self._period):
            self._do_eval()

    def after_train(self) -> None:
        if self._eval_after_train and is_last(self):
            self._do_eval()
        # Usually a method of the trainer: the two would keep each other in memory.
        del self._func


def _flat_numbers(results: Any) -> dict[str, float]:
    if not isinstance(results, Mapping):
        raise ValueError(f"an evaluation has to return a dict of metrics; this one: {results!r}")
    numbers = {}
    for name, value in flatten_results_dict(results).items():
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"an evaluation has to return numbers; its {name!r} is {value!r}"
            ) from error
    return numbers
