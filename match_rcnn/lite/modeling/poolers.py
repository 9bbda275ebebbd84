"""Region features out of a feature pyramid.

Shapes: ``N`` images, ``R`` boxes of the batch, ``C`` channels, ``S`` pooled side; ``L`` levels.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..layers import ROIAlign
from ..structures import Boxes

__all__ = ["ROIPooler"]


def assign_boxes_to_levels(
    box_lists: list[Boxes],
    min_level: int,
    max_level: int,
    canonical_box_size: int,
    canonical_level: int,
) -> Tensor:
    """The pyramid level of each box, counted from ``min_level``.

    A box of side ``canonical_box_size`` pixels belongs to ``canonical_level``, one of twice the
    side a level higher (Feature Pyramid Networks, equation 1). The 1e-8 keeps empty boxes finite.

    Returns:
        (R,) int64 in ``[0, max_level - min_level]``.
    """
    sides = torch.cat([boxes.area() for boxes in box_lists]).sqrt()
    levels = torch.floor(canonical_level + torch.log2(sides / canonical_box_size + 1e-8))
    return levels.clamp(min=min_level, max=max_level).to(torch.int64) - min_level


def convert_boxes_to_pooler_format(box_lists: list[Boxes]) -> Tensor:
    """(R, 5) rows (image index, x1, y1, x2, y2) of all images' boxes."""
    boxes = torch.cat([boxes.tensor for boxes in box_lists])
    counts = torch.tensor([len(boxes) for boxes in box_lists])
    # Counted on the CPU, where repeating needs no wait for the device.
    index = torch.arange(len(box_lists)).repeat_interleave(counts)
    return torch.cat([index.to(boxes)[:, None], boxes], dim=1)


def _make_level_pooler(
    pooler_type: str, output_size: tuple[int, int], scale: float, sampling_ratio: int
) -> nn.Module:
    if pooler_type not in ("ROIAlignV2", "ROIAlign"):
        raise ValueError(f"unknown pooler type {pooler_type!r}; there are ROIAlignV2, ROIAlign")
    return ROIAlign(output_size, scale, sampling_ratio, aligned=pooler_type == "ROIAlignV2")


def _level_of_scale(scale: float) -> int:
    level = -math.log2(scale)
    if not math.isclose(level, round(level)):
        raise ValueError(f"feature map scale {scale} is not one over a power of two")
    return round(level)


class ROIPooler(nn.Module):
    """Pool each box from the pyramid level that suits its size.

    Args:
        output_size: ``S``, or (height, width).
        scales: of each feature map relative to the image, 1 / stride, finest first.
        sampling_ratio: samples a bin and axis; 0 adapts to the box.
        pooler_type: "ROIAlignV2" (half-pixel correct) or "ROIAlign".
        canonical_box_size: see :func:`assign_boxes_to_levels`.
        canonical_level: likewise.

    Raises:
        ValueError: for scales that are not consecutive powers of two, or an unknown type.
    """

    def __init__(
        self,
        output_size: int | Sequence[int],
        scales: Sequence[float],
        sampling_ratio: int,
        pooler_type: str,
        canonical_box_size: int = 224,
        canonical_level: int = 4,
    ) -> None:
        super().__init__()
        size = (output_size,) * 2 if isinstance(output_size, int) else tuple(output_size)
        if len(size) != 2:
            raise ValueError(f"expected output_size as one or two integers, got {output_size}")
        self.output_size: tuple[int, int] = (size[0], size[1])
        self.level_poolers = nn.ModuleList(
            [_make_level_pooler(pooler_type, self.output_size, s, sampling_ratio) for s in scales]
        )
        self.min_level = _level_of_scale(scales[0])
        self.max_level = _level_of_scale(scales[-1])
        if len(scales) != self.max_level - self.min_level + 1:
            raise ValueError(f"feature map scales {list(scales)} do not halve from one to the next")
        if canonical_box_size <= 0:
            raise ValueError(f"canonical_box_size must be positive, got {canonical_box_size}")
        self.canonical_level = canonical_level
        self.canonical_box_size = canonical_box_size

    def forward(self, x: list[Tensor], box_lists: list[Boxes]) -> Tensor:
        """Pool.

        Args:
            x: L feature maps (N, C, Hi, Wi).
            box_lists: N boxes in image pixels.

        Returns:
            (R, C, S, S), the boxes of the first image first.
        """
        assert len(x) == len(self.level_poolers), (len(x), len(self.level_poolers))
        channels = x[0].shape[1]
        if len(box_lists) == 0:
            return x[0].new_zeros((0, channels, *self.output_size))
        assert len(box_lists) == x[0].shape[0], (len(box_lists), x[0].shape)
        rois = convert_boxes_to_pooler_format(box_lists)
        if len(self.level_poolers) == 1:
            return self.level_poolers[0](x[0], rois)
        levels = assign_boxes_to_levels(
            box_lists,
            self.min_level,
            self.max_level,
            self.canonical_box_size,
            self.canonical_level,
        )
        output = x[0].new_empty((rois.shape[0], channels, *self.output_size))
        # A level without boxes is pooled too: it keeps every feature map in the graph.
        rows = _rows_of_levels(levels, len(x))
        for index, feature, pooler in zip(rows, x, self.level_poolers, strict=True):
            output.index_copy_(0, index, pooler(feature, rois[index]).to(output.dtype))
        return output


def _rows_of_levels(levels: Tensor, count: int) -> Sequence[Tensor]:
    """The rows of each level, ascending; asked for at once, a GPU is waited for once."""
    sizes = torch.zeros(count, dtype=torch.int64, device=levels.device)
    sizes.index_add_(0, levels, torch.ones_like(levels))
    return levels.argsort(stable=True).split(sizes.tolist())
