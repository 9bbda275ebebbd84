"""Landmarks of one garment: where they are, whether they can be seen, and what the features around
them say.

After FashionNet (Liu et al., CVPR 2016): a branch that regresses positions and visibility, and
*landmark pooling*, which sets the response of a hidden landmark to 0, max-pools a window around
each visible one and stacks the windows of all.

Shapes: ``N`` garments, ``L`` landmark slots, ``V`` visibilities; feature maps ``(N, C, h, w)`` of a
garment's region, ``p`` side of a pooled window. Positions are shares of the region's sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import roi_align, roi_pool

from match_rcnn.d2 import CfgNode, Registry, ShapeSpec, configurable
from match_rcnn.data.crops import UNKNOWN, VISIBILITIES
from match_rcnn.data.sources.deepfashion import SLOTS, VISIBLE
from match_rcnn.modeling.recognition.branch import ConvBranch, fully_connected
from match_rcnn.modeling.recognition.truth import Truth
from match_rcnn.modeling.streams.match_losses import mean_where

Tensor = torch.Tensor
Losses = dict[str, Tensor]

GATES = ("hard", "soft", "none")
POOLERS = ("max", "align")

LANDMARK_BRANCH_REGISTRY = Registry("LANDMARK_BRANCH")
LANDMARK_BRANCH_REGISTRY.__doc__ = """
Classes ``(cfg, shape) -> LandmarkBranch``.
"""


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of N garments.

    Attributes:
        xy: (N, L, 2).
        visible: (N, L) probability that it can be seen.
        visibility: (N, L, V) logits, where there are any.
        heat: (N, L, H, W) maps of where each is, about 1 there and 0 far from it, where there are
            any.
    """

    xy: Tensor
    visible: Tensor
    visibility: Tensor | None = None
    heat: Tensor | None = None

    @classmethod
    def given(cls, slots: Tensor) -> "Landmarks":
        """The truth's (N, L, 3), for an oracle."""
        return cls(slots[..., :2], (slots[..., 2] == VISIBLE).to(slots.dtype))

    def at(self, rows: Tensor | slice) -> "Landmarks":
        """Those of some garments."""
        visibility = None if self.visibility is None else self.visibility[rows]
        heat = None if self.heat is None else self.heat[rows]
        return Landmarks(self.xy[rows], self.visible[rows], visibility, heat)

    def gate(self, kind: str) -> Tensor:
        """(N, L) what each landmark's features are multiplied with: 0 or 1 by whether it is seen
        (``hard``), the probability of it (``soft``), or 1 (``none``)."""
        if kind == "none":
            return torch.ones_like(self.visible)
        return self.visible if kind == "soft" else (self.visible > 0.5).to(self.visible.dtype)


class LandmarkBranch(nn.Module):
    """Finds landmarks in feature maps. Subclasses register themselves.

    Attributes:
        gives_heat: whether what it finds has heat maps.
    """

    gives_heat = False

    def forward(self, maps: Tensor) -> Landmarks:
        """(N, C, h, w) -> landmarks."""
        raise NotImplementedError

    def losses(self, found: Landmarks, truth: Truth) -> Losses:
        """By names that begin with ``loss_``."""
        raise NotImplementedError


