"""The training loop: a trainer that repeats a step, and hooks that act around it.

Iterations count from 0. While hooks run before and after a step, ``trainer.iter`` is that step's
iteration; after a finished training it is ``max_iter``.
"""

import logging
import math
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel
from torch.optim import Optimizer

from ..utils import comm
from ..utils.events import EventStorage, get_event_storage

__all__ = ["AMPTrainer", "HookBase", "SimpleTrainer", "TrainerBase"]

logger = logging.getLogger(__name__)

State = dict[str, Any]


class HookBase:
    """Acts at fixed moments of a training. All methods may be overridden, none has to be.

    From :meth:`TrainerBase.register_hooks` on, ``self.trainer`` is who calls them. Of several
    hooks the one registered first is called first: what writes a checkpoint belongs behind those
    whose state is to be in it.
    """

    trainer: "TrainerBase"

    def before_train(self) -> None:
        """Training begins; no step is done yet."""

    def after_train(self) -> None:
        """No further step will come, be it for an error: ``trainer.iter`` has reached
        ``trainer.max_iter`` only where all of them were done."""

    def before_step(self) -> None:
        """Step ``trainer.iter`` begins."""

    def after_backward(self) -> None:
        """There are gradients, which the optimizer has not used yet. Hooks of a
        :class:`SimpleTrainer` hear of it, those of a ``DefaultTrainer`` do not."""

    def after_step(self) -> None:
        """Step ``trainer.iter`` is done."""

    def state_dict(self) -> State:
        """What a checkpoint should hold of it. Who returns anything has a ``load_state_dict``."""
        return {}


def is_due(hook: HookBase, period: int) -> bool:
    """Whether it is time for what happens each ``period`` iterations (0: never) and, for the last
    one, only when training has ended."""
    done = hook.trainer.iter + 1
    return period > 0 and done % period == 0 and done != hook.trainer.max_iter


def is_last(hook: HookBase) -> bool:
    return hook.trainer.iter + 1 >= hook.trainer.max_iter


class TrainerBase:
    """A loop of :meth:`run_step` from ``start_iter`` to ``max_iter``, with hooks.

    Attributes:
        iter: the current iteration.
        start_iter: the first one of this run.
        max_iter: one after the last.
        storage: the event storage; open while :meth:`train` runs.
    """

    iter: int
    start_iter: int
    max_iter: int
    storage: EventStorage

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self.iter = 0
        self.start_iter = 0

    def register_hooks(self, hooks: Sequence[HookBase | None]) -> None:
        """Add hooks behind those that are there; None stands for no hook."""
        for hook in hooks:
            if hook is not None:
                assert isinstance(hook, HookBase), f"expected a hook, got {type(hook).__name__}"
                # Weak: a circle of references would keep the model in memory for longer.
                hook.trainer = weakref.proxy(self)
                self._hooks.append(hook)

    def train(self, start_iter: int, max_iter: int) -> Any:
        """Do the steps from ``start_iter`` on, up to but without ``max_iter``."""
        logger.info("Starting training from iteration %d", start_iter)
        self.start_iter, self.max_iter = start_iter, max_iter
        self.iter = start_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                for self.iter in range(start_iter, max_iter):
                    self._whole_step()
                # Not in the loop's head: by it hooks tell a whole training from a broken one.
                self.iter = max_iter
            except Exception:
                logger.exception("Training failed in iteration %d:", self.iter)
                raise
            finally:
                self.after_train()

    def _whole_step(self) -> None:
        self.before_step()
        self.run_step()
        self.after_step()

    def _call(self, moment: str) -> None:
        """Call a method of every hook, in their order."""
        for hook in self._hooks:
            getattr(hook, moment)()

    def before_train(self) -> None:
        self._call("before_train")

    def after_train(self) -> None:
        self.storage.iter = self.iter
        self._call("after_train")

    def before_step(self) -> None:
        self.storage.iter = self.iter
        self._call("before_step")

    def after_backward(self) -> None:
        self._call("after_backward")

    def after_step(self) -> None:
        self._call("after_step")

    def run_step(self) -> None:
        raise NotImplementedError

    def state_dict(self) -> State:
        """``iteration``, of the step done last; and under ``hooks`` what hooks gave, by the names
        of their classes; of equal names the first that gave any."""
        states: State = {}
        for hook in self._hooks:
            if given := hook.state_dict():
                states.setdefault(type(hook).__qualname__, given)
        return {"iteration": self.iter, **({"hooks": states} if states else {})}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.iter = state_dict["iteration"]
        takers: dict[str, Any] = {}
        for hook in self._hooks:
            if hasattr(hook, "load_state_dict"):
                takers.setdefault(type(hook).__qualname__, hook)
        for name, state in state_dict.get("hooks", {}).items():
            if name in takers:
                takers[name].load_state_dict(state)
            else:
                logger.warning("No hook %r takes its state from the checkpoint; ignored.", name)


