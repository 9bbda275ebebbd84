"""Pasting the masks of boxes into an image.

Shapes used below: ``R`` masks of ``M`` x ``M`` cells, an image of ``H`` x ``W`` pixels.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["paste_masks_in_image"]

#: Bytes of float32 pixels that are held at a time on an accelerator.
_CHUNK_BYTES = 1 << 30


def paste_masks_in_image(
    masks: Tensor, boxes: Any, image_shape: tuple[int, int], threshold: float = 0.5
) -> Tensor:
    """Stretch each mask over its box in an image of its own.

    A pixel takes the bilinear interpolation of the mask at its centre; a mask's values lie at the
    centres of its cells, and around it is 0.

    Args:
        masks: (R, M, M) probabilities.
        boxes: (R, 4) tensor, or Boxes, in pixels.
        image_shape: (H, W).
        threshold: pixels of at least this value are foreground. Below 0, the values themselves
            are given, as bytes 0 to 255.

    Returns:
        (R, H, W), bool, or uint8 for a threshold below 0 (and for R = 0).
    """
    if masks.shape[-1] != masks.shape[-2]:
        raise ValueError(f"expected square masks (R, M, M), got {tuple(masks.shape)}")
    height, width = (int(x) for x in image_shape)
    count = len(masks)
    if count == 0:
        return masks.new_empty((0, height, width), dtype=torch.uint8)
    boxes = boxes if isinstance(boxes, Tensor) else boxes.tensor
    if tuple(boxes.shape) != (count, 4):
        raise ValueError(f"expected boxes of shape ({count}, 4), got {tuple(boxes.shape)}")
    if not masks.is_floating_point():
        masks = masks.float()
    dtype = torch.bool if threshold >= 0 else torch.uint8
    out = torch.zeros((count, height, width), dtype=dtype, device=masks.device)
    alone = _one_by_one(masks.device)
    step = 1 if alone else max(1, _CHUNK_BYTES // (height * width * 4))
    for start in range(0, count, step):
        chunk = slice(start, start + step)
        rows, columns = _region(boxes[chunk], height, width) if alone else _all(height, width)
        pixels = _sample(masks[chunk, None], boxes[chunk], rows, columns)
        out[chunk, rows, columns] = pixels >= threshold if threshold >= 0 else pixels * 255
    return out


def _one_by_one(device: torch.device) -> bool:
    """On the CPU, each mask alone and only where its box is, is faster than whole images."""
    return device.type == "cpu"


def _all(height: int, width: int) -> tuple[slice, slice]:
    return slice(0, height), slice(0, width)


def _region(boxes: Tensor, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns that the boxes can touch, with a margin of a pixel."""
    low = torch.clamp(boxes.min(dim=0).values.floor()[:2] - 1, min=0).long()
    high = boxes.max(dim=0).values.ceil()[2:] + 1
    right = int(torch.clamp(high[0], max=width))
    bottom = int(torch.clamp(high[1], max=height))
    left, top = int(low[0]), int(low[1])
    return slice(top, max(bottom, top)), slice(left, max(right, left))


def _sample(masks: Tensor, boxes: Tensor, rows: slice, columns: slice) -> Tensor:
    """(R, 1, M, M) masks at the pixels of a region: (R, rows, columns)."""
    x0, y0, x1, y1 = boxes.split(1, dim=1)
    y = torch.arange(rows.start, rows.stop, device=masks.device, dtype=torch.float32) + 0.5
    x = torch.arange(columns.start, columns.stop, device=masks.device, dtype=torch.float32) + 0.5
    y = (y - y0) / (y1 - y0) * 2 - 1
    x = (x - x0) / (x1 - x0) * 2 - 1
    shape = (len(masks), y.shape[1], x.shape[1])
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=3)
    if 0 in shape:
        return masks.new_zeros(shape)
    return F.grid_sample(masks, grid.to(masks.dtype), align_corners=False)[:, 0]
