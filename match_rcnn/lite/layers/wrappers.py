"""torch's layers and functions under detectron2's names, with what it adds to them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BatchNorm2d = nn.BatchNorm2d
ConvTranspose2d = nn.ConvTranspose2d
Linear = nn.Linear
interpolate = F.interpolate


class Conv2d(nn.Conv2d):
    """A convolution followed by an optional normalisation and an optional activation.

    Args:
        *args: as for :class:`torch.nn.Conv2d`.
        norm: a module applied to the convolution's output; its parameters are ``norm.*``.
        activation: a function applied last.
        **kwargs: as for :class:`torch.nn.Conv2d`.
    """

    def __init__(
        self,
        *args: Any,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.norm = norm
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.activation is None else self.activation(x)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """``torch.cat``, but a single tensor is given back as it is, without a copy."""
    if not isinstance(tensors, (list, tuple)):
        raise ValueError(f"expected a list or tuple of tensors, got {type(tensors).__name__}")
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)


def empty_input_loss_func_wrapper(loss_func: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``loss_func`` with a mean of 0 (not NaN) over no elements.

    The 0 hangs on the input, so that every parameter still takes part in the backward pass.
    """

    def wrapped(input: Tensor, target: Tensor, *, reduction: str = "mean", **kwargs: Any) -> Tensor:
        if target.numel() == 0 and reduction == "mean":
            return input.sum() * 0.0
        return loss_func(input, target, reduction=reduction, **kwargs)

    return wrapped


#: ``F.cross_entropy`` that gives 0 for an empty batch.
cross_entropy = empty_input_loss_func_wrapper(F.cross_entropy)


def nonzero_tuple(x: Tensor) -> tuple[Tensor, ...]:
    """``x.nonzero(as_tuple=True)``; a scalar counts as a vector of one element."""
    return (x.unsqueeze(0) if x.dim() == 0 else x).nonzero(as_tuple=True)


def move_device_like(src: Tensor, dst: Tensor) -> Tensor:
    """``src`` on the device of ``dst``."""
    return src.to(dst.device)


def shapes_to_tensor(x: Sequence[int], device: torch.device | None = None) -> Tensor:
    """(len(x),) int64 tensor of the sizes ``x``."""
    return torch.as_tensor(x, device=device)