class SimpleTrainer(TrainerBase):
    """A step is one batch forth and back and one update of the weights."""

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: Optimizer,
        gather_metric_period: int = 1,
    ):
        """
        Args:
            model: from a batch to a loss, or losses by name. It is set to training here.
            data_loader: gives batches without end.
            optimizer: of the model's parameters.
            gather_metric_period: losses are gathered from all processes and written every so
                many iterations.
        """
        super().__init__()
        self.model = model.train()
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.gather_metric_period = gather_metric_period

    @cached_property
    def _data_loader_iter(self) -> Iterator[Any]:
        # Made late: workers start when they are needed.
        return iter(self.data_loader)

    def run_step(self) -> None:
        assert self.model.training, "the model was switched to evaluation and not back"
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        loss_dict, total = self._forward(data)
        # Not before the forward pass, with which it overlaps on a GPU.
        self.optimizer.zero_grad()
        self._backward(total)
        self.after_backward()
        # A loss that is not finite raises here, before it can reach the weights.
        self._write_metrics(loss_dict, data_time)
        self._step_optimizer()

    def _forward(self, data: Any) -> tuple[Mapping[str, Tensor], Tensor]:
        """The losses by name, and their sum."""
        losses = self.model(data)
        if isinstance(losses, Tensor):
            return {"total_loss": losses}, losses
        total = sum(losses.values())
        assert isinstance(total, Tensor), f"the model returned no losses: {losses!r}"
        return losses, total

    def _backward(self, total: Tensor) -> None:
        total.backward()  # type: ignore[no-untyped-call]

    def _step_optimizer(self) -> None:
        self.optimizer.step()

    def _write_metrics(self, loss_dict: Mapping[str, Tensor], data_time: float) -> None:
        if (self.iter + 1) % self.gather_metric_period == 0:
            self.write_metrics(loss_dict, data_time, self.iter)

    @staticmethod
    def write_metrics(loss_dict: Mapping[str, Tensor], data_time: float, cur_iter: int) -> None:
        """Put the losses, averaged over the processes, their sum and the time spent on loading
        (the longest of all processes) into the event storage. All processes must call this.

        Args:
            loss_dict: scalars.
            data_time: seconds.
            cur_iter: iteration that they belong to.

        Raises:
            FloatingPointError: the sum is infinite or NaN.
        """
        values = torch.stack([loss.detach().reshape(()) for loss in loss_dict.values()]).tolist()
        metrics = dict(zip(loss_dict, values, strict=True))
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time, cur_iter=cur_iter)
        gathered = comm.gather({**metrics, "data_time": data_time})
        if not comm.is_main_process():
            return
        longest = max(of_process.pop("data_time") for of_process in gathered)
        storage.put_scalar("data_time", longest, cur_iter=cur_iter)
        losses = {k: float(np.mean([of_process[k] for of_process in gathered])) for k in metrics}
        total = sum(losses.values())
        if not math.isfinite(total):
            raise FloatingPointError(
                f"iteration {cur_iter} has a loss that is not finite, so training ends: {losses}"
            )
        storage.put_scalar("total_loss", total, cur_iter=cur_iter)
        if len(losses) > 1:
            for name, loss in losses.items():
                storage.put_scalar(name, loss, cur_iter=cur_iter)

    def state_dict(self) -> State:
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])


class AMPTrainer(SimpleTrainer):
    """A :class:`SimpleTrainer` whose forward pass runs in mixed precision."""

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: Optimizer,
        gather_metric_period: int = 1,
        *,
        grad_scaler: torch.amp.GradScaler | None = None,
        precision: torch.dtype | None = None,
    ):
        """
        Args:
            grad_scaler: keeps small gradients from vanishing. By default one that scales with
                float16 alone, since bfloat16 reaches as far down as float32.
            precision: by default float16 on a GPU and bfloat16 on the CPU.
            model, data_loader, optimizer, gather_metric_period: of the base class.
        """
        if isinstance(model, DataParallel):
            raise ValueError("AMPTrainer needs one process a GPU; launch() starts them")
        super().__init__(model, data_loader, optimizer, gather_metric_period)
        self._device = next(model.parameters()).device.type
        if precision is None:
            precision = torch.bfloat16 if self._device == "cpu" else torch.float16
        self.precision = precision
        self.grad_scaler = grad_scaler or torch.amp.GradScaler(
            self._device, enabled=precision == torch.float16
        )

    def _forward(self, data: Any) -> tuple[Mapping[str, Tensor], Tensor]:
        with torch.autocast(self._device, dtype=self.precision):
            return super()._forward(data)

    def _backward(self, total: Tensor) -> None:
        super()._backward(self.grad_scaler.scale(total))

    def _step_optimizer(self) -> None:
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> State:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        # A checkpoint of training in full precision, or in bfloat16, has no scale.
        if state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
