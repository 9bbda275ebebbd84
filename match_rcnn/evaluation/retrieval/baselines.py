"""What a learned embedding has to beat: chance, and colour.

Both are scored by the official protocol on the very boxes that the learned embedding had, the
detected ones or the ground truth's, so that the rows of one table differ in the ranking alone.

Shapes: ``Q`` query items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from tabulate import tabulate

from match_rcnn.d2 import DatasetCatalog, MetadataCatalog
from match_rcnn.data.images import read_image
from match_rcnn.data.sources.deepfashion2 import SOURCES
from match_rcnn.evaluation.coco.predictions import FILE_NAMES as DETECTION_FILES
from match_rcnn.evaluation.retrieval.evaluator import FILE_NAMES
from match_rcnn.evaluation.retrieval.files import (
    RetrievalTruth,
    read_retrieval_truth,
    read_retrieved,
)
from match_rcnn.evaluation.retrieval.protocol import (
    THRESHOLD,
    TOPS,
    GalleryTruth,
    Retrieved,
    corner_ious,
    representatives,
    score_retrieval,
)
from match_rcnn.evaluation.retrieval.search import Embedded, search
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.utils.arrays import Float32Array, FloatArray, Image, IntArray
from match_rcnn.utils.columns import Entries, join, joint_codes, stream_list

#: Names of the boxes used, by task.
BOXES = {"retrieval": "detected", "retrieval_gt_boxes": "ground truth"}
#: Bins of hue, saturation and value.
BINS = (12, 6, 6)
#: What is cut off on each side of a box, of its width and height.
MARGIN = 0.2
_RANGES = [0, 180, 0, 256, 0, 256]  # of OpenCV's HSV in 8 bits


def colour_embedding(photo: Image, box: FloatArray) -> Float32Array:
    """The colour histogram of a box as a vector: (432,) of unit length.

    Hue, saturation and value in 12 x 6 x 6 bins over the middle of the box: a fifth is cut off on
    each side, for what is there is mostly background and skin. Of each bin's share the square root
    is taken, so that Euclidean distance is Hellinger's. On generated data these choices were the
    best, or within the noise of it, of HSV and Lab, 128 to 2,048 bins, margins from 0 to 0.3, one
    cell to 2 x 2, Hellinger and intersection. Nothing here was learned from pictures.

    Args:
        photo: (H, W, 3) in BGR.
        box: (4,) x1, y1, x2, y2.
    """
    height, width = photo.shape[:2]
    cut = MARGIN * (box[2:] - box[:2])
    limit = np.array([width - 1, height - 1])
    low = np.clip(np.floor(box[:2] + cut), 0, limit).astype(int)
    high = np.maximum(np.ceil(box[2:] - cut).astype(int), low + 1)
    part = np.ascontiguousarray(photo[low[1] : high[1], low[0] : high[0]])
    hsv = cv2.cvtColor(part, cv2.COLOR_BGR2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, list(BINS), _RANGES).reshape(-1)
    return np.asarray(np.sqrt(counts / counts.sum()), dtype=np.float32)


def colour_embeddings(found: Embedded, files: Mapping[int, Path]) -> Embedded:
    """The same items with colour histograms as embeddings.

    Args:
        files: the photo of each image id.
    """
    vectors = np.zeros((len(found), int(np.prod(BINS))), dtype=np.float32)
    for image_id in np.unique(found.image_ids).tolist():
        photo = read_image(files[image_id], upright=False)
        for row in np.flatnonzero(found.image_ids == image_id):
            vectors[row] = colour_embedding(photo, found.boxes[row])
    return replace(found, embeddings=vectors)


def annotated_items(truth: RetrievalTruth) -> Embedded:
    """The ground truth's items in place of detections, without embeddings."""
    number = len(truth.image_ids)
    return Embedded(
        truth.image_ids, truth.boxes, truth.classes, np.ones(number), np.zeros((number, 0))
    )


def detected_items(path: str | Path, max_detections: int, min_score: float = 0.0) -> Embedded:
    """The detections of a box result file that take part in retrieval, without embeddings.

    Args:
        max_detections: of an image, the best ones.
        min_score: of a detection.

    Raises:
        FileNotFoundError, ValueError: the message names the file, the entry and what is wrong.
    """
    none: IntArray = np.zeros(0, dtype=np.int64)
    columns: list[tuple[Any, ...]] = [(none, np.zeros((0, 4)), none, np.zeros(0))]
    count = 0
    for items in stream_list(path):
        entries = Entries(items, count, f"{path}, entry")
        count += len(items)
        boxes = entries.numbers("bbox", 4)
        corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
        kinds = entries.integers("category_id")
        columns.append((entries.integers("image_id"), corners, kinds, entries.numbers("score")))
    image_ids, boxes, classes, scores = (np.concatenate(c) for c in zip(*columns, strict=True))
    order = np.lexsort((-scores, image_ids))
    own = image_ids[order]
    place = np.arange(len(own)) - np.searchsorted(own, own)
    kept = order[(place < max_detections) & (scores[order] >= min_score)]
    empty = np.zeros((len(kept), 0))
    return Embedded(image_ids[kept], boxes[kept], classes[kept], scores[kept], empty)


def by_source(found: Embedded, truth: RetrievalTruth) -> tuple[Embedded, Embedded]:
    """The items in consumers' photos and those in shops'."""
    known = np.array([truth.sources.get(i, "") for i in found.image_ids.tolist()], dtype="U4")
    user, shop = (found.take(known == source) for source in SOURCES)
    return user, shop


