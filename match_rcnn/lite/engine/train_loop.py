"""The training loop: a trainer that repeats a step, and hooks that act around it.

Iterations count from 0. While hooks run before and after a step, ``trainer.iter`` is that step's
iteration; after a finished training it is ``max_iter``.
"""

import logging
import math
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
    """What acts around the steps of a trainer. Override what is needed.

    ``self.trainer`` is the trainer, from :meth:`TrainerBase.register_hooks` on. Hooks are called
    in the order in which they were registered: one that saves a checkpoint comes after those
    whose state is to be in it.
    """

    trainer: "TrainerBase"

    def before_train(self) -> None:
        """Called before the first iteration."""

    def after_train(self) -> None:
        """Called after the last iteration, and also when training failed; it succeeded when
        ``trainer.iter == trainer.max_iter``."""

    def before_step(self) -> None:
        """Called before each iteration."""

    def after_backward(self) -> None:
        """Called after the backward pass, before the optimizer steps."""

    def after_step(self) -> None:
        """Called after each iteration."""

    def state_dict(self) -> State:
        """What of this hook belongs into a checkpoint; with it goes ``load_state_dict``."""
        return {}


def is_due(hook: HookBase, period: int) -> bool:
    """Whether the iteration that just ended is a multiple of ``period`` (0: never), and not the
    last one, whose turn is after the training."""
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
        """Run the iterations ``start_iter`` to ``max_iter - 1``."""
        logger.info("Starting training from iteration %d", start_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                for self.iter in range(start_iter, max_iter):
                    self.before_step()
                    self.run_step()
                    self.after_step()
                # Only now: hooks tell by it that training got to its end.
                self.iter = max_iter
            except Exception:
                logger.exception("Exception during training:")
                raise
            finally:
                self.after_train()

    def before_train(self) -> None:
        for hook in self._hooks:
            hook.before_train()

    def after_train(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.after_train()

    def before_step(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.before_step()

    def after_backward(self) -> None:
        for hook in self._hooks:
            hook.after_backward()

    def after_step(self) -> None:
        for hook in self._hooks:
            hook.after_step()

    def run_step(self) -> None:
        raise NotImplementedError

    def state_dict(self) -> State:
        """``iteration``, the last one that was done, and ``hooks``, their states by class name, if
        they have any."""
        states: State = {}
        for hook in self._hooks:
            state = hook.state_dict()
            if state:
                states.setdefault(type(hook).__qualname__, state)
        return {"iteration": self.iter, **({"hooks": states} if states else {})}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.iter = state_dict["iteration"]
        for name, state in state_dict.get("hooks", {}).items():
            for hook in self._hooks:
                if type(hook).__qualname__ == name and hasattr(hook, "load_state_dict"):
                    hook.load_state_dict(state)
                    break
            else:
                logger.warning("No hook %r takes its state from the checkpoint; ignored.", name)


class SimpleTrainer(TrainerBase):
    """One batch, one loss dict, one backward pass and one optimizer step an iteration."""

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        async_write_metrics: bool = False,
    ):
        """
        Args:
            model: takes a batch and returns a loss or a dict of losses; put into training mode.
            data_loader: an endless iterable of batches.
            optimizer: of the model's parameters.
            gather_metric_period: losses are gathered from all processes and written every so
                many iterations.
            zero_grad_before_forward: clear gradients before the forward pass, not after it.
            async_write_metrics: write losses in another thread, so that this one need not wait
                for the GPU.
        """
        super().__init__()
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.gather_metric_period = gather_metric_period
        self.zero_grad_before_forward = zero_grad_before_forward
        self._data_loader_iter_obj: Iterator[Any] | None = None
        self._writer = ThreadPoolExecutor(max_workers=1) if async_write_metrics else None
        self._pending: Future[None] | None = None

    def run_step(self) -> None:
        assert self.model.training, "the model was switched to evaluation and not back"
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        loss_dict, total = self._forward(data)
        if not self.zero_grad_before_forward:
            # On a GPU this overlaps with the forward pass.
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

    @property
    def _data_loader_iter(self) -> Iterator[Any]:
        # Made late: workers start when they are needed.
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj = iter(self.data_loader)
        return self._data_loader_iter_obj

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable[Any]]) -> None:
        """Go on with another loader; the old one is let go before the new one is built."""
        del self.data_loader
        self._data_loader_iter_obj = None
        self.data_loader = data_loader_builder()

    def _write_metrics(
        self,
        loss_dict: Mapping[str, Tensor],
        data_time: float,
        prefix: str = "",
        iter: int | None = None,
    ) -> None:
        cur_iter = self.iter if iter is None else iter
        if (cur_iter + 1) % self.gather_metric_period != 0:
            return
        if self._writer is None:
            self.write_metrics(loss_dict, data_time, cur_iter, prefix)
            return
        if self._pending is not None:
            self._pending.result()
        self._pending = self._writer.submit(
            self.write_metrics, loss_dict, data_time, cur_iter, prefix
        )

    @staticmethod
    def write_metrics(
        loss_dict: Mapping[str, Tensor], data_time: float, cur_iter: int, prefix: str = ""
    ) -> None:
        """Put the losses, averaged over the processes, their sum and the time spent on loading
        (the longest of all processes) into the event storage. All processes must call this.

        Args:
            loss_dict: scalars.
            data_time: seconds.
            cur_iter: iteration that they belong to.
            prefix: of the name "total_loss".

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
                f"Loss became infinite or NaN at iteration={cur_iter}!\nloss_dict = {losses}"
            )
        storage.put_scalar(f"{prefix}total_loss", total, cur_iter=cur_iter)
        if len(losses) > 1:
            for name, loss in losses.items():
                storage.put_scalar(name, loss, cur_iter=cur_iter)

    def after_train(self) -> None:
        super().after_train()
        if self._writer is not None:
            self._writer.shutdown(wait=True)
        if self._pending is not None:
            self._pending.result()

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
        zero_grad_before_forward: bool = False,
        grad_scaler: torch.amp.GradScaler | None = None,
        precision: torch.dtype | None = None,
        log_grad_scaler: bool = False,
        async_write_metrics: bool = False,
    ):
        """
        Args:
            model, data_loader, optimizer, gather_metric_period, zero_grad_before_forward,
                async_write_metrics: as in :class:`SimpleTrainer`.
            grad_scaler: keeps small gradients from vanishing; None makes one that scales if
                ``precision`` is float16 (the range of bfloat16 needs none).
            precision: None takes float16 on a GPU and bfloat16 on the CPU.
            log_grad_scaler: put the scale into the event storage.
        """
        if isinstance(model, DataParallel):
            raise ValueError("AMPTrainer needs one process a GPU; launch() starts them")
        super().__init__(
            model,
            data_loader,
            optimizer,
            gather_metric_period,
            zero_grad_before_forward,
            async_write_metrics,
        )
        self._device = next(model.parameters()).device.type
        if precision is None:
            precision = torch.bfloat16 if self._device == "cpu" else torch.float16
        self.precision = precision
        self.grad_scaler = grad_scaler or torch.amp.GradScaler(
            self._device, enabled=precision == torch.float16
        )
        self.log_grad_scaler = log_grad_scaler

    def _forward(self, data: Any) -> tuple[Mapping[str, Tensor], Tensor]:
        with torch.autocast(self._device, dtype=self.precision):
            return super()._forward(data)

    def _backward(self, total: Tensor) -> None:
        super()._backward(self.grad_scaler.scale(total))
        if self.log_grad_scaler:
            get_event_storage().put_scalar("[metric]grad_scaler", self.grad_scaler.get_scale())

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
