"""Building blocks of convolutional backbones."""

from torch import nn

from .batch_norm import FrozenBatchNorm2d


class CNNBlockBase(nn.Module):
    """A block with one input and one output map.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: input cells per output cell.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride

    def freeze(self) -> "CNNBlockBase":
        """Stop all learning here: no gradients, and every batch norm becomes a frozen one.

        Returns:
            the block itself.
        """
        FrozenBatchNorm2d.convert_frozen_batchnorm(self)
        return self.requires_grad_(False)
