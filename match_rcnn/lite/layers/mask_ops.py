"""Pasting the masks of boxes into an image.

Shapes used below: ``R`` masks of ``M`` x ``M`` cells, an image of ``H`` x ``W`` pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["paste_masks_in_image"]

#: Bytes of float32 pixels that are held at a time on an accelerator.
_CHUNK_BYTES = 1 << 30


def paste_masks_in_image(
    masks: Tensor, boxes: Tensor, image_shape: tuple[int, int], threshold: float = 0.5
) -> Tensor:
    """Stretch each mask over its box in an image of its own.

    A pixel takes the bilinear interpolation of the mask at its centre; a mask's values lie at the
    centres of its cells, and around it is 0.

    Args:
        masks: (R, M, M) probabilities.
        boxes: (R, 4) in pixels.
        image_shape: (H, W).
        threshold: pixels of at least this value are foreground.

    Returns:
        (R, H, W) bool.
    """
    count, size = len(masks), masks.shape[-1]
    if tuple(masks.shape) != (count, size, size):
        raise ValueError(f"expected square masks (R, M, M), got {tuple(masks.shape)}")
    if tuple(boxes.shape) != (count, 4):
        raise ValueError(f"expected boxes of shape ({count}, 4), got {tuple(boxes.shape)}")
    height, width = (int(x) for x in image_shape)
    out = torch.zeros((count, height, width), dtype=torch.bool, device=masks.device)
    alone = _one_by_one(masks.device)
    step = 1 if alone else max(1, _CHUNK_BYTES // (height * width * 4))
    for start in range(0, count, step):
        chunk = slice(start, start + step)
        rows, columns = _region(boxes[chunk], height, width) if alone else _all(height, width)
        out[chunk, rows, columns] = _sample(masks[chunk], boxes[chunk], rows, columns) >= threshold
    return out


def _one_by_one(device: torch.device) -> bool:
    """On the CPU, each mask alone and only where its box is, is faster than whole images."""
    return device.type == "cpu"


def _all(height: int, width: int) -> tuple[slice, slice]:
    return slice(0, height), slice(0, width)


def _region(boxes: Tensor, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns that the boxes can touch, with a margin of a pixel."""
    left, top = (boxes[:, :2].min(dim=0).values.floor() - 1).clamp(min=0).long().tolist()
    right, bottom = (boxes[:, 2:].max(dim=0).values.ceil() + 1).tolist()
    right, bottom = int(min(right, width)), int(min(bottom, height))
    return slice(top, max(bottom, top)), slice(left, max(right, left))


def _sample(masks: Tensor, boxes: Tensor, rows: slice, columns: slice) -> Tensor:
    """(R, M, M) masks at the pixels of a region: (R, rows, columns)."""
    x0, y0, x1, y1 = boxes.split(1, dim=1)
    y, x = _in_box(rows, y0, y1), _in_box(columns, x0, x1)
    shape = (len(masks), y.shape[1], x.shape[1])
    if 0 in shape:
        return masks.new_zeros(shape)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=3)
    return F.grid_sample(masks[:, None], grid.to(masks.dtype), align_corners=False)[:, 0]


def _in_box(pixels: slice, low: Tensor, high: Tensor) -> Tensor:
    """Centres of pixels, from -1 at the lower edge of each box (R, 1) to 1 at its upper one."""
    centres = torch.arange(pixels.start, pixels.stop, device=low.device, dtype=torch.float32) + 0.5
    return (centres - low) / (high - low) * 2 - 1
