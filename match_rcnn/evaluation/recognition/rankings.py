"""Rankings of categories and attributes: what stands among the k best.

After DeepFashion (Liu et al., CVPR 2016): a category's top-k accuracy, and the top-k recall of
attributes, "ranking the 1,000 classification scores" and counting those of an image's attributes
that are among the first k. What exactly is averaged differs between publications, so three figures
are given (:func:`attribute_recall`).

Equal scores rank by index, the lower first.

Shapes: ``N`` images, ``C`` classes to rank.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from match_rcnn.utils.arrays import BoolArray, IntArray

_ROWS = 4096


def among_best(scores: npt.NDArray[np.floating], k: int) -> BoolArray:
    """(N, C) scores -> (N, C) whether each is among the k best of its row."""
    width = scores.shape[1]
    if k >= width:
        return np.ones(scores.shape, dtype=bool)
    last = np.partition(scores, width - k, axis=1)[:, width - k, None]
    better, equal = scores > last, scores == last
    free = k - better.sum(1, keepdims=True)
    return better | (equal & (equal.cumsum(1) <= free))


def top_k_accuracy(
    scores: npt.NDArray[np.floating], truth: npt.NDArray[np.integer], ks: Sequence[int]
) -> dict[int, float]:
    """The share of rows whose class is among the k best.

    Args:
        scores: (N, C).
        truth: (N,) class indices.
        ks: the values of k.
    """
    own = np.take_along_axis(scores, truth[:, None], axis=1)
    before = np.arange(scores.shape[1]) < truth[:, None]
    rank = (scores > own).sum(1) + ((scores == own) & before).sum(1)
    return {k: float((rank < k).mean()) for k in ks}


def recall_counts(scores: npt.NDArray[np.floating], positive: BoolArray, k: int) -> tuple[int, int]:
    """How many of the positives are among the k best of their row, and how many there are."""
    found = 0
    for start in range(0, len(scores), _ROWS):
        rows = slice(start, start + _ROWS)
        found += int((among_best(scores[rows], k) & positive[rows]).sum())
    return found, int(positive.sum())


def attribute_recall(
    scores: npt.NDArray[np.floating],
    labels: npt.NDArray[np.int8],
    types: IntArray,
    type_names: Sequence[str],
    ks: Sequence[int],
    seen: BoolArray | None = None,
) -> dict[str, dict[int, float | None]]:
    """The recall of attributes at k.

    Of a type: its attributes alone are ranked; over all images, the positives among the k best
    divided by all positives of the type (as the public code of Liu and Lu, ECCV workshops 2018,
    counts). ``mean_of_types``: the plain mean of these. ``all_ranked``: all attributes of all types
    ranked together. A type without positives has no recall (None) and is in no mean.

    Args:
        scores: (N, A).
        labels: (N, A); 1 is a positive, and nothing else is.
        types: (A,) from 1.
        type_names: by type.
        ks: the values of k.
        seen: (N,) whether an image has scores; of one that has none all positives are missed.
            None: all have.
    """
    positive = labels == 1
    rows = slice(None) if seen is None else seen
    recall: dict[str, dict[int, float | None]] = {}
    for number, name in enumerate(type_names, 1):
        own = np.flatnonzero(types == number)
        recall[name] = _at(scores[:, own], positive[:, own], ks, rows)
    recall["mean_of_types"] = {k: _mean([recall[name][k] for name in type_names]) for k in ks}
    recall["all_ranked"] = _at(scores, positive, ks, rows)
    return recall


def _at(
    scores: npt.NDArray[np.floating],
    positive: BoolArray,
    ks: Sequence[int],
    rows: slice | BoolArray,
) -> dict[int, float | None]:
    total = int(positive.sum())
    found = {k: recall_counts(scores[rows], positive[rows], k)[0] for k in ks}
    return {k: count / total if total else None for k, count in found.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None
