"""A branch behind the shared layers: as VGG16 goes on behind conv4 (pool4, conv5, pool5, fully
connected layers), in any widths.

Shapes: ``N`` garments, maps ``(N, C, h, w)``.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from match_rcnn.d2 import CfgNode, ShapeSpec, configurable

NORMS = ("", "BN")


class ConvBranch(nn.Module):
    """Maps to a vector: as VGG16 goes on, or, with no layer at all, their mean, as ResNet does.

    Args:
        channels, height, width: of the maps.
        conv_dims: widths of 3x3 convolutions between two max-poolings that halve the sides; none:
            one max-pooling.
        fc_dims: widths of the fully connected layers; the last is ``dim``. None, where there are no
            convolutions either: ``dim`` is C.
        norm: ``""`` or ``"BN"``, behind each convolution.
        dropout: behind each fully connected layer.

    Raises:
        ValueError: an unknown norm, convolutions and no fully connected layer, or maps too small to
            be halved twice.
    """

    @configurable
    def __init__(
        self,
        *,
        channels: int,
        height: int,
        width: int,
        conv_dims: Sequence[int],
        fc_dims: Sequence[int],
        norm: str = "",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.convs = convolutions(channels, conv_dims, norm)
        if not conv_dims and not fc_dims:
            self.halvings, self.dim = 0, channels
            return
        halvings = 2 if conv_dims else 1
        sides = (height // 2**halvings, width // 2**halvings)
        if not fc_dims or not all(sides):
            raise ValueError(
                f"a branch needs maps that can be halved {halvings} times, and FC_DIMS; got maps "
                f"of {height} x {width} and FC_DIMS {list(fc_dims)}"
            )
        self.halvings = halvings
        last = conv_dims[-1] if conv_dims else channels
        self.fcs = fully_connected(last * sides[0] * sides[1], fc_dims, dropout)
        self.dim = fc_dims[-1]

    @classmethod
    def from_config(
        cls, cfg: CfgNode, shape: ShapeSpec, conv_dims: Sequence[int], fc_dims: Sequence[int]
    ) -> dict[str, Any]:
        return {
            "channels": shape.channels,
            "height": shape.height,
            "width": shape.width,
            "conv_dims": conv_dims,
            "fc_dims": fc_dims,
            "norm": cfg.MODEL.RECOGNITION.NORM,
            "dropout": cfg.MODEL.RECOGNITION.DROPOUT,
        }

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) -> (N, dim)."""
        if not self.halvings:
            return maps.mean((2, 3))
        maps = nn.functional.max_pool2d(maps, 2)
        if self.halvings == 2:
            maps = nn.functional.max_pool2d(self.convs(maps), 2)
        vectors: torch.Tensor = self.fcs(maps.flatten(1))
        return vectors


def convolutions(
    inner: int, dims: Sequence[int], norm: str = "", upsample: Sequence[int] = ()
) -> nn.Sequential:
    """3x3 convolutions of these widths, then deconvolutions to twice the side, each with norm and
    ReLU behind it.

    Raises:
        ValueError: an unknown norm.
    """
    if norm not in NORMS:
        raise ValueError(f"MODEL.RECOGNITION.NORM must be one of {NORMS}, got {norm!r}")
    layers: list[nn.Module] = []
    for i, (before, width) in enumerate(pairwise((inner, *dims, *upsample))):
        layer: nn.Conv2d | nn.ConvTranspose2d
        if i < len(dims):
            layer = nn.Conv2d(before, width, 3, padding=1, bias=not norm)
        else:
            layer = nn.ConvTranspose2d(before, width, 4, stride=2, padding=1, bias=not norm)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        layers += [layer, *([nn.BatchNorm2d(width)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers)


def fully_connected(inner: int, dims: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Layers of these widths, each with ReLU and dropout behind it."""
    layers: list[nn.Module] = []
    for width in dims:
        linear = nn.Linear(inner, width)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        inner = width
    return nn.Sequential(*layers)
