"""Feature pyramid (Lin et al., Feature Pyramid Networks, 2017).

Shapes: level ``pX`` has ``out_channels`` channels and stride ``2**X``.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch.nn.functional as F
from fvcore.nn.weight_init import c2_xavier_fill
from torch import Tensor, nn

from ...config import CfgNode
from ...layers import Conv2d, ShapeSpec, get_norm
from .backbone import Backbone
from .build import BACKBONE_REGISTRY
from .resnet import build_resnet_backbone

__all__ = ["FPN", "LastLevelMaxPool", "build_resnet_fpn_backbone"]


class TopBlock(Protocol):
    """What makes further, coarser levels: ``num_levels`` of them, out of ``in_feature``."""

    num_levels: int
    in_feature: str

    def __call__(self, x: Tensor) -> list[Tensor]: ...


class LastLevelMaxPool(nn.Module):
    """One more level, every second pixel of p5, for the RPN's largest anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.num_levels = 1
        self.in_feature = "p5"

    def forward(self, x: Tensor) -> list[Tensor]:
        return [F.max_pool2d(x, kernel_size=1, stride=2, padding=0)]


class FPN(Backbone):
    """Lateral 1x1 convolutions, a top-down path, and 3x3 output convolutions.

    Args:
        bottom_up: the backbone below.
        in_features: its features to use, finest first, each of half the size of the one before.
        out_channels: of every level.
        norm: of lateral and output convolutions, which have a bias where it is "".
        top_block: makes coarser levels, a :class:`TopBlock`.

    Raises:
        ValueError: for features whose strides do not double.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        norm: str = "",
        top_block: nn.Module | None = None,
    ) -> None:
        super().__init__()
        shapes = bottom_up.output_shape()
        if not in_features or not set(in_features) <= set(shapes):
            raise ValueError(f"FPN needs features out of {list(shapes)}, got {list(in_features)}")
        strides = [_stride_of(shapes[name]) for name in in_features]
        self.in_features = tuple(in_features)
        self._levels = _levels_of(strides)
        for level, name in zip(self._levels, in_features, strict=True):
            in_channels = shapes[name].channels
            assert in_channels is not None, name
            self._add_level(level, in_channels, out_channels, norm)
        self.top_block = top_block
        self.bottom_up = bottom_up
        top_levels = 0 if top_block is None else int(top_block.num_levels)  # type: ignore[arg-type]
        last = self._levels[-1]
        all_levels = [*self._levels, *range(last + 1, last + 1 + top_levels)]
        self._out_features = [f"p{level}" for level in all_levels]
        self._out_feature_strides = {f"p{level}": 2**level for level in all_levels}
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)
        self._size_divisibility = strides[-1]

    def _add_level(self, level: int, in_channels: int, out_channels: int, norm: str) -> None:
        bias = norm == ""
        lateral = Conv2d(
            in_channels,
            out_channels,
            kernel_size=1,
            bias=bias,
            norm=get_norm(norm, out_channels),
        )
        output = Conv2d(
            out_channels,
            out_channels,
            kernel_size=3,
            padding=1,
            bias=bias,
            norm=get_norm(norm, out_channels),
        )
        c2_xavier_fill(lateral)
        c2_xavier_fill(output)
        self.add_module(f"fpn_lateral{level}", lateral)
        self.add_module(f"fpn_output{level}", output)

    @property
    def size_divisibility(self) -> int:
        return self._size_divisibility

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) images, H and W multiples of ``size_divisibility``, to p2, p3, ..."""
        features = self.bottom_up(x)
        results: dict[str, Tensor] = {}
        coarser: Tensor | None = None
        for level, name in zip(reversed(self._levels), reversed(self.in_features), strict=True):
            merged = self.get_submodule(f"fpn_lateral{level}")(features[name])
            if coarser is not None:
                merged += F.interpolate(coarser, scale_factor=2.0, mode="nearest")
            results[f"p{level}"] = self.get_submodule(f"fpn_output{level}")(merged)
            coarser = merged
        if self.top_block is not None:
            in_feature = str(self.top_block.in_feature)
            source = features[in_feature] if in_feature in features else results[in_feature]
            names = self._out_features[len(self._levels) :]
            results.update(zip(names, self.top_block(source), strict=True))
        return {name: results[name] for name in self._out_features}


def _stride_of(shape: ShapeSpec) -> int:
    assert shape.stride is not None, shape
    return shape.stride


def _levels_of(strides: list[int]) -> list[int]:
    """log2 of the strides, which must double from each to the next."""
    levels = [round(math.log2(stride)) for stride in strides]
    expected = [2 ** (levels[0] + index) for index in range(len(strides))]
    if strides != expected:
        raise ValueError(f"FPN needs strides that double from each to the next, got {strides}")
    return levels


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """A ResNet under an FPN, with p6 for the RPN."""
    return FPN(
        bottom_up=build_resnet_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
    )