def right_items(truth: RetrievalTruth, items: IntArray, gallery: Embedded) -> IntArray:
    """(Q,) how many items of the gallery the protocol counts as right for each query item.

    Args:
        items: (Q,) indices into the truth's queries.
    """
    shown = _products_shown(truth.gallery, gallery)
    columns = (truth.queries.pair_ids[items], truth.queries.styles[items])
    known, asked = joint_codes((shown[:, 1], shown[:, 2]), columns)
    known = np.sort(known)
    return np.searchsorted(known, asked, "right") - np.searchsorted(known, asked, "left")


def _products_shown(truth: GalleryTruth, gallery: Embedded) -> IntArray:
    """(number, 3) item of the gallery, pair id, style: what it would be right for."""
    order = np.argsort(truth.image_ids, kind="stable")
    found, place = join(truth.image_ids[order], gallery.image_ids)
    item = order[place]
    near = corner_ious(gallery.boxes[found], truth.boxes[item]) >= THRESHOLD
    found, item = found[near], item[near]
    rows = np.column_stack([found, truth.pair_ids[item], truth.styles[item]])
    return np.unique(rows, axis=0)


def chance_accuracy(right: IntArray, size: int) -> dict[int, float]:
    """Expected top-k accuracy of a ranking that knows nothing.

    Of a gallery of ``size`` items in random order, the first k hold none of the r right ones with
    probability C(size - r, k) / C(size, k).

    Args:
        right: (Q,) r of each query; 0 for one that is missed.
    """
    accuracy = {}
    for k in TOPS:
        drawn = np.arange(min(k, size))
        left = np.maximum(size - right[:, None] - drawn, 0) / (size - drawn)
        accuracy[k] = float((1 - left.prod(1)).mean()) if len(right) else float("nan")
    return accuracy


def baseline_rows(
    truth: RetrievalTruth, found: Embedded, files: Mapping[int, Path], boxes: str
) -> list[dict[str, Any]]:
    """Rows of the table for the colour histogram and for chance.

    Args:
        found: items of all photos; embeddings are not looked at.
        files: the photo of each image id.
        boxes: what the boxes are, for the table.
    """
    queries, gallery = by_source(colour_embeddings(found, files), truth)
    scorer = MatchScorer.euclidean(int(np.prod(BINS)))
    retrieved = search(queries, gallery, scorer, "cpu")
    items = np.flatnonzero(truth.queries.styles > 0)
    right = right_items(truth, items, gallery)
    right[representatives(truth.queries, retrieved)[items] < 0] = 0
    chance = {**_scored(truth, retrieved), **_percent(chance_accuracy(right, len(gallery)))}
    return [
        {"ranked by": "colour histogram", "boxes": boxes, **_scored(truth, retrieved)},
        {"ranked by": "chance", "boxes": boxes, **chance},
    ]


def compare(dataset: str, run: Path | None = None) -> list[dict[str, Any]]:
    """Rows of :func:`comparison_table`: the match network of a run, the colour histogram and
    chance, with detected and with the ground truth's boxes; without a run the last two, with the
    ground truth's boxes.

    Args:
        dataset: a registered data set whose photos tell consumers from shops.
        run: an OUTPUT_DIR that was evaluated on it.

    Raises:
        FileNotFoundError: a result file is not there.
        ValueError: the data set does not say whose its photos are.
    """
    truth = read_retrieval_truth(MetadataCatalog.get(dataset).json_file)
    if truth is None:
        raise ValueError(f"{dataset}: no photo's source is known, so nothing is to be retrieved")
    files = {image["image_id"]: Path(image["file_name"]) for image in DatasetCatalog.get(dataset)}
    kinds = {"retrieval_gt_boxes": annotated_items(truth)}
    if run is not None:
        kinds = {"retrieval": _detected_by(run, dataset), **kinds}
    rows = []
    for task, found in kinds.items():
        boxes = BOXES[task]
        if run is not None:
            path = run / "inference" / dataset / FILE_NAMES[task]
            rows.append(learned_row(truth, read_retrieved(path), boxes))
        rows += baseline_rows(truth, found, files, boxes)
    return rows


def _detected_by(run: Path, dataset: str) -> Embedded:
    """The detections that took part in a run's retrieval."""
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["TEST"]
    return detected_items(
        run / "inference" / dataset / DETECTION_FILES["bbox"],
        # Runs of before this key was there used the landmarks'.
        config.get("RETRIEVAL_DETECTIONS_PER_IMAGE", config["LANDMARK_DETECTIONS_PER_IMAGE"]),
        config["RETRIEVAL_MIN_SCORE"],
    )


def learned_row(truth: RetrievalTruth, retrieved: Retrieved, boxes: str) -> dict[str, Any]:
    """The row of a result file."""
    return {"ranked by": "match network", "boxes": boxes, **_scored(truth, retrieved)}


def _scored(truth: RetrievalTruth, retrieved: Retrieved) -> dict[str, Any]:
    scores = score_retrieval(truth.queries, truth.gallery, retrieved)
    counts = scores.counts
    found = _percent(scores.accuracy())
    return {**found, "queries": counts["queries"], "missed": counts["missed"]}


def _percent(accuracy: Mapping[int, float]) -> dict[str, float]:
    return {f"top{k}": 100 * value for k, value in accuracy.items()}


def comparison_table(
    rows: Sequence[Mapping[str, Any]], tops: Sequence[int] = (1, 5, 10, 20)
) -> str:
    """Top-k accuracy in percent, a row a ranking and kind of boxes."""
    columns = ["boxes", "ranked by", *(f"top{k}" for k in tops), "queries", "missed"]
    cells = [[row[column] for column in columns] for row in rows]
    heads = [column.replace("top", "top-") for column in columns]
    formats = ["", "", *[".1f"] * len(tops), "d", "d"]
    return tabulate(cells, headers=heads, floatfmt=formats)
