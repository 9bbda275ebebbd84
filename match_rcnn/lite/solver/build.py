"""Optimizers, parameter groups and schedules from a config."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
)
from torch import Tensor, nn
from torch.optim import Optimizer

from ..config import CfgNode
from .lr_scheduler import LRMultiplier, LRScheduler, WarmupParamScheduler

logger = logging.getLogger(__name__)

ParamGroup = dict[str, Any]

# What counts as normalisation for WEIGHT_DECAY_NORM. BatchNorm's base class takes in SyncBatchNorm.
NORM_TYPES = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """SGD over the trainable parameters of ``model``, as ``cfg.SOLVER`` says."""
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    optimizer = torch.optim.SGD(
        groups,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
        weight_decay=solver.WEIGHT_DECAY,
        foreach=True,
    )
    return maybe_add_gradient_clipping(cfg, optimizer)


def maybe_add_gradient_clipping(cfg: CfgNode, optimizer: Optimizer) -> Optimizer:
    """Let ``optimizer`` clip each parameter's gradient before it steps, if the config asks for it.

    It is changed in place, and returned.

    Raises:
        ValueError: an unknown way to clip.
    """
    node = cfg.SOLVER.CLIP_GRADIENTS
    if node.ENABLED:
        optimizer.__class__ = _with_clipping(type(optimizer), _gradient_clipper(node))
    return optimizer


def _gradient_clipper(node: CfgNode) -> Callable[[Tensor], Any]:
    """Clips one parameter: its gradient's values, or their norm."""
    clippers: dict[str, Callable[[Tensor], Any]] = {
        "value": lambda param: nn.utils.clip_grad_value_(param, node.CLIP_VALUE),
        "norm": lambda param: nn.utils.clip_grad_norm_(param, node.CLIP_VALUE, node.NORM_TYPE),
    }
    if node.CLIP_TYPE not in clippers:
        raise ValueError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE must be 'value' or 'norm', got {node.CLIP_TYPE!r}"
        )
    return clippers[node.CLIP_TYPE]


def _with_clipping(base: type[Optimizer], clip: Callable[[Tensor], Any]) -> type[Optimizer]:
    def step(self: Optimizer, closure: Any = None) -> Any:
        for group in self.param_groups:
            for param in group["params"]:
                clip(param)
        return base.step(self, closure)

    return type(f"{base.__name__}WithGradientClip", (base,), {"step": step})


def get_default_optimizer_params(
    model: nn.Module,
    base_lr: float | None = None,
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float | None = 1.0,
    weight_decay_bias: float | None = None,
    overrides: dict[str, dict[str, float]] | None = None,
) -> list[ParamGroup]:
    """Parameter groups for a torch optimizer; equal hyperparameters share a group, in the order
    in which they first come.

    Args:
        model: whose parameters that require gradients are taken, each once.
        base_lr: rate of every group; None leaves it to the optimizer.
        weight_decay: of every group; None leaves it to the optimizer.
        weight_decay_norm: instead, for the parameters of normalisation layers.
        bias_lr_factor: multiplies the rate of parameters called "bias"; needs ``base_lr``.
        weight_decay_bias: instead, for parameters called "bias" (of normalisation layers too).
        overrides: ``lr`` and ``weight_decay`` by a parameter's last name; they win over all else.

    Raises:
        ValueError: a factor without ``base_lr``.
    """
    bias_lr = base_lr
    if bias_lr_factor not in (None, 1.0):
        if base_lr is None:
            raise ValueError(f"bias_lr_factor {bias_lr_factor} of no base_lr: give both")
        bias_lr = base_lr * bias_lr_factor
    groups: dict[tuple[float | None, float | None], ParamGroup] = {}
    for module, name, param in _trainable_parameters(model):
        decays = [weight_decay]
        decays += [weight_decay_norm] if isinstance(module, NORM_TYPES) else []
        decays += [weight_decay_bias] if name == "bias" else []
        decay = next((d for d in reversed(decays) if d is not None), None)
        lr = bias_lr if name == "bias" else base_lr
        own = (overrides or {}).get(name, {})
        lr, decay = own.get("lr", lr), own.get("weight_decay", decay)
        groups.setdefault((lr, decay), _group(lr, decay))["params"].append(param)
    return list(groups.values())


def _group(lr: float | None, weight_decay: float | None) -> ParamGroup:
    settings = {"lr": lr, "weight_decay": weight_decay}
    return {"params": [], **{name: v for name, v in settings.items() if v is not None}}


def _trainable_parameters(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    """(module, the parameter's name in it, parameter), each parameter once."""
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for name, param in module.named_parameters(recurse=False):
            if param.requires_grad and param not in seen:
                seen.add(param)
                yield module, name, param


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """The schedule ``SOLVER.LR_SCHEDULER_NAME``, with its warm-up, to be stepped each iteration."""
    solver = cfg.SOLVER
    builders = {
        "WarmupMultiStepLR": _multi_step,
        "WarmupCosineLR": _cosine,
    }
    name = solver.LR_SCHEDULER_NAME
    if name not in builders:
        raise ValueError(
            f"no schedule SOLVER.LR_SCHEDULER_NAME {name!r}; there are {', '.join(builders)}"
        )
    multiplier = WarmupParamScheduler(
        builders[name](solver),
        solver.WARMUP_FACTOR,
        min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0),
        solver.WARMUP_METHOD,
        solver.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, multiplier, max_iter=solver.MAX_ITER)


def _multi_step(solver: CfgNode) -> ParamScheduler:
    # A step at MAX_ITER would never be used, and fvcore refuses it.
    steps = [step for step in solver.STEPS if step < solver.MAX_ITER]
    if len(steps) < len(solver.STEPS):
        logger.warning(
            "SOLVER.STEPS %s: those from SOLVER.MAX_ITER (%d) on are ignored.",
            tuple(solver.STEPS),
            solver.MAX_ITER,
        )
    values = [solver.GAMMA**k for k in range(len(steps) + 1)]
    return MultiStepParamScheduler(values, milestones=steps, num_updates=solver.MAX_ITER)


def _cosine(solver: CfgNode) -> ParamScheduler:
    if not 0 <= solver.BASE_LR_END <= solver.BASE_LR:
        raise ValueError(
            f"SOLVER.BASE_LR_END must lie between 0 and SOLVER.BASE_LR ({solver.BASE_LR}), "
            f"got {solver.BASE_LR_END}"
        )
    return CosineParamScheduler(1.0, solver.BASE_LR_END / solver.BASE_LR)
