"""A model's detections of an image, held compact, and what becomes of them.

Shapes: ``R`` detections of an image, ``n`` landmarks of a detection's category.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from pycocotools import mask as mask_utils

from match_rcnn.data.coco_labels import LandmarkColumns, zeros_around
from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy
from match_rcnn.evaluation.coco.arrays import (
    Detections,
    GroundTruth,
    ranked,
)
from match_rcnn.evaluation.coco.files import landmark_areas
from match_rcnn.utils.arrays import Float32Array, FloatArray, IntArray
from match_rcnn.utils.columns import find
from match_rcnn.utils.files import atomic_write

#: Names of the result files by task.
FILE_NAMES: Mapping[str, str] = {
    "bbox": "bbox_results.json",
    "segm": "segm_results.json",
    "keypoints": "keypoints_results.json",
}
_PROBABILITY_DIGITS = 4


@dataclass
class ImagePredictions:
    """Detections of one image, best first.

    Attributes:
        size: height, width.
        category_ids: (R,) 1 to 13.
        boxes: (R, 4) x, y, width, height.
        scores: (R,).
        task_scores: (R,) of tasks whose results are not scored by ``scores``.
        masks: R compressed run lengths, if masks are predicted.
        landmarks: (n, 3) x, y, score each, pixels in the annotation files' convention; of the
            first so many detections only.
    """

    image_id: int
    size: tuple[int, int]
    category_ids: IntArray
    boxes: Float32Array
    scores: Float32Array
    masks: list[bytes] | None = None
    landmarks: list[Float32Array] | None = None
    task_scores: dict[str, Float32Array] = field(default_factory=dict)

    def scores_of(self, task: str) -> Float32Array:
        """(R,) of ``bbox``, ``segm`` or ``keypoints``."""
        return self.task_scores.get(task, self.scores)


def write_predictions(
    folder: Path,
    task: str,
    predictions: Sequence[ImagePredictions],
    taxonomy: Taxonomy = DEEPFASHION2,
) -> Path:
    """Write the task's official result file and return its path."""
    entries: Mapping[str, Callable[[ImagePredictions], Iterator[bytes]]] = {
        "bbox": _box_entries,
        "segm": _mask_entries,
        "keypoints": partial(_landmark_entries, taxonomy=taxonomy),
    }
    path = folder / FILE_NAMES[task]
    write_results(path, (entry for image in predictions for entry in entries[task](image)))
    return path


def _box_entries(image: ImagePredictions) -> Iterator[bytes]:
    columns = (image.category_ids.tolist(), rounded(image.boxes, BOX_DIGITS), image.scores)
    for category_id, box, score in zip(*columns, strict=True):
        yield box_entry(image.image_id, category_id, box, score)


def _mask_entries(image: ImagePredictions) -> Iterator[bytes]:
    columns = (image.category_ids.tolist(), image.masks or [], image.scores_of("segm"))
    for category_id, counts, score in zip(*columns, strict=True):
        yield mask_entry(image.image_id, category_id, counts, image.size, score)


def _landmark_entries(image: ImagePredictions, taxonomy: Taxonomy) -> Iterator[bytes]:
    scores = image.scores_of("keypoints")
    columns = (image.category_ids.tolist(), image.landmarks or [], scores)
    for category_id, points, score in zip(*columns, strict=False):
        if len(points):  # a category without landmarks has no result
            rounded_points = _round_landmarks(points)
            yield landmark_entry(image.image_id, category_id, rounded_points, score, taxonomy)


def _round_landmarks(points: Float32Array) -> FloatArray:
    xy, probability = points[:, :2], points[:, 2:]
    return np.hstack([rounded(xy, LANDMARK_DIGITS), rounded(probability, _PROBABILITY_DIGITS)])


