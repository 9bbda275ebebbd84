"""A moving average of the weights, which evaluations use in the place of the last ones."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from match_rcnn.d2 import HookBase


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
