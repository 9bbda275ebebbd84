"""Smooth closed curves through control points.

Shapes: ``k`` control points, ``m`` points of the sampled curve.
"""

import numpy as np

from match_rcnn.utils.arrays import BoolArray, FloatArray


def smooth_closed(points: FloatArray, smooth: BoolArray, per_segment: int = 6) -> FloatArray:
    """Sample the closed curve through ``points``.

    Cubic Hermite pieces. At a smooth point the tangent joins its neighbours; at a corner each
    piece leaves along its own chord, so two corners in a row are joined by a straight line.

    Args:
        points: (k, 2).
        smooth: (k,) False at corners.
        per_segment: samples a piece, its first point included.

    Returns:
        (k * per_segment, 2); sample ``i * per_segment`` is control point ``i`` exactly.
    """
    following = np.roll(points, -1, axis=0)
    chord = following - points
    length = np.linalg.norm(chord, axis=1, keepdims=True)
    across = following - np.roll(points, 1, axis=0)
    direction = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    leave = np.where(smooth[:, None], direction * length, chord)
    arrive = np.where(np.roll(smooth, -1)[:, None], np.roll(direction, -1, axis=0) * length, chord)
    t = (np.arange(per_segment) / per_segment)[None, :, None]
    curve = (
        (2 * t**3 - 3 * t**2 + 1) * points[:, None]
        + (t**3 - 2 * t**2 + t) * leave[:, None]
        + (3 * t**2 - 2 * t**3) * following[:, None]
        + (t**3 - t**2) * arrive[:, None]
    )
    return np.asarray(curve.reshape(-1, 2))


def smoothstep(x: FloatArray) -> FloatArray:
    """0 below 0, 1 above 1, with a smooth rise between."""
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x * x * (3 - 2 * x))
