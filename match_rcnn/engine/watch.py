"""Looks at every batch and its losses, and makes the processes of a run agree on what they saw:
losses that are not finite, images that could not be read, signals to stop.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from match_rcnn.d2 import HookBase, comm
from match_rcnn.engine.faults import DataFault, NonFiniteFault, PreemptionSignals
from match_rcnn.utils.files import write_json

logger = logging.getLogger(__name__)


class UnreadableImages(HookBase):
    """Keeps ``unreadable_images.json``, and its content in the checkpoint.

    Args:
        path: of that file; the main process writes it.
        total: images of the training set.
        limit: the share of them that may be unreadable.
    """

    def __init__(self, path: Path, total: int, limit: float) -> None:
        self._path = path
        self._total = total
        self._limit = limit
        self._images: dict[str, dict[str, Any]] = {}

    @property
    def share(self) -> float:
        """Of the training set's images, how many were found unreadable."""
        return len(self._images) / self._total

    def before_train(self) -> None:
        if not comm.is_main_process():
            return
        if self._images:
            self._write()
        else:
            self._path.unlink(missing_ok=True)  # an earlier run's

    def add(self, found: Iterable[Mapping[str, str]], iteration: int) -> None:
        """Take in ``{"file_name", "error"}`` of all processes.

        Raises:
            DataFault: the share is above the limit.
        """
        for image in found:
            known = self._images.get(image["file_name"])
            if known is None:
                logger.warning("Replaced an image that cannot be read: %s", image["error"])
                known = {**image, "first_iteration": iteration, "times": 0}
                self._images[image["file_name"]] = known
            known["times"] += 1
        if comm.is_main_process():
            self._write()
        if self.share > self._limit:
            raise DataFault(
                f"{len(self._images)} of {self._total} training images ({self.share:.2%}) cannot "
                f"be read, more than DATALOADER.MAX_UNREADABLE_SHARE {self._limit:.2%} allows; "
                f"{self._path} lists them. Restore them, leave them out, or allow more."
            )

    def _write(self) -> None:
        write_json(
            self._path,
            {
                "training_images": self._total,
                "share": self.share,
                "largest_share_allowed": self._limit,
                "images": [self._images[name] for name in sorted(self._images)],
            },
        )

    def state_dict(self) -> dict[str, Any]:
        return {"images": list(self._images.values())} if self._images else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._images = {image["file_name"]: dict(image) for image in state["images"]}


_ADVICE = (
    "--resume repeats the same steps: check the annotations of these images, or change "
    "SOLVER.BASE_LR or SOLVER.CLIP_GRADIENTS first."
)


@dataclass
class _Part:
    """What one forward pass (one a step, more with accumulation) took and gave."""

    iteration: int
    images: list[str]
    losses: list[str]
    values: Tensor  # (len(losses),)


class StepWatch(HookBase):
    """Finds losses that are not finite, images that were replaced and signals to stop.

    Processes compare what they found where the host reads losses off the device anyway, before it
    does; on the CPU, before a checkpoint and before an evaluation in every step.

    Args:
        signals: of this process.
        unreadable: told of the images that were replaced, in every process of all.
        periods: iterations between checkpoints, evaluations and the like; 0: none.

    Attributes:
        preempted: the signal that one of the processes got; all know of it in the same step.
    """

    def __init__(
        self,
        signals: PreemptionSignals,
        unreadable: UnreadableImages,
        periods: tuple[int, ...] = (),
    ) -> None:
        self.preempted = ""
        self._signals = signals
        self._unreadable = unreadable
        self._periods = [period for period in periods if period > 0]
        self._in_step = False
        self._images: list[str] = []
        self._replaced: list[dict[str, str]] = []
        self._open: list[_Part] = []
        self._handles: list[Any] = []

    def before_train(self) -> None:
        model: torch.nn.Module = self.trainer.model  # type: ignore[attr-defined]
        self._handles = [
            model.register_forward_pre_hook(self._before_forward),
            model.register_forward_hook(self._after_forward),
        ]

    def after_train(self) -> None:
        for handle in self._handles:
            handle.remove()

    def before_step(self) -> None:
        # Other forward passes in training mode are those of hooks, on data of their own.
        self._in_step = True

    def after_step(self) -> None:
        self._in_step = False

    def _before_forward(self, model: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if not self._in_step:
            return
        self._images = [str(sample.get("file_name")) for sample in inputs[0]]
        for sample in inputs[0]:
            self._replaced += sample.pop("unreadable", [])

    def _after_forward(self, model: torch.nn.Module, inputs: Any, losses: Any) -> None:
        if not self._in_step:
            return
        if isinstance(losses, Tensor):
            losses = {"total_loss": losses}
        values = torch.stack([loss.detach().reshape(()) for loss in losses.values()])
        self._open.append(_Part(self.trainer.iter, self._images, list(losses), values))
        if values.device.type == "cpu" or self._is_due(self.trainer.iter + 1):
            self._settle()

    def _is_due(self, done: int) -> bool:
        inner = self.trainer._trainer  # type: ignore[attr-defined]
        periods = [inner.gather_metric_period, *self._periods]
        return done >= self.trainer.max_iter or any(done % period == 0 for period in periods)

    def _settle(self) -> None:
        """
        Raises:
            NonFiniteFault, DataFault: in all processes, what one of them found.
        """
        parts, self._open = self._open, []
        finite = torch.stack([part.values.isfinite().all() for part in parts]).all()
        known = [bool(self._replaced), bool(self._signals.received)]
        found = torch.stack([~finite, *torch.tensor(known, device=finite.device)]).float()
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        is_bad, any_replaced, any_signal = found.tolist()
        if any_signal:
            self.preempted = self._signals.received or "A signal to another process"
        if any_replaced:
            replaced, self._replaced = self._replaced, []
            everywhere = [image for those in comm.all_gather(replaced) for image in those]
            self._unreadable.add(everywhere, self.trainer.iter)
        if is_bad:
            bad = [self._describe(part) for part in parts if not part.values.isfinite().all()]
            raise NonFiniteFault(
                "the loss became infinite or NaN: "
                + "; ".join(text for those in comm.all_gather(bad) for text in those)
                + f". {_ADVICE}"
            )

    @staticmethod
    def _describe(part: _Part) -> str:
        losses = zip(part.losses, part.values.tolist(), strict=True)
        values = ", ".join(f"{name} = {value:.4g}" for name, value in losses)
        return f"{values} at iteration {part.iteration} for {', '.join(part.images)}"

    def explain(self, error: FloatingPointError) -> NonFiniteFault:
        """The fault behind an error that a host raised on numbers that are not finite."""
        text = " ".join(str(error).split())
        images = ", ".join(self._images) or "none"
        return NonFiniteFault(f"{text} Images of the batch: {images}. {_ADVICE}")
