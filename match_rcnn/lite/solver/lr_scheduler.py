"""Learning rates as a multiplier of the base rate, a function of training progress in [0, 1]."""

from typing import Any

from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["LRMultiplier", "LRScheduler", "WarmupParamScheduler"]


class WarmupParamScheduler(CompositeParamScheduler):
    """``scheduler`` with its first part replaced by a warm-up.

    The warm-up starts at ``warmup_factor`` times the schedule's first value and ends at the value
    with which the schedule goes on.
    """

    def __init__(
        self,
        scheduler: ParamScheduler,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ):
        """
        Args:
            scheduler: what follows the warm-up.
            warmup_factor: first value, relative to ``scheduler(0)``.
            warmup_length: share of the whole training, in [0, 1].
            warmup_method: "linear", or "constant" for the first value throughout.
            rescale_interval: the schedule runs through whole after the warm-up (True), or its
                first ``warmup_length`` is hidden by the warm-up (False).
        """
        first = warmup_factor * scheduler(0.0)
        last = scheduler(0.0 if rescale_interval else warmup_length)
        if warmup_method == "linear":
            warmup = LinearParamScheduler(first, last)
        elif warmup_method == "constant":
            warmup = ConstantParamScheduler(first)
        else:
            raise ValueError(
                f"Unknown warmup method: {warmup_method!r}; it may be 'linear' or 'constant'"
            )
        super().__init__(
            [warmup, scheduler],
            lengths=[warmup_length, 1 - warmup_length],
            interval_scaling=["rescaled", "rescaled" if rescale_interval else "fixed"],
        )


class LRMultiplier(LRScheduler):
    """Sets each group's rate to its initial rate times ``multiplier(iteration / max_iter)``.

    Only the base rates and the iteration go into the state dict: on resuming, the schedule is the
    one that was configured.
    """

    def __init__(
        self, optimizer: Optimizer, multiplier: ParamScheduler, max_iter: int, last_iter: int = -1
    ):
        """
        Args:
            optimizer: whose ``lr`` of each parameter group is the base rate.
            multiplier: of training progress in [0, 1].
            max_iter: iterations of the whole training.
            last_iter: the last one that is done; -1 for none.
        """
        if not isinstance(multiplier, ParamScheduler):
            raise ValueError(
                f"multiplier must be an fvcore ParamScheduler, got {type(multiplier).__name__}"
            )
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def state_dict(self) -> dict[str, Any]:
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[float | Tensor]:
        multiplier = self._multiplier(self.last_epoch / self._max_iter)
        return [base_lr * multiplier for base_lr in self.base_lrs]
