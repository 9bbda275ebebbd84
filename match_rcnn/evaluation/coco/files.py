"""COCO-form annotation files and result files in the official formats, as arrays.

Both are read in a stream: the arrays, and one batch of 4 MiB of text with its Python objects. Of
results, landmarks and masks are held where the image has an item of the category, and nowhere
else. Ground truth takes 1 KB an item with landmarks and masks; masks are made from polygons where
they are compared.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from match_rcnn.data.coco import CocoFile, Items, read_coco
from match_rcnn.data.coco_labels import LandmarkColumns, Segmentations
from match_rcnn.data.sources.deepfashion2 import ATTRIBUTES
from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy
from match_rcnn.evaluation.coco.arrays import Detections, GroundTruth, ranked
from match_rcnn.evaluation.coco.rle import mask_counts, rle_areas, to_rle
from match_rcnn.utils.arrays import FloatArray, IntArray
from match_rcnn.utils.columns import Entries, find, stream_list


def read_ground_truth(
    path: str | Path, tasks: Collection[str], taxonomy: Taxonomy = DEEPFASHION2
) -> GroundTruth | None:
    """Read what ``tasks`` (of ``bbox``, ``segm``, ``keypoints``) need.

    ``iscrowd`` counts as 0 where it is missing, ``num_keypoints`` as the number of labelled
    landmarks, the category list as the taxonomy's.

    Returns:
        ``None`` if the file has no ``annotations``: a test set.

    Raises:
        FileNotFoundError, ValueError: the message names the file, the entry and what is wrong.
    """
    wanted = {"keypoints": "landmarks", "segm": "segmentations"}
    labels = [wanted[task] for task in tasks if task in wanted]
    file = read_coco(path, labels, taxonomy, fields=ATTRIBUTES)
    return None if file.items is None else _ground_truth(file, file.items, taxonomy)


def _ground_truth(file: CocoFile, items: Items, taxonomy: Taxonomy) -> GroundTruth:
    images = file.images
    category_ids, names = _categories(file, taxonomy)
    category = find(category_ids, items.category_ids)
    for index in np.flatnonzero(category < 0):
        unknown = f"unknown category_id {items.category_ids[index]}: the file's own list does not "
        raise _error(file.path, int(index), unknown + "have it")
    _refuse_foreign_labels(file, items, taxonomy)
    order = np.lexsort((items.image, category))
    masks = unmasked = None
    if items.segmentations is not None:
        masks = _Masks(
            file.path, items.segmentations, items.boxes, images.sizes[items.image], order
        )
        unmasked = masks.missing[order]
    return GroundTruth(
        name=str(file.path),
        image_ids=images.ids,
        image_sizes=images.sizes,
        sources=np.array(images.sources) if any(images.sources) else None,
        category_ids=category_ids,
        category_names=names,
        ids=items.ids[order],
        image=items.image[order],
        category=category[order],
        boxes=items.boxes[order],
        areas=items.areas[order],
        crowd=items.crowd[order],
        num_keypoints=items.num_keypoints[order],
        attributes={name: items.fields[name][order] for name in ATTRIBUTES},
        landmarks=None if items.landmarks is None else items.landmarks.take(order),
        masks=masks,
        unmasked=unmasked,
        taxonomy=taxonomy,
        file_names=images.file_names,
    )


def _categories(file: CocoFile, taxonomy: Taxonomy) -> tuple[IntArray, tuple[str, ...]]:
    found = [(c["id"], str(c["name"])) for c in file.categories]
    found = sorted(found or [(c.id, c.name) for c in taxonomy.categories])
    ids, names = zip(*found, strict=True)
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ValueError(f"{file.path}: category id {twice} occurs more than once")
    if len(set(names)) < len(names):
        raise ValueError(f"{file.path}: two categories have one name")
    return np.array(ids, dtype=np.int64), names


def _error(path: Path, index: int, reason: str, what: str = "annotation") -> ValueError:
    return Entries([], index, f"{path}, {what}").error(0, reason)


def _refuse_foreign_labels(file: CocoFile, items: Items, taxonomy: Taxonomy) -> None:
    """A labelled landmark outside the category's slice would count in pycocotools."""
    for index, points in items.landmarks.foreign.items() if items.landmarks else ():
        category = taxonomy.category(int(items.category_ids[index]))
        labelled = points[:, 2] > 0
        labelled[category.slice] = False
        if labelled.any():
            reason = (
                f"keypoints label channel {int(labelled.argmax())}, which is none of category "
                f"{category.id}'s ({category.slice.start} to {category.slice.stop - 1})"
            )
            raise _error(file.path, index, reason)


