"""What a run does well and badly: confusion, calibration, landmark errors, image by image.

Shapes: ``D`` box detections, ``G`` items, ``P`` pairs, ``K`` categories, ``I`` images, ``n``
landmarks of a category.
"""

from dataclasses import dataclass

import numpy as np

from match_rcnn.evaluation.coco.arrays import Detections, GroundTruth
from match_rcnn.evaluation.coco.assignment import RECALLS, THRESHOLDS, Matcher
from match_rcnn.evaluation.coco.scoring import Scores
from match_rcnn.evaluation.coco.similarity import Similarities, box_overlaps, compute_similarities
from match_rcnn.utils.arrays import BoolArray, FloatArray, IntArray
from match_rcnn.utils.columns import join

#: IoU from which on a box is on an item, as in AP50.
ON = float(THRESHOLDS[0])
#: Less similar than this, a detection is about the background (as in TIDE, arXiv 2008.08115).
ABOUT = 0.1
_BINS = 10


def precision_recall(scores: Scores) -> tuple[FloatArray, dict[str, FloatArray]]:
    """Recall (R,), and precision at it, the mean over the categories that have items, at the
    thresholds .50 and .75 and over all ten."""
    precision = scores.precision[..., 0, -1]
    seen = (precision > -1).all((0, 1))
    nan = np.full(len(RECALLS), np.nan)
    mean = precision[..., seen].mean(-1) if seen.any() else np.stack([nan] * len(THRESHOLDS))
    return RECALLS, {"at .50": mean[0], "at .75": mean[5], "mean of .50 to .95": mean.mean(0)}


@dataclass(frozen=True)
class Rightness:
    """Box detections held against items of their category at IoU 0.5, as AP50 does.

    Attributes:
        right, counts: (D,) took an item; is not merely on an ignored one.
        items: that there are to be found.
        best: the score above which F1, over all, is highest.
    """

    right: BoolArray
    counts: BoolArray
    items: int
    best: float


def rightness(truth: GroundTruth, found: Detections) -> Rightness:
    taken = _taken(compute_similarities("bbox", truth, found))
    crowd = (taken >= 0) & np.append(truth.crowd, False)[taken]
    right = (taken >= 0) & ~crowd
    items = int((~truth.crowd).sum())
    order = np.argsort(-found.scores, kind="stable")
    true = np.cumsum(right[order])
    f1 = 2 * true / (np.cumsum(~crowd[order]) + max(items, 1))
    best = float(found.scores[order[int(f1.argmax())]]) if len(order) else 0.0
    return Rightness(right, ~crowd, items, best)


@dataclass(frozen=True)
class Calibration:
    """By bin of the score, ten from 0 to 1: mean score and share of right ones (NaN where empty),
    number; ``error``: the mean gap of the two, weighted by the number (ECE)."""

    scores: FloatArray
    shares: FloatArray
    counts: IntArray
    error: float


def calibration(found: Detections, judged: Rightness) -> Calibration:
    scores, right = found.scores[judged.counts], judged.right[judged.counts]
    bins = np.clip((scores * _BINS).astype(np.int64), 0, _BINS - 1)
    counts: IntArray = np.bincount(bins, minlength=_BINS)
    with np.errstate(invalid="ignore"):
        means = np.bincount(bins, scores, minlength=_BINS) / counts
        shares = np.bincount(bins, right, minlength=_BINS) / counts
    filled = counts > 0
    gaps = np.abs(means - shares)[filled] * counts[filled]
    error = float(gaps.sum() / counts.sum()) if filled.any() else float("nan")
    return Calibration(means, shares, counts, error)


def confusion(truth: GroundTruth, found: Detections, threshold: float) -> IntArray:
    """(K + 1, K + 1) items (rows) by the category of the detection that is on them; last column:
    found by nothing; last row: detections on nothing.

    Detections from ``threshold`` on choose in the order of their scores, whatever their category,
    the item not yet taken that they overlap most, with an IoU of at least 0.5.
    """
    number = len(truth.category_ids)
    counts = np.zeros((number + 1, number + 1), dtype=np.int64)
    strong = np.flatnonzero(found.scores >= threshold)
    detection, item, values = _overlaps(truth, found, strong)
    taken = np.full(len(truth.ids), -1, dtype=np.int64)
    used = np.zeros(len(found.scores), dtype=bool)
    for pair in np.lexsort((-values, -found.scores[detection])).tolist():
        d, g = int(detection[pair]), int(item[pair])
        if taken[g] < 0 and not used[d]:
            taken[g], used[d] = d, True
    seen = taken >= 0
    np.add.at(counts, (truth.category[seen], found.category[taken[seen]]), 1)
    lost = ~seen & ~truth.crowd
    counts[:-1, -1] = np.bincount(truth.category[lost], minlength=number)
    on_nothing = found.category[strong[~used[strong]]]
    counts[-1, :-1] = np.bincount(on_nothing, minlength=number)
    return counts


