"""How much every detection overlaps every item it could match, computed once, all pairs at once.

Shapes: ``P`` pairs of a detection and an item of the same image and category, ``n`` landmarks of
that category, ``L = 294`` channels. Leading dimensions of OKS broadcast: (D, 1, n, 2) against
(G, n, 3) gives (D, G).

The rules of landmark similarity (OKS) are pycocotools' ``computeOks`` with the 294 official
sigmas. A labelled item has no label outside its category, so its n landmarks are all that counts;
an item without any label is measured on all L channels, by the distance to its box made three
times as wide and high.
"""

from dataclasses import dataclass

import numpy as np
from pycocotools import mask as mask_utils

from match_rcnn.evaluation.coco.arrays import Detections, GroundTruth
from match_rcnn.utils.arrays import BoolArray, FloatArray, IntArray
from match_rcnn.utils.columns import join
from match_rcnn.utils.parallel import can_fork, ordered_map

_WORTH_A_FORK = 1 << 12  # pairs


@dataclass(frozen=True)
class Similarities:
    """All that matching needs. Scores of any subset, area range or threshold come from this.

    Attributes:
        detection, item: (P,) indices; pairs of one detection lie side by side, its items in the
            ground truth's order.
        values: (P,) box IoU, mask IoU or OKS, from 0 to 1. For a crowd item, the share of the
            detection that lies in it (boxes, masks).
    """

    task: str
    ground_truth: GroundTruth
    detections: Detections
    detection: IntArray
    item: IntArray
    values: FloatArray


def compute_similarities(
    task: str, ground_truth: GroundTruth, detections: Detections, workers: int = 1
) -> Similarities:
    """Args: task: ``bbox``, ``segm`` or ``keypoints``; workers: processes that compare masks."""
    # The groups of items and of detections both rise.
    detection, item = join(ground_truth.groups, detections.groups(ground_truth))
    if task == "segm":
        values = mask_overlaps(ground_truth, detections, detection, item, workers)
    else:
        function = {"bbox": box_overlaps, "keypoints": pairwise_oks}[task]
        values = function(ground_truth, detections, detection, item)
    return Similarities(task, ground_truth, detections, detection, item, values)


def box_overlaps(
    ground_truth: GroundTruth, detections: Detections, detection: IntArray, item: IntArray
) -> FloatArray:
    """(P,) IoU of boxes, for a crowd item the part of the detection inside."""
    assert detections.boxes is not None
    found, truth = detections.boxes[detection], ground_truth.boxes[item]
    return box_ious(found, truth, ground_truth.crowd[item])


def box_ious(first: FloatArray, second: FloatArray, crowd: BoolArray | bool = False) -> FloatArray:
    """(P,) IoU of (P, 4) and (P, 4) boxes x, y, width, height, 0 where nothing is shared, to the
    last bit as pycocotools gets it; where ``crowd``, the part of the first that is shared."""
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:])
    inside = (high > low).all(1)
    shared = np.where(inside, (high - low).prod(1), 0.0)
    area = first[:, 2] * first[:, 3]
    both = area + second[:, 2] * second[:, 3] - shared
    union = np.where(crowd, area, both)
    return np.divide(shared, union, out=np.zeros(len(first)), where=inside)


def mask_overlaps(
    ground_truth: GroundTruth,
    detections: Detections,
    detection: IntArray,
    item: IntArray,
    workers: int = 1,
) -> FloatArray:
    """(P,) IoU of masks, for a crowd item the part of the detection inside. Args: workers: forked,
    where a system and a program without threads allow it."""
    groups = ground_truth.groups[item]
    parts = workers if can_fork() and len(groups) >= _WORTH_A_FORK else 1
    limits = np.arange(parts + 1) * len(groups) // parts
    # No group of an image and a category is cut.
    ends = [int(np.searchsorted(groups, groups[min(i, len(groups) - 1)])) for i in limits[1:-1]]
    ends = [0, *ends, len(groups)]

    def part(index: int) -> FloatArray:
        own = slice(ends[index], ends[index + 1])
        return _mask_overlaps(ground_truth, detections, detection[own], item[own])

    with ordered_map(part, parts, parts) as values:
        return np.concatenate(list(values))


def _mask_overlaps(
    ground_truth: GroundTruth, detections: Detections, detection: IntArray, item: IntArray
) -> FloatArray:
    """One call of pycocotools for each image and category; its C code decodes each mask once and
    looks at the runs only where the masks' boxes meet. That is where the time goes."""
    assert detections.masks is not None
    assert ground_truth.masks is not None
    values = np.zeros(len(detection))
    first = np.flatnonzero(np.diff(ground_truth.groups[item], prepend=-1))
    last = np.append(first[1:], len(item)) - 1 if len(item) else first
    # Both the detections and the items of an image and category lie side by side.
    columns = (first, last, detection[first], detection[last], item[first], item[last])
    sizes = ground_truth.image_sizes[ground_truth.image[item[first]]].tolist()
    crowd = ground_truth.crowd.astype(int).tolist()
    rows = zip(*(column.tolist() for column in columns), sizes, strict=True)
    for p0, p1, d0, d1, g0, g1, size in rows:
        found = [{"size": size, "counts": own} for own in detections.masks[d0 : d1 + 1]]
        truth = [{"size": size, "counts": ground_truth.masks[g]} for g in range(g0, g1 + 1)]
        overlaps = mask_utils.iou(found, truth, crowd[g0 : g1 + 1])
        values[p0 : p1 + 1] = np.asarray(overlaps).reshape(-1)
    return values


