"""Files of the retrieval task in the official formats (docs/deepfashion2.md), read and written in a
stream; and retrieval ground truth from COCO-form annotations.

Shapes: as in :mod:`match_rcnn.evaluation.retrieval.protocol`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from match_rcnn.data.coco import read_coco
from match_rcnn.data.sources.deepfashion2 import ATTRIBUTES, SOURCES
from match_rcnn.evaluation.coco.predictions import write_results
from match_rcnn.evaluation.coco.subsets import LEVELS
from match_rcnn.evaluation.retrieval.protocol import (
    LIST_LENGTH,
    MANY_NAME,
    MANY_PARTNERS,
    GalleryTruth,
    QueryTruth,
    RetrievalScores,
    Retrieved,
    partners,
    score_retrieval,
)
from match_rcnn.utils.arrays import BoolArray, FloatArray, IntArray
from match_rcnn.utils.columns import Entries, as_numbers, stream_list

#: Names of the result files by the boxes on both sides: detected ones, and the ground truth's.
FILE_NAMES: Mapping[str, str] = {
    "retrieval": "retrieval_results.json",
    "retrieval_gt_boxes": "retrieval_gt_boxes_results.json",
}

Columns = tuple[npt.NDArray[Any], ...]


def evaluate_retrieval_files(
    query_truth: str | Path, gallery_truth: str | Path, results: str | Path
) -> RetrievalScores:
    """Score a result file against the official ground-truth files.

    Raises:
        FileNotFoundError, ValueError: the message names the file, the entry and what is wrong.
    """
    truth = read_query_truth(query_truth), read_gallery_truth(gallery_truth)
    return score_retrieval(*truth, read_retrieved(results))


def read_query_truth(path: str | Path) -> QueryTruth:
    """A list of ``{query_image_id, style, cls, pair_id, bbox}``."""

    def columns(entries: Entries) -> Columns:
        return (
            entries.integers("query_image_id"),
            entries.numbers("bbox", 4),
            entries.integers("cls"),
            entries.integers("style"),
            entries.integers("pair_id"),
        )

    return QueryTruth(*_read_list(path, columns))


def read_gallery_truth(path: str | Path) -> GalleryTruth:
    """A list of ``{gallery_image_id, style, pair_id, bbox}``."""

    def columns(entries: Entries) -> Columns:
        return (
            entries.integers("gallery_image_id"),
            entries.numbers("bbox", 4),
            entries.integers("style"),
            entries.integers("pair_id"),
        )

    return GalleryTruth(*_read_list(path, columns))


def read_retrieved(path: str | Path) -> Retrieved:
    """A list of ``{query_image_id, query_bbox, query_cls, query_score, gallery_image_id,
    gallery_bbox}``; the lists of an entry may be shorter than 20, and only 20 of them count."""

    def columns(entries: Entries) -> Columns:
        return (
            entries.integers("query_image_id"),
            entries.numbers("query_bbox", 4),
            entries.integers("query_cls"),
            entries.numbers("query_score"),
            *_lists(entries),
        )

    return Retrieved(*_read_list(path, columns))


def _read_list(path: str | Path, columns: Callable[[Entries], Columns]) -> Columns:
    """Columns of a file that is one list of objects."""
    count = 0
    parts = [columns(Entries([], 0, f"{path}, entry"))]
    for items in stream_list(path):
        parts.append(columns(Entries(items, count, f"{path}, entry")))
        count += len(items)
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _lists(entries: Entries) -> tuple[IntArray, FloatArray, IntArray]:
    """Gallery image ids (R, 20), boxes (R, 20, 4) and lengths (R,); zeros beyond a length."""
    number = len(entries.items)
    ids = np.zeros((number, LIST_LENGTH), dtype=np.int64)
    boxes = np.zeros((number, LIST_LENGTH, 4))
    lengths = np.zeros(number, dtype=np.int64)
    columns = entries.column("gallery_image_id"), entries.column("gallery_bbox")
    for index, (own_ids, own_boxes) in enumerate(zip(*columns, strict=True)):
        try:
            length = _check_lists(own_ids, own_boxes)
            ids[index, :length] = _whole(own_ids[:length])
            boxes[index, :length] = _boxes(own_boxes[:length])
        except ValueError as error:
            raise entries.error(index, str(error)) from error
        lengths[index] = length
    return ids, boxes, lengths


def _check_lists(ids: Any, boxes: Any) -> int:
    if not isinstance(ids, list) or not isinstance(boxes, list) or len(ids) != len(boxes):
        counts = [len(x) if isinstance(x, list) else x for x in (ids, boxes)]
        raise ValueError(
            "gallery_image_id and gallery_bbox must be lists of equal length, "
            f"got {counts[0]!r:.60} and {counts[1]!r:.60}"
        )
    return min(len(ids), LIST_LENGTH)


def _whole(values: list[Any]) -> IntArray:
    if any(type(value) is not int for value in values):
        raise ValueError(f"gallery_image_id must be whole numbers, got {values!r:.60}")
    return np.array(values, dtype=np.int64)


def _boxes(values: list[Any]) -> FloatArray:
    numbers = as_numbers(values)
    if values and (numbers is None or numbers.shape != (len(values), 4)):
        raise ValueError(f"gallery_bbox must be lists of 4 finite numbers, got {values!r:.60}")
    return np.zeros((0, 4)) if numbers is None or not values else numbers


def write_retrieved(path: str | Path, retrieved: Retrieved) -> None:
    """Write the official result file, whole or not at all; boxes and scores as they are."""
    write_results(path, _entries(retrieved))


def _entries(retrieved: Retrieved) -> Iterator[bytes]:
    for index, length in enumerate(retrieved.lengths.tolist()):
        entry = {
            "query_image_id": int(retrieved.image_ids[index]),
            "query_bbox": retrieved.boxes[index],
            "query_cls": int(retrieved.classes[index]),
            "query_score": float(retrieved.scores[index]),
            "gallery_image_id": retrieved.gallery_image_ids[index, :length],
            "gallery_bbox": retrieved.gallery_boxes[index, :length],
        }
        yield orjson.dumps(entry, option=orjson.OPT_SERIALIZE_NUMPY)


@dataclass(frozen=True)
class RetrievalTruth:
    """What a data set's annotations say about retrieval.

    Attributes:
        image_ids, boxes, classes: of all items, (M,), (M, 4) and (M,).
        sources: by image id, ``"user"`` or ``"shop"``.
        queries, gallery: the items of consumer and of shop photos.
        levels: by attribute, (N,) of the queries' items, 0 where unknown.
    """

    image_ids: IntArray
    boxes: FloatArray
    classes: IntArray
    sources: dict[int, str]
    queries: QueryTruth
    gallery: GalleryTruth
    levels: dict[str, IntArray]

    @classmethod
    def of_a_test_set(cls, sources: dict[int, str]) -> "RetrievalTruth":
        """Without items."""
        none, boxes = np.zeros(0, dtype=np.int64), np.zeros((0, 4))
        queries = QueryTruth(none, boxes, none, none, none)
        gallery = GalleryTruth(none, boxes, none, none)
        return cls(none, boxes, none, sources, queries, gallery, dict.fromkeys(ATTRIBUTES, none))


def read_retrieval_truth(path: str | Path) -> RetrievalTruth | None:
    """The retrieval ground truth of a converted file (COCO form, dense or compact).

    Returns:
        ``None`` if no image says whether a consumer or a shop made it.

    Raises:
        FileNotFoundError, ValueError: the message names the file, the entry and what is wrong.
    """
    file = read_coco(path, labels=())
    images, items = file.images, file.items
    known = zip(images.ids.tolist(), images.sources, strict=True)
    sources = {i: source for i, source in known if source in SOURCES}
    if not sources:
        return None
    if items is None:
        return RetrievalTruth.of_a_test_set(sources)
    image_ids = images.ids[items.image]
    boxes = np.hstack([items.boxes[:, :2], items.boxes[:, :2] + items.boxes[:, 2:]])
    classes, pair_ids = items.category_ids, items.fields["pair_id"]
    styles = items.fields["style"].clip(0)  # an item without one takes part in no pair
    whose = np.array(images.sources)[items.image]
    user, shop = (whose == source for source in SOURCES)
    return RetrievalTruth(
        image_ids,
        boxes,
        classes,
        sources,
        QueryTruth(image_ids[user], boxes[user], classes[user], styles[user], pair_ids[user]),
        GalleryTruth(image_ids[shop], boxes[shop], styles[shop], pair_ids[shop]),
        {name: items.fields[name][user] for name in ATTRIBUTES},
    )


def query_subsets(truth: RetrievalTruth, scores: RetrievalScores) -> dict[str, BoolArray]:
    """(Q,) the query items of each level of each attribute, such as ``"occlusion-heavy"``, and
    those with more than five matching gallery items, ``"more_than_five"``; empty ones left out."""
    many = partners(truth.queries, truth.gallery, scores.items) > MANY_PARTNERS
    found = {MANY_NAME: many}
    for attribute, names in LEVELS.items():
        levels = truth.levels[attribute][scores.items]
        found |= {f"{attribute}-{name}": levels == i for i, name in enumerate(names, 1)}
    return {name: among for name, among in found.items() if among.any()}
