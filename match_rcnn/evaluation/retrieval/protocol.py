"""Consumer-to-shop retrieval by the official protocol (docs/deepfashion2.md).

For each query item, an item of a consumer photo with style > 0:

1. Every detection of the photo is assigned to the item that it overlaps most, items of style 0 and
   of other classes included, without a threshold; one that overlaps nothing goes to the first.
2. Of those assigned to the query and of its class, the most confident one stands for it. If there
   is none, the query is *missed*; it counts as wrong.
3. A retrieved item is right when its image holds an item of the query's pair id and style, and
   their boxes have an IoU of at least 0.5 (any such item of that image will do).

Top-k accuracy is the share of all query items, detected or not, with a right item among the first
k. The official script counts as missed only queries whose photo has some detection; both counts
are given. A query that no gallery item matches, on which the official script stops, is counted as
wrong and reported.

Shapes: ``N`` ground-truth items of consumer photos, ``G`` of shop photos, ``R`` detections on
consumer photos, ``T`` retrieved items of each. Boxes are x1, y1, x2, y2 in pixels, without +1.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from match_rcnn.evaluation.coco.similarity import box_ious
from match_rcnn.utils.arrays import BoolArray, FloatArray, IntArray
from match_rcnn.utils.columns import join, joint_codes

#: The k of top-k accuracy; result lists are this long at most.
TOPS = (1, 5, 10, 15, 20)
LIST_LENGTH = TOPS[-1]
#: Those of them that Table 9 gives by subset.
SUBSET_TOPS = (1, 20)
#: Queries with more matching gallery items than this are a subset of their own (Table 9).
MANY_PARTNERS = 5
MANY_NAME = "more_than_five"
#: IoU from which on a retrieved box is right.
THRESHOLD = 0.5


@dataclass(frozen=True)
class QueryTruth:
    """The items of consumer photos, in the file's order: also those with style 0, to which
    detections may belong.

    Attributes:
        image_ids, classes, styles, pair_ids: (N,); classes from 1.
        boxes: (N, 4).
    """

    image_ids: IntArray
    boxes: FloatArray
    classes: IntArray
    styles: IntArray
    pair_ids: IntArray


@dataclass(frozen=True)
class GalleryTruth:
    """The items of shop photos.

    Attributes:
        image_ids, styles, pair_ids: (G,).
        boxes: (G, 4).
    """

    image_ids: IntArray
    boxes: FloatArray
    styles: IntArray
    pair_ids: IntArray


@dataclass(frozen=True)
class Retrieved:
    """Detections on consumer photos and what was retrieved for each.

    Attributes:
        image_ids, classes, scores: (R,).
        boxes: (R, 4).
        gallery_image_ids: (R, T), best first.
        gallery_boxes: (R, T, 4).
        lengths: (R,) how many of the T there are.
    """

    image_ids: IntArray
    boxes: FloatArray
    classes: IntArray
    scores: FloatArray
    gallery_image_ids: IntArray
    gallery_boxes: FloatArray
    lengths: IntArray


@dataclass(frozen=True)
class RetrievalScores:
    """What became of each query item (style > 0).

    Attributes:
        items: (Q,) indices into ``QueryTruth``.
        places: (Q,) of the first right item, from 0; -1 if there is none.
        missed: (Q,) no detection stands for it.
        in_seen_image: (Q,) its photo has some detection.
        without_partner: (Q,) no gallery item matches it.
    """

    items: IntArray
    places: IntArray
    missed: BoolArray
    in_seen_image: BoolArray
    without_partner: BoolArray

    def __len__(self) -> int:
        return len(self.places)

    def accuracy(self, among: BoolArray | None = None) -> dict[int, float]:
        """Top-k accuracy by k, from 0 to 1, NaN without queries.

        Args:
            among: (Q,) only these count.
        """
        return {k: self.found_among(k, among) for k in TOPS}

    def found_among(self, k: int, among: BoolArray | None = None) -> float:
        """The share of queries, NaN of none, with a right item among the first k. Args: as of
        :meth:`accuracy`."""
        places = self.places if among is None else self.places[among]
        hits = int(((places >= 0) & (places < k)).sum())
        return hits / len(places) if len(places) else float("nan")

    @property
    def counts(self) -> dict[str, int]:
        """``queries``; ``missed`` of all; ``missed_official``: those in photos with a detection;
        ``without_partner``."""
        return {
            "queries": len(self),
            "missed": int(self.missed.sum()),
            "missed_official": int((self.missed & self.in_seen_image).sum()),
            "without_partner": int(self.without_partner.sum()),
        }

    def to_json(self) -> dict[str, Any]:
        """``accuracy`` (by k, null without queries), ``queries``, ``missed`` and more."""
        counts = self.counts
        return {
            "task": "retrieval",
            "accuracy": {str(k): value for k, value in self.accuracy().items()},
            "queries": counts["queries"],
            "missed": {"official": counts["missed_official"], "all": counts["missed"]},
            "without_partner": counts["without_partner"],
        }


def score_retrieval(
    queries: QueryTruth, gallery: GalleryTruth, retrieved: Retrieved
) -> RetrievalScores:
    """Apply the protocol."""
    standing = representatives(queries, retrieved)
    items = np.flatnonzero(queries.styles > 0)
    standing = standing[items]
    missed = standing < 0
    places = np.full(len(items), -1, dtype=np.int64)
    places[~missed] = _first_hits(queries, gallery, retrieved, items[~missed], standing[~missed])
    return RetrievalScores(
        items=items,
        places=places,
        missed=missed,
        in_seen_image=np.isin(queries.image_ids[items], retrieved.image_ids),
        without_partner=partners(queries, gallery, items) == 0,
    )


def partners(queries: QueryTruth, gallery: GalleryTruth, items: IntArray) -> IntArray:
    """(Q,) how many gallery items match each of the query items ``items``."""
    products, asked = joint_codes(
        (gallery.pair_ids, gallery.styles), (queries.pair_ids[items], queries.styles[items])
    )
    known = np.sort(products)
    return np.searchsorted(known, asked, "right") - np.searchsorted(known, asked, "left")


class Found(Protocol):
    """Detections on consumer photos: ``image_ids``, ``boxes``, ``classes``, ``scores``."""

    @property
    def image_ids(self) -> IntArray: ...
    @property
    def boxes(self) -> FloatArray: ...
    @property
    def classes(self) -> IntArray: ...
    @property
    def scores(self) -> npt.NDArray[np.floating]: ...


def decisive(queries: QueryTruth, found: Found) -> IntArray:
    """Indices, rising, of the detections that the protocol looks at: those that stand for a query,
    and the best one of each photo, without which the photo would count as one where nothing was
    detected. The others may be left out of a search: they change no number."""
    standing = representatives(queries, found)[queries.styles > 0]
    order = np.lexsort((-found.scores, found.image_ids))
    best = _first_of_each(found.image_ids, order)
    return np.union1d(standing[standing >= 0], best)


def representatives(queries: QueryTruth, found: Found) -> IntArray:
    """(N,) the detection that stands for each item, -1: none."""
    order = np.argsort(queries.image_ids, kind="stable")
    detection, place = join(queries.image_ids[order], found.image_ids)
    item = order[place]
    overlaps = corner_ious(found.boxes[detection], queries.boxes[item])
    # A detection's first item of the largest overlap.
    best = _first_of_each(detection, np.lexsort((-overlaps, detection)))
    detection, item = detection[best], item[best]
    right = found.classes[detection] == queries.classes[item]
    detection, item = detection[right], item[right]
    # An item's first detection of the highest score.
    best = _first_of_each(item, np.lexsort((detection, -found.scores[detection], item)))
    standing = np.full(len(queries.image_ids), -1, dtype=np.int64)
    standing[item[best]] = detection[best]
    return standing


def _first_hits(
    queries: QueryTruth,
    gallery: GalleryTruth,
    retrieved: Retrieved,
    items: IntArray,
    detections: IntArray,
) -> IntArray:
    """(number of items,) the first right place of the list of each item's detection, or -1."""
    images = retrieved.gallery_image_ids[detections]
    boxes = retrieved.gallery_boxes[detections].reshape(-1, 4)
    length = images.shape[1]
    known, asked = joint_codes(
        (gallery.image_ids, gallery.pair_ids, gallery.styles),
        (
            images.reshape(-1),
            np.repeat(queries.pair_ids[items], length),
            np.repeat(queries.styles[items], length),
        ),
    )
    order = np.argsort(known, kind="stable")
    entry, place = join(known[order], asked)
    right = corner_ious(boxes[entry], gallery.boxes[order[place]]) >= THRESHOLD
    hits = np.zeros(images.shape, dtype=bool)
    hits.reshape(-1)[entry[right]] = True
    hits &= np.arange(length) < retrieved.lengths[detections, None]
    return first_places(hits)


def first_places(hits: BoolArray) -> IntArray:
    """(Q,) the first place of each row of (Q, T) that is true, -1: none."""
    if not hits.shape[1]:
        return np.full(len(hits), -1, dtype=np.int64)
    return np.where(hits.any(1), hits.argmax(1), -1)


def corner_ious(first: FloatArray, second: FloatArray) -> FloatArray:
    """(P,) IoU of (P, 4) and (P, 4) boxes, to the last bit as the official script gets it: through
    width and height."""
    first, second = (np.hstack([b[:, :2], b[:, 2:] - b[:, :2]]) for b in (first, second))
    return box_ious(first, second)


def _first_of_each(groups: IntArray, order: IntArray) -> IntArray:
    """Of each group the element that ``order``, which goes group by group, has first."""
    arranged = groups[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = arranged[1:] != arranged[:-1]
    return order[new]
