"""A training step in other ways than the host's: from several parts of a batch, in fewer bits."""

import time
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from match_rcnn.d2 import HOST, CfgNode
from match_rcnn.inference.switches import resolve_precision


def check_accumulation(cfg: CfgNode, world_size: int) -> None:
    """
    Raises:
        ValueError: a process's batch cannot be cut into ``SOLVER.ACCUMULATION_STEPS`` equal parts
            that hold whole pairs.
    """
    steps, images = cfg.SOLVER.ACCUMULATION_STEPS, cfg.SOLVER.IMS_PER_BATCH // world_size
    if steps < 1 or images % steps:
        raise ValueError(
            f"SOLVER.ACCUMULATION_STEPS is {steps}: the {images} images that SOLVER.IMS_PER_BATCH "
            "gives to each process must be a multiple of it"
        )
    if cfg.DATALOADER.SAMPLER_TRAIN == "PairSampler" and steps > 1 and images // steps % 2:
        raise ValueError(
            f"SOLVER.ACCUMULATION_STEPS {steps} makes parts of {images // steps} images, which "
            "would split pairs; with DATALOADER.SAMPLER_TRAIN PairSampler choose an even number"
        )


def accumulate_step(trainer: Any, steps: int) -> None:
    """The step of a host's ``SimpleTrainer`` or ``AMPTrainer``, a batch in equal parts.

    Each part's losses count 1 / ``steps``. So gradients are those of the whole batch for losses
    that are means over images; those that a model normalises by other counts are means of the
    parts' values, and normalisation layers in training see a part at a time.
    """
    start = time.perf_counter()
    batch = next(trainer._data_loader_iter)
    data_time = time.perf_counter() - start
    size = len(batch) // steps
    losses: dict[str, Tensor] = {}
    trainer.optimizer.zero_grad()
    for part in range(steps):
        with _without_exchange(trainer.model, part + 1 < steps):
            found = _backward(trainer, batch[part * size : (part + 1) * size], steps)
        losses = {k: losses.get(k, 0.0) + value for k, value in found.items()}
    if hasattr(trainer, "after_backward"):  # detectron2 0.6 has no hooks there
        trainer.after_backward()
    trainer._write_metrics(losses, data_time)
    scaler = getattr(trainer, "grad_scaler", None)
    if scaler is None:
        trainer.optimizer.step()
    else:
        scaler.step(trainer.optimizer)
        scaler.update()


def _without_exchange(model: torch.nn.Module, wanted: bool) -> Any:
    """Gradients cross between processes once, with the last part's."""
    if wanted and isinstance(model, DistributedDataParallel):
        return model.no_sync()
    return nullcontext()


def _backward(trainer: Any, part: Any, steps: int) -> dict[str, Tensor]:
    """Adds a part's gradients; returns its share of each loss."""
    precision = getattr(trainer, "precision", None)
    device = next(trainer.model.parameters()).device.type
    with torch.autocast(device, precision) if precision is not None else nullcontext():
        losses = trainer.model(part)
        if isinstance(losses, Tensor):
            losses = {"total_loss": losses}
        shares = {name: loss / steps for name, loss in losses.items()}
        total = torch.stack(list(shares.values())).sum()
    scaler = getattr(trainer, "grad_scaler", None)
    (total if scaler is None else scaler.scale(total)).backward()
    return {name: share.detach() for name, share in shares.items()}


def set_precision(trainer: Any, name: str) -> None:
    """Let the host's ``AMPTrainer`` run its forward passes in a format.

    Args:
        trainer: the inner trainer, before its first step.
        name: see :func:`resolve_precision`.

    Raises:
        ValueError: see :func:`resolve_precision`; or upstream detectron2 on the CPU, whose trainer
            knows mixed precision on GPUs only; or detectron2 0.6, whose trainer knows no bfloat16.
    """
    device = next(trainer.model.parameters()).device.type
    precision = resolve_precision(name, device)
    if HOST == "detectron2" and device == "cpu":
        raise ValueError(
            "SOLVER.AMP.ENABLED: detectron2's mixed precision needs a GPU; set it to False or "
            "choose the embedded host, MATCH_RCNN_HOST=lite"
        )
    if precision == torch.bfloat16 and not hasattr(trainer, "precision"):
        raise ValueError("SOLVER.AMP.PRECISION: detectron2 0.6 knows float16 only, not bfloat16")
    trainer.precision = precision
    trainer.grad_scaler = torch.amp.GradScaler(device, enabled=precision == torch.float16)
