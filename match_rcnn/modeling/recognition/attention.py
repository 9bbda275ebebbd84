"""Where in a garment's maps to look: ``(1 + sum of A) * F`` in place of the maps ``F`` for all that
comes behind them (``MODEL.RECOGNITION.ATTENTION``).

Of the Attentive Fashion Grammar Network (Wang et al., CVPR 2018): :class:`LandmarkAttention` A_L
from the landmarks' heat maps and :class:`CategoryAttention` A_C, which nothing but the losses
behind it teaches. Of Liu and Lu (ECCV 2018 workshops): :class:`UnifiedAttention`, one for both.

Shapes: ``N`` garments, maps ``F (N, C, h, w)``, ``L`` landmarks.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from match_rcnn.d2 import CfgNode, Registry, ShapeSpec, configurable
from match_rcnn.modeling.recognition.landmarks import Landmarks

Tensor = torch.Tensor

ATTENTION_REGISTRY = Registry("ATTENTION")
ATTENTION_REGISTRY.__doc__ = """
Classes ``(cfg, shape) -> Attention``.
"""
MERGES = ("sum", "mean", "max")


class Attention(nn.Module):
    """What is added to 1 before it multiplies the maps. Subclasses register themselves.

    Attributes:
        needs_heat: whether it wants landmarks with heat maps.
    """

    needs_heat = False

    def forward(self, maps: Tensor, landmarks: Landmarks | None) -> Tensor:
        """(N, C, h, w) -> the same, or (N, 1, h, w) for all channels."""
        raise NotImplementedError


@ATTENTION_REGISTRY.register()
class LandmarkAttention(Attention):
    """A_L: the heat maps of the landmarks, each times the probability that it can be seen, merged
    to one map for all channels.

    The paper does not say how they are merged, nor what a hidden landmark's map counts.

    Args:
        merge: of :data:`MERGES`.

    Raises:
        ValueError: an unknown merge.
    """

    needs_heat = True

    @configurable
    def __init__(self, *, merge: str = "sum") -> None:
        super().__init__()
        if merge not in MERGES:
            raise ValueError(
                f"MODEL.RECOGNITION.ATTENTION_MERGE must be one of {MERGES}, got {merge!r}"
            )
        self.merge = merge

    @classmethod
    def from_config(cls, cfg: CfgNode, shape: ShapeSpec) -> dict[str, Any]:
        return {"merge": cfg.MODEL.RECOGNITION.ATTENTION_MERGE}

    def forward(self, maps: Tensor, landmarks: Landmarks | None) -> Tensor:
        heat = heat_of(landmarks, maps).clamp(0, 1)
        assert landmarks is not None
        heat = heat * landmarks.visible[..., None, None].to(heat.dtype)
        if self.merge == "max":
            return heat.amax(1, keepdim=True)
        return heat.sum(1, keepdim=True) if self.merge == "sum" else heat.mean(1, keepdim=True)


class _NetworkAttention(Attention):
    """By a bottom-up and top-down network.

    Args:
        network: (N, C, h, w) -> (N, C, h, w), with a channel more of its input if the landmarks'
            heat is one.
    """

    @configurable
    def __init__(self, *, network: "UShape") -> None:
        super().__init__()
        self.network = network

    @classmethod
    def from_config(cls, cfg: CfgNode, shape: ShapeSpec) -> dict[str, Any]:
        return {"network": _network(cfg, shape, more=int(cls.needs_heat))}


@ATTENTION_REGISTRY.register()
class CategoryAttention(_NetworkAttention):
    """A_C: from the maps, each channel its own, in 0 to 1."""

    def forward(self, maps: Tensor, landmarks: Landmarks | None) -> Tensor:
        return torch.sigmoid(self.network(maps))


@ATTENTION_REGISTRY.register()
class UnifiedAttention(_NetworkAttention):
    """Liu and Lu's: from the maps and the largest of the landmarks' heat maps, in -1 to 1."""

    needs_heat = True

    def forward(self, maps: Tensor, landmarks: Landmarks | None) -> Tensor:
        heat = heat_of(landmarks, maps).amax(1, keepdim=True)
        return torch.tanh(self.network(torch.cat([heat, maps], 1)))


def heat_of(landmarks: Landmarks | None, maps: Tensor) -> Tensor:
    """(N, L, h, w) heat maps at the size of the maps."""
    assert landmarks is not None
    assert landmarks.heat is not None
    return F.adaptive_avg_pool2d(landmarks.heat.to(maps.dtype), (maps.shape[-2], maps.shape[-1]))


class UShape(nn.Module):
    """Down by halves and up again, with what was there on the way down beside it.

    The sizes are those of Liu and Lu's public code; the way up is bilinear, so that any side goes.

    Args:
        inner, outer: channels that come and that go.
        dims: widths, the first at full size, each further one at half of the size before.

    Raises:
        ValueError: fewer than two widths, or maps too small to be halved so often.
    """

    def __init__(
        self, inner: int, outer: int, dims: Sequence[int], side: int = 0, key: str = "dims"
    ) -> None:
        super().__init__()
        if len(dims) < 2 or 0 < side < 2 ** (len(dims) - 1):
            raise ValueError(
                f"{key} must be two widths or more, and maps of {side} cells a side be halved once "
                f"less than that; got {list(dims)}"
            )
        self.enter = _layer(nn.Conv2d(inner, dims[0], 1, bias=False))
        self.down = nn.ModuleList(
            _layer(nn.Conv2d(a, b, 4, stride=2, padding=1, bias=False)) for a, b in pairwise(dims)
        )
        self.up = nn.ModuleList(
            _layer(nn.Conv2d(a + b, a, 3, padding=1, bias=False)) for a, b in pairwise(dims)
        )
        self.leave = nn.Conv2d(dims[0], outer, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, inner, h, w) -> (N, outer, h, w)."""
        passed = [self.enter(maps)]
        for layer in self.down:
            passed.append(layer(passed[-1]))
        found = passed.pop()
        for layer, beside in zip(reversed(self.up), reversed(passed), strict=True):
            wide = F.interpolate(found, beside.shape[-2:], mode="bilinear", align_corners=False)
            found = layer(torch.cat([beside, wide], 1))
        out: Tensor = self.leave(found)
        return out


def _layer(conv: nn.Conv2d) -> nn.Sequential:
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU())


def _network(cfg: CfgNode, shape: ShapeSpec, more: int = 0) -> UShape:
    key = "ATTENTION_DIMS"
    channels, height, width = shape.channels, shape.height, shape.width
    assert channels is not None
    assert height is not None
    assert width is not None
    dims = cfg.MODEL.RECOGNITION[key]
    return UShape(channels + more, channels, dims, min(height, width), f"MODEL.RECOGNITION.{key}")
