"""From pooled box features to a vector a box.

Shapes: ``R`` RoIs, ``C`` channels, ``S`` pooled side.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from fvcore.nn.weight_init import c2_msra_fill, c2_xavier_fill
from torch import Tensor, nn

from ...config import CfgNode, configurable
from ...layers import Conv2d, ShapeSpec, get_norm
from ...utils.registry import Registry

__all__ = ["ROI_BOX_HEAD_REGISTRY", "FastRCNNConvFCHead", "build_box_head"]

ROI_BOX_HEAD_REGISTRY = Registry("ROI_BOX_HEAD")
"""Callables ``(cfg, input_shape) -> nn.Module`` with an ``output_shape``."""


@ROI_BOX_HEAD_REGISTRY.register()
class FastRCNNConvFCHead(nn.Sequential):
    """3x3 convolutions ``conv1``..., then linear layers ``fc1``..., each with a ReLU.

    Args:
        input_shape: channels, height and width of a RoI's features.
        conv_dims: channels of the convolutions.
        fc_dims: of the linear layers.
        conv_norm: of the convolutions, see ``get_norm``.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        conv_dims: Sequence[int],
        fc_dims: Sequence[int],
        conv_norm: str = "",
    ) -> None:
        super().__init__()
        if len(conv_dims) + len(fc_dims) == 0:
            raise ValueError("a box head needs at least one convolution or linear layer")
        size = (input_shape.channels, input_shape.height, input_shape.width)
        if None in size:
            raise ValueError(f"a box head needs channels, height and width, got {input_shape}")
        self._output_size: tuple[int, ...] = cast(tuple[int, int, int], size)
        convs = [self._add_conv(i, dim, conv_norm) for i, dim in enumerate(conv_dims, start=1)]
        fcs = [self._add_fc(i, dim) for i, dim in enumerate(fc_dims, start=1)]
        for conv in convs:
            c2_msra_fill(conv)
        for fc in fcs:
            c2_xavier_fill(fc)

    def _add_conv(self, index: int, dim: int, norm: str) -> nn.Module:
        conv = Conv2d(
            self._output_size[0],
            dim,
            kernel_size=3,
            padding=1,
            bias=not norm,
            norm=get_norm(norm, dim),
            activation=nn.ReLU(inplace=True),
        )
        self.add_module(f"conv{index}", conv)
        self._output_size = (dim, *self._output_size[1:])
        return conv

    def _add_fc(self, index: int, dim: int) -> nn.Module:
        if index == 1:
            self.add_module("flatten", nn.Flatten())
        fc = nn.Linear(int(np.prod(self._output_size)), dim)
        self.add_module(f"fc{index}", fc)
        self.add_module(f"fc_relu{index}", nn.ReLU(inplace=True))
        self._output_size = (dim,)
        return fc

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.ROI_BOX_HEAD
        return {
            "input_shape": input_shape,
            "conv_dims": [node.CONV_DIM] * node.NUM_CONV,
            "fc_dims": [node.FC_DIM] * node.NUM_FC,
            "conv_norm": node.NORM,
        }

    def forward(self, x: Tensor) -> Tensor:
        """(R, C, S, S) to (R, last fc_dim), or (R, last conv_dim, S, S) without linear layers."""
        for layer in self:
            x = layer(x)
        return x

    @property
    def output_shape(self) -> ShapeSpec:
        """Of one RoI."""
        if len(self._output_size) == 1:
            return ShapeSpec(channels=self._output_size[0])
        channels, height, width = self._output_size
        return ShapeSpec(channels=channels, height=height, width=width)


def build_box_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """The module named by ``cfg.MODEL.ROI_BOX_HEAD.NAME``."""
    return ROI_BOX_HEAD_REGISTRY.get(cfg.MODEL.ROI_BOX_HEAD.NAME)(cfg, input_shape)
