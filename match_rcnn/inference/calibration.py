"""Scores that say how often a detection is right.

A network's scores rank its detections, but their values mean little. A calibrated score of 0.8 is
right in about four of five cases, on photos like those that it was fitted to. The order stays, so
no AP changes.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from match_rcnn.utils.arrays import BoolArray, FloatArray

#: Scores are kept so far from 0 and 1, where the logarithm ends.
_MARGIN = 1e-6


@dataclass(frozen=True)
class Calibration:
    """A calibrated score's logit is ``slope * logit(score) + offset`` (Platt, 1999).

    Attributes:
        slope: above 0, so that the order stays.
    """

    slope: float
    offset: float

    def __post_init__(self) -> None:
        if not (0 < self.slope < math.inf and math.isfinite(self.offset)):
            raise ValueError(
                "TEST.SCORE_CALIBRATION: expected a slope above 0 and an offset, got "
                f"{self.slope} and {self.offset}"
            )

    def __call__(self, scores: torch.Tensor) -> torch.Tensor:
        """(N,) -> (N,), in the same order."""
        return torch.sigmoid(self.slope * torch.logit(scores, eps=_MARGIN) + self.offset)


def fit_calibration(scores: FloatArray, right: BoolArray) -> Calibration:
    """The most likely calibration of detections that are known to be right or wrong.

    Newton's method on the logistic loss, with targets that Platt takes for a finite number of
    cases, so that scores which tell right from wrong perfectly do not end at infinity.

    Args:
        scores: (N,) in 0 to 1.
        right: (N,).

    Raises:
        ValueError: all are right, or none is; or the higher scores are the more often wrong ones.
    """
    positives, negatives = int(right.sum()), int((~right).sum())
    if not positives or not negatives:
        raise ValueError(
            f"a calibration needs right and wrong detections, got {positives} and {negatives}"
        )
    clipped = np.clip(scores.astype(np.float64), _MARGIN, 1 - _MARGIN)
    inputs = np.stack([np.log(clipped / (1 - clipped)), np.ones(len(scores))], axis=1)
    targets = np.where(right, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    weights = np.array([1.0, 0.0])
    for _ in range(100):
        found = 1 / (1 + np.exp(-inputs @ weights))
        slopes = inputs.T @ (found - targets)
        curvature = (inputs * (found * (1 - found))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), slopes)
        # Far from the minimum a whole step can leap over it.
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    if weights[0] <= 0:
        raise ValueError("the higher the scores, the less often are they right: nothing to fit")
    return Calibration(float(weights[0]), float(weights[1]))
