"""How much every detection overlaps every item it could match, computed once.

Shapes: ``P`` pairs of a detection and an item of the same image and category.
"""

from dataclasses import dataclass

import numpy as np
from pycocotools import mask as mask_utils

from match_rcnn.data.taxonomy import FloatArray, IntArray
from match_rcnn.evaluation.oks import pairwise_oks
from match_rcnn.evaluation.records import Detections, GroundTruth


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
    task: str, ground_truth: GroundTruth, detections: Detections
) -> Similarities:
    """Args: task: ``bbox``, ``segm`` or ``keypoints``."""
    detection, item = _pairs(ground_truth.groups, detections.groups(ground_truth))
    function = {"bbox": box_overlaps, "segm": mask_overlaps, "keypoints": pairwise_oks}[task]
    values = function(ground_truth, detections, detection, item)
    return Similarities(task, ground_truth, detections, detection, item, values)


def _pairs(item_groups: IntArray, detection_groups: IntArray) -> tuple[IntArray, IntArray]:
    """Both (P,), from the rising groups of items and detections."""
    first = np.searchsorted(item_groups, detection_groups, side="left")
    counts = np.searchsorted(item_groups, detection_groups, side="right") - first
    detection = np.repeat(np.arange(len(detection_groups)), counts)
    place = np.arange(len(detection)) - np.repeat(np.cumsum(counts) - counts, counts)
    return detection, first[detection] + place


def box_overlaps(
    ground_truth: GroundTruth, detections: Detections, detection: IntArray, item: IntArray
) -> FloatArray:
    """(P,) IoU of boxes, for a crowd item the part of the detection inside."""
    assert detections.boxes is not None
    found, truth = detections.boxes[detection], ground_truth.boxes[item]
    low = np.maximum(found[:, :2], truth[:, :2])
    high = np.minimum(found[:, :2] + found[:, 2:], truth[:, :2] + truth[:, 2:])
    inside = (high > low).all(1)
    shared = np.where(inside, (high - low).prod(1), 0.0)
    area = found[:, 2] * found[:, 3]
    both = area + truth[:, 2] * truth[:, 3] - shared
    union = np.where(ground_truth.crowd[item], area, both)
    return np.divide(shared, union, out=np.zeros(len(item)), where=inside)


def mask_overlaps(
    ground_truth: GroundTruth, detections: Detections, detection: IntArray, item: IntArray
) -> FloatArray:
    """(P,) IoU of masks, for a crowd item the part of the detection inside.

    One call of pycocotools for each image and category; its C code decodes each mask once and
    looks at the runs only where the masks' boxes meet. That is where the time goes.
    """
    assert detections.masks is not None
    assert ground_truth.masks is not None
    values = np.zeros(len(detection))
    groups = ground_truth.groups[item]
    borders = np.flatnonzero(np.diff(groups)) + 1
    for pairs in np.split(np.arange(len(groups)), borders) if len(groups) else []:
        size = ground_truth.image_sizes[ground_truth.image[item[pairs[0]]]].tolist()
        items = np.unique(item[pairs])
        found = [{"size": size, "counts": detections.masks[d]} for d in np.unique(detection[pairs])]
        truth = [{"size": size, "counts": ground_truth.masks[g]} for g in items]
        crowd = ground_truth.crowd[items].astype(int).tolist()
        values[pairs] = np.asarray(mask_utils.iou(found, truth, crowd)).reshape(-1)
    return values