@LANDMARK_BRANCH_REGISTRY.register()
class RegressionBranch(LandmarkBranch):
    """FashionNet's: convolutions, fully connected layers, positions and visibilities.

    Args:
        trunk: (N, C, h, w) -> (N, trunk.dim).
        position_weight, visibility_weight: of the two losses.
    """

    @configurable
    def __init__(
        self, *, trunk: ConvBranch, position_weight: float = 1.0, visibility_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.position = nn.Linear(trunk.dim, 2 * len(SLOTS))
        self.visibility = nn.Linear(trunk.dim, len(VISIBILITIES) * len(SLOTS))
        self.position_weight = position_weight
        self.visibility_weight = visibility_weight
        for layer in (self.position, self.visibility):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.RECOGNITION.LANDMARKS
        return {
            "trunk": ConvBranch(cfg, shape, node.CONV_DIMS, node.FC_DIMS),
            "position_weight": node.POSITION_WEIGHT,
            "visibility_weight": node.VISIBILITY_WEIGHT,
        }

    def forward(self, maps: Tensor) -> Landmarks:
        found = self.trunk(maps)
        # From the middle of the region: a garment's box is around it.
        xy = 0.5 + self.position(found).float().view(-1, len(SLOTS), 2)
        visibility = self.visibility(found).float().view(-1, len(SLOTS), len(VISIBILITIES))
        return Landmarks(xy, visibility.softmax(-1)[..., VISIBLE], visibility)

    def losses(self, found: Landmarks, truth: Truth) -> Losses:
        assert found.visibility is not None
        return {
            "loss_landmarks": self.position_weight * position_loss(found.xy, truth.slots),
            "loss_visibility": self.visibility_weight
            * visibility_loss(found.visibility, truth.slots),
        }


def position_loss(xy: Tensor, slots: Tensor) -> Tensor:
    """The squared distance of visible landmarks, summed over a garment's and averaged over the
    garments that are labelled (FashionNet: the sum of v_j |l_j - l'_j|^2).

    Args:
        xy: (N, L, 2).
        slots: (N, L, 3).
    """
    squared = (xy - slots[..., :2]).square().sum(-1)
    visible = slots[..., 2] == VISIBLE
    labelled = (slots[..., 2] != UNKNOWN).any(1)
    return torch.where(visible, squared, 0).sum() / labelled.sum().clamp(min=1)


def visibility_loss(logits: Tensor, slots: Tensor) -> Tensor:
    """The cross-entropy of (N, L, V) logits, the mean over the slots that are labelled."""
    wanted = slots[..., 2].long()
    values = F.cross_entropy(logits.movedim(-1, 1), wanted.clamp(min=0), reduction="none")
    return mean_where(values, wanted != UNKNOWN)


def landmark_pool(
    maps: Tensor, xy: Tensor, gate: Tensor, *, window: int, resolution: int, pooler: str = "max"
) -> Tensor:
    """The features in a window around each landmark, times its gate.

    Args:
        maps: (N, C, h, w).
        xy: (N, L, 2) shares of the sides; the window of one outside is moved to the edge. No
            gradient flows into it.
        gate: (N, L).
        window: side of the window in cells of the maps. Cells beyond the edge do not count.
        resolution: ``p``.
        pooler: ``max``: whole cells, the largest value of each part; ``align``: RoIAlign, means of
            values between the cells.

    Returns:
        (N, L, C, p, p).
    """
    n, channels, height, width = maps.shape
    size = xy.new_tensor([width, height])
    corner = xy.detach().clamp(0, 1) * size - window / 2
    if pooler == "max":
        corner = (corner + 0.5).floor()  # RoI pooling's boxes include their last cell
        side, pool, options = window - 1, roi_pool, {}
    else:
        side, pool, options = window, roi_align, {"sampling_ratio": 2, "aligned": True}
    index = torch.arange(n, device=xy.device, dtype=corner.dtype)[:, None, None]
    index = index.expand(-1, xy.shape[1], 1)
    # RoI pooling knows no bfloat16 on the CPU.
    wide = maps.float() if maps.dtype in (torch.bfloat16, torch.float16) else maps
    rois = torch.cat([index, corner, corner + side], -1).flatten(0, 1).to(wide.dtype)
    pooled = pool(wide, rois, resolution, 1.0, **options)
    windows = pooled.view(n, xy.shape[1], channels, resolution, resolution)
    return (windows * gate[:, :, None, None, None].to(windows.dtype)).to(maps.dtype)


class LocalBranch(nn.Module):
    """FashionNet's local features: landmark pooling, and a fully connected layer over the windows
    of all landmarks.

    Args:
        channels: C.
        fc_dims: widths of the fully connected layers; the last is ``dim``.
        window, resolution, pooler: of :func:`landmark_pool`.
        gate: of :data:`GATES`.

    Raises:
        ValueError: an unknown gate or pooler, or a window without cells.
    """

    @configurable
    def __init__(
        self,
        *,
        channels: int,
        fc_dims: Sequence[int],
        window: int,
        resolution: int,
        gate: str = "hard",
        pooler: str = "max",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for key, value, known in (("GATE", gate, GATES), ("POOLER", pooler, POOLERS)):
            if value not in known:
                raise ValueError(
                    f"MODEL.RECOGNITION.LOCAL.{key} must be one of {', '.join(known)}; got "
                    f"{value!r}"
                )
        if window < 1 or resolution < 1:
            raise ValueError(
                "MODEL.RECOGNITION.LOCAL.WINDOW and RESOLUTION must be at least 1, got "
                f"{window} and {resolution}"
            )
        self.options: dict[str, Any] = {
            "window": window,
            "resolution": resolution,
            "pooler": pooler,
        }
        self.channels, self.gate = channels, gate
        self.fcs = fully_connected(len(SLOTS) * channels * resolution**2, fc_dims, dropout)
        self.dim = fc_dims[-1]

    @classmethod
    def from_config(cls, cfg: CfgNode, shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.RECOGNITION.LOCAL
        return {
            "channels": shape.channels,
            "fc_dims": node.FC_DIMS,
            "window": node.WINDOW,
            "resolution": node.RESOLUTION,
            "gate": node.GATE,
            "pooler": node.POOLER,
            "dropout": cfg.MODEL.RECOGNITION.DROPOUT,
        }

    def forward(self, maps: Tensor, landmarks: Landmarks) -> Tensor:
        """(N, C, h, w) -> (N, dim)."""
        gate = landmarks.gate(self.gate).detach()
        windows = landmark_pool(maps, landmarks.xy, gate, **self.options)
        return self.fcs(windows.flatten(1))
