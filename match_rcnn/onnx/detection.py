"""From the backbone's maps to boxes, scores and classes of each image.

Shapes: ``N`` images; ``R`` RoIs of all of them, (R, 5) image, x1, y1, x2, y2; ``C`` classes; ``k``
boxes a RoI (``C``, or 1); ``D`` detections of one image; a map of ``H x W`` cells with ``A``
anchors each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from match_rcnn.onnx.boxes import anchor_grid, clip, decode, larger_than
from match_rcnn.onnx.parts import Sessions
from match_rcnn.utils.arrays import BoolArray, Float32Array, IntArray

Maps = Mapping[str, Float32Array]
Size = tuple[int, int]


@dataclass(frozen=True)
class Detections:
    """Of one image, best first: (D, 4) boxes, (D,) scores, (D,) classes."""

    boxes: Float32Array
    scores: Float32Array
    classes: IntArray

    def __getitem__(self, rows: IntArray | BoolArray) -> "Detections":
        return Detections(self.boxes[rows], self.scores[rows], self.classes[rows])


def rois_of(boxes: Sequence[Float32Array]) -> Float32Array:
    """(R, 5) of the (D, 4) boxes of each image."""
    parts = [
        np.concatenate((np.full((len(rows), 1), image, dtype=np.float32), rows), axis=1)
        for image, rows in enumerate(boxes)
    ]
    return np.concatenate(parts)


def propose(
    sessions: Sessions, spec: Mapping[str, Any], maps: Maps, sizes: Sequence[Size]
) -> list[Float32Array]:
    """The best proposals of each image, best first.

    Args:
        spec: ``proposals`` of ``model.json``.
        maps: with ``logits_LEVEL`` (N, A, H, W) and ``deltas_LEVEL`` (N, 4 A, H, W).
        sizes: N of (height, width), without the padding.
    """
    every = [_candidates(spec, maps, level) for level in range(len(spec["levels"]))]
    found = []
    for image, size in enumerate(sizes):
        boxes = np.concatenate([boxes[image] for boxes, _ in every])
        logits = np.concatenate([logits[image] for _, logits in every])
        level = np.repeat(np.arange(len(every)), [logits.shape[1] for _, logits in every])
        finite = np.isfinite(boxes).all(axis=1) & np.isfinite(logits)
        boxes = clip(boxes, *size)
        rows = np.flatnonzero(finite & larger_than(boxes, spec["min_size"]))
        kept = sessions.suppress(boxes[rows], logits[rows], level[rows], spec["nms_threshold"])
        found.append(boxes[rows[kept[: spec["post_nms_topk"]]]])
    return found


def _candidates(
    spec: Mapping[str, Any], maps: Maps, level: int
) -> tuple[Float32Array, Float32Array]:
    """(N, K, 4) boxes and (N, K) logits of one level's best anchors, best first."""
    name, anchors = spec["levels"][level], np.array(spec["anchors"][level], dtype=np.float32)
    logits, deltas = maps[f"logits_{name}"], maps[f"deltas_{name}"]
    images, _, height, width = logits.shape
    logits = logits.transpose(0, 2, 3, 1).reshape(images, -1)
    deltas = deltas.reshape(images, len(anchors), 4, height, width)
    deltas = deltas.transpose(0, 3, 4, 1, 2).reshape(images, -1, 4)
    grid = anchor_grid(anchors, height, width, spec["strides"][level], spec["offset"])
    best = [_largest(of_image, spec["pre_nms_topk"]) for of_image in logits]
    boxes = [
        decode(deltas[i][rows][:, None], grid[rows], spec["box_weights"], spec["scale_clamp"])
        for i, rows in enumerate(best)
    ]
    kept = [logits[i][rows] for i, rows in enumerate(best)]
    return np.stack(boxes)[:, :, 0], np.stack(kept)


def _largest(values: Float32Array, count: int) -> IntArray:
    """The rows of the ``count`` largest values, best first; what is NaN counts as the largest."""
    keys = -np.nan_to_num(values, nan=np.inf, posinf=np.inf, neginf=-np.inf)
    rows: IntArray = np.arange(len(keys))
    if count < len(keys):
        rows = np.sort(np.argpartition(keys, count)[:count])
    return rows[np.argsort(keys[rows], kind="stable")]


def detect(
    sessions: Sessions,
    spec: Mapping[str, Any],
    maps: Maps,
    proposals: Sequence[Float32Array],
    sizes: Sequence[Size],
) -> list[Detections]:
    """The detections of each image, inside of it.

    Args:
        spec: ``boxes`` of ``model.json``; of several stages each starts from the boxes of the one
            before, scores are the mean of all, boxes the last one's.
    """
    rois = rois_of(proposals)
    if not len(rois):
        none = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
        return [Detections(*none) for _ in sizes]
    limits = np.array(sizes, dtype=np.float32)[rois[:, 0].astype(int)]
    scores, boxes = np.float32(0), rois[:, None, 1:]
    for stage in spec["stages"]:
        inside = np.clip(boxes[:, 0], np.float32(0), limits[:, [1, 0, 1, 0]])
        rois = np.concatenate((rois[:, :1], inside), axis=1)
        pooled = sessions.pool(spec["pooler"], maps, rois)
        made = sessions.run(stage["file"], {"pooled": pooled})
        scores = scores + made["scores"]
        deltas = made["deltas"].reshape(len(rois), -1, 4)
        boxes = decode(deltas, inside, stage["box_weights"], spec["scale_clamp"])
    scores = scores * np.float32(1 / len(spec["stages"]))
    ends = np.cumsum([len(of_image) for of_image in proposals])[:-1]
    each = zip(np.split(boxes, ends), np.split(scores, ends), sizes, strict=True)
    return [_best(sessions, spec, *of_image) for of_image in each]


def _best(
    sessions: Sessions,
    spec: Mapping[str, Any],
    boxes: Float32Array,
    scores: Float32Array,
    size: Size,
) -> Detections:
    """Of one image's (R, k, 4) boxes and (R, C + 1) scores what is certain enough, without
    duplicates within a class."""
    finite = np.isfinite(boxes).all(axis=(1, 2)) & np.isfinite(scores).all(axis=1)
    certain = scores[:, :-1] > np.float32(spec["score_threshold"])
    rows, classes = np.nonzero(certain & np.reshape(finite, (-1, 1)))
    chosen = boxes[rows, classes if boxes.shape[1] > 1 else 0]
    found = Detections(clip(chosen, *size), scores[rows, classes], classes)
    kept = sessions.suppress(found.boxes, found.scores, found.classes, spec["nms_threshold"])
    most = spec["detections_per_image"]
    return found[kept if most < 0 else kept[:most]]