def to_detections(
    task: str, predictions: Sequence[ImagePredictions], ground_truth: GroundTruth, limit: int
) -> Detections:
    """The task's detections as the written file would give them.

    Raises:
        ValueError: an image that the ground truth does not have.
    """
    numbers = [_count(task, image) for image in predictions]
    image_ids = np.repeat(np.array([p.image_id for p in predictions], dtype=np.int64), numbers)
    image = ground_truth.image_index(image_ids)
    if (image < 0).any():
        raise ValueError(
            f"predictions for image_id {image_ids[image < 0][0]}, which {ground_truth.name} lacks"
        )
    category_ids = _join([p.category_ids[:r] for p, r in zip(predictions, numbers, strict=True)])
    category = ground_truth.category_index(category_ids.astype(np.int64))
    if (category < 0).any():
        raise ValueError(
            f"predictions of category_id {category_ids[category < 0][0]}, which "
            f"{ground_truth.name} lacks"
        )
    scores = _join([p.scores_of(task)[:r] for p, r in zip(predictions, numbers, strict=True)])
    if task == "keypoints":  # a category without landmarks has no result
        points = (own for p in predictions for own in p.landmarks or [])
        kept = np.flatnonzero(np.array([len(own) > 0 for own in points], dtype=bool))
        image, category, scores = image[kept], category[kept], scores[kept]
    shapes: dict[str, Any] = {
        "bbox": _boxes,
        "segm": _masks,
        "keypoints": _landmarks,
    }[task](predictions, ground_truth, image, category)
    return ranked(image, category, scores.astype(np.float64), limit=limit, **shapes)


def _count(task: str, image: ImagePredictions) -> int:
    shapes = {"bbox": image.scores, "segm": image.masks, "keypoints": image.landmarks}[task]
    return 0 if shapes is None else len(shapes)


def _join(parts: list[Any], width: tuple[int, ...] = ()) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros((0, *width))


def _boxes(
    predictions: Sequence[ImagePredictions],
    ground_truth: GroundTruth,
    image: IntArray,
    category: IntArray,
) -> dict[str, Any]:
    boxes = rounded(_join([p.boxes for p in predictions], (4,)), BOX_DIGITS)
    return {"boxes": boxes, "areas": boxes[:, 2] * boxes[:, 3]}


def _masks(
    predictions: Sequence[ImagePredictions],
    ground_truth: GroundTruth,
    image: IntArray,
    category: IntArray,
) -> dict[str, Any]:
    # They come from pycocotools' own encoder: nothing to check, as there is in a file.
    areas = [
        mask_utils.area([{"size": p.size, "counts": counts} for counts in p.masks])
        for p in predictions
        if p.masks
    ]
    masks = [counts for p in predictions for counts in p.masks or []]
    return {"masks": masks, "areas": _join(areas).astype(np.float64)}


def _landmarks(
    predictions: Sequence[ImagePredictions],
    ground_truth: GroundTruth,
    image: IntArray,
    category: IntArray,
) -> dict[str, Any]:
    points = [own for p in predictions for own in p.landmarks or [] if len(own)]
    groups = category * len(ground_truth.image_ids) + image
    needed = find(np.unique(ground_truth.groups), groups) >= 0
    columns = LandmarkColumns(ground_truth.taxonomy)
    areas, kept = np.zeros(len(points)), []
    for k in np.unique(category).tolist():
        members = np.flatnonzero(category == k)
        own = rounded(np.stack([points[i][:, :2] for i in members.tolist()]), LANDMARK_DIGITS)
        areas[members] = landmark_areas(own, ground_truth.taxonomy)
        used = needed[members]
        kept.append((int(ground_truth.category_ids[k]), members[used], own[used]))
    columns.add(len(points), kept)
    return {"landmarks": columns.build(), "areas": areas}


#: Digits behind the point in written files.
BOX_DIGITS, LANDMARK_DIGITS = 3, 2


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


def landmark_entry(
    image_id: int,
    category_id: int,
    points: FloatArray,
    score: np.float32,
    taxonomy: Taxonomy = DEEPFASHION2,
) -> bytes:
    """The dense official form. Args: points: (n, 3) of the category, already rounded."""
    before, after, _ = zeros_around(taxonomy)[category_id]
    own = before + _dump(points.reshape(-1))[1:-1] + after
    return _entry(image_id, category_id, score, b'"keypoints":[' + own + b"]")


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
