"""Landmark errors of DeepFashion (2016): normalised error, and the share that is near enough.

The error of a landmark is its distance to the truth with x divided by the width of the garment's
box and y by its height, for visible landmarks alone (after the public code of Liu and Lu, ECCV
workshops 2018, which crops that box and scales it to a square).

Shapes: ``N`` images, 8 slots.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from match_rcnn.data.sources.deepfashion import SLOTS, VISIBLE
from match_rcnn.utils.arrays import FloatArray


def landmark_errors(predicted: FloatArray, truth: FloatArray, boxes: FloatArray) -> FloatArray:
    """(N, 8) the error of each visible landmark, NaN for the others.

    Args:
        predicted: (N, 8, 2) x, y in pixels.
        truth: (N, 8, 3) x, y, visibility.
        boxes: (N, 4) x1, y1, x2, y2, with an area.
    """
    size = boxes[:, None, 2:] - boxes[:, None, :2]
    errors = np.linalg.norm((predicted - truth[..., :2]) / size, axis=-1)
    return np.where(truth[..., 2] == VISIBLE, errors, np.nan)


def summarise_landmarks(errors: FloatArray, distances: Sequence[float]) -> dict[str, Any]:
    """``ne``: the mean error of each slot, and the plain mean of the slots; ``pdl``: the share of
    visible landmarks with an error of at most each distance. None where there is none to count.

    Args:
        errors: (N, 8), NaN where a landmark does not count.
    """
    counted = ~np.isnan(errors)
    slots: dict[str, float | None] = {
        name: float(errors[counted[:, i], i].mean()) if counted[:, i].any() else None
        for i, name in enumerate(SLOTS)
    }
    present = [value for value in slots.values() if value is not None]
    slots["mean"] = sum(present) / len(present) if present else None
    values = errors[counted]
    near = {d: float((values <= d).mean()) if len(values) else None for d in distances}
    return {"ne": slots, "pdl": {str(d): share for d, share in near.items()}}
