"""What a backbone is: images in, named feature maps out."""

from abc import ABCMeta, abstractmethod
from typing import Any

from torch import nn

from ...layers import ShapeSpec

__all__ = ["Backbone"]


class Backbone(nn.Module, metaclass=ABCMeta):
    """Base of all backbones.

    A subclass sets ``_out_features`` (names), ``_out_feature_channels`` and
    ``_out_feature_strides`` (by name), or overrides :meth:`output_shape`.
    """

    _out_features: list[str]
    _out_feature_channels: dict[str, int]
    _out_feature_strides: dict[str, int]

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, *args: Any) -> Any:
        """(N, 3, H, W) images to a dict of feature maps."""

    @property
    def size_divisibility(self) -> int:
        """Images are padded to a multiple of this; 0 where any size will do."""
        return 0

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of every feature map."""
        return {
            name: ShapeSpec(
                channels=self._out_feature_channels[name], stride=self._out_feature_strides[name]
            )
            for name in self._out_features
        }
