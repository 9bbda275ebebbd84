"""How much every detection overlaps every item it could match, computed once.

Shapes: ``P`` pairs of a detection and an item of the same image and category.
"""

from dataclasses import dataclass

import numpy as np
from pycocotools import mask as mask_utils

from match_rcnn.data.taxonomy import FloatArray, IntArray
from match_rcnn.evaluation.coco.joins import join
from match_rcnn.evaluation.coco.oks import pairwise_oks
from match_rcnn.evaluation.coco.records import BoolArray, Detections, GroundTruth


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
    # The groups of items and of detections both rise.
    detection, item = join(ground_truth.groups, detections.groups(ground_truth))
    function = {"bbox": box_overlaps, "segm": mask_overlaps, "keypoints": pairwise_oks}[task]
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
