"""Hooks that few trainings need; :mod:`.hooks` has them too."""

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from torch import nn

from ..utils.events import EventStorage
from .train_loop import HookBase, is_due, is_last

logger = logging.getLogger(__name__)


class PreciseBN(HookBase):
    """Replaces BatchNorm's running averages by averages over many batches with fixed weights.

    Register it before the hook that evaluates.
    """

    def __init__(self, period: int, model: nn.Module, data_loader: Iterable[Any], num_iter: int):
        """
        Args:
            period: every so many iterations; 0 for at the end alone.
            model: nothing is done if it has no BatchNorm in training mode.
            data_loader: batches for the averages.
            num_iter: how many batches.
        """
        self._period = period
        self._model = model
        self._data_loader = data_loader
        self._num_iter = num_iter
        self._disabled = not get_bn_modules(model)
        self._iterator: Iterator[Any] | None = None
        if self._disabled:
            logger.info("PreciseBN is off: the model has no BatchNorm layer in training mode.")

    def after_step(self) -> None:
        if is_last(self) or is_due(self, self._period):
            self.update_stats()

    def update_stats(self) -> None:
        """Compute and set the statistics of all BatchNorm layers."""
        if self._disabled:
            return
        if self._iterator is None:
            self._iterator = iter(self._data_loader)
        logger.info("Running PreciseBN for %d batches ...", self._num_iter)
        # What the model reports meanwhile is not of the training: it goes into its own storage.
        with EventStorage():
            batches = itertools.islice(self._iterator, self._num_iter)
            update_bn_stats(self._model, batches, self._num_iter)


class TorchProfiler(HookBase):
    """Profiles the iterations that ``enable_predicate`` chooses, into ``output_dir``."""

    def __init__(
        self,
        enable_predicate: Callable[[Any], bool],
        output_dir: str,
        *,
        activities: Sequence[Any] | None = None,
    ):
        """
        Args:
            enable_predicate: of the trainer; whether to profile the coming step.
            output_dir: gets a Chrome trace an iteration, ``profiler-trace-iter<N>.json``.
            activities: see ``torch.profiler.profile``.
        """
        self._enable_predicate = enable_predicate
        self._output_dir = output_dir
        self._activities = activities
        self._profiler: Any = None

    def before_step(self) -> None:
        if self._enable_predicate(self.trainer):
            self._profiler = torch.profiler.profile(
                activities=self._activities, record_shapes=True, profile_memory=True
            )
            self._profiler.__enter__()

    def after_step(self) -> None:
        if self._profiler is None:
            return
        self._profiler.__exit__(None, None, None)
        os.makedirs(self._output_dir, exist_ok=True)
        name = f"profiler-trace-iter{self.trainer.iter}.json"
        self._profiler.export_chrome_trace(os.path.join(self._output_dir, name))
        self._profiler = None
