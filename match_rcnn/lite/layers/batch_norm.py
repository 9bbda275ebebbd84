"""Normalisation layers.

Shapes used below: ``N`` images, ``C`` channels, maps of (N, C, H, W).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: A normalisation by name, or a function from a number of channels to a layer.
Norm = str | Callable[[int], nn.Module] | None

_CONSTANTS = ("weight", "bias", "running_mean", "running_var")
_LIVE_BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


class FrozenBatchNorm2d(nn.Module):
    """A batch normalisation whose statistics and affine parameters are constants.

    All four are buffers of shape (C,), so that no optimizer touches them:
    ``y = (x - running_mean) / sqrt(running_var + eps) * weight + bias``. A fresh layer is the
    identity. A layer that was frozen after it learned also keeps the counter
    ``num_batches_tracked``, so that checkpoints have the same keys before and after.
    """

    _version = 3

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor | None

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        for name, value in zip(_CONSTANTS, (1, 0, 0, 1 - eps), strict=True):
            self.register_buffer(name, torch.full((num_features,), float(value)))
        self.register_buffer("num_batches_tracked", None)

    def forward(self, x: Tensor) -> Tensor:
        if not x.requires_grad:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        # F.batch_norm would keep what the gradients of the constants need.
        scale = torch.rsqrt(self.running_var + self.eps) * self.weight
        offset = self.bias - scale * self.running_mean
        scale, offset = (c.to(x.dtype)[:, None, None] for c in (scale, offset))
        return x * scale + offset

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        if (local_metadata.get("version") or 1) < 2:
            # Early files, and converted ones, have the statistics folded into weight and bias.
            state_dict.setdefault(prefix + "running_mean", torch.zeros_like(self.running_mean))
            state_dict.setdefault(prefix + "running_var", torch.ones_like(self.running_var))
        if self.num_batches_tracked is None:
            # A learning layer's counter has no place here.
            state_dict.pop(prefix + "num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def extra_repr(self) -> str:
        return f"num_features={self.num_features}, eps={self.eps}"

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """Freeze every BatchNorm2d and SyncBatchNorm in ``module``, in place.

        Returns:
            ``module``, or its frozen replacement if it is itself a batch normalisation.
        """

        if isinstance(module, _LIVE_BATCH_NORMS):
            return cls._of(module)
        for name, child in module.named_children():
            module.add_module(name, cls.convert_frozen_batchnorm(child))
        return module

    @classmethod
    def _of(cls, live: Any) -> "FrozenBatchNorm2d":
        frozen = cls(live.num_features, eps=live.eps)
        for name in _CONSTANTS:
            value = getattr(live, name)
            if value is not None:  # as of layers without affine parameters or statistics
                getattr(frozen, name).data = value.detach().clone()
        counter = live.num_batches_tracked
        frozen.num_batches_tracked = None if counter is None else counter.clone()
        return frozen.train(live.training)


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(32, channels)


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "FrozenBN": FrozenBatchNorm2d,
    "GN": _group_norm,
}


def get_norm(norm: Norm, out_channels: int) -> nn.Module | None:
    """A normalisation layer for ``out_channels`` channels; None for None and "".

    Args:
        norm: a name, BN, SyncBN, FrozenBN or GN (32 groups); or a function that makes the layer.
        out_channels: channels of the maps that it will see.

    Raises:
        ValueError: there is no normalisation of that name.
    """
    if not norm:
        return None
    if callable(norm):
        return norm(out_channels)
    if norm not in _NORMS:
        raise ValueError(f"expected a norm out of {', '.join(_NORMS)}, got {norm!r}")
    return _NORMS[norm](out_channels)
