"""Ground truth and detections as compact arrays.

Shapes: ``I`` images, ``K`` categories, ``G`` ground-truth items, ``D`` detections, ``n`` landmarks
of one category. Items and detections hold indices of their image and category, not ids, and are
sorted by category, then image; detections then by falling score. Coordinates are pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from match_rcnn.data import taxonomy
from match_rcnn.utils.arrays import BoolArray, FloatArray, IntArray
from match_rcnn.utils.json_stream import as_numbers


def find(known: IntArray, asked: IntArray) -> IntArray:
    """(N,) places of ``asked`` in the rising ``known``, -1 where it is not there."""
    if len(known) == 0:
        return np.full(len(asked), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return np.where(known[place] == asked, place, -1)


def join(known: IntArray, asked: IntArray) -> tuple[IntArray, IntArray]:
    """All pairs of equal values, as indices: first into ``asked``, rising, then into ``known``,
    which must rise."""
    first = np.searchsorted(known, asked, side="left")
    counts = np.searchsorted(known, asked, side="right") - first
    place = np.repeat(np.arange(len(asked)), counts)
    within = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
    return place, first[place] + within


def joint_codes(known: Sequence[IntArray], asked: Sequence[IntArray]) -> tuple[IntArray, IntArray]:
    """One number for each row of several columns, equal where the rows are; -1 for rows of
    ``asked`` that ``known`` cannot have."""
    codes: IntArray = np.zeros(len(known[0]), dtype=np.int64)
    wanted: IntArray = np.zeros(len(asked[0]), dtype=np.int64)
    lost = np.zeros(len(asked[0]), dtype=bool)
    for column, asked_column in zip(known, asked, strict=True):
        values, inverse = np.unique(column, return_inverse=True)
        place = find(values, asked_column)
        lost |= place < 0
        codes, wanted = codes * len(values) + inverse, wanted * len(values) + place
    return codes, np.where(lost, -1, wanted)


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of N entries, each with those of its category only.

    Attributes:
        rows: (N,) an entry's row in its category's table, -1: none are held.
        tables: by category id, (M, n, 3) x, y, visibility, or (M, n, 2) x, y.
        wide_rows: (N,) an entry's row in ``wide``, -1: none.
        wide: (E, 294, 2) x, y of all channels. Only items without labelled landmarks are compared
            in these, since pycocotools then measures all channels.
    """

    rows: IntArray
    tables: dict[int, FloatArray]
    wide_rows: IntArray
    wide: FloatArray

    def take(self, index: IntArray) -> "Landmarks":
        return replace(self, rows=self.rows[index], wide_rows=self.wide_rows[index])