_CHUNK = 1 << 10  # pairs at a time: small enough for the processor's cache


def oks(
    points: FloatArray, landmarks: FloatArray, areas: FloatArray, sigmas: FloatArray
) -> FloatArray:
    """Similarity to items of which at least one landmark is labelled.

    Args:
        points: (..., n, 2) detected x, y.
        landmarks: (..., n, 3) x, y, v of the items; v > 0 is labelled, the others do not count.
        areas: (...,) of the items, in square pixels (DeepFashion2: width * height of the box).
        sigmas: (n,).

    Returns:
        (...,) from 0 to 1.
    """
    dx = points[..., 0] - landmarks[..., 0]
    dy = points[..., 1] - landmarks[..., 1]
    labelled = landmarks[..., 2] > 0
    return _mean_similarity(dx, dy, areas, sigmas, labelled)


def oks_unlabelled(
    points: FloatArray, boxes: FloatArray, areas: FloatArray, sigmas: FloatArray
) -> FloatArray:
    """Similarity to items without any labelled landmark: pycocotools' distance to the box that
    reaches one width and height beyond the item's on every side.

    Args:
        points: (..., L, 2) detected x, y of all channels.
        boxes: (..., 4) x, y, width, height of the items.
        areas: (...,).
        sigmas: (L,).
    """
    low = boxes[..., :2] - boxes[..., 2:]
    high = boxes[..., :2] + 2 * boxes[..., 2:]
    away = np.maximum(0, low[..., None, :] - points) + np.maximum(0, points - high[..., None, :])
    return _mean_similarity(away[..., 0], away[..., 1], areas, sigmas, np.ones(1, dtype=bool))


def _mean_similarity(
    dx: FloatArray,
    dy: FloatArray,
    areas: FloatArray,
    sigmas: FloatArray,
    counted: BoolArray,
) -> FloatArray:
    # In pycocotools' order of operations, so that a score on a threshold falls on the same side.
    exponent = (dx**2 + dy**2) / (sigmas * 2) ** 2 / (areas[..., None] + np.spacing(1)) / 2
    counted = np.broadcast_to(counted, exponent.shape)
    return np.where(counted, np.exp(-exponent), 0).sum(-1) / counted.sum(-1)


def pairwise_oks(
    ground_truth: GroundTruth, detections: Detections, detection: IntArray, item: IntArray
) -> FloatArray:
    """(P,) similarity of each pair. Args: detection, item: (P,) indices, of equal category."""
    assert ground_truth.landmarks is not None
    values = np.zeros(len(detection))
    labelled = ground_truth.labelled()[item] > 0
    category = np.where(labelled, ground_truth.category[item], -1)
    for category_index in np.unique(category[labelled]):
        pairs = np.flatnonzero(category == category_index)
        category_id = int(ground_truth.category_ids[category_index])
        for part in _chunks(pairs, _CHUNK):
            values[part] = _labelled(
                ground_truth, detections, detection[part], item[part], category_id
            )
    for part in _chunks(np.flatnonzero(~labelled), _CHUNK // 8):
        values[part] = _unlabelled(ground_truth, detections, detection[part], item[part])
    return values


def _chunks(index: IntArray, size: int) -> list[IntArray]:
    return [index[start : start + size] for start in range(0, len(index), size)]


def _labelled(
    ground_truth: GroundTruth,
    detections: Detections,
    detection: IntArray,
    item: IntArray,
    category_id: int,
) -> FloatArray:
    found, truth = detections.landmarks, ground_truth.landmarks
    assert found is not None
    assert truth is not None
    assert (found.rows[detection] >= 0).all()
    return oks(
        found.tables[category_id][found.rows[detection]],
        truth.tables[category_id][truth.rows[item]],
        ground_truth.areas[item],
        np.array(ground_truth.taxonomy.category(category_id).sigmas),
    )


def _unlabelled(
    ground_truth: GroundTruth, detections: Detections, detection: IntArray, item: IntArray
) -> FloatArray:
    """All channels of a detection count, most of them zeros."""
    found, taxonomy = detections.landmarks, ground_truth.taxonomy
    assert found is not None
    points = np.zeros((len(detection), taxonomy.num_landmarks, 2))
    for place, d in enumerate(detection.tolist()):
        category_id = int(ground_truth.category_ids[detections.category[d]])
        if d in found.foreign:
            points[place] = found.foreign[d][:, :2]
        elif (own := found.of(d, category_id)) is not None:
            points[place, taxonomy.category(category_id).slice] = own
    return oks_unlabelled(
        points,
        ground_truth.boxes[item],
        ground_truth.areas[item],
        taxonomy.sigmas,
    )
