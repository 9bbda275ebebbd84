"""Optimizers, parameter groups and schedules from a config."""

import logging
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any

import torch
from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    StepWithFixedGammaParamScheduler,
)
from torch import Tensor, nn
from torch.optim import Optimizer

from ..config import CfgNode
from .lr_scheduler import LRMultiplier, LRScheduler, WarmupParamScheduler

logger = logging.getLogger(__name__)

ParamGroup = dict[str, Any]
GradientClipper = Callable[[Iterable[Tensor]], None]

# What counts as normalisation for WEIGHT_DECAY_NORM. BatchNorm's base class takes in SyncBatchNorm.
NORM_TYPES = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)


class GradientClipType(Enum):
    """Values of ``SOLVER.CLIP_GRADIENTS.CLIP_TYPE``."""

    VALUE = "value"
    NORM = "norm"


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
    clipped = maybe_add_gradient_clipping(cfg, optimizer)
    assert isinstance(clipped, Optimizer)
    return clipped


def maybe_add_gradient_clipping(
    cfg: CfgNode, optimizer: Optimizer | type[Optimizer]
) -> Optimizer | type[Optimizer]:
    """Let ``optimizer`` clip each parameter's gradient before it steps, if the config asks for it.

    Args:
        optimizer: an optimizer, changed in place, or an optimizer class.

    Returns:
        The same optimizer, or a subclass of the class.
    """
    if not cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        return optimizer
    clip = _gradient_clipper(cfg.SOLVER.CLIP_GRADIENTS)
    if not isinstance(optimizer, Optimizer):
        return _with_clipping(optimizer, clip)
    optimizer.__class__ = _with_clipping(type(optimizer), clip)
    return optimizer


def _gradient_clipper(cfg: CfgNode) -> GradientClipper:
    """Clips every parameter on its own: by value, or by the norm of its own gradient."""

    def clip_norm(params: Iterable[Tensor]) -> None:
        for param in params:
            nn.utils.clip_grad_norm_(param, cfg.CLIP_VALUE, cfg.NORM_TYPE)

    def clip_value(params: Iterable[Tensor]) -> None:
        nn.utils.clip_grad_value_(params, cfg.CLIP_VALUE)

    by_norm = GradientClipType(cfg.CLIP_TYPE) is GradientClipType.NORM
    return clip_norm if by_norm else clip_value


def _with_clipping(base: type[Optimizer], clip: GradientClipper) -> type[Optimizer]:
    def step(self: Optimizer, closure: Any = None) -> Any:
        clip([param for group in self.param_groups for param in group["params"]])
        return base.step(self, closure)

    return type(f"{base.__name__}WithGradientClip", (base,), {"step": step})


def get_default_optimizer_params(
    model: nn.Module,
    base_lr: float | None = None,
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float | None = 1.0,
    weight_decay_bias: float | None = None,
    lr_factor_func: Callable[[str], float] | None = None,
    overrides: dict[str, dict[str, float]] | None = None,
) -> list[ParamGroup]:
    """Parameter groups for a torch optimizer; equal hyperparameters share a group.

    Args:
        model: whose parameters that require gradients are taken, each once.
        base_lr: rate of every group; None leaves it to the optimizer.
        weight_decay: of every group; None leaves it to the optimizer.
        weight_decay_norm: instead, for the parameters of normalisation layers.
        bias_lr_factor: multiplies the rate of parameters called "bias"; needs ``base_lr``.
        weight_decay_bias: instead, for parameters called "bias" (of normalisation layers too).
        lr_factor_func: gives a factor of the rate for a parameter's full name; needs ``base_lr``.
        overrides: hyperparameters by a parameter's last name ("bias"); they win over all else.

    Raises:
        ValueError: a factor without ``base_lr``; two settings for "bias".
    """
    bias = _bias_override(base_lr, bias_lr_factor, weight_decay_bias)
    overrides = dict(overrides or {})
    if bias and "bias" in overrides:
        raise ValueError(f"Conflicting overrides for 'bias': {overrides['bias']} and {bias}")
    if bias:
        overrides["bias"] = bias
    if lr_factor_func is not None and base_lr is None:
        raise ValueError("lr_factor_func requires base_lr")
    defaults = {"lr": base_lr, "weight_decay": weight_decay}
    groups = []
    for module, prefix, name, param in _trainable_parameters(model):
        group: ParamGroup = {k: v for k, v in defaults.items() if v is not None}
        if isinstance(module, NORM_TYPES) and weight_decay_norm is not None:
            group["weight_decay"] = weight_decay_norm
        if lr_factor_func is not None:
            group["lr"] *= lr_factor_func(f"{prefix}.{name}")
        group.update(overrides.get(name, {}))
        groups.append({**group, "params": [param]})
    return reduce_param_groups(groups)


def _bias_override(
    base_lr: float | None, bias_lr_factor: float | None, weight_decay_bias: float | None
) -> dict[str, float]:
    override = {}
    if bias_lr_factor is not None and bias_lr_factor != 1.0:
        if base_lr is None:
            raise ValueError("bias_lr_factor requires base_lr")
        override["lr"] = base_lr * bias_lr_factor
    if weight_decay_bias is not None:
        override["weight_decay"] = weight_decay_bias
    return override


def _trainable_parameters(model: nn.Module) -> Iterator[tuple[nn.Module, str, str, nn.Parameter]]:
    """(module, its name, the parameter's name in it, parameter), each parameter once."""
    seen: set[nn.Parameter] = set()
    for prefix, module in model.named_modules():
        for name, param in module.named_parameters(recurse=False):
            if param.requires_grad and param not in seen:
                seen.add(param)
                yield module, prefix, name, param


def reduce_param_groups(params: list[ParamGroup]) -> list[ParamGroup]:
    """Merge the groups of equal hyperparameters, in the order in which they first come.

    A parameter that is in several groups keeps its first place; later settings win.
    """
    merged: dict[tuple[tuple[str, Any], ...], ParamGroup] = {}
    for group in _expand_param_groups(params):
        param = group.pop("params")
        key = tuple(group.items())
        merged.setdefault(key, {**group, "params": []})["params"].extend(param)
    return list(merged.values())


def _expand_param_groups(params: list[ParamGroup]) -> list[ParamGroup]:
    """One group a parameter."""
    expanded: dict[Any, ParamGroup] = {}
    for group in params:
        settings = {k: v for k, v in group.items() if k != "params"}
        for param in group["params"]:
            expanded.setdefault(param, {"params": [param]}).update(settings)
    return list(expanded.values())


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """The schedule ``SOLVER.LR_SCHEDULER_NAME``, with its warm-up, to be stepped each iteration."""
    solver = cfg.SOLVER
    builders = {
        "WarmupMultiStepLR": _multi_step,
        "WarmupCosineLR": _cosine,
        "WarmupStepWithFixedGammaLR": _fixed_gamma,
    }
    name = solver.LR_SCHEDULER_NAME
    if name not in builders:
        raise ValueError(f"Unknown LR scheduler: {name!r}; there are {', '.join(builders)}")
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


class _FixedGamma(StepWithFixedGammaParamScheduler):
    """fvcore's, with the last value at the end too: schedulers step after the last iteration, and
    fvcore's has no value there."""

    def __call__(self, where: float) -> float:
        return super().__call__(min(where, 1 - 2 * self.WHERE_EPSILON))


def _fixed_gamma(solver: CfgNode) -> ParamScheduler:
    return _FixedGamma(
        base_value=1.0,
        gamma=solver.GAMMA,
        num_decays=solver.NUM_DECAYS,
        num_updates=solver.MAX_ITER,
    )
