"""What no detector learns from: ignore regions, and images of given boxes alone.

What lies in an ignore region, and is no item, is not called background.

An annotation with ``iscrowd`` says that there is something there which nobody has told apart. As
COCO's evaluation has it, a box lies in such a region by the part of *its own* area that does, and
an item that it matches comes first.

An image whose items are of no known category (:mod:`match_rcnn.data.given_boxes`; its instances
have no ``gt_classes``) shows garments that nobody has marked. RPN and box stream do not see it:
their losses, and what those are means over, are those of the batch's other images.

Shapes: ``R`` boxes, anchors or proposals; ``N`` images of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from match_rcnn.d2 import (
    PROPOSAL_GENERATOR_REGISTRY,
    RPN,
    Boxes,
    CfgNode,
    ImageList,
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


@dataclass(frozen=True)
class Detected:
    """The images of a batch that a detector learns from.

    Attributes:
        rows: their places among the N.
        targets: their items.
        weight: of the losses. 0 where there is no such image in the batch: another one, as if it
            had no items, stands for them, since distributed training must see every parameter.
    """

    rows: list[int]
    targets: list[Instances]
    weight: float = 1.0

    @classmethod
    def of(cls, targets: Sequence[Instances]) -> "Detected":
        rows = [i for i, items in enumerate(targets) if items.has("gt_classes")]
        if rows or not targets:
            return cls(rows, [targets[i] for i in rows])
        boxes = targets[0].gt_boxes[:0]
        classes = torch.zeros(0, dtype=torch.int64, device=boxes.device)
        return cls([0], [Instances(targets[0].image_size, gt_boxes=boxes, gt_classes=classes)], 0.0)

    def maps(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Their feature maps."""
        return {name: values[self.rows] for name, values in features.items()}

    def weighed(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.weight * loss for name, loss in losses.items()}


@PROPOSAL_GENERATOR_REGISTRY.register()
class IgnoringRPN(RPN):
    """The host's RPN, which learns nothing from background anchors that lie in an ignore region,
    nor from images of given boxes alone. Those get no proposals in training.

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

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """As the host's: proposals, an entry an image, and in training the losses."""
        if gt_instances is None or all(items.has("gt_classes") for items in gt_instances):
            proposals, losses = super().forward(images, features, gt_instances)
            return proposals, losses
        seen = Detected.of(gt_instances)
        part = ImageList(images.tensor[seen.rows], [images.image_sizes[i] for i in seen.rows])
        found, losses = super().forward(part, seen.maps(features), seen.targets)
        proposals = [found[0][:0]] * len(gt_instances)
        for row, own in zip(seen.rows, found, strict=True):
            proposals[row] = own
        return proposals, seen.weighed(losses)

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