class LandmarkBuilder:
    """Collects ``Landmarks`` entry by entry."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._rows: list[int] = []
        self._wide_rows: list[int] = []
        self._parts: dict[int, list[FloatArray]] = {}
        self._wide: list[FloatArray] = []

    def skip(self) -> None:
        """An entry whose landmarks nobody will ask for."""
        self._rows.append(-1)
        self._wide_rows.append(-1)

    def add(self, category_id: int, points: FloatArray, wide: bool = False) -> None:
        """Args: points: (n, 3) or (294, 3); wide: keep all 294 channels too."""
        category = taxonomy.category(category_id)
        dense = len(points) == taxonomy.NUM_LANDMARKS
        own = points[category.slice] if dense else points
        part = self._parts.setdefault(category_id, [])
        self._rows.append(len(part))
        part.append(own[:, : self._columns].copy())
        self._wide_rows.append(len(self._wide) if wide else -1)
        if wide:
            channels = np.zeros((taxonomy.NUM_LANDMARKS, 2))
            channels[slice(None) if dense else category.slice] = points[:, :2]
            self._wide.append(channels)

    def build(self) -> Landmarks:
        wide = np.array(self._wide).reshape(-1, taxonomy.NUM_LANDMARKS, 2)
        tables = {category_id: np.stack(part) for category_id, part in self._parts.items()}
        return Landmarks(_ints(self._rows), tables, _ints(self._wide_rows), wide)


def parse_keypoints(category_id: int, numbers: Any) -> FloatArray:
    """Landmarks of a file's flat list, dense (3 * 294 numbers) or compact (3n).

    Returns:
        (n, 3), or (294, 3) if a dense list is not zero outside the category.

    Raises:
        ValueError: neither 3n nor 3*294 finite numbers.
    """
    category = taxonomy.category(category_id)
    compact, dense = 3 * category.num_landmarks, 3 * taxonomy.NUM_LANDMARKS
    if not isinstance(numbers, list):
        raise ValueError("keypoints must be a flat list of finite numbers")
    if len(numbers) not in (compact, dense):
        raise ValueError(
            f"expected keypoints of length 3*{taxonomy.NUM_LANDMARKS} (dense) or "
            f"3*{category.num_landmarks} (compact) for category {category_id} "
            f"({category.name!r}), got {len(numbers)}"
        )
    if len(numbers) == dense:
        first, last = 3 * category.slice.start, 3 * category.slice.stop
        if _all_zero(numbers[:first] + numbers[last:]):
            numbers = numbers[first:last]
    array = as_numbers(numbers)
    if array is None or array.ndim != 1:
        raise ValueError("keypoints must be a flat list of finite numbers")
    return array.reshape(-1, 3)


def _all_zero(numbers: list[Any]) -> bool:
    try:
        # One call in C, ten times as fast as making an array; whatever is no number it refuses.
        return math.hypot(*numbers) == 0.0
    except (TypeError, OverflowError):
        return False


@dataclass(frozen=True)
class GroundTruth:
    """What a COCO-form annotation file says, as far as scoring asks for it.

    Attributes:
        name: of the file, for messages.
        image_ids: (I,) rising.
        image_sizes: (I, 2) height, width; 0 where the file has none.
        sources: (I,) ``"user"``, ``"shop"`` or ``""``, or ``None`` if the file has none at all.
        category_ids: (K,) rising, with ``category_names``.
        ids: (G,) the items' ids in the file.
        image, category: (G,) indices.
        boxes: (G, 4) x, y, width, height.
        areas: (G,) as the file gives them (official: of the box).
        crowd: (G,).
        num_keypoints: (G,) as the file gives them; 0 makes an item ignored in landmark scores.
        landmarks: with visibility, if they were asked for.
        attributes: by ``scale``, ``occlusion``, ``zoom_in``, ``viewpoint``: (G,) 1 to 3, 0 where
            the file has none.
        masks: (G,) compressed run lengths, if they were asked for.
    """

    name: str
    image_ids: IntArray
    image_sizes: IntArray
    sources: npt.NDArray[np.str_] | None
    category_ids: IntArray
    category_names: tuple[str, ...]
    ids: IntArray
    image: IntArray
    category: IntArray
    boxes: FloatArray
    areas: FloatArray
    crowd: BoolArray
    num_keypoints: IntArray
    attributes: dict[str, IntArray]
    landmarks: Landmarks | None = None
    masks: tuple[bytes, ...] | None = None

    @property
    def groups(self) -> IntArray:
        """(G,) one number for each category and image."""
        return self.category * len(self.image_ids) + self.image

    def image_index(self, image_ids: IntArray) -> IntArray:
        """Indices of image ids, -1 where there is no such image."""
        return find(self.image_ids, image_ids)

    def category_index(self, category_ids: IntArray) -> IntArray:
        """Indices of category ids, -1 where there is no such category."""
        return find(self.category_ids, category_ids)

    def labelled(self) -> IntArray:
        """(G,) how many landmarks are labelled (v > 0)."""
        assert self.landmarks is not None
        counts = np.zeros(len(self.ids), dtype=np.int64)
        for category_id, members in self.members():
            table = self.landmarks.tables[category_id]
            counts[members] = (table[self.landmarks.rows[members], :, 2] > 0).sum(1)
        return counts

    def members(self) -> list[tuple[int, IntArray]]:
        """Category ids that have items, with the items' indices."""
        present = np.unique(self.category)
        return [(int(self.category_ids[k]), np.flatnonzero(self.category == k)) for k in present]

    def visible_only(self) -> "GroundTruth":
        """The same with occluded landmarks (v = 1) unlabelled and ``num_keypoints`` counted anew:
        the official "visible" setting (PAPER section 3)."""
        assert self.landmarks is not None
        tables = {}
        for category_id, table in self.landmarks.tables.items():
            tables[category_id] = np.where(table[..., 2:] == 1, 0, table)
        visible = replace(self, landmarks=replace(self.landmarks, tables=tables))
        return replace(visible, num_keypoints=visible.labelled())


@dataclass(frozen=True)
class Detections:
    """Detections of one task, at most ``limit`` of an image and category.

    Attributes:
        image, category: (D,) indices into the ground truth's.
        scores: (D,).
        areas: (D,) by which area ranges choose.
        rank: (D,) place within image and category, 0: the best.
        boxes, masks, landmarks: what the task compares; masks and landmarks are held only where
            the ground truth has an item of that category in that image (else ``b""`` and -1).
    """

    image: IntArray
    category: IntArray
    scores: FloatArray
    areas: FloatArray
    rank: IntArray
    boxes: FloatArray | None = None
    masks: tuple[bytes, ...] | None = None
    landmarks: Landmarks | None = None

    def groups(self, ground_truth: GroundTruth) -> IntArray:
        """(D,) the numbers of ``GroundTruth.groups``."""
        return self.category * len(ground_truth.image_ids) + self.image


def ranked(
    image: IntArray,
    category: IntArray,
    scores: FloatArray,
    areas: FloatArray,
    limit: int,
    boxes: FloatArray | None = None,
    masks: Sequence[bytes] | None = None,
    landmarks: Landmarks | None = None,
) -> Detections:
    """Sort detections as ``Detections`` wants them, equal scores in the order given, and keep the
    ``limit`` best of each image and category."""
    order = np.lexsort((-scores, image, category))
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(category[order]) != 0) | (np.diff(image[order]) != 0)
    first = np.flatnonzero(new)
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    order, rank = order[rank < limit], rank[rank < limit]
    return Detections(
        image=image[order],
        category=category[order],
        scores=scores[order],
        areas=areas[order],
        rank=rank,
        boxes=None if boxes is None else boxes[order],
        masks=None if masks is None else tuple(masks[i] for i in order),
        landmarks=None if landmarks is None else landmarks.take(order),
    )


def _ints(values: Sequence[int]) -> IntArray:
    return np.asarray(values, dtype=np.int64)
