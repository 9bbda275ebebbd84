"""The landmark stream: a keypoint head on the foreground in which a visible landmark lies."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from match_rcnn.d2 import CfgNode, Instances, ShapeSpec, get_event_storage
from match_rcnn.modeling.streams.landmark_head import CategoryAwareLandmarkHead
from match_rcnn.modeling.streams.stream import (
    ROI_STREAM_REGISTRY,
    Built,
    Losses,
    Maps,
    PooledFeatures,
    RoIFeatures,
    Stream,
    labelled,
    numbers,
    pool,
    take,
)

Tensor = torch.Tensor


@ROI_STREAM_REGISTRY.register()
class LandmarkStream(Stream):
    """Landmarks, as Mask R-CNN has keypoints.

    Offers what the convolutions of the category-aware head make; the host's own keypoint head
    serves, too, but offers nothing.

    Args:
        levels, pooler: which levels of the backbone, and how RoI features are taken from them.
        head: gets them with the instances.
        num_classes: the background's class.
    """

    switch = "KEYPOINT_ON"
    feature = "pose"
    label, loss = "landmarks", "loss_keypoint"

    def __init__(
        self, *, levels: Sequence[str], pooler: Any, head: nn.Module, num_classes: int
    ) -> None:
        source = None
        if isinstance(head, CategoryAwareLandmarkHead) and pooler is not None:
            source = PooledFeatures(
                levels, pooler, head.features, head.features_shape, landmark_inside
            )
        super().__init__(source=source)
        self.levels = levels
        self.pooler = pooler
        self.head: Any = head
        self.num_classes = num_classes

    @classmethod
    def from_config(
        cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec], built: Built
    ) -> dict[str, Any]:
        return {
            "levels": built.heads["keypoint_in_features"],
            "pooler": built.heads["keypoint_pooler"],
            "head": built.heads["keypoint_head"],
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        }

    def losses(
        self,
        maps: Maps,
        rois: list[Instances],
        given: Mapping[str, RoIFeatures],
        is_taken: bool,
    ) -> tuple[Losses, RoIFeatures | None]:
        rows = self._rows_to_learn_from(rois)
        chosen = take(rois, rows)
        x = pool(maps, self.levels, self.pooler, [image.proposal_boxes for image in chosen])
        if not is_taken:
            return self.head(x, chosen), None
        losses, features, order = self.head.losses_and_features(x, chosen)
        if features is None:
            return losses, None
        places = order.new_full((sum(map(len, rois)),), -1)
        places[numbers(rois, rows)[order]] = torch.arange(len(order), device=order.device)
        return losses, RoIFeatures(features, places)

    def _rows_to_learn_from(self, rois: list[Instances]) -> list[Tensor]:
        rows = []
        for image in rois:
            wanted = labelled(image, self.num_classes, "gt_keypoints", "gt_has_landmarks")
            rows.append((wanted & landmark_inside(image)).nonzero()[:, 0])
        counts = [len(r) for r, image in zip(rows, rois, strict=True) if image.has("gt_boxes")]
        mean = float(np.mean(counts)) if counts else 0.0
        get_event_storage().put_scalar("keypoint_head/num_fg_samples", mean)
        return rows

    def infer(
        self,
        maps: Maps,
        detections: list[Instances],
        given: Mapping[str, RoIFeatures],
        is_taken: bool,
    ) -> tuple[list[Instances], RoIFeatures | None]:
        x = pool(maps, self.levels, self.pooler, [image.pred_boxes for image in detections])
        if not is_taken:
            return self.head(x, detections), None
        features = self.head.predict(x, detections, with_features=True)
        return detections, RoIFeatures(features, torch.arange(len(x), device=x.device))


def landmark_inside(image: Instances) -> Tensor:
    """(R_i,) whether a labelled landmark of its item lies in the proposal."""
    if not image.has("gt_keypoints"):
        return torch.zeros_like(image.gt_classes, dtype=torch.bool)
    points = image.gt_keypoints.tensor
    low, high = image.proposal_boxes.tensor[:, None].split(2, dim=2)
    inside = ((points[..., :2] >= low) & (points[..., :2] <= high)).all(2)
    return (inside & (points[..., 2] > 0)).any(1)
