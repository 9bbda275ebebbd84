"""Ground truth and detections as compact arrays.

Shapes: ``I`` images, ``K`` categories, ``G`` ground-truth items, ``D`` detections, ``n`` landmarks
of one category. Items and detections hold indices of their image and category, not ids, and are
sorted by category, then image; detections then by falling score. Coordinates are pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from match_rcnn.data.coco_labels import Landmarks
from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy
from match_rcnn.utils.arrays import BoolArray, FloatArray, IntArray
from match_rcnn.utils.columns import find


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
        taxonomy: says the landmarks of each category.
        file_names: (I,) of the images, ``""`` where the file has none.
        landmarks: with visibility, if they were asked for.
        attributes: by ``scale``, ``occlusion``, ``zoom_in``, ``viewpoint``: (G,) 1 to 3, 0 where
            the file has none.
        masks: (G,) compressed run lengths, if they were asked for.
        unmasked: (G,) items without a mask, which are ignored in mask scores; their box stands
            for it. None: all have one.
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
    masks: Sequence[bytes] | None = None
    unmasked: BoolArray | None = None
    taxonomy: Taxonomy = DEEPFASHION2
    file_names: tuple[str, ...] = ()

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
        return self.landmarks.labelled(self.category_ids[self.category])

    def with_landmarks(self) -> list[int]:
        """Indices of the categories that have landmarks."""
        known = {c.id for c in self.taxonomy.categories if c.num_landmarks}
        return [k for k, i in enumerate(self.category_ids.tolist()) if i in known]

    def visible_only(self) -> "GroundTruth":
        """The same with occluded landmarks (v = 1) unlabelled and ``num_keypoints`` counted anew:
        the official "visible" setting."""
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
            Landmarks are x, y here.
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
