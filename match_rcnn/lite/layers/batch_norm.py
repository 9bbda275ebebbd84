"""Normalisation layers.

Shapes used below: ``N`` images, ``C`` channels, maps of (N, C, H, W).
"""

from collections.abc import Callable
from typing import Any

import torch
from fvcore.nn.distributed import differentiable_all_reduce
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

#: A normalisation by name, or a function from a number of channels to a layer.
Norm = str | Callable[[int], nn.Module] | None

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
        self.num_features = num_features
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features) - eps)
        self.register_buffer("num_batches_tracked", None)

    def forward(self, x: Tensor) -> Tensor:
        if not x.requires_grad:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        # F.batch_norm would keep what the gradients of the constants need.
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.to(x.dtype)[:, None, None] + shift.to(x.dtype)[:, None, None]

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

        def frozen(old: nn.Module) -> nn.Module | None:
            return cls._from(old, cls) if isinstance(old, _LIVE_BATCH_NORMS) else None

        return _replace(module, frozen)

    @classmethod
    def convert_frozenbatchnorm2d_to_batchnorm2d(cls, module: nn.Module) -> nn.Module:
        """The way back: every frozen layer becomes a ``BatchNorm2d``. In place as above."""

        def live(old: nn.Module) -> nn.Module | None:
            return cls._from(old, nn.BatchNorm2d) if isinstance(old, cls) else None

        return _replace(module, live)

    @staticmethod
    def _from(old: Any, make: Callable[..., Any]) -> nn.Module:
        new = make(old.num_features, eps=old.eps)
        for name in ("weight", "bias", "running_mean", "running_var"):
            value = getattr(old, name)
            if value is not None:
                getattr(new, name).data = value.detach().clone()
        counter = old.num_batches_tracked
        new.num_batches_tracked = None if counter is None else counter.clone()
        return new.train(old.training)


def _replace(module: nn.Module, new: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    replacement = new(module)
    if replacement is not None:
        return replacement
    for name, child in module.named_children():
        module.add_module(name, _replace(child, new))
    return module


class LayerNorm(nn.Module):
    """Layer normalisation over the channels of (N, C, H, W) maps."""

    def __init__(self, normalized_shape: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(normalized_shape))
        self.bias = nn.Parameter(torch.zeros(normalized_shape))
        self.eps = eps
        self.normalized_shape = (normalized_shape,)

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(dim=1, keepdim=True)
        x = x / torch.sqrt(x.square().mean(dim=1, keepdim=True) + self.eps)
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class NaiveSyncBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes, on any device and backend.

    ``nn.SyncBatchNorm`` needs GPUs; this one averages mean and mean square with ``all_reduce``.

    Args:
        *args: as for ``BatchNorm2d``.
        stats_mode: "" weighs all processes alike and so needs batches of one size; "N" weighs
            them by the number of images, which may be 0.
        **kwargs: as for ``BatchNorm2d``.
    """

    def __init__(self, *args: Any, stats_mode: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if stats_mode not in ("", "N"):
            raise ValueError(f"expected stats_mode '' or 'N', got {stats_mode!r}")
        self._stats_mode = stats_mode

    def forward(self, input: Tensor) -> Tensor:
        alone = not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
        if alone or not self.training:
            return super().forward(input)
        dtype, x = input.dtype, input.float()
        mean, mean_square, share = self._global_moments(x)
        variance = mean_square - mean * mean
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        self._track(mean.detach(), variance.detach(), share)
        return (x * scale[:, None, None] + shift[:, None, None]).to(dtype)

    def _track(self, mean: Tensor, variance: Tensor, share: Tensor) -> None:
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.running_mean += self.momentum * share * (mean - self.running_mean)
        self.running_var += self.momentum * share * (variance - self.running_var)

    def _global_moments(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and mean square (C,) over all processes, and how far to trust them (0 or 1)."""
        if x.shape[0] == 0:
            if self._stats_mode != "N":
                raise ValueError("an empty batch needs the norm 'naiveSyncBN_N'")
            # The sum keeps the (empty) input in the graph of a collective backward pass.
            local = x.new_zeros(2 * x.shape[1] + 1) + x.sum()
        else:
            moments = [x.mean(dim=(0, 2, 3)), (x * x).mean(dim=(0, 2, 3)), x.new_ones(1)]
            weight = x.shape[0] if self._stats_mode == "N" else 1
            local = torch.cat(moments) * weight
        mean, mean_square, total = differentiable_all_reduce(local).split(
            [x.shape[1], x.shape[1], 1]
        )
        share = total.detach().clamp(max=1)
        total = total.detach().clamp(min=1)
        return mean / total, mean_square / total, share


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(32, channels)


def _naive_sync_by_size(channels: int) -> nn.Module:
    return NaiveSyncBatchNorm(channels, stats_mode="N")


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "nnSyncBN": nn.SyncBatchNorm,
    "FrozenBN": FrozenBatchNorm2d,
    "GN": _group_norm,
    "LN": LayerNorm,
    "naiveSyncBN": NaiveSyncBatchNorm,
    "naiveSyncBN_N": _naive_sync_by_size,
}


def get_norm(norm: Norm, out_channels: int) -> nn.Module | None:
    """A normalisation layer for ``out_channels`` channels; None for None and "".

    Args:
        norm: one of BN, SyncBN, nnSyncBN, FrozenBN, GN (32 groups), LN, naiveSyncBN,
            naiveSyncBN_N; or a function that makes the layer.
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
