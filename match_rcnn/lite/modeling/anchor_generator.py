"""Anchors: boxes of a few sizes and shapes at every cell of every feature map.

Shapes: ``A`` anchors a cell; ``Hi, Wi`` cells of feature map i. Boxes are (x1, y1, x2, y2) pixels.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..config import CfgNode, configurable
from ..layers import ShapeSpec
from ..structures import Boxes
from ..utils.registry import Registry

ANCHOR_GENERATOR_REGISTRY = Registry("ANCHOR_GENERATOR")


def _per_feature_map(
    values: Sequence[float] | Sequence[Sequence[float]], num_features: int, name: str
) -> list[list[float]]:
    """One list of values a feature map, from one for all or one for each.

    A flat list serves all feature maps, as does a list of a single list.
    """
    if len(values) == 0:
        raise ValueError(f"anchor {name} are empty")
    lists = [list(v) if isinstance(v, Sequence) else [v] for v in values]
    if not isinstance(values[0], Sequence):
        lists = [[value for single in lists for value in single]]
    if len(lists) == 1:
        lists = lists * num_features
    if len(lists) != num_features:
        raise ValueError(
            f"got {len(lists)} lists of anchor {name} for {num_features} feature maps: "
            "give one list for all, or one for each"
        )
    return lists


@ANCHOR_GENERATOR_REGISTRY.register()
class DefaultAnchorGenerator(nn.Module):
    """Anchors of the Faster R-CNN paper, with corners that are not rounded.

    Args:
        sizes: square roots of the anchors' areas, pixels: one list a feature map, or one for all.
        aspect_ratios: height / width, likewise.
        strides: of each feature map.
        offset: of the first anchor's centre from the image's corner, in strides, in [0, 1).
    """

    box_dim: int = 4

    @configurable
    def __init__(
        self,
        *,
        sizes: Sequence[float] | Sequence[Sequence[float]],
        aspect_ratios: Sequence[float] | Sequence[Sequence[float]],
        strides: Sequence[int],
        offset: float = 0.5,
    ) -> None:
        super().__init__()
        if not 0.0 <= offset < 1.0:
            raise ValueError(f"anchor offset must lie in [0, 1), got {offset}")
        self.strides = list(strides)
        self.num_features = len(self.strides)
        self.offset = offset
        all_sizes = _per_feature_map(sizes, self.num_features, "sizes")
        all_ratios = _per_feature_map(aspect_ratios, self.num_features, "aspect ratios")
        for index, (of_map, ratios) in enumerate(zip(all_sizes, all_ratios, strict=True)):
            anchors = self.generate_cell_anchors(of_map, ratios).float()
            self.register_buffer(f"cell_anchors{index}", anchors, persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, object]:
        node = cfg.MODEL.ANCHOR_GENERATOR
        return {
            "sizes": node.SIZES,
            "aspect_ratios": node.ASPECT_RATIOS,
            "strides": [shape.stride for shape in input_shape],
            "offset": node.OFFSET,
        }

    @property
    def cell_anchors(self) -> list[Tensor]:
        """(A, 4) of every feature map, around (0, 0)."""
        return [self.get_buffer(f"cell_anchors{i}") for i in range(self.num_features)]

    @property
    def num_cell_anchors(self) -> list[int]:
        """``A`` of every feature map."""
        return [len(anchors) for anchors in self.cell_anchors]

    @property
    def num_anchors(self) -> list[int]:
        """Another name of ``num_cell_anchors``."""
        return self.num_cell_anchors

    def generate_cell_anchors(
        self,
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1, 2),
    ) -> Tensor:
        """(A, 4) anchors centred at the origin; sizes outer, aspect ratios inner."""
        rows = []
        for size in sizes:
            for ratio in aspect_ratios:
                width = math.sqrt(size**2.0 / ratio)
                height = ratio * width
                rows.append([-width / 2, -height / 2, width / 2, height / 2])
        return torch.tensor(rows)

    def _grid(self, height: int, width: int, stride: int, cell_anchors: Tensor) -> Tensor:
        """(height*width*A, 4) the cell's anchors at every cell, in (H, W, A) order."""
        start = self.offset * stride
        device, dtype = cell_anchors.device, torch.float32
        xs = torch.arange(start, width * stride, step=stride, dtype=dtype, device=device)
        ys = torch.arange(start, height * stride, step=stride, dtype=dtype, device=device)
        y, x = torch.meshgrid(ys, xs, indexing="ij")
        centers = torch.stack([x, y, x, y], dim=-1)
        return (centers[:, :, None] + cell_anchors).reshape(-1, 4)

    def forward(self, features: list[Tensor]) -> list[Boxes]:
        """One ``Boxes`` of Hi*Wi*A anchors for every (N, C, Hi, Wi) feature map."""
        grids = [
            self._grid(feature.shape[-2], feature.shape[-1], stride, anchors)
            for feature, stride, anchors in zip(
                features, self.strides, self.cell_anchors, strict=True
            )
        ]
        return [Boxes(grid) for grid in grids]


def build_anchor_generator(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """The module named by ``cfg.MODEL.ANCHOR_GENERATOR.NAME``."""
    return ANCHOR_GENERATOR_REGISTRY.get(cfg.MODEL.ANCHOR_GENERATOR.NAME)(cfg, input_shape)
