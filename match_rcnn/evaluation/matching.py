"""From similarities to precision and recall, by COCO's rules.

Shapes: ``T`` similarity thresholds, ``D`` detections, ``G`` items, ``P`` pairs, ``R`` recall
points, ``K`` categories, ``M`` limits of detections.
"""

from collections.abc import Sequence

import numpy as np

from match_rcnn.data.taxonomy import FloatArray, IntArray
from match_rcnn.evaluation.records import BoolArray, Detections, GroundTruth
from match_rcnn.evaluation.similarity import Similarities

THRESHOLDS: FloatArray = np.linspace(0.5, 0.95, 10, dtype=np.float64)
RECALLS: FloatArray = np.linspace(0.0, 1.0, 101, dtype=np.float64)


def match(similarities: Similarities, ignored: BoolArray) -> IntArray:
    """Which item each detection takes at each threshold.

    In the order of falling scores a detection takes, of the items not yet taken and similar
    enough, the most similar one (of equals the last); an ignored item only if there is no other.
    Crowd items can be taken again and again.

    Args:
        ignored: (G,) items that count neither as hit nor as miss.

    Returns:
        (T, D) item indices, -1: none.
    """
    truth, found = similarities.ground_truth, similarities.detections
    least = np.minimum(THRESHOLDS, 1 - 1e-10)
    pairs = np.flatnonzero(similarities.values >= least[0])
    pairs = pairs[np.argsort(found.rank[similarities.detection[pairs]], kind="stable")]
    detection, item = similarities.detection[pairs], similarities.item[pairs]
    enough = similarities.values[pairs] >= least[:, None]
    preference = _preference(similarities.values[pairs], ignored[item], item)
    by_preference = np.argsort(preference)
    matches = np.full((len(least), len(found.scores)), -1, dtype=np.int64)
    free = np.ones((len(least), len(truth.ids)), dtype=bool)
    for start, stop in _runs(found.rank[detection]):
        # Detections of one rank belong to different images or categories: no two want one item.
        part = slice(start, stop)
        possible = enough[:, part] & (free[:, item[part]] | truth.crowd[item[part]])
        first = np.flatnonzero(np.diff(detection[part], prepend=-1))
        best = np.maximum.reduceat(np.where(possible, preference[part], -1), first, axis=1)
        threshold, place = np.nonzero(best >= 0)
        taken = item[by_preference[best[threshold, place]]]
        matches[threshold, detection[part][first[place]]] = taken
        free[threshold, taken] = False
    return matches


def _preference(values: FloatArray, ignored: BoolArray, item: IntArray) -> IntArray:
    """(P,) distinct numbers; of two pairs of a detection the one with the larger is taken."""
    preference = np.empty(len(values), dtype=np.int64)
    preference[np.lexsort((item, values, ~ignored))] = np.arange(len(values))
    return preference


def _runs(values: IntArray) -> list[tuple[int, int]]:
    """Starts and ends of the stretches of equal values."""
    borders = (np.flatnonzero(np.diff(values)) + 1).tolist()
    return list(zip([0, *borders], [*borders, len(values)], strict=True)) if len(values) else []


def precision_recall(
    ground_truth: GroundTruth,
    detections: Detections,
    matches: IntArray,
    ignored: BoolArray,
    out_of_range: BoolArray,
    limits: Sequence[int],
    images: BoolArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Interpolated precision (T, R, K, M) and highest recall (T, K, M), -1 where a category has
    no item that counts.

    Args:
        matches, ignored: of ``match``.
        out_of_range: (D,) detections that are no false positives when they match nothing.
        limits: of detections an image and category.
        images: (I,) only these count, all if ``None``.
    """
    shape = (len(THRESHOLDS), len(RECALLS), len(ground_truth.category_ids), len(limits))
    precision, recall = -np.ones(shape), -np.ones((shape[0], *shape[2:]))
    images = np.ones(len(ground_truth.image_ids), dtype=bool) if images is None else images
    item_counts, wanted = ~ignored & images[ground_truth.image], images[detections.image]
    # An item with id 0 counts as never matched in pycocotools, where 0 means "none".
    hit = (matches >= 0) & (np.append(ground_truth.ids, 0)[matches] != 0)
    neither = ((matches >= 0) & np.append(ignored, False)[matches]) | (~hit & out_of_range)
    for k in range(shape[2]):
        positives = int((item_counts & (ground_truth.category == k)).sum())
        if positives == 0:
            continue
        members = np.flatnonzero(wanted & (detections.category == k))
        members = members[np.argsort(-detections.scores[members], kind="stable")]
        for m, limit in enumerate(limits):
            chosen = members[detections.rank[members] < limit]
            precision[:, :, k, m], recall[:, k, m] = _curve(
                hit[:, chosen], neither[:, chosen], positives
            )
    return precision, recall


def _curve(hit: BoolArray, neither: BoolArray, positives: int) -> tuple[FloatArray, FloatArray]:
    """(T, R) and (T,) from (T, D) flags of detections in the order of falling scores."""
    precision = np.zeros((len(hit), len(RECALLS)))
    if hit.shape[1] == 0:
        return precision, np.zeros(len(hit))
    true = np.cumsum(hit & ~neither, axis=1, dtype=np.float64)
    false = np.cumsum(~hit & ~neither, axis=1, dtype=np.float64)
    recall = true / positives
    raw = true / (false + true + np.spacing(1))
    envelope = np.maximum.accumulate(raw[:, ::-1], axis=1)[:, ::-1]
    for t in range(len(hit)):
        place = np.searchsorted(recall[t], RECALLS, side="left")
        reached = place < hit.shape[1]
        precision[t, reached] = envelope[t, place[reached]]
    return precision, recall[:, -1]
