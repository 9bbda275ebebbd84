"""Assigning predictions to ground truth by their overlap.

Shapes: ``M`` ground-truth boxes, ``N`` predictions (anchors or proposals).
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class Matcher:
    """Give every prediction its best ground truth and a label that says how good the match is.

    With thresholds ``[t0, t1]`` and labels ``[l0, l1, l2]`` a prediction of best overlap ``v`` gets
    ``l0`` for ``v < t0``, ``l1`` for ``t0 <= v < t1`` and ``l2`` for ``v >= t1``. Labels are
    1 (foreground), 0 (background) and -1 (ignored).

    Args:
        thresholds: positive, ascending.
        labels: one more than there are thresholds.
        allow_low_quality_matches: also make foreground, for each ground truth, all predictions that
            overlap it best, ties included, however low that overlap is. A ground truth that
            overlaps nothing ties with every prediction: remove degenerate boxes beforehand.

    Raises:
        ValueError: for thresholds that do not ascend from above 0, or labels that do not fit them.
    """

    def __init__(
        self,
        thresholds: Sequence[float],
        labels: Sequence[int],
        allow_low_quality_matches: bool = False,
    ) -> None:
        bounds = list(thresholds)
        if not bounds or bounds[0] <= 0 or bounds != sorted(bounds):
            raise ValueError(f"expected ascending thresholds above 0, got {bounds}")
        if len(labels) != len(bounds) + 1 or not set(labels) <= {-1, 0, 1}:
            raise ValueError(
                f"expected {len(bounds) + 1} labels out of -1, 0, 1 for thresholds {bounds}, "
                f"got {list(labels)}"
            )
        self.thresholds = [-float("inf"), *bounds, float("inf")]
        self.labels = list(labels)
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, match_quality_matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Match.

        Args:
            match_quality_matrix: (M, N) overlaps >= 0.

        Returns:
            (N,) int64 index of the best ground truth (0 where ``M == 0``) and (N,) int8 label
            (the first label where ``M == 0``).
        """
        assert match_quality_matrix.dim() == 2, match_quality_matrix.shape
        num_gt, num_predictions = match_quality_matrix.shape
        if num_gt == 0 or num_predictions == 0:
            matches = match_quality_matrix.new_zeros(num_predictions, dtype=torch.int64)
            return matches, torch.full_like(matches, self.labels[0], dtype=torch.int8)
        best, matches = match_quality_matrix.max(dim=0)
        match_labels = torch.full_like(matches, self.labels[0], dtype=torch.int8)
        for threshold, label in zip(self.thresholds[1:-1], self.labels[1:], strict=True):
            match_labels.masked_fill_(best >= threshold, label)
        if self.allow_low_quality_matches:
            self.set_low_quality_matches_(match_labels, match_quality_matrix)
        return matches, match_labels

    def set_low_quality_matches_(self, match_labels: Tensor, match_quality_matrix: Tensor) -> None:
        """Set to 1, in place, the labels of each ground truth's best predictions.

        The prediction's own best ground truth stays as it was, even if another ground truth is the
        reason for its label.
        """
        best_of_gt = match_quality_matrix.amax(dim=1, keepdim=True)
        match_labels.masked_fill_((match_quality_matrix == best_of_gt).any(dim=0), 1)