def _overlaps(
    truth: GroundTruth, found: Detections, chosen: IntArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Pairs, of any category, with an IoU of at least 0.5: detection, item, IoU."""
    order = np.argsort(truth.image, kind="stable")
    place, known = join(truth.image[order], found.image[chosen])
    detection, item = chosen[place], order[known]
    values = box_overlaps(truth, found, detection, item)
    kept = values >= ON
    return detection[kept], item[kept], values[kept]


@dataclass(frozen=True)
class LandmarkErrors:
    """Attributes:
    errors: by category id, (n,) mean distance to the annotated landmark in square roots of the
        item's area, NaN where none was measured.
    counts: by category id, (n,) how many were measured.
    measured, items: items that some detection of their category is about (OKS of at least 0.1;
        the most similar one is measured), of those with labelled landmarks.
    """

    errors: dict[int, FloatArray]
    counts: dict[int, IntArray]
    measured: int
    items: int


def landmark_errors(truth: GroundTruth, found: Detections) -> LandmarkErrors:
    """Visible and occluded landmarks alike."""
    assert truth.landmarks is not None
    assert found.landmarks is not None
    best = _most_similar(compute_similarities("keypoints", truth, found))
    best[truth.labelled() == 0] = -1
    errors: dict[int, FloatArray] = {}
    counts: dict[int, IntArray] = {}
    measured = 0
    for category in truth.taxonomy.categories:
        index = truth.category_index(np.array([category.id]))[0]
        items = np.flatnonzero((truth.category == index) & (best >= 0) & (index >= 0))
        counts[category.id] = np.zeros(category.num_landmarks, dtype=np.int64)
        errors[category.id] = np.full(category.num_landmarks, np.nan)
        if len(items) == 0:
            continue
        measured += len(items)
        known = truth.landmarks.tables[category.id][truth.landmarks.rows[items]]
        points = found.landmarks.tables[category.id][found.landmarks.rows[best[items]]]
        away = np.linalg.norm(points[..., :2] - known[..., :2], axis=-1)
        away /= np.sqrt(truth.areas[items])[:, None]
        labelled = known[..., 2] > 0
        counts[category.id] = labelled.sum(0)
        with np.errstate(invalid="ignore"):
            errors[category.id] = np.where(labelled, away, 0).sum(0) / labelled.sum(0)
    return LandmarkErrors(errors, counts, measured, int((truth.labelled() > 0).sum()))


def _most_overlapped(similarities: Similarities) -> IntArray:
    """(D,) the item which each detection overlaps most (of equals the last), -1 where it overlaps
    none by ``ABOUT``."""
    item = np.full(len(similarities.detections.scores), -1, dtype=np.int64)
    pairs = np.flatnonzero(similarities.values >= ABOUT)
    # The last one written stays.
    pairs = pairs[np.argsort(similarities.values[pairs], kind="stable")]
    item[similarities.detection[pairs]] = similarities.item[pairs]
    return item


def _most_similar(similarities: Similarities) -> IntArray:
    """(G,) of the detections that are about an item the most similar one, -1: none."""
    about = _most_overlapped(similarities)
    pairs = np.flatnonzero(about[similarities.detection] == similarities.item)
    pairs = pairs[np.argsort(similarities.values[pairs], kind="stable")]
    best = np.full(len(similarities.ground_truth.ids), -1, dtype=np.int64)
    best[similarities.item[pairs]] = similarities.detection[pairs]
    return best


@dataclass(frozen=True)
class ImageQuality:
    """Attributes:
    quality: (I,) panoptic quality of boxes: IoU summed over right detections / (right ones + half
        of the false and of the missed ones). NaN: nothing to be found.
    wrong: (I,) false and missed ones.
    """

    quality: FloatArray
    wrong: IntArray

    def extremes(self, number: int) -> tuple[list[int], list[int]]:
        """Indices of the best and of the worst images, the most extreme first. Of equals those
        with less or with more wrong, then spread over the data."""
        seen = np.flatnonzero(np.isfinite(self.quality))
        # A fixed shuffle, so that equal images are not all neighbours.
        seen = np.random.default_rng(0).permutation(seen)
        order = seen[np.lexsort((-self.wrong[seen], self.quality[seen]))]
        number = min(number, len(order) // 2)
        return order[::-1][:number].tolist(), order[:number].tolist()


def image_quality(truth: GroundTruth, found: Detections, threshold: float) -> ImageQuality:
    """Args: threshold: detections with a lower score do not exist."""
    strong = found.scores >= threshold
    similarities = compute_similarities("bbox", truth, found)
    taken = _taken(similarities)
    overlap = np.zeros(len(found.scores))
    chosen = taken[similarities.detection] == similarities.item
    overlap[similarities.detection[chosen]] = similarities.values[chosen]
    right = strong & (taken >= 0)
    number = len(truth.image_ids)
    hits = np.bincount(found.image[right], minlength=number)
    items = np.bincount(truth.image, minlength=number)
    wrong = items + np.bincount(found.image[strong], minlength=number) - 2 * hits
    total = np.bincount(found.image[right], overlap[right], minlength=number)
    quality: FloatArray = np.full(number, np.nan)
    np.divide(total, hits + wrong / 2, out=quality, where=items > 0)
    return ImageQuality(quality, wrong)


def _taken(similarities: Similarities) -> IntArray:
    """(D,) the item that each detection takes at IoU 0.5, -1: none."""
    matcher = Matcher(similarities)
    taken = np.full(len(similarities.detections.scores), -1, dtype=np.int64)
    taken[matcher.candidates] = matcher.match(similarities.ground_truth.crowd)[0]
    return taken
