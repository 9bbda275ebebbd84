"""From scored anchors to proposals.

Shapes: ``N`` images, ``R_i`` anchors of feature map i, ``K`` candidates of an image over all maps.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from ...layers import batched_nms
from ...structures import Boxes, Instances

_GT_PROBABILITY = 1.0 - 1e-10
_GT_LOGIT = math.log(_GT_PROBABILITY / (1.0 - _GT_PROBABILITY))


def find_top_rpn_proposals(
    proposals: list[Tensor],
    pred_objectness_logits: list[Tensor],
    image_sizes: list[tuple[int, int]],
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """The best proposals of each image, best first.

    Per feature map the ``pre_nms_topk`` best are taken, clipped to the image, empty ones dropped;
    what NMS within each map leaves is ranked together.

    Args:
        proposals: one (N, R_i, 4) a feature map.
        pred_objectness_logits: one (N, R_i) a feature map.
        image_sizes: N of (height, width).
        nms_thresh: IoU above which the worse of two boxes goes.
        pre_nms_topk: per image and feature map.
        post_nms_topk: per image.
        min_box_size: pixels; a box stays if both sides are greater.
        training: whether a non-finite value is an error; at inference its proposal is dropped.

    Returns:
        N of ``proposal_boxes`` and ``objectness_logits``.

    Raises:
        FloatingPointError: for NaN or infinity in training.
    """
    boxes, logits, levels = _top_of_each_level(proposals, pred_objectness_logits, pre_nms_topk)
    finite = torch.isfinite(boxes).all(dim=2) & torch.isfinite(logits)
    all_finite = bool(finite.all())
    if training and not all_finite:
        raise FloatingPointError(
            "the proposals are not all finite, so training has diverged: lower the learning rate, "
            "warm up for longer, or clip gradients"
        )
    results = []
    for index, image_size in enumerate(image_sizes):
        valid = slice(None) if all_finite else finite[index]
        candidates = Instances(image_size)
        candidates.proposal_boxes = Boxes(boxes[index][valid])
        candidates.objectness_logits = logits[index][valid]
        candidates.level = levels[valid]
        results.append(_suppress(candidates, nms_thresh, post_nms_topk, min_box_size))
    return results


def _top_of_each_level(
    proposals: list[Tensor], logits: list[Tensor], topk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(N, K, 4) boxes and (N, K) logits, best of each feature map first; (K,) feature map."""
    top_boxes, top_logits, levels = [], [], []
    for level, (boxes, scores) in enumerate(zip(proposals, logits, strict=True)):
        best, index = scores.topk(min(scores.shape[1], topk), dim=1)
        top_boxes.append(boxes.gather(1, index[:, :, None].expand(-1, -1, 4)))
        top_logits.append(best)
        levels.append(torch.full_like(index[0], level))
    return torch.cat(top_boxes, dim=1), torch.cat(top_logits, dim=1), torch.cat(levels)


def _suppress(
    candidates: Instances, nms_thresh: float, topk: int, min_box_size: float
) -> Instances:
    """Clip, drop small boxes, and do NMS within each level."""
    # Not Boxes.clip, which looks once more, and on a GPU waits, for what is not finite.
    clipped = clip_boxes_to_image(candidates.proposal_boxes.tensor, candidates.image_size)
    candidates.proposal_boxes = Boxes(clipped)
    candidates = candidates[candidates.proposal_boxes.nonempty(threshold=min_box_size)]
    keep = batched_nms(
        candidates.proposal_boxes.tensor,
        candidates.objectness_logits,
        candidates.level,
        nms_thresh,
    )
    candidates.remove("level")
    return candidates[keep[:topk]]


def add_ground_truth_to_proposals(
    gt: Sequence[Instances | Boxes], proposals: list[Instances]
) -> list[Instances]:
    """Each image's ground-truth boxes behind its proposals.

    See :func:`add_ground_truth_to_proposals_single_image`.
    """
    assert len(gt) == len(proposals), (len(gt), len(proposals))
    return [
        add_ground_truth_to_proposals_single_image(targets, candidates)
        for targets, candidates in zip(gt, proposals, strict=True)
    ]


def add_ground_truth_to_proposals_single_image(
    gt: Instances | Boxes, proposals: Instances
) -> Instances:
    """The ground-truth boxes as further proposals, with the logit of near-certainty.

    Args:
        gt: with ``gt_boxes`` and every field of ``proposals`` but boxes and logits; or only boxes.
        proposals: with ``proposal_boxes`` and ``objectness_logits``.

    Returns:
        Instances with the fields of ``proposals``.
    """
    if isinstance(gt, Boxes):
        gt = Instances(proposals.image_size, gt_boxes=gt)
    extra = Instances(proposals.image_size, **gt.get_fields())
    extra.proposal_boxes = gt.gt_boxes
    extra.objectness_logits = torch.full(
        (len(gt),), _GT_LOGIT, device=proposals.objectness_logits.device
    )
    for name in proposals.get_fields():
        assert extra.has(name), f"proposals have {name!r} and the ground truth has not"
    return Instances.cat([proposals, extra])
