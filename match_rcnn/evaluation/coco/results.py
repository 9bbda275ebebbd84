"""Result files in the official formats (PAPER section 3): read and written in a stream.

Reading holds the arrays of ``Detections`` and one batch of 1 MiB of text with its Python objects.
A dense landmark entry is 33 KB of Python objects, its arrays are 0.1 to 0.6 KB, and none where the
image has no item of the category. Writing holds one entry.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from match_rcnn.data import taxonomy
from match_rcnn.data.taxonomy import FloatArray, IntArray
from match_rcnn.evaluation.coco.columns import Entries, stream_list
from match_rcnn.evaluation.coco.records import (
    Detections,
    GroundTruth,
    LandmarkBuilder,
    parse_keypoints,
    ranked,
)
from match_rcnn.evaluation.coco.rle import mask_counts, rle_areas
from match_rcnn.utils.files import atomic_write

#: Digits behind the point in written files.
BOX_DIGITS, LANDMARK_DIGITS = 3, 2


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
    reader = _Reader(Path(path), task, ground_truth)
    for items in stream_list(path):
        reader.add(items)
    return reader.build(limit)


class _Reader:
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


def write_results(path: str | Path, entries: Iterable[bytes]) -> None:
    """Write a JSON list entry by entry, whole or not at all."""
    with atomic_write(path) as file:
        separator = b"[\n"
        for entry in entries:
            file.write(separator)
            file.write(entry)
            separator = b",\n"
        file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


def box_entry(image_id: int, category_id: int, box: FloatArray, score: np.float32) -> bytes:
    """Args: box: (4,) x, y, width, height, already rounded."""
    return _entry(image_id, category_id, score, b'"bbox":' + _dump(box))


def mask_entry(
    image_id: int, category_id: int, counts: bytes, size: tuple[int, int], score: np.float32
) -> bytes:
    """Args: size: height, width."""
    mask = {"size": list(size), "counts": counts.decode("ascii")}
    return _entry(image_id, category_id, score, b'"segmentation":' + _dump(mask))


def landmark_entry(image_id: int, category_id: int, points: FloatArray, score: np.float32) -> bytes:
    """The dense official form. Args: points: (n, 3) of the category, already rounded."""
    category = taxonomy.category(category_id)
    after = taxonomy.NUM_LANDMARKS - category.slice.stop
    parts = [b"0,0,0"] * category.offset + [_dump(points.reshape(-1))[1:-1]] + [b"0,0,0"] * after
    return _entry(image_id, category_id, score, b'"keypoints":[' + b",".join(parts) + b"]")


def _entry(image_id: int, category_id: int, score: np.float32, body: bytes) -> bytes:
    return b'{"image_id":%d,"category_id":%d,%b,"score":%b}' % (
        image_id,
        category_id,
        body,
        _dump(score),
    )


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def rounded(values: npt.NDArray[np.floating[Any]], digits: int) -> FloatArray:
    """Float64 with so many decimals: what a written file gives when it is read again."""
    exact = np.round(np.asarray(values, dtype=np.float64), digits)
    return exact + np.float64(0)  # no -0.0
