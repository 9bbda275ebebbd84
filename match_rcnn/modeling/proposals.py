"""Ignore regions in training: what lies in one, and is no item, is not called background.

An annotation with ``iscrowd`` says that there is something there which nobody has told apart. As
COCO's evaluation has it, a box lies in such a region by the part of *its own* area that does, and
an item that it matches comes first.

Shapes: ``R`` boxes, anchors or proposals.
"""

from typing import Any

import torch

from match_rcnn.d2 import (
    PROPOSAL_GENERATOR_REGISTRY,
    RPN,
    Boxes,
    CfgNode,
    Instances,
    ShapeSpec,
    configurable,
    pairwise_ioa,
    pairwise_iou,
)
from match_rcnn.data.ignore_regions import ignore_regions_of

Tensor = torch.Tensor


def lies_in(boxes: Boxes, regions: Boxes, overlap: float) -> Tensor:
    """(R,) whether at least this part of a box's area lies in one of the regions."""
    part = pairwise_ioa(regions, boxes)
    return ((part > 0) & (part >= overlap)).any(0)


@PROPOSAL_GENERATOR_REGISTRY.register()
class IgnoringRPN(RPN):
    """The host's RPN, which learns nothing from background anchors that lie in an ignore region.

    Args:
        ignore_overlap: see :func:`lies_in`.
        **kwargs: of the host's ``RPN``.
    """

    @configurable
    def __init__(self, *, ignore_overlap: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ignore_overlap = ignore_overlap

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        made: dict[str, Any] = super().from_config(cfg, input_shape)
        return {**made, "ignore_overlap": cfg.MODEL.IGNORE_OVERLAP}

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As the host's: labels (1, 0, -1 unused) and boxes of every anchor, an entry an image."""
        every = [ignore_regions_of(items) for items in gt_instances]
        labels: list[Tensor] = []
        boxes: list[Tensor] = []
        if not any(regions is not None for regions in every):
            labels, boxes = super().label_and_sample_anchors(anchors, gt_instances)
            return labels, boxes
        for items, regions in zip(gt_instances, every, strict=True):
            if regions is None:
                found = super().label_and_sample_anchors(anchors, [items])
                label, box = found[0][0], found[1][0]
            else:
                label, box = self._label_beside(regions, Boxes.cat(anchors), items)
            labels.append(label)
            boxes.append(box)
        return labels, boxes

    def _label_beside(
        self, regions: Boxes, anchors: Boxes, items: Instances
    ) -> tuple[Tensor, Tensor]:
        matches, labels = self.anchor_matcher(pairwise_iou(items.gt_boxes, anchors))
        labels = labels.to(anchors.device)
        labels[(labels == 0) & lies_in(anchors, regions, self.ignore_overlap)] = -1
        labels = self._subsample_labels(labels)
        if not len(items):
            return labels, torch.zeros_like(anchors.tensor)
        return labels, items.gt_boxes.tensor[matches]
