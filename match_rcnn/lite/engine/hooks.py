"""The hooks that a training usually has."""

import datetime
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from fvcore.common.checkpoint import Checkpointer
from fvcore.common.checkpoint import PeriodicCheckpointer as _PeriodicCheckpointer
from fvcore.common.param_scheduler import ParamScheduler
from fvcore.common.timer import Timer
from torch.optim import Optimizer

from ..evaluation.testing import flatten_results_dict
from ..solver import LRMultiplier
from ..solver import LRScheduler as _LRScheduler
from ..utils import comm
from ..utils.events import EventWriter
from .optional_hooks import PreciseBN, TorchProfiler
from .train_loop import HookBase, is_due, is_last

__all__ = [
    "BestCheckpointer",
    "CallbackHook",
    "EvalHook",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PreciseBN",
    "TorchProfiler",
]

logger = logging.getLogger(__name__)

Callback = Callable[[Any], None]


class CallbackHook(HookBase):
    """A hook made of functions; each is called with the trainer."""

    def __init__(
        self,
        *,
        before_train: Callback | None = None,
        after_train: Callback | None = None,
        before_step: Callback | None = None,
        after_step: Callback | None = None,
    ):
        self._before_train = before_train
        self._after_train = after_train
        self._before_step = before_step
        self._after_step = after_step

    def before_train(self) -> None:
        if self._before_train:
            self._before_train(self.trainer)

    def after_train(self) -> None:
        if self._after_train:
            self._after_train(self.trainer)
        # They may hold the trainer, which would then never be freed.
        self._before_train = self._after_train = self._before_step = self._after_step = None

    def before_step(self) -> None:
        if self._before_step:
            self._before_step(self.trainer)

    def after_step(self) -> None:
        if self._after_step:
            self._after_step(self.trainer)


class IterationTimer(HookBase):
    """Puts the seconds of each step ("time") into the event storage; at the end logs the speed
    and the time that the other hooks took.

    Register it first: the time between its ``before_step`` and ``after_step`` counts as the step.
    """

    def __init__(self, warmup_iter: int = 3):
        """
        Args:
            warmup_iter: the first iteration of a run that counts, from 1.
        """
        self._warmup_iter = warmup_iter
        self._step_timer = Timer()
        self._total_timer = Timer()

    def before_train(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._start_time = time.perf_counter()
        self._total_timer.reset()
        self._total_timer.pause()

    def after_train(self) -> None:
        total = time.perf_counter() - self._start_time
        steps = self._total_timer.seconds()
        iterations = self.trainer.iter - self.trainer.start_iter - self._warmup_iter + 1
        if iterations > 0 and steps > 0:
            logger.info(
                "Overall training speed: %d iterations in %s (%.4f s / it)",
                iterations,
                _duration(steps),
                steps / iterations,
            )
        logger.info(
            "Total training time: %s (%s on hooks)", _duration(total), _duration(total - steps)
        )

    def before_step(self) -> None:
        self._step_timer.reset()
        self._total_timer.resume()

    def after_step(self) -> None:
        if self.trainer.iter - self.trainer.start_iter + 1 >= self._warmup_iter:
            self.trainer.storage.put_scalars(time=self._step_timer.seconds())
            self._total_timer.pause()
        else:
            self._restart()


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=int(seconds)))


class PeriodicWriter(HookBase):
    """Lets the writers of events write every ``period`` iterations and at the end."""

    def __init__(self, writers: Sequence[EventWriter], period: int = 20):
        self._writers = writers
        self._period = period

    def after_step(self) -> None:
        if is_last(self) or (self.trainer.iter + 1) % self._period == 0:
            for writer in self._writers:
                writer.write()

    def after_train(self) -> None:
        for writer in self._writers:
            # What came after the last step, such as an evaluation.
            writer.write()
            writer.close()


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """fvcore's ``PeriodicCheckpointer`` as a hook; register it after hooks that have a state."""

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        self.step(self.trainer.iter)


