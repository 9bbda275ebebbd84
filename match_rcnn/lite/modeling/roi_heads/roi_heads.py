"""Everything that looks at one region at a time: sampling of RoIs, and the streams over them.

Shapes: ``N`` images, ``R_i`` proposals (or, sampled, RoIs) of image i, ``M`` ground-truth boxes.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...config import CfgNode, configurable
from ...layers import ShapeSpec, nonzero_tuple
from ...structures import ImageList, Instances, pairwise_iou
from ...utils.events import get_event_storage
from ...utils.registry import Registry
from ..matcher import Matcher
from ..poolers import ROIPooler
from ..proposal_generator.proposal_utils import add_ground_truth_to_proposals
from ..sampling import subsample_labels
from .box_head import build_box_head
from .fast_rcnn import FastRCNNOutputLayers
from .keypoint_head import build_keypoint_head
from .mask_head import build_mask_head

ROI_HEADS_REGISTRY = Registry("ROI_HEADS")
"""Callables ``(cfg, input_shape) -> ROIHeads``."""


def build_roi_heads(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """The module named by ``cfg.MODEL.ROI_HEADS.NAME``."""
    return ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)(cfg, input_shape)


def select_foreground_proposals(
    proposals: list[Instances], bg_label: int
) -> tuple[list[Instances], list[Tensor]]:
    """The RoIs that are neither background nor ignored (-1).

    Args:
        proposals: of each image, with ``gt_classes``.
        bg_label: the background's class.

    Returns:
        The foreground of each image, and its (R_i,) bool mask.
    """
    assert isinstance(proposals, (list, tuple)), type(proposals)
    masks = [(p.gt_classes != -1) & (p.gt_classes != bg_label) for p in proposals]
    # Indices, since a mask would be searched once for every field.
    chosen = [p[nonzero_tuple(mask)[0]] for p, mask in zip(proposals, masks, strict=True)]
    return chosen, masks


def select_proposals_with_visible_keypoints(proposals: list[Instances]) -> list[Instances]:
    """The RoIs in which at least one labelled keypoint of their ground truth lies.

    Args:
        proposals: foreground of each image, with ``proposal_boxes`` and ``gt_keypoints``; images
            without any may lack the latter.
    """
    selected = [p[_with_visible_keypoint(p)] if len(p) > 0 else p for p in proposals]
    counts = [len(chosen) for p, chosen in zip(proposals, selected, strict=True) if len(p) > 0]
    mean = float(np.mean(counts)) if counts else 0.0
    get_event_storage().put_scalar("keypoint_head/num_fg_samples", mean)
    return selected


def _with_visible_keypoint(rois: Instances) -> Tensor:
    """The rows of RoIs that hold a labelled keypoint of their ground truth."""
    keypoints = rois.gt_keypoints.tensor
    low, high = rois.proposal_boxes.tensor[:, None].split(2, dim=2)
    inside = ((keypoints[..., :2] >= low) & (keypoints[..., :2] <= high)).all(dim=2)
    return nonzero_tuple((inside & (keypoints[..., 2] >= 1)).any(dim=1))[0]


class ROIHeads(nn.Module):
    """Matches proposals with the ground truth and samples RoIs; subclasses do the rest.

    Args:
        num_classes: of the foreground; it is also the background's label.
        batch_size_per_image: RoIs sampled for training.
        positive_fraction: at most this part of them is foreground.
        proposal_matcher: labels proposals by their IoU with the ground truth.
        proposal_append_gt: ground-truth boxes are proposals too.
    """

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.proposal_matcher = proposal_matcher
        self.proposal_append_gt = proposal_append_gt

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.ROI_HEADS
        return {
            "num_classes": node.NUM_CLASSES,
            "batch_size_per_image": node.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": node.POSITIVE_FRACTION,
            "proposal_matcher": Matcher(
                node.IOU_THRESHOLDS, node.IOU_LABELS, allow_low_quality_matches=False
            ),
            "proposal_append_gt": node.PROPOSAL_APPEND_GT,
        }

    def _sample_proposals(
        self, matched_idxs: Tensor, matched_labels: Tensor, gt_classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sample RoIs, foreground first.

        Args:
            matched_idxs: (R_i,) ground truth of each proposal.
            matched_labels: (R_i,) 1 foreground, 0 background, -1 ignored.
            gt_classes: (M,).

        Returns:
            Rows of the proposals, and their classes.
        """
        classes = self._matched_classes(matched_idxs, matched_labels, gt_classes)
        rows = torch.cat(
            subsample_labels(
                classes, self.batch_size_per_image, self.positive_fraction, self.num_classes
            )
        )
        return rows, classes[rows]

    def _matched_classes(
        self, matched_idxs: Tensor, matched_labels: Tensor, gt_classes: Tensor
    ) -> Tensor:
        """(R_i,) class of each proposal: of its ground truth, the background's, or -1."""
        if gt_classes.numel() == 0:
            return torch.full_like(matched_idxs, self.num_classes)
        classes = gt_classes[matched_idxs]
        classes = classes.masked_fill(matched_labels == 0, self.num_classes)
        return classes.masked_fill(matched_labels == -1, -1)

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """Sampled RoIs with what they should learn.

        Args:
            proposals: of each image, with ``proposal_boxes``.
            targets: of each image, with ``gt_boxes``, ``gt_classes`` and any other ``gt_*``.

        Returns:
            RoIs of each image with ``proposal_boxes``, ``gt_classes`` and, where the image has
            ground truth, each ``gt_*`` field of the box they match best.
        """
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        samples = [self._label_and_sample(p, t) for p, t in zip(proposals, targets, strict=True)]
        background = [(s.gt_classes == self.num_classes).sum() for s in samples]
        num_bg = torch.stack(background).tolist() if background else []
        num_fg = [len(s) - count for s, count in zip(samples, num_bg, strict=True)]
        storage = get_event_storage()
        storage.put_scalar("roi_head/num_fg_samples", float(np.mean(num_fg)))
        storage.put_scalar("roi_head/num_bg_samples", float(np.mean(num_bg)))
        return samples

    def _label_and_sample(self, proposals: Instances, targets: Instances) -> Instances:
        """One image of :meth:`label_and_sample_proposals`."""
        overlap = pairwise_iou(targets.gt_boxes, proposals.proposal_boxes)
        matched_idxs, matched_labels = self.proposal_matcher(overlap)
        rows, classes = self._sample_proposals(matched_idxs, matched_labels, targets.gt_classes)
        sample = proposals[rows]
        sample.gt_classes = classes
        if len(targets) > 0:
            matched = matched_idxs[rows]
            for name, value in targets.get_fields().items():
                if name.startswith("gt_") and not sample.has(name):
                    sample.set(name, value[matched])
        return sample

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Losses in training, detections otherwise.

        Args:
            images: N images.
            features: (N, C, H, W) by name.
            proposals: of each image, with ``proposal_boxes`` and ``objectness_logits``.
            targets: of each image; needed in training. See :meth:`label_and_sample_proposals`.

        Returns:
            Of each image the RoIs (training) or detections; and the losses (else empty).
        """
        raise NotImplementedError


@ROI_HEADS_REGISTRY.register()
class StandardROIHeads(ROIHeads):
    """Streams for boxes, masks and keypoints that share nothing but the RoIs.

    Each stream is a pooler over some feature maps and a head. A subclass changes a stream by
    overriding its ``_init_*`` or ``_forward_*``. Without a mask or keypoint head there is no such
    stream; without its pooler the head gets the dict of feature maps.

    Args:
        box_in_features: feature maps of the box stream.
        box_pooler: region features of boxes.
        box_head: from region features to a vector.
        box_predictor: from that to classes and boxes, as :class:`FastRCNNOutputLayers`.
        mask_in_features: and the others, likewise.
        kwargs: of :class:`ROIHeads`.
    """

    @configurable
    def __init__(
        self,
        *,
        box_in_features: list[str],
        box_pooler: ROIPooler,
        box_head: nn.Module,
        box_predictor: nn.Module,
        mask_in_features: list[str] | None = None,
        mask_pooler: ROIPooler | None = None,
        mask_head: nn.Module | None = None,
        keypoint_in_features: list[str] | None = None,
        keypoint_pooler: ROIPooler | None = None,
        keypoint_head: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.in_features = self.box_in_features = box_in_features
        self.box_pooler = box_pooler
        self.box_head = box_head
        self.box_predictor: Any = box_predictor
        self.mask_on = mask_in_features is not None
        if mask_in_features is not None:
            self.mask_in_features = mask_in_features
            self.mask_pooler = mask_pooler
            self.mask_head: Any = mask_head
        self.keypoint_on = keypoint_in_features is not None
        if keypoint_in_features is not None:
            self.keypoint_in_features = keypoint_in_features
            self.keypoint_pooler = keypoint_pooler
            self.keypoint_head: Any = keypoint_head

    @classmethod
    def from_config(  # type: ignore[override]
        cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]
    ) -> dict[str, Any]:
        return {
            **super().from_config(cfg),
            **cls._init_box_head(cfg, input_shape),
            **cls._init_mask_head(cfg, input_shape),
            **cls._init_keypoint_head(cfg, input_shape),
        }

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        pooler, shape = make_pooler(cfg.MODEL.ROI_BOX_HEAD, in_features, input_shape)
        box_head = build_box_head(cfg, shape)
        return {
            "box_in_features": in_features,
            "box_pooler": pooler,
            "box_head": box_head,
            "box_predictor": FastRCNNOutputLayers(cfg, box_head.output_shape),
        }

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        if not cfg.MODEL.MASK_ON:
            return {}
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        pooler, shape = make_pooler(cfg.MODEL.ROI_MASK_HEAD, in_features, input_shape)
        return {
            "mask_in_features": in_features,
            "mask_pooler": pooler,
            "mask_head": build_mask_head(cfg, shape),
        }

    @classmethod
    def _init_keypoint_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        if not cfg.MODEL.KEYPOINT_ON:
            return {}
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        pooler, shape = make_pooler(cfg.MODEL.ROI_KEYPOINT_HEAD, in_features, input_shape)
        return {
            "keypoint_in_features": in_features,
            "keypoint_pooler": pooler,
            "keypoint_head": build_keypoint_head(cfg, shape),
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """See :meth:`ROIHeads.forward`."""
        if not self.training:
            instances = self._forward_box(features, proposals)
            return self.forward_with_given_boxes(features, instances), {}
        assert targets is not None, "ROI heads need targets in training"
        proposals = self.label_and_sample_proposals(proposals, targets)
        losses = self._forward_box(features, proposals)
        losses.update(self._forward_mask(features, proposals))
        losses.update(self._forward_keypoint(features, proposals))
        return proposals, losses

    def forward_with_given_boxes(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Masks and keypoints for the boxes at hand; not for training.

        Args:
            features: as in :meth:`forward`.
            instances: of each image, with ``pred_boxes`` and ``pred_classes``.
        """
        assert not self.training, "given boxes are for inference"
        instances = self._forward_mask(features, instances)
        return self._forward_keypoint(features, instances)

    def _forward_box(self, features: dict[str, Tensor], proposals: list[Instances]) -> Any:
        """The box stream: losses in training, else detections of each image."""
        maps = [features[name] for name in self.box_in_features]
        pooled = self.box_pooler(maps, [p.proposal_boxes for p in proposals])
        predictions = self.box_predictor(self.box_head(pooled))
        if self.training:
            return self.box_predictor.losses(predictions, proposals)
        return self.box_predictor.inference(predictions, proposals)[0]

    def _forward_mask(self, features: dict[str, Tensor], instances: list[Instances]) -> Any:
        """The mask stream: losses in training, else ``instances`` with ``pred_masks``."""
        if not self.mask_on:
            return {} if self.training else instances
        if self.training:
            instances, _ = select_foreground_proposals(instances, self.num_classes)
        x = self._pool(features, self.mask_in_features, self.mask_pooler, instances)
        return self.mask_head(x, instances)

    def _forward_keypoint(self, features: dict[str, Tensor], instances: list[Instances]) -> Any:
        """The keypoint stream: losses in training, else ``instances`` with ``pred_keypoints``."""
        if not self.keypoint_on:
            return {} if self.training else instances
        if self.training:
            instances, _ = select_foreground_proposals(instances, self.num_classes)
            instances = select_proposals_with_visible_keypoints(instances)
        x = self._pool(features, self.keypoint_in_features, self.keypoint_pooler, instances)
        return self.keypoint_head(x, instances)

    def _pool(
        self,
        features: dict[str, Tensor],
        names: list[str],
        pooler: ROIPooler | None,
        instances: list[Instances],
    ) -> Any:
        """What a head gets: region features, or without a pooler the feature maps by name."""
        if pooler is None:
            return {name: features[name] for name in names}
        boxes = [x.proposal_boxes if self.training else x.pred_boxes for x in instances]
        return pooler([features[name] for name in names], boxes)


def make_pooler(
    node: CfgNode, in_features: list[str], input_shape: dict[str, ShapeSpec]
) -> tuple[ROIPooler | None, Any]:
    """A stream's pooler by its config, and the shape that its head gets.

    Without ``POOLER_TYPE`` there is no pooler, and the head gets the shapes of the feature maps.
    """
    shapes = {name: input_shape[name] for name in in_features}
    if not node.POOLER_TYPE:
        return None, shapes
    channels = {shape.channels for shape in shapes.values()}
    if len(channels) != 1:
        raise ValueError(f"ROI heads need feature maps of equal channels, got {channels}")
    pooler = ROIPooler(
        output_size=node.POOLER_RESOLUTION,
        scales=[1.0 / (shape.stride or 1) for shape in shapes.values()],
        sampling_ratio=node.POOLER_SAMPLING_RATIO,
        pooler_type=node.POOLER_TYPE,
    )
    side = node.POOLER_RESOLUTION
    return pooler, ShapeSpec(channels=channels.pop(), height=side, width=side)
