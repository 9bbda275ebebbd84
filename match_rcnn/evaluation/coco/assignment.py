"""From similarities to precision and recall, by COCO's rules.

Shapes: ``T`` similarity thresholds, ``D`` detections, ``C`` candidates: the detections similar
enough to some item at the lowest threshold; ``G`` items, ``P`` pairs, ``R`` recall points, ``K``
categories, ``M`` limits of detections.

A table of scores asks for the same detections again and again, each time with other items that
count. What does not change is laid out once (``Matcher``), and a detection that is similar to
nothing is only ever counted, never walked over: nine of ten are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from match_rcnn.evaluation.coco.similarity import Similarities
from match_rcnn.utils.arrays import BoolArray, FloatArray, IntArray

THRESHOLDS: FloatArray = np.linspace(0.5, 0.95, 10, dtype=np.float64)
RECALLS: FloatArray = np.linspace(0.0, 1.0, 101, dtype=np.float64)
_ENOUGH: FloatArray = np.minimum(THRESHOLDS, 1 - 1e-10)


@dataclass(frozen=True)
class Curves:
    """Interpolated precision (T, R, K, M) and highest recall (T, K, M); -1 where a category has
    no item that counts."""

    precision: FloatArray
    recall: FloatArray


class Matcher:
    """Who takes which item, for any choice of the items that count.

    Attributes:
        candidates: (C,) detections, by category, then falling score.
        order: (D,) all detections in that order.
        starts: (K + 1,) where each category begins in ``order``.
        places: (C,) of the candidates in ``order``.
    """

    def __init__(self, similarities: Similarities) -> None:
        truth, found = similarities.ground_truth, similarities.detections
        self.ground_truth, self.detections = truth, found
        # The detections come by category; equal scores keep that order, as in pycocotools.
        self.order: IntArray = np.lexsort((-found.scores, found.category))
        categories = np.arange(len(truth.category_ids) + 1)
        self.starts: IntArray = np.searchsorted(found.category, categories)
        pairs = np.flatnonzero(similarities.values >= _ENOUGH[0])
        is_candidate = np.zeros(len(found.scores), dtype=bool)
        is_candidate[similarities.detection[pairs]] = True
        self.places: IntArray = np.flatnonzero(is_candidate[self.order])
        self.candidates: IntArray = self.order[self.places]
        self._lay_out_pairs(similarities, pairs)

    def _lay_out_pairs(self, similarities: Similarities, pairs: IntArray) -> None:
        """Pairs by the rank of their detection: the first detections of all groups choose first,
        all at once, then the second ones."""
        rank = self.detections.rank
        pairs = pairs[np.argsort(rank[similarities.detection[pairs]], kind="stable")]
        detection, self._item = similarities.detection[pairs], similarities.item[pairs]
        values = similarities.values[pairs]
        self._enough: BoolArray = values >= _ENOUGH[:, None]
        self._crowd: BoolArray = self.ground_truth.crowd[self._item]
        # Of two pairs of a detection the one with the larger number is taken: the more similar
        # item, of equals the last.
        by_preference = np.lexsort((self._item, values))
        self._preference: IntArray = np.empty(len(pairs), dtype=np.int64)
        self._preference[by_preference] = np.arange(len(pairs))
        self._preferred_item: IntArray = self._item[by_preference]
        first = np.flatnonzero(np.diff(detection, prepend=-1))
        column = np.empty(len(self.detections.scores), dtype=np.int64)
        column[self.candidates] = np.arange(len(self.candidates))
        # One tuple a rank: its pairs, where in them each detection's begin, whose these are.
        self._rounds: list[tuple[slice, IntArray, IntArray]] = []
        for start, stop in _runs(rank[detection]):
            inside = first[np.searchsorted(first, start) : np.searchsorted(first, stop)]
            self._rounds.append((slice(start, stop), inside - start, column[detection[inside]]))

    def match(self, ignored: BoolArray) -> IntArray:
        """Which item each candidate takes at each threshold.

        In the order of falling scores a detection takes, of the items not yet taken and similar
        enough, the most similar one (of equals the last); an ignored item only if there is no
        other. Crowd items can be taken again and again.

        Args:
            ignored: (G,) items that count neither as hit nor as miss.

        Returns:
            (T, C) item indices, -1: none.
        """
        matches = np.full((len(_ENOUGH), len(self.candidates)), -1, dtype=np.int64)
        free = np.ones((len(_ENOUGH), len(self.ground_truth.ids)), dtype=bool)
        number = len(self._item)
        preference = self._preference + number * ~ignored[self._item]
        for part, first, columns in self._rounds:
            # Detections of one rank are of different images or categories: no two want one item.
            possible = self._enough[:, part] & (free[:, self._item[part]] | self._crowd[part])
            best = np.maximum.reduceat(np.where(possible, preference[part], -1), first, axis=1)
            threshold, place = np.nonzero(best >= 0)
            taken = self._preferred_item[best[threshold, place] % number]
            matches[threshold, columns[place]] = taken
            free[threshold, taken] = False
        return matches

    def curves(
        self,
        ignored: BoolArray,
        outside: BoolArray,
        limits: Sequence[int],
        images: BoolArray | None = None,
    ) -> Curves:
        """Args:
        ignored: (G,) items that count neither as hit nor as miss.
        outside: (D,) detections that are no false positives when they match nothing.
        limits: of detections an image and category.
        images: (I,) only these count, all if ``None``.
        """
        truth, found = self.ground_truth, self.detections
        images = np.ones(len(truth.image_ids), dtype=bool) if images is None else images
        categories = len(truth.category_ids)
        wanted_items = truth.category[~ignored & images[truth.image]]
        positives = np.bincount(wanted_items, minlength=categories)
        matches = self.match(ignored)
        # An item with id 0 counts as never matched in pycocotools, where 0 means "none".
        hit = (matches >= 0) & (np.append(truth.ids, 0)[matches] != 0)
        hit_ignored = (matches >= 0) & np.append(ignored, False)[matches]
        shape = (len(THRESHOLDS), len(RECALLS), categories, len(limits))
        curves = Curves(-np.ones(shape), -np.ones((shape[0], *shape[2:])))
        for m, limit in enumerate(limits):
            counts = images[found.image] & (found.rank < limit)
            true = hit & ~hit_ignored & counts[self.candidates]
            false = ~hit & ~hit_ignored & (counts & ~outside)[self.candidates]
            before = self._false_before(counts & ~outside, false)
            for k in np.flatnonzero(positives):
                part = slice(*np.searchsorted(self.places, self.starts[[k, k + 1]]))
                precision, recall = _curve(true[:, part], before[:, part], int(positives[k]))
                curves.precision[:, :, k, m], curves.recall[:, k, m] = precision, recall
        return curves

    def _false_before(self, counts: BoolArray, false: BoolArray) -> IntArray:
        """(T, C) false positives with a higher score in the category of each candidate.

        Args:
            counts: (D,) detections that are false positives if they match nothing.
            false: (T, C) candidates that are.
        """
        others = counts[self.order]
        others[self.places] = False
        background = np.append(0, np.cumsum(others))
        among: IntArray = np.cumsum(false, axis=1, dtype=np.int64)
        start = self.starts[self.detections.category[self.candidates]]
        earlier = np.searchsorted(self.places, start)
        among = among - np.hstack([np.zeros((len(among), 1), dtype=np.int64), among])[:, earlier]
        return among + (background[self.places] - background[start])


def _runs(values: IntArray) -> list[tuple[int, int]]:
    """Starts and ends of the stretches of equal values."""
    borders = (np.flatnonzero(np.diff(values)) + 1).tolist()
    return list(zip([0, *borders], [*borders, len(values)], strict=True)) if len(values) else []


def _curve(true: BoolArray, before: IntArray, positives: int) -> tuple[FloatArray, FloatArray]:
    """(T, R) and (T,), from the true positives among a category's candidates and the false ones
    before each. The curve turns at true positives only: they are all that is looked at."""
    precision, recall = np.zeros((len(true), len(RECALLS))), np.zeros(len(true))
    for t in range(len(true)):
        false = before[t, true[t]].astype(np.float64)
        number = np.arange(1, len(false) + 1, dtype=np.float64)
        if len(number) == 0:
            continue
        # In pycocotools' order of operations, so that every bit is the same.
        envelope = np.maximum.accumulate((number / (false + number + np.spacing(1)))[::-1])[::-1]
        reached = number / positives
        place = np.searchsorted(reached, RECALLS, side="left")
        inside = place < len(number)
        precision[t, inside] = envelope[place[inside]]
        recall[t] = reached[-1]
    return precision, recall