class _Masks(Sequence[bytes]):
    """The run lengths of items, made from polygons when they are asked for; all are checked.

    Attributes:
        missing: (N,) items of the file without a mask.
    """

    def __init__(
        self,
        path: Path,
        segmentations: Segmentations,
        boxes: FloatArray,
        sizes: IntArray,
        order: IntArray,
    ) -> None:
        """Args: sizes: (N, 2) of each item's image; order: (G,) items of the file."""
        self._segmentations, self._boxes, self._sizes = segmentations, boxes, sizes
        self._order = order.tolist()
        self.missing = np.zeros(len(segmentations), dtype=bool)
        polygons = np.diff(segmentations.polygons)
        for index in np.flatnonzero(polygons == 0).tolist():
            self.missing[index] = segmentations[index] is None
        for index in self._doubtful(polygons):
            try:
                to_rle(segmentations[index], *sizes[index].tolist())
            except ValueError as error:
                raise _error(path, index, str(error)) from error

    def _doubtful(self, polygons: IntArray) -> list[int]:
        """Items whose segmentation may be wrong."""
        lengths = np.diff(self._segmentations.ends)
        short = np.repeat(np.arange(len(polygons)), polygons)[(lengths < 6) | (lengths % 2 == 1)]
        others = np.flatnonzero(((polygons == 0) | (self._sizes <= 0).any(1)) & ~self.missing)
        return np.union1d(short, others).tolist()

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, item: Any) -> Any:
        index = self._order[item]
        segmentation = self._segmentations[index]
        if segmentation is None:
            x, y, w, h = self._boxes[index].tolist()
            segmentation = [[x, y, x, y + h, x + w, y + h, x + w, y]]
        height, width = self._sizes[index].tolist()
        if isinstance(segmentation, list):  # of checked polygons
            parts = mask_utils.frPyObjects(segmentation, height, width)
            return (parts[0] if len(parts) == 1 else mask_utils.merge(parts))["counts"]
        return to_rle(segmentation, height, width)


def read_detections(
    path: str | Path, task: str, ground_truth: GroundTruth, limit: int
) -> Detections:
    """Read the results of ``task`` (``bbox``, ``segm`` or ``keypoints``), anyone's model's.

    Landmarks may be dense (294 * 3, whatever stands outside the category) or compact (n * 3 of
    the entry's category).

    Args:
        limit: the best so many of an image and category are kept, as in COCO.

    Raises:
        FileNotFoundError, ValueError: the message names the file, the entry and what is wrong.
    """
    reader = _ResultReader(Path(path), task, ground_truth)
    for items in stream_list(
        path, {None: {"keypoints": (1, True)}} if task == "keypoints" else None
    ):
        reader.add(items)
    return reader.build(limit)


