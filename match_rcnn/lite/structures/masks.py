"""Instance masks: as bitmaps and as polygons.

Shapes used below: ``N`` instances, images of ``H`` x ``W`` pixels, crops of ``M`` x ``M`` cells.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pycocotools.mask as mask_util
import torch
from torch import Tensor

from ..layers.roi_align import ROIAlign

Polygon = npt.NDArray[np.float64]


def polygons_to_bitmask(polygons: Sequence[Any], height: int, width: int) -> npt.NDArray[np.bool_]:
    """(height, width) bool: the union of polygons x0 y0 x1 y1 ..., by COCO's rules."""
    if len(polygons) == 0:
        return np.zeros((height, width), dtype=np.bool_)
    parts = mask_util.frPyObjects([np.asarray(p).tolist() for p in polygons], height, width)
    return mask_util.decode(mask_util.merge(parts)).astype(np.bool_)


def rasterize_polygons_within_box(
    polygons: Sequence[Polygon], box: npt.NDArray[np.float32], mask_size: int
) -> Tensor:
    """What an instance's polygons cover of a box.

    Args:
        polygons: of one instance, in image coordinates.
        box: (4,) x0, y0, x1, y1; sides below 0.1 count as 0.1.
        mask_size: M.

    Returns:
        (M, M) bool.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    origin = np.array([[box[0], box[1]]], dtype=np.float64)
    # Single precision, whichever one the version of numpy would take for these quotients.
    scale = np.array(
        [[mask_size / max(width, 0.1), mask_size / max(height, 0.1)]], dtype=np.float32
    )
    parts = [((p.reshape(-1, 2) - origin) * scale).ravel() for p in polygons]
    return torch.from_numpy(polygons_to_bitmask(parts, mask_size, mask_size))


class BitMasks:
    """(N, H, W) bool masks of one image.

    Args:
        tensor: tensor or array; anything but 0 is foreground.
    """

    def __init__(self, tensor: Any) -> None:
        tensor = torch.as_tensor(tensor).to(torch.bool)
        if tensor.dim() != 3:
            raise ValueError(f"expected masks of shape (N, H, W), got {tuple(tensor.shape)}")
        self.tensor: Tensor = tensor
        self.image_size: tuple[int, int] = (int(tensor.shape[1]), int(tensor.shape[2]))

    def to(self, *args: Any, **kwargs: Any) -> "BitMasks":
        return BitMasks(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def __getitem__(self, item: int | slice | Tensor) -> "BitMasks":
        """A subset; an int gives one mask. The data may be shared."""
        chosen = self.tensor[item][None] if isinstance(item, int) else self.tensor[item]
        if chosen.dim() != 3:
            raise IndexError(f"indexing BitMasks with {item} gives no (N, H, W) masks")
        return BitMasks(chosen)

    def __iter__(self) -> Iterator[Tensor]:
        """Each mask as an (H, W) tensor."""
        yield from self.tensor

    def __len__(self) -> int:
        return int(self.tensor.shape[0])

    def __repr__(self) -> str:
        return f"BitMasks(num_instances={len(self)})"

    def nonempty(self) -> Tensor:
        """(N,) bool: the mask has a pixel."""
        return self.tensor.flatten(1).any(dim=1)

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """What each mask covers of its box: RoIAlign of the bitmap, at least a half.

        Args:
            boxes: (N, 4).
            mask_size: M.

        Returns:
            (N, M, M) bool, on the device of the masks.
        """
        _check_boxes(boxes, len(self))
        if len(self) == 0:
            return torch.zeros((0, mask_size, mask_size), dtype=torch.bool, device=self.device)
        rois = boxes.to(self.device, torch.float32)
        rois = torch.cat([torch.arange(len(rois), device=self.device)[:, None].to(rois), rois], 1)
        align = ROIAlign((mask_size, mask_size), 1.0, 0, aligned=True)
        return align(self.tensor[:, None].to(rois.dtype), rois)[:, 0] >= 0.5

    @staticmethod
    def cat(bitmasks_list: "Sequence[BitMasks]") -> "BitMasks":
        """All masks, one list after the other; at least one list."""
        if not bitmasks_list or not all(isinstance(m, BitMasks) for m in bitmasks_list):
            raise ValueError("expected at least one BitMasks, and nothing else")
        return BitMasks(torch.cat([m.tensor for m in bitmasks_list], dim=0))


def _check_boxes(boxes: Tensor, count: int) -> None:
    if tuple(boxes.shape) != (count, 4):
        raise ValueError(f"expected boxes of shape ({count}, 4), got {tuple(boxes.shape)}")


class PolygonMasks:
    """N instances as lists of polygons, each x0 y0 x1 y1 ... in float64.

    They stay on the CPU; ``device`` is always "cpu". A subset by an index tensor reads it when the
    polygons are asked for, so that training on a GPU waits for it once, and not in every stream.

    Args:
        polygons: a list per instance, of polygons (arrays, tensors, lists) with at least 3
            corners.

    Raises:
        ValueError: nested otherwise, or a polygon with an odd number of or too few coordinates.
    """

    def __init__(self, polygons: Sequence[Sequence[Any]]) -> None:
        if not isinstance(polygons, (list, tuple)):
            raise ValueError(
                f"expected the polygons of each instance as lists, got {type(polygons).__name__}"
            )
        self._all: list[list[Polygon]] = [_as_polygons(p) for p in polygons]
        self._rows: Tensor | None = None  # which of them; None is all

    @property
    def polygons(self) -> list[list[Polygon]]:
        """Each instance's polygons.

        Raises:
            IndexError: this is a subset by a tensor with an index beyond the instances.
        """
        if self._rows is not None:
            self._all = [self._all[i] for i in self._rows.tolist()]
            self._rows = None
        return self._all

    def to(self, *args: Any, **kwargs: Any) -> "PolygonMasks":
        return self

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def nonempty(self) -> Tensor:
        """(N,) bool: the instance has a polygon."""
        return torch.tensor([len(p) > 0 for p in self.polygons], dtype=torch.bool)

    def __getitem__(self, item: int | slice | list[int] | Tensor) -> "PolygonMasks":
        """A subset, by index, slice, list, boolean or index tensor. The data are shared."""
        if isinstance(item, int):
            return _shared([self.polygons[item]])
        if isinstance(item, slice):
            return _shared(self.polygons[item])
        if isinstance(item, (Tensor, np.ndarray)):
            item = torch.as_tensor(item)
            if item.dim() != 1:
                raise IndexError(f"expected a vector of indices, got shape {tuple(item.shape)}")
            rows = item.nonzero()[:, 0] if item.dtype == torch.bool else item
            if self._rows is not None:
                rows = self._rows.to(rows.device)[rows]
            return _shared(self._all, rows)
        return _shared([self.polygons[i] for i in item])

    def __iter__(self) -> Iterator[list[Polygon]]:
        """The polygons of each instance."""
        return iter(self.polygons)

    def __len__(self) -> int:
        return len(self._all if self._rows is None else self._rows)

    def __repr__(self) -> str:
        return f"PolygonMasks(num_instances={len(self)})"

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """What each instance covers of its box, drawn by COCO's rules.

        Args:
            boxes: (N, 4).
            mask_size: M.

        Returns:
            (N, M, M) bool, on the device of the boxes.
        """
        _check_boxes(boxes, len(self))
        shape = (len(self), mask_size, mask_size)
        masks = torch.zeros(shape, dtype=torch.bool)
        for out, polygons, box in zip(masks, self.polygons, boxes.cpu().numpy(), strict=True):
            out.copy_(rasterize_polygons_within_box(polygons, box, mask_size))
        return masks.to(boxes.device)

    @staticmethod
    def cat(polymasks_list: "Sequence[PolygonMasks]") -> "PolygonMasks":
        """All instances, one list after the other; at least one list."""
        if not polymasks_list or not all(isinstance(m, PolygonMasks) for m in polymasks_list):
            raise ValueError("expected at least one PolygonMasks, and nothing else")
        return _shared([p for masks in polymasks_list for p in masks.polygons])


def _as_polygons(polygons: Any) -> list[Polygon]:
    if not isinstance(polygons, (list, tuple)):
        raise ValueError(
            f"expected a list of polygons for an instance, got {type(polygons).__name__}"
        )
    return [_as_polygon(p) for p in polygons]


def _as_polygon(polygon: Any) -> Polygon:
    if isinstance(polygon, Tensor):
        polygon = polygon.cpu().numpy()
    array = np.asarray(polygon, dtype=np.float64)
    if array.ndim != 1 or array.size % 2 or array.size < 6:
        raise ValueError(
            "expected a polygon x0 y0 x1 y1 ... of at least 3 corners, "
            f"got an array of shape {array.shape}"
        )
    return array


def _shared(polygons: list[list[Polygon]], rows: Tensor | None = None) -> PolygonMasks:
    """PolygonMasks of polygons that have been checked before."""
    masks = PolygonMasks([])
    masks._all, masks._rows = polygons, rows
    return masks
