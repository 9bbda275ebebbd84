"""What a ResNet is made of: the stem, the two residual blocks, and stages of them.

Shapes: blocks take (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride).
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor

from ...layers import CNNBlockBase, Conv2d, get_norm

__all__ = ["BasicBlock", "BasicStem", "BottleneckBlock", "make_stage"]

Norm = str | Any
"""A name that ``get_norm`` knows, or a callable from channels to a module."""


class _ResidualBlock(CNNBlockBase):
    """The shortcut and the sum that both residual blocks share."""

    shortcut: Conv2d | None

    def _make_shortcut(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = _conv(in_channels, out_channels, 1, norm, stride=self.stride)

    def _initialize(self) -> None:
        # The shortcut was made first and is initialised last: with one seed both hosts begin with
        # the same weights only in this order.
        convs = [child for name, child in self.named_children() if name != "shortcut"]
        for conv in [*convs, self.shortcut]:
            if conv is not None:
                c2_msra_fill(conv)

    def _add_shortcut(self, x: Tensor, out: Tensor) -> Tensor:
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


def _conv(in_channels: int, out_channels: int, size: int, norm: Norm, **kwargs: Any) -> Conv2d:
    """A square convolution without bias, followed by a norm."""
    return Conv2d(
        in_channels,
        out_channels,
        kernel_size=size,
        bias=False,
        norm=get_norm(norm, out_channels),
        **kwargs,
    )


class BasicBlock(_ResidualBlock):
    """Two 3x3 convolutions: the block of ResNet-18 and 34 (Deep Residual Learning, figure 5)."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, norm: Norm = "BN"
    ) -> None:
        super().__init__(in_channels, out_channels, stride)
        self._make_shortcut(in_channels, out_channels, norm)
        self.conv1 = _conv(in_channels, out_channels, 3, norm, stride=stride, padding=1)
        self.conv2 = _conv(out_channels, out_channels, 3, norm, padding=1)
        self._initialize()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu_(self.conv1(x))
        return self._add_shortcut(x, self.conv2(out))


class BottleneckBlock(_ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions: the block of ResNet-50 and deeper, and of ResNeXt.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        bottleneck_channels: of the 3x3 convolution.
        stride: of the block.
        num_groups: of the 3x3 convolution.
        norm: see ``get_norm``.
        stride_in_1x1: the stride is in the first convolution (MSRA's weights) and not in the 3x3
            (torchvision's weights).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: Norm = "BN",
        stride_in_1x1: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, stride)
        self._make_shortcut(in_channels, out_channels, norm)
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = _conv(in_channels, bottleneck_channels, 1, norm, stride=stride_1x1)
        self.conv2 = _conv(
            bottleneck_channels,
            bottleneck_channels,
            3,
            norm,
            stride=stride_3x3,
            padding=1,
            groups=num_groups,
        )
        self.conv3 = _conv(bottleneck_channels, out_channels, 1, norm)
        self._initialize()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu_(self.conv1(x))
        out = F.relu_(self.conv2(out))
        return self._add_shortcut(x, self.conv3(out))


class BasicStem(CNNBlockBase):
    """A 7x7 convolution and a max-pool: a quarter of the image's size."""

    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm: Norm = "BN") -> None:
        super().__init__(in_channels, out_channels, 4)
        self.conv1 = _conv(in_channels, out_channels, 7, norm, stride=2, padding=3)
        c2_msra_fill(self.conv1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.conv1(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


def make_stage(
    block_class: type[CNNBlockBase],
    num_blocks: int,
    *,
    in_channels: int,
    out_channels: int,
    stride_per_block: Sequence[int],
    **kwargs: Any,
) -> list[CNNBlockBase]:
    """Blocks in a row, the first of which takes ``in_channels``.

    Args:
        block_class: the kind of block.
        num_blocks: how many.
        in_channels: of the first block.
        out_channels: of all blocks.
        stride_per_block: of each.
        kwargs: further arguments of ``block_class``.
    """
    channels = [in_channels, *[out_channels] * num_blocks]
    return [
        block_class(before, after, stride=stride, **kwargs)
        for (before, after), stride in zip(
            itertools.pairwise(channels), stride_per_block, strict=True
        )
    ]