class _ResultReader:
    def __init__(self, path: Path, task: str, ground_truth: GroundTruth) -> None:
        self.path = path
        self.task = task
        self.ground_truth = ground_truth
        self.num_entries = 0
        self.area_key: str | None = None
        self.columns: list[tuple[IntArray, IntArray, FloatArray, FloatArray]] = []
        self.boxes: list[FloatArray] = []
        self.masks: list[bytes] = []
        self.landmarks = LandmarkColumns(ground_truth.taxonomy)
        self.groups = np.unique(ground_truth.groups)

    def add(self, items: list[Any]) -> None:
        entries = Entries(items, self.num_entries, f"{self.path}, entry")
        self.num_entries += len(items)
        if self.area_key is None and items:
            self.area_key = self._area_key(entries)
        image = self._index(entries, "image_id")
        category = self._index(entries, "category_id")
        needed = find(self.groups, category * len(self.ground_truth.image_ids) + image) >= 0
        areas = {
            "bbox": self._add_boxes,
            "segm": self._add_masks,
            "keypoints": self._add_landmarks,
        }[self.task](entries, image, needed)
        if self.area_key == "bbox" and self.task != "bbox":
            areas = entries.numbers("bbox", 4)[:, 2:].prod(1)
        elif self.area_key == "segmentation" and self.task == "keypoints":
            areas = self._mask_areas(entries, image)[1].astype(np.float64)
        self.columns.append((image, category, entries.numbers("score"), areas))

    def _area_key(self, entries: Entries) -> str:
        """What pycocotools takes a detection's area from: the first entry decides."""
        own = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}[self.task]
        entries.column(own)
        first = entries.items[0]
        if first.get("bbox"):
            return "bbox"
        return "segmentation" if "segmentation" in first else own

    def _index(self, entries: Entries, key: str) -> IntArray:
        known = self.ground_truth
        ids = entries.integers(key)
        place = (known.image_index if key == "image_id" else known.category_index)(ids)
        for index in np.flatnonzero(place < 0):
            raise entries.error(int(index), f"{key} {ids[index]} is not in {known.name}")
        return place

    def _add_boxes(self, entries: Entries, image: IntArray, needed: Any) -> FloatArray:
        boxes = entries.numbers("bbox", 4)
        self.boxes.append(boxes)
        return boxes[:, 2] * boxes[:, 3]

    def _add_masks(self, entries: Entries, image: IntArray, needed: Any) -> FloatArray:
        counts, areas = self._mask_areas(entries, image)
        self.masks += [c if used else b"" for c, used in zip(counts, needed, strict=True)]
        return areas.astype(np.float64)

    def _mask_areas(self, entries: Entries, image: IntArray) -> tuple[list[bytes], IntArray]:
        sizes = self.ground_truth.image_sizes[image]
        counts = []
        masks = zip(entries.column("segmentation"), sizes.tolist(), strict=True)
        for index, (mask, (height, width)) in enumerate(masks):
            try:
                counts.append(mask_counts(mask, height, width))
            except ValueError as error:
                raise entries.error(index, str(error)) from error
        areas = rle_areas(counts, sizes.prod(1))
        for index in np.flatnonzero(areas < 0):
            height, width = sizes[index]
            reason = f"malformed run-length mask: its runs do not fill {height} x {width}"
            raise entries.error(int(index), reason)
        return counts, areas

    def _add_landmarks(self, entries: Entries, image: IntArray, needed: Any) -> FloatArray:
        entries.column("keypoints")
        areas = np.zeros(len(entries.items))
        kept = []
        groups = self.landmarks.parse(entries, entries.integers("category_id"))
        if groups:
            self._refuse_none(entries, [members for _, members, _ in groups])
        for category_id, members, table in groups:
            own = table[:, :, :2]
            areas[members] = landmark_areas(own, self.ground_truth.taxonomy)
            used = needed[members]
            kept.append((category_id, members[used], own[used]))
        for index, points in self.landmarks.newest_foreign():
            areas[index] = np.ptp(points[:, :2], axis=0).prod()
        self.landmarks.add(len(areas), kept)
        return areas

    def _refuse_none(self, entries: Entries, seen: Sequence[IntArray]) -> None:
        """A result has the landmarks of its category."""
        for index in np.setdiff1d(np.arange(len(entries.items)), np.concatenate(seen)).tolist():
            category = self.ground_truth.taxonomy.category(entries.items[index]["category_id"])
            if category.num_landmarks:
                raise entries.error(index, "keypoints must be a flat list of finite numbers")

    def build(self, limit: int) -> Detections:
        if not self.columns:
            self.add([])
        image, category, scores, areas = (
            np.concatenate(parts) for parts in zip(*self.columns, strict=True)
        )
        return ranked(
            image,
            category,
            scores,
            areas,
            limit,
            boxes=np.concatenate(self.boxes) if self.task == "bbox" else None,
            masks=self.masks if self.task == "segm" else None,
            landmarks=self.landmarks.build() if self.task == "keypoints" else None,
        )


def landmark_areas(points: FloatArray, taxonomy: Taxonomy) -> FloatArray:
    """(M,) the area that pycocotools gives a landmark result without a box: of the box around all
    its channels, the zeros outside the category among them.

    Args:
        points: (M, n, 2) x, y of detections of one category.
    """
    if not points.size:
        return np.zeros(len(points))
    low, high = points.min(1), points.max(1)
    if points.shape[1] < taxonomy.num_landmarks:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    areas: FloatArray = (high - low).prod(1)
    return areas