class BestCheckpointer(HookBase):
    """Saves a checkpoint when an evaluation was better than all before it.

    The best value is kept in that checkpoint, so that a resumed training goes on with it.
    Register it after the hook that evaluates.
    """

    def __init__(
        self,
        eval_period: int,
        checkpointer: Checkpointer,
        val_metric: str,
        mode: str = "max",
        file_prefix: str = "model_best",
    ):
        """
        Args:
            eval_period: iterations between evaluations, as in :class:`EvalHook`.
            checkpointer: writes the file.
            val_metric: name in the event storage, such as "bbox/AP50".
            mode: "max" if more is better, "min" if less is.
            file_prefix: the file's name without suffix.
        """
        if mode not in ("max", "min"):
            raise ValueError(f"mode must be 'max' or 'min', got {mode!r}")
        self._period = eval_period
        self._checkpointer = checkpointer
        self._val_metric = val_metric
        self._sign = 1 if mode == "max" else -1
        self._file_prefix = file_prefix
        self.best_metric: float | None = None
        self.best_iter: int | None = None

    def before_train(self) -> None:
        path = os.path.join(self._checkpointer.save_dir, f"{self._file_prefix}.pth")
        if self.trainer.start_iter > 0 and os.path.isfile(path):
            saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            if saved.get("best", {}).get("name") == self._val_metric:
                self.best_metric = saved["best"]["value"]
                self.best_iter = saved["best"]["iteration"]

    def after_step(self) -> None:
        if is_due(self, self._period):
            self._check()

    def after_train(self) -> None:
        if is_last(self):
            self._check()

    def _check(self) -> None:
        latest = self.trainer.storage.latest().get(self._val_metric)
        if latest is None:
            logger.warning(
                "Metric %r was not found, so no best checkpoint is saved. Was it evaluated?",
                self._val_metric,
            )
            return
        value, iteration = latest
        if math.isfinite(value) and (
            self.best_metric is None or self._sign * (value - self.best_metric) > 0
        ):
            self._save(value, iteration)
        else:
            logger.info(
                "%s is %.5f, not better than %s at iteration %s: not saved.",
                self._val_metric,
                value,
                self.best_metric,
                self.best_iter,
            )

    def _save(self, value: float, iteration: int) -> None:
        self.best_metric, self.best_iter = value, iteration
        best = {"name": self._val_metric, "value": float(value), "iteration": iteration}
        self._checkpointer.save(self._file_prefix, iteration=iteration, best=best)
        logger.info(
            "%s is %.5f at iteration %d, the best so far: saved as %s.",
            self._val_metric,
            value,
            iteration,
            self._file_prefix,
        )


class LRScheduler(HookBase):
    """Steps the learning rate after each iteration and puts it ("lr") into the event storage."""

    def __init__(
        self,
        optimizer: Optimizer | None = None,
        scheduler: _LRScheduler | ParamScheduler | None = None,
    ):
        """
        Args:
            optimizer: None for ``trainer.optimizer``.
            scheduler: of torch, or fvcore's multiplier of the base rate; None for
                ``trainer.scheduler``.
        """
        self._optimizer = optimizer
        self._scheduler = scheduler

    @property
    def scheduler(self) -> Any:
        return self._scheduler or self.trainer.scheduler  # type: ignore[attr-defined]

    def before_train(self) -> None:
        if self._optimizer is None:
            self._optimizer = self.trainer.optimizer  # type: ignore[attr-defined]
        assert self._optimizer is not None
        if isinstance(self.scheduler, ParamScheduler):
            self._scheduler = LRMultiplier(
                self._optimizer,
                self.scheduler,
                self.trainer.max_iter,
                last_iter=self.trainer.iter - 1,
            )
        self._group = self.get_best_param_group_id(self._optimizer)

    @staticmethod
    def get_best_param_group_id(optimizer: Optimizer) -> int:
        """The group whose rate to report: the one with most parameters or, when every group has
        but one, the first with the most frequent rate."""
        groups = optimizer.param_groups
        sizes = [len(group["params"]) for group in groups]
        if max(sizes) > 1:
            return sizes.index(max(sizes))
        rates = [group["lr"] for group in groups]
        return rates.index(Counter(rates).most_common(1)[0][0])

    def after_step(self) -> None:
        assert self._optimizer is not None
        lr = self._optimizer.param_groups[self._group]["lr"]
        self.trainer.storage.put_scalar("lr", lr, smoothing_hint=False)
        self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        if isinstance(self.scheduler, _LRScheduler):
            return self.scheduler.state_dict()
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        if isinstance(self.scheduler, _LRScheduler):
            logger.info("Loading scheduler from state_dict ...")
            self.scheduler.load_state_dict(dict(state_dict))


class EvalHook(HookBase):
    """Runs an evaluation every ``eval_period`` iterations and after the training, and puts its
    results into the event storage ("bbox/AP50")."""

    def __init__(
        self,
        eval_period: int,
        eval_function: Callable[[], Mapping[str, Any] | None],
        eval_after_train: bool = True,
    ):
        """
        Args:
            eval_period: 0 for after the training alone.
            eval_function: returns a nested dict of numbers; called in every process, and only the
                main one's results count.
            eval_after_train: whether to evaluate the trained model.
        """
        self._period = eval_period
        self._func = eval_function
        self._eval_after_train = eval_after_train

    def _do_eval(self) -> None:
        results = self._func()
        if results:
            if not isinstance(results, Mapping):
                raise ValueError(f"eval_function must return a dict, got {results!r}")
            flat = {k: _number(k, v) for k, v in flatten_results_dict(results).items()}
            for name, value in flat.items():
                self.trainer.storage.put_scalar(name, value, smoothing_hint=False)
        # Processes that evaluate nothing would otherwise run ahead and time out.
        comm.synchronize()

    def after_step(self) -> None:
        if is_due(self, self._period):
            self._do_eval()

    def after_train(self) -> None:
        if self._eval_after_train and is_last(self):
            self._do_eval()
        # It may hold the trainer, which would then never be freed.
        del self._func


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "[EvalHook] eval_function should return a nested dict of float. "
            f"Got '{name}: {value}' instead."
        ) from error
