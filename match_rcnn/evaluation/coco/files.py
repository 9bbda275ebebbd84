"""COCO-form annotation files and result files in the official formats, as arrays.

Both are read in a stream: the arrays, and one batch of 1 MiB of text with its Python objects. A
dense landmark entry is 33 KB of Python objects, its arrays are 0.1 to 0.6 KB, and none where the
image has no item of the category. Ground truth takes about 1 KB an item with landmarks and masks;
masks are made from polygons at the end, image by image.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from match_rcnn.data import taxonomy
from match_rcnn.data.sources.deepfashion2 import ATTRIBUTES
from match_rcnn.evaluation.coco.arrays import (
    Detections,
    GroundTruth,
    LandmarkBuilder,
    find,
    parse_keypoints,
    ranked,
)
from match_rcnn.evaluation.coco.rle import mask_counts, rle_areas, to_rle
from match_rcnn.utils.arrays import FloatArray, IntArray
from match_rcnn.utils.json_stream import Entries, as_numbers, stream_arrays, stream_list


def read_ground_truth(path: str | Path, tasks: Collection[str]) -> GroundTruth | None:
    """Read what ``tasks`` (of ``bbox``, ``segm``, ``keypoints``) need.

    ``iscrowd`` counts as 0 where it is missing, ``num_keypoints`` as the number of labelled
    landmarks, the category list as the 13 of the taxonomy.

    Returns:
        ``None`` if the file has no ``annotations``: a test set.

    Raises:
        FileNotFoundError, ValueError: the message names the file, the entry and what is wrong.
    """
    reader = _TruthReader(Path(path), "keypoints" in tasks, "segm" in tasks)
    handlers = {
        "images": reader.add_images,
        "annotations": reader.add_annotations,
        "categories": reader.add_categories,
    }
    seen = set()
    for key, items in stream_arrays(path):
        if key is None:
            raise ValueError(f"{path}: expected an object with images and annotations, got a list")
        seen.add(key)
        if key in handlers:
            handlers[key](items)
    if "images" not in seen:
        raise ValueError(f"{path}: no list 'images'; is this a ground-truth file in COCO form?")
    return reader.build() if "annotations" in seen else None


class _TruthReader:
    def __init__(self, path: Path, keypoints: bool, masks: bool) -> None:
        self.path = path
        self.keypoints = LandmarkBuilder(columns=3) if keypoints else None
        self.segmentations: list[Any] | None = [] if masks else None
        self.images: list[tuple[IntArray, IntArray, list[str]]] = []
        self.categories: list[tuple[int, str]] = []
        self.columns: list[tuple[Any, ...]] = []
        self.sources: dict[int, str] = {}  # by image id, from annotations
        self.num_images = self.num_annotations = 0

    def add_images(self, items: list[Any]) -> None:
        entries = Entries(items, self.num_images, f"{self.path}, image")
        self.num_images += len(items)
        ids = entries.integers("id")
        sizes: IntArray = np.zeros((len(items), 2), dtype=np.int64)
        if all("height" in item and "width" in item for item in items):
            sizes = np.stack([entries.integers("height"), entries.integers("width")], axis=1)
        sources = [str(item.get("source") or "") for item in items]
        self.images.append((ids, sizes, sources))

    def add_categories(self, items: list[Any]) -> None:
        entries = Entries(items, len(self.categories), f"{self.path}, category")
        names = map(str, entries.column("name"))
        self.categories += zip(entries.integers("id").tolist(), names, strict=True)

    def add_annotations(self, items: list[Any]) -> None:
        entries = Entries(items, self.num_annotations, f"{self.path}, annotation")
        self.num_annotations += len(items)
        image_ids, category_ids = entries.integers("image_id"), entries.integers("category_id")
        crowd = np.array([bool(item.get("iscrowd", 0)) for item in items], dtype=bool)
        counts = [-1] * len(items)
        if self.keypoints is not None:
            counts = self._add_keypoints(entries, category_ids)
        if self.segmentations is not None:
            self.segmentations += map(_light, entries.column("segmentation"))
        for image_id, item in zip(image_ids.tolist(), items, strict=True):
            if item.get("source"):
                self.sources[image_id] = str(item["source"])
        self.columns.append(
            (
                entries.integers("id"),
                image_ids,
                category_ids,
                entries.numbers("bbox", 4),
                entries.numbers("area"),
                crowd,
                np.array(counts, dtype=np.int64),
                _attributes(items),
            )
        )

    def _add_keypoints(self, entries: Entries, category_ids: IntArray) -> list[int]:
        assert self.keypoints is not None
        counts = []
        for index, numbers in enumerate(entries.column("keypoints")):
            category_id = int(category_ids[index])
            try:
                points = parse_keypoints(category_id, numbers)
                _refuse_foreign_labels(category_id, points)
                self.keypoints.add(category_id, points)
            except ValueError as error:
                raise entries.error(index, str(error)) from error
            labelled = int((points[:, 2] > 0).sum())
            counts.append(int(entries.items[index].get("num_keypoints", labelled)))
        return counts

    def build(self) -> GroundTruth:
        image_ids, sizes, sources = self._images()
        category_ids, names = self._categories()
        ids, images, categories, boxes, areas, crowd, counts, attributes = self._columns()
        image = self._lookup(image_ids, images, "image_id")
        category = self._lookup(category_ids, categories, "category_id")
        self._refuse_duplicates(ids, "annotation id")
        order = np.lexsort((image, category))
        return GroundTruth(
            name=str(self.path),
            image_ids=image_ids,
            image_sizes=sizes,
            sources=sources,
            category_ids=category_ids,
            category_names=names,
            ids=ids[order],
            image=image[order],
            category=category[order],
            boxes=boxes[order],
            areas=areas[order],
            crowd=crowd[order],
            num_keypoints=counts[order],
            attributes=dict(zip(ATTRIBUTES, attributes[order].T, strict=True)),
            landmarks=None if self.keypoints is None else self.keypoints.build().take(order),
            masks=self._masks(image, sizes, order),
        )

    def _images(self) -> tuple[IntArray, IntArray, Any]:
        if self.num_images == 0:
            return np.zeros(0, np.int64), np.zeros((0, 2), np.int64), None
        ids, sizes = (np.concatenate(parts) for parts in list(zip(*self.images, strict=True))[:2])
        self._refuse_duplicates(ids, "image id")
        sources = [source for _, _, part in self.images for source in part]
        sources = [self.sources.get(i, s) for i, s in zip(ids.tolist(), sources, strict=True)]
        order = np.argsort(ids, kind="stable")
        known = np.array(sources)[order] if any(sources) else None
        return ids[order], sizes[order], known

    def _categories(self) -> tuple[IntArray, tuple[str, ...]]:
        found = self.categories or [(c.id, c.name) for c in taxonomy.CATEGORIES]
        self._refuse_duplicates(np.array([i for i, _ in found]), "category id")
        if len({name for _, name in found}) < len(found):
            raise ValueError(f"{self.path}: two categories have one name")
        found = sorted(found)
        return np.array([i for i, _ in found], dtype=np.int64), tuple(n for _, n in found)

    def _columns(self) -> tuple[Any, ...]:
        if not self.columns:
            self.add_annotations([])
        return tuple(np.concatenate(parts) for parts in zip(*self.columns, strict=True))

    def _lookup(self, known: IntArray, asked: IntArray, key: str) -> IntArray:
        place = find(known, asked)
        for index in np.flatnonzero(place < 0):
            raise Entries([], int(index), f"{self.path}, annotation").error(
                0, f"unknown {key} {asked[index]}: the file's own list does not have it"
            )
        return place

    def _refuse_duplicates(self, ids: IntArray, what: str) -> None:
        values, counts = np.unique(ids, return_counts=True)
        for value in values[counts > 1]:
            raise ValueError(f"{self.path}: {what} {value} occurs more than once")

    def _masks(self, image: IntArray, sizes: IntArray, order: IntArray) -> tuple[bytes, ...] | None:
        if self.segmentations is None:
            return None
        masks = []
        for index, segmentation in enumerate(self.segmentations):
            height, width = sizes[image[index]].tolist()
            try:
                masks.append(to_rle(segmentation, height, width))
            except ValueError as error:
                entries = Entries([], index, f"{self.path}, annotation")
                raise entries.error(0, str(error)) from error
            self.segmentations[index] = None
        return tuple(masks[i] for i in order)


def _attributes(items: list[Any]) -> IntArray:
    """(N, 4) levels in the order of ``ATTRIBUTES``, 0 for what is none."""
    values = [[item.get(key) for key in ATTRIBUTES] for item in items]
    known = [[v if type(v) is int else 0 for v in row] for row in values]
    return np.array(known, dtype=np.int64).reshape(-1, len(ATTRIBUTES))


def _light(segmentation: Any) -> Any:
    """Polygons as arrays: Python's numbers take four times as much."""
    if not isinstance(segmentation, list):
        return segmentation
    arrays = [as_numbers(p) if isinstance(p, list) else None for p in segmentation]
    return segmentation if any(a is None for a in arrays) else arrays


