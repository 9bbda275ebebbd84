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
        maps = super().forward(x)
        maps = maps if self.norm is None else self.norm(maps)
        return maps if self.activation is None else self.activation(maps)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """``torch.cat``, but a single tensor is given back as it is, without a copy."""
    if not isinstance(tensors, (list, tuple)):
        raise ValueError(f"expected a list or tuple of tensors, got {type(tensors).__name__}")
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)


def cross_entropy(
    input: Tensor, target: Tensor, *, reduction: str = "mean", **kwargs: Any
) -> Tensor:
    """``F.cross_entropy``, but with a mean of 0 (not NaN) over no elements.

    The 0 hangs on the input, so that every parameter still takes part in the backward pass.
    """
    if reduction == "mean" and target.numel() == 0:
        return 0.0 * input.sum()
    return F.cross_entropy(input, target, reduction=reduction, **kwargs)


def nonzero_tuple(x: Tensor) -> tuple[Tensor, ...]:
    """``x.nonzero(as_tuple=True)``; a scalar counts as a vector of one element."""
    return (x.unsqueeze(0) if x.dim() == 0 else x).nonzero(as_tuple=True)
