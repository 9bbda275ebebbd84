"""Landmarks as heat maps: where each is, read from a map of its own.

As in Wang et al. (CVPR 2018), whose maps a grammar refines (:mod:`.grammar`), and in Liu and Lu
(ECCV 2018 workshops), whose maps deconvolutions bring to the size of the image.

Shapes: ``N`` garments, ``L`` landmark slots, ``V`` visibilities; feature maps ``(N, C, h, w)`` of a
garment's region, heat maps ``(N, L, H, W)``. Positions are shares of the region's sides.
"""

from typing import Any

import torch
from torch import nn

from match_rcnn.d2 import CfgNode, ShapeSpec, configurable
from match_rcnn.data.crops import VISIBILITIES
from match_rcnn.data.sources.deepfashion import (
    KINEMATIC_CHAINS,
    SLOTS,
    SYMMETRY_CHAINS,
    VISIBLE,
)
from match_rcnn.modeling.recognition.branch import convolutions
from match_rcnn.modeling.recognition.grammar import Grammar, numbers
from match_rcnn.modeling.recognition.landmarks import (
    LANDMARK_BRANCH_REGISTRY,
    LandmarkBranch,
    Landmarks,
    Losses,
    visibility_loss,
)
from match_rcnn.modeling.recognition.truth import Truth
from match_rcnn.modeling.streams.match_losses import mean_where

Tensor = torch.Tensor

TARGETS = ("gaussian", "exponential")


@LANDMARK_BRANCH_REGISTRY.register()
class HeatmapBranch(LandmarkBranch):
    """Convolutions to a heat map of each landmark, and what refines them.

    Neither paper predicts visibility; here it is read from the mean of the features.

    Args:
        convs: (N, C, h, w) -> (N, dim, H, W).
        dim: its width.
        refine: (N, L, H, W) -> the same.
        spread, target: of :func:`targets`.
        position_weight, visibility_weight: of the two losses.

    Raises:
        ValueError: an unknown target, or a spread of 0.
    """

    gives_heat = True

    @configurable
    def __init__(
        self,
        *,
        convs: nn.Module,
        dim: int,
        refine: nn.Module | None = None,
        spread: float = 0.04,
        target: str = "gaussian",
        position_weight: float = 1.0,
        visibility_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if target not in TARGETS or spread <= 0:
            raise ValueError(
                f"MODEL.RECOGNITION.LANDMARKS.TARGET must be one of {TARGETS} and SPREAD above 0, "
                f"got {target!r} and {spread}"
            )
        self.convs = convs
        self.heat = nn.Conv2d(dim, len(SLOTS), 1)
        self.refine = refine or nn.Identity()
        self.visibility = nn.Linear(dim, len(VISIBILITIES) * len(SLOTS))
        self.spread, self.target = spread, target
        self.position_weight = position_weight
        self.visibility_weight = visibility_weight
        for layer in (self.heat, self.visibility):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.RECOGNITION.LANDMARKS
        chains = numbers(node.CHAINS or (*KINEMATIC_CHAINS, *SYMMETRY_CHAINS), SLOTS)
        layers = (
            Grammar(chains, len(SLOTS), node.GRAMMAR_DIM, node.GRAMMAR_KERNEL)
            for _ in range(node.GRAMMAR)
        )
        dims = [shape.channels, *node.CONV_DIMS, *node.UPSAMPLE_DIMS]
        norm = cfg.MODEL.RECOGNITION.NORM
        return {
            "convs": convolutions(dims[0], node.CONV_DIMS, norm, node.UPSAMPLE_DIMS),
            "dim": dims[-1],
            "refine": nn.Sequential(*layers),
            "spread": node.SPREAD,
            "target": node.TARGET,
            "position_weight": node.POSITION_WEIGHT,
            "visibility_weight": node.VISIBILITY_WEIGHT,
        }

    def forward(self, maps: Tensor) -> Landmarks:
        found = self.convs(maps)
        heat = self.refine(self.heat(found).float())
        logits = self.visibility(found.mean((2, 3))).float()
        visibility = logits.view(-1, len(SLOTS), len(VISIBILITIES))
        visible = visibility.softmax(-1)[..., VISIBLE]
        return Landmarks(positions(heat, self.spread), visible, visibility, heat)

    def losses(self, found: Landmarks, truth: Truth) -> Losses:
        assert found.heat is not None
        assert found.visibility is not None
        loss = heat_loss(found.heat, truth.slots, self.spread, self.target)
        return {
            "loss_landmarks": self.position_weight * loss,
            "loss_visibility": self.visibility_weight
            * visibility_loss(found.visibility, truth.slots),
        }


def centres(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """(H, 1) y and (1, W) x of the cells' centres, shares of the sides."""
    y, x = (
        (torch.arange(side, dtype=like.dtype, device=like.device) + 0.5) / side
        for side in (height, width)
    )
    return y[:, None], x[None]


def targets(xy: Tensor, height: int, width: int, spread: float, kind: str) -> Tensor:
    """(N, L, 2) -> (N, L, H, W): 1 at the landmark, and with the distance d from it exp(-d^2 / 2
    spread^2) (``gaussian``) or exp(-d / 2 spread) (``exponential``)."""
    y, x = centres(height, width, xy)
    squared = (y - xy[..., 1, None, None]).square() + (x - xy[..., 0, None, None]).square()
    squared = squared / spread**2
    return torch.exp(-0.5 * (squared if kind == "gaussian" else squared.sqrt()))


def heat_loss(heat: Tensor, slots: Tensor, spread: float, kind: str) -> Tensor:
    """The squared distance of visible landmarks' maps from their targets, as a share of the
    target's squared length (so it means the same at any size); their mean.

    Args:
        heat: (N, L, H, W).
        slots: (N, L, 3).
    """
    height, width = heat.shape[-2:]
    wanted = targets(slots[..., :2].to(heat.dtype), height, width, spread, kind)
    values = (heat - wanted).square().sum((2, 3)) / wanted.square().sum((2, 3)).clamp(min=1e-6)
    return mean_where(values, slots[..., 2] == VISIBLE)


@torch.no_grad()
def positions(heat: Tensor, spread: float) -> Tensor:
    """(N, L, H, W) -> (N, L, 2): the mean of what is above 0 within two spreads, and at least a
    cell, of the largest value."""
    height, width = heat.shape[-2:]
    y, x = (side.expand(height, width).flatten() for side in centres(height, width, heat))
    flat = heat.flatten(2)
    peak = flat.argmax(-1, keepdim=True)
    reach = 2 * max(spread, 0.5 / min(height, width))
    near = (x - x[peak]).square() + (y - y[peak]).square() <= (1.001 * reach) ** 2
    weights = flat.clamp(min=0) * near
    # A map without anything above 0 still has a largest value.
    weights = weights.scatter_add(2, peak, torch.full_like(weights[..., :1], 1e-6))
    found = torch.stack([weights @ x, weights @ y], -1)
    return found / weights.sum(-1, keepdim=True)
