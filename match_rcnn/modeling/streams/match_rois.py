"""Which RoIs the match network learns from, and the features that it takes from each stream.

Shapes: ``R`` sampled proposals of an image, ``M`` RoIs of all images that are kept.
"""

from typing import Any

import torch
from torch import nn

from match_rcnn.d2 import Boxes, Instances, matched_pairwise_iou

Tensor = torch.Tensor


def select_match_rois(
    proposals: list[Instances],
    *,
    num_classes: int,
    iou_threshold: float,
    rois_per_image: int,
    with_landmarks: bool,
) -> list[Instances]:
    """The proposals that overlap an item of interest by more than ``iou_threshold``.

    An item of interest has a partner: an item of the other domain with its pair_id and style
    (paper, section 4.2). Of more than ``rois_per_image`` a random sample is kept.

    Args:
        proposals: sampled and labelled, one an image, with ``gt_*`` fields.
        num_classes: the background's class.
        with_landmarks: whether a visible landmark must lie inside, as landmark features need.
    """
    kept = []
    for image in proposals:
        # An image without ground truth has no gt_* fields to ask for.
        if not image.has("gt_boxes"):
            kept.append(image[:0])
            continue
        wanted = _of_interest(image, num_classes, iou_threshold)
        if with_landmarks:
            wanted &= _has_landmark_inside(image)
        # Rows, since a mask is searched, and on a GPU waited for, once for every field.
        kept.append(image[_sample(wanted.nonzero()[:, 0], rois_per_image)])
    return kept


def _of_interest(image: Instances, num_classes: int, iou_threshold: float) -> Tensor:
    """(R,) bool."""
    overlap = matched_pairwise_iou(image.proposal_boxes, image.gt_boxes)
    foreground = image.gt_classes < num_classes
    return foreground & image.gt_has_partner & (overlap > iou_threshold)


def _has_landmark_inside(image: Instances) -> Tensor:
    """(R,) whether a labelled landmark lies in the proposal; the host's function for it would
    log a second number of landmark RoIs."""
    points = image.gt_keypoints.tensor
    low, high = image.proposal_boxes.tensor[:, None].split(2, dim=2)
    inside = ((points[..., :2] >= low) & (points[..., :2] <= high)).all(2)
    return (inside & (points[..., 2] > 0)).any(1)


def _sample(rows: Tensor, wanted: int) -> Tensor:
    if len(rows) <= wanted:
        return rows
    return rows[torch.randperm(len(rows), device=rows.device)[:wanted]]


def pyramid_features(heads: Any, features: dict[str, Tensor], boxes: list[Boxes]) -> Tensor:
    """(M, channels, P, P): what the match stream's own pooler takes from the feature pyramid."""
    pooled: Tensor = heads.match_pooler([features[f] for f in heads.match_in_features], boxes)
    return pooled


def class_features(heads: Any, features: dict[str, Tensor], boxes: list[Boxes]) -> Tensor:
    """(M, channels): the box head's vectors."""
    pooled = heads.box_pooler([features[f] for f in heads.box_in_features], boxes)
    return heads.box_head(pooled)


def pose_features(heads: Any, features: dict[str, Tensor], boxes: list[Boxes]) -> Tensor:
    """(M, channels, P, P): what the landmark head's convolutions make."""
    pooled = heads.keypoint_pooler([features[f] for f in heads.keypoint_in_features], boxes)
    return heads.keypoint_head.features(pooled)


def mask_features(heads: Any, features: dict[str, Tensor], boxes: list[Boxes]) -> Tensor:
    """(M, channels, P, P): what the mask head's convolutions make."""
    x = heads.mask_pooler([features[f] for f in heads.mask_in_features], boxes)
    for layer in mask_convolutions(heads.mask_head):
        x = layer(x)
    return x


def mask_convolutions(mask_head: nn.Module) -> list[nn.Module]:
    """The layers in front of the host's mask head's deconvolution."""
    layers: list[nn.Module] = []
    for name, layer in mask_head.named_children():
        if name == "deconv":
            return layers
        layers.append(layer)
    raise ValueError(
        f"mask features need a head with convolutions and a `deconv`, as "
        f"MaskRCNNConvUpsampleHead has; got {type(mask_head).__name__}"
    )


STREAM_FEATURES = {
    "class": class_features,
    "pose": pose_features,
    "mask": mask_features,
    "pyramid": pyramid_features,
}
