"""Boxes in numpy, as the host computes them: anchors, decoding, levels; and what is seen of them.

All in float32 and in the host's order of operations, so that results differ by rounding only.

Shapes: ``R`` boxes (x1, y1, x2, y2) in pixels; ``k`` predictions a box; ``A`` anchors a cell of a
map of ``H x W`` cells; an image of ``height x width``.
"""

import numpy as np

from match_rcnn.utils.arrays import BoolArray, Float32Array, IntArray


def anchor_grid(
    cell_anchors: Float32Array, height: int, width: int, stride: int, offset: float
) -> Float32Array:
    """(H * W * A, 4) the cell's (A, 4) anchors at every cell of a map, in (H, W, A) order."""
    x = (np.arange(width, dtype=np.float32) + np.float32(offset)) * np.float32(stride)
    y = (np.arange(height, dtype=np.float32) + np.float32(offset)) * np.float32(stride)
    corners = np.broadcast_arrays(x[None, :], y[:, None], x[None, :], y[:, None])
    centres = np.stack(corners, axis=-1)
    return (centres[:, :, None] + cell_anchors).reshape(-1, 4)


def decode(
    deltas: Float32Array, boxes: Float32Array, weights: tuple[float, ...], clamp: float
) -> Float32Array:
    """(R, k, 4) boxes from (R, k, 4) offsets (dx, dy, dw, dh) of (R, 4) boxes.

    Args:
        weights: by which the offsets were multiplied.
        clamp: upper bound of the logarithm of how much a side grows.
    """
    low, size = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
    scaled = deltas / np.array(weights, dtype=np.float32)
    centre = scaled[..., :2] * size + (low + np.float32(0.5) * size)
    growth = np.exp(np.minimum(scaled[..., 2:], np.float32(clamp)))
    half = np.float32(0.5) * (growth * size)
    return np.concatenate((centre - half, centre + half), axis=-1)


def clip(boxes: Float32Array, height: float, width: float) -> Float32Array:
    """The (R, 4) boxes within the image."""
    limit = np.array([width, height, width, height], dtype=np.float32)
    return np.clip(boxes, np.float32(0), limit)


def larger_than(boxes: Float32Array, side: float = 0.0) -> BoolArray:
    """(R,) whether both sides exceed so many pixels."""
    return np.min(boxes[:, 2:] - boxes[:, :2], axis=1) > np.float32(side)


def levels_of(
    boxes: Float32Array, count: int, lowest: int, canonical_size: float, canonical_level: float
) -> IntArray:
    """(R,) which of ``count`` maps each box is pooled from; map 0 has a stride of 2**lowest.

    A box with a side of ``canonical_size`` belongs to level ``canonical_level``, one of twice the
    side a level higher (Feature Pyramid Networks, equation 1).
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    ratio = np.sqrt(area) / np.float32(canonical_size) + np.float32(1e-8)
    level = np.floor(np.float32(canonical_level) + np.log2(ratio))
    return np.clip(level, lowest, lowest + count - 1).astype(np.int64) - lowest


def paste_mask(mask: Float32Array, box: Float32Array, height: int, width: int) -> BoolArray:
    """(height, width) the (M, M) probabilities of a box's cells stretched over it, where they are
    at least 0.5. Between the cells' centres they are interpolated; around the mask is 0."""
    out = np.zeros((height, width), dtype=np.bool_)
    left, top = (max(0, int(np.floor(edge)) - 1) for edge in box[:2])
    right = min(width, int(np.ceil(box[2])) + 1)
    bottom = min(height, int(np.ceil(box[3])) + 1)
    rows = _linear_weights(top, bottom, box[1], box[3], len(mask))
    columns = _linear_weights(left, right, box[0], box[2], len(mask))
    out[top:bottom, left:right] = rows @ mask @ columns.T >= 0.5
    return out


def _linear_weights(first: int, last: int, low: float, high: float, cells: int) -> Float32Array:
    """(last - first, cells) how much each cell counts at the centres of pixels first to last - 1,
    where the cells lie between ``low`` and ``high``."""
    centres = np.arange(first, last, dtype=np.float32) + np.float32(0.5)
    place = (centres - low) / (high - low) * np.float32(cells) - np.float32(0.5)
    distance = np.abs(place[:, None] - np.arange(cells, dtype=np.float32))
    return np.maximum(np.float32(0), np.float32(1) - distance)
