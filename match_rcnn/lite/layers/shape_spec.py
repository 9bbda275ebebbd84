"""What a module says about the feature maps that it takes or gives."""

from dataclasses import dataclass


@dataclass
class ShapeSpec:
    """The shape of a feature map as far as it is known before an image comes in.

    Attributes:
        channels: number of channels.
        height: in cells, of maps of a fixed size.
        width: in cells, of maps of a fixed size.
        stride: input pixels per cell.
    """

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