def _refuse_foreign_labels(category_id: int, points: FloatArray) -> None:
    """A labelled landmark outside the category's slice would count in pycocotools."""
    if len(points) != taxonomy.NUM_LANDMARKS:
        return
    category = taxonomy.category(category_id)
    labelled = points[:, 2] > 0
    labelled[category.slice] = False
    if labelled.any():
        raise ValueError(
            f"keypoints label channel {int(labelled.argmax())}, which is none of category "
            f"{category_id}'s ({category.slice.start} to {category.slice.stop - 1})"
        )


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
    for items in stream_list(path):
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
        self.landmarks = LandmarkBuilder(columns=2)
        self.groups = np.unique(ground_truth.groups)
        self.wide_groups = wide_groups(ground_truth) if task == "keypoints" else self.groups[:0]

    def add(self, items: list[Any]) -> None:
        entries = Entries(items, self.num_entries, f"{self.path}, entry")
        self.num_entries += len(items)
        if self.area_key is None and items:
            self.area_key = self._area_key(entries)
        image = self._index(entries, "image_id")
        category = self._index(entries, "category_id")
        groups = category * len(self.ground_truth.image_ids) + image
        areas = {
            "bbox": self._add_boxes,
            "segm": self._add_masks,
            "keypoints": self._add_landmarks,
        }[self.task](entries, image, groups)
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

    def _add_boxes(self, entries: Entries, image: IntArray, groups: IntArray) -> FloatArray:
        boxes = entries.numbers("bbox", 4)
        self.boxes.append(boxes)
        return boxes[:, 2] * boxes[:, 3]

    def _add_masks(self, entries: Entries, image: IntArray, groups: IntArray) -> FloatArray:
        counts, areas = self._mask_areas(entries, image)
        needed = np.isin(groups, self.groups)
        self.masks += [c if used else b"" for c, used in zip(counts, needed, strict=True)]
        return areas.astype(np.float64)

    def _mask_areas(self, entries: Entries, image: IntArray) -> tuple[list[bytes], IntArray]:
        sizes = self.ground_truth.image_sizes[image]
        counts = []
        for index, mask in enumerate(entries.column("segmentation")):
            try:
                counts.append(mask_counts(mask, *sizes[index].tolist()))
            except ValueError as error:
                raise entries.error(index, str(error)) from error
        areas = rle_areas(counts, sizes.prod(1))
        for index in np.flatnonzero(areas < 0):
            height, width = sizes[index]
            reason = f"malformed run-length mask: its runs do not fill {height} x {width}"
            raise entries.error(int(index), reason)
        return counts, areas

    def _add_landmarks(self, entries: Entries, image: IntArray, groups: IntArray) -> FloatArray:
        needed, wide = np.isin(groups, self.groups), np.isin(groups, self.wide_groups)
        category_ids = entries.integers("category_id").tolist()
        parsed = []
        for index, numbers in enumerate(entries.column("keypoints")):
            try:
                points = parse_keypoints(category_ids[index], numbers)
            except ValueError as error:
                raise entries.error(index, str(error)) from error
            parsed.append(points)
            if needed[index]:
                self.landmarks.add(category_ids[index], points, bool(wide[index]))
            else:
                self.landmarks.skip()
        if not parsed:
            return np.zeros(0)
        return landmark_areas(np.concatenate(parsed), np.array([len(p) for p in parsed]))

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


def wide_groups(ground_truth: GroundTruth) -> IntArray:
    """The groups (``GroundTruth.groups``) in which all 294 channels of a detection count: those
    with an item that has no labelled landmark."""
    return np.unique(ground_truth.groups[ground_truth.labelled() == 0])


def landmark_areas(points: FloatArray, numbers: IntArray) -> FloatArray:
    """(N,) the area that pycocotools gives a landmark result without a box: of the box around all
    294 points, the zeros outside the category among them.

    Args:
        points: (sum of numbers, 2 or 3) x, y of N detections one after the other.
        numbers: (N,) of points, those of a category or all 294.
    """
    first = np.cumsum(numbers) - numbers
    low = np.minimum.reduceat(points[:, :2], first)
    high = np.maximum.reduceat(points[:, :2], first)
    compact = (numbers < taxonomy.NUM_LANDMARKS)[:, None]
    low, high = (
        np.where(compact, np.minimum(low, 0), low),
        np.where(compact, np.maximum(high, 0), high),
    )
    areas: FloatArray = (high - low).prod(1)
    return areas
