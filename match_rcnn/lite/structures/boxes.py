"""Axis-aligned boxes.

Shapes used below: ``N`` and ``M`` boxes; a box is x0, y0, x1, y1 in continuous pixel coordinates
(its width is x1 - x0, without a 1).
"""

from collections.abc import Iterator, Sequence
from enum import IntEnum, unique
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BoxLike = TypeVar("BoxLike", list[float], tuple[float, ...], npt.NDArray[Any], Tensor)


@unique
class BoxMode(IntEnum):
    """What the four numbers of a box mean. The values stand in files: never change them."""

    XYXY_ABS = 0
    XYWH_ABS = 1

    @staticmethod
    def convert(box: BoxLike, from_mode: "BoxMode", to_mode: "BoxMode") -> BoxLike:
        """The same box(es) in another mode.

        Args:
            box: one box as a list or tuple of 4 numbers, or an (N, 4) array or tensor.
            from_mode: its mode.
            to_mode: the mode wanted.

        Returns:
            the same kind of object; ``box`` itself when the modes are equal. A list's floats are
            rounded to float32 on the way.
        """
        if from_mode == to_mode:
            return box
        BoxMode(from_mode)  # a ValueError for any other number
        return _converted(box, 1 if BoxMode(to_mode) == BoxMode.XYXY_ABS else -1)


def _converted(box: Any, sign: int) -> Any:
    """Add (or, with -1, subtract) the upper left corner to the other two numbers."""
    single = isinstance(box, (list, tuple))
    if np.shape(box) != (4,) if single else box.ndim != 2 or box.shape[1] != 4:
        raise ValueError(
            f"expected a list or tuple of 4 numbers or an (N, 4) array or tensor, got {box!r}"
        )
    if isinstance(box, Tensor):
        return torch.cat([box[:, :2], box[:, 2:] + sign * box[:, :2]], dim=1)
    array = np.array(box)
    if single and array.dtype == np.float64:
        array = array.astype(np.float32)
    array[..., 2:] += sign * array[..., :2]
    return type(box)(array.tolist()) if single else array


class Boxes:
    """(N, 4) float32 boxes.

    Args:
        tensor: (N, 4) tensor or anything that becomes one; empty in any shape for no boxes.
    """

    def __init__(self, tensor: Any) -> None:
        if isinstance(tensor, Tensor):
            tensor = tensor.to(torch.float32)
        else:
            tensor = torch.as_tensor(tensor, dtype=torch.float32)
        if tensor.numel() == 0:
            # reshape keeps an empty tensor in the graph, so that a loss of it has a gradient.
            tensor = tensor.reshape((-1, 4))
        if tensor.dim() != 2 or tensor.shape[-1] != 4:
            raise ValueError(f"expected boxes of shape (N, 4), got {tuple(tensor.shape)}")
        self.tensor: Tensor = tensor

    def clone(self) -> "Boxes":
        return Boxes(self.tensor.clone())

    def to(self, device: torch.device | str) -> "Boxes":
        """The boxes on ``device``; always float32."""
        return Boxes(self.tensor.to(device=device))

    def area(self) -> Tensor:
        """(N,)"""
        box = self.tensor
        return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])

    def clip(self, box_size: tuple[int, int]) -> None:
        """Limit x to [0, width] and y to [0, height], in place.

        Args:
            box_size: (height, width).
        """
        if not torch.isfinite(self.tensor).all():
            raise ValueError("cannot clip boxes with infinite or NaN coordinates")
        height, width = box_size
        x = self.tensor[:, 0::2].clamp(min=0, max=width)
        y = self.tensor[:, 1::2].clamp(min=0, max=height)
        self.tensor = torch.stack((x, y), dim=2).flatten(1)

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """(N,) bool: width and height both greater than ``threshold``."""
        size = self.tensor[:, 2:] - self.tensor[:, :2]
        return (size > threshold).all(dim=1)

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Multiply the coordinates, in place."""
        for axis, factor in enumerate((scale_x, scale_y)):
            self.tensor[:, axis::2].mul_(factor)

    @classmethod
    def cat(cls, boxes_list: "Sequence[Boxes]") -> "Boxes":
        """All boxes, one list after the other; of no lists, no boxes (on the CPU)."""
        if len(boxes_list) == 0:
            return cls(torch.empty(0, 4))
        return cls(torch.cat([boxes.tensor for boxes in boxes_list], dim=0))

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def __getitem__(self, item: int | slice | Tensor) -> "Boxes":
        """A subset, by index, slice, boolean or index tensor. The data may be shared."""
        chosen = self.tensor[item][None] if isinstance(item, int) else self.tensor[item]
        if chosen.dim() != 2:
            raise IndexError(f"indexing Boxes with {item} gives no (N, 4) boxes")
        return Boxes(chosen)

    def __iter__(self) -> Iterator[Tensor]:
        """Each box as a (4,) tensor."""
        yield from self.tensor

    def __len__(self) -> int:
        return int(self.tensor.shape[0])

    def __repr__(self) -> str:
        return f"Boxes({self.tensor})"


def pairwise_intersection(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """(N, M) areas of overlap between every box of the one and of the other."""
    a, b = boxes1.tensor, boxes2.tensor
    width = _overlap(a[:, None, 0], a[:, None, 2], b[:, 0], b[:, 2])
    return width.mul_(_overlap(a[:, None, 1], a[:, None, 3], b[:, 1], b[:, 3]))


def _overlap(low1: Tensor, high1: Tensor, low2: Tensor, high2: Tensor) -> Tensor:
    return (torch.min(high1, high2) - torch.max(low1, low2)).clamp_(min=0)


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """(N, M) intersection over union; 0 where nothing overlaps."""
    inter = pairwise_intersection(boxes1, boxes2)
    union = boxes1.area()[:, None] + boxes2.area() - inter
    return _ratio(inter, union)


def pairwise_ioa(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """(N, M) intersection over the area of the box of ``boxes2``; 0 where nothing overlaps."""
    inter = pairwise_intersection(boxes1, boxes2)
    return _ratio(inter, boxes2.area())


def _ratio(inter: Tensor, area: Tensor) -> Tensor:
    return torch.where(inter > 0, inter / area, inter.new_zeros(()))


def matched_pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """(N,) IoU of ``boxes1[i]`` and ``boxes2[i]``."""
    if len(boxes1) != len(boxes2):
        raise ValueError(f"expected as many boxes on both sides, got {len(boxes1)}, {len(boxes2)}")
    a, b = boxes1.tensor, boxes2.tensor
    inter = _overlap(a[:, 0], a[:, 2], b[:, 0], b[:, 2])
    inter = inter * _overlap(a[:, 1], a[:, 3], b[:, 1], b[:, 3])
    return inter / (boxes1.area() + boxes2.area() - inter)
