"""Building blocks of convolutional backbones."""

from collections.abc import Callable

from torch import Tensor, nn

from .batch_norm import FrozenBatchNorm2d, Norm, get_norm
from .wrappers import Conv2d


class CNNBlockBase(nn.Module):
    """A block with one input and one output map.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: input cells per output cell.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def freeze(self) -> "CNNBlockBase":
        """Stop all learning here: no gradients, and every batch norm becomes a frozen one.

        Returns:
            the block itself.
        """
        for parameter in self.parameters():
            parameter.requires_grad = False
        FrozenBatchNorm2d.convert_frozen_batchnorm(self)
        return self


class DepthwiseSeparableConv2d(nn.Module):
    """A convolution in each channel (``norm1``, ``activation1``), then a 1x1 convolution
    across channels (``norm2``, ``activation2``). Arguments as for :class:`Conv2d`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        padding: int = 1,
        dilation: int = 1,
        *,
        norm1: Norm = None,
        activation1: Callable[[Tensor], Tensor] | None = None,
        norm2: Norm = None,
        activation2: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.depthwise = Conv2d(
            in_channels,
            in_channels,
            kernel_size=kernel_size,
            padding=padding,
            dilation=dilation,
            groups=in_channels,
            bias=not norm1,
            norm=get_norm(norm1, in_channels),
            activation=activation1,
        )
        self.pointwise = Conv2d(
            in_channels,
            out_channels,
            kernel_size=1,
            bias=not norm2,
            norm=get_norm(norm2, out_channels),
            activation=activation2,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))
