"""Boxes in stages (Cai and Vasconcelos, Cascade R-CNN, 2018).

Shapes: ``R_i`` RoIs of image i, ``C`` classes, ``S`` stages.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...config import CfgNode, configurable
from ...layers import ShapeSpec
from ...structures import Boxes, ImageList, Instances, pairwise_iou
from ...utils.events import get_event_storage
from ..box_regression import Box2BoxTransform
from ..matcher import Matcher
from .box_head import build_box_head
from .fast_rcnn import FastRCNNOutputLayers, fast_rcnn_inference
from .roi_heads import ROI_HEADS_REGISTRY, StandardROIHeads, make_pooler

__all__ = ["CascadeROIHeads"]

Predictions = tuple[Tensor, Tensor]


@ROI_HEADS_REGISTRY.register()
class CascadeROIHeads(StandardROIHeads):
    """``S`` box heads in a row: each starts from the boxes of the one before and learns from a
    stricter overlap. Scores are the mean of all, boxes are the last one's.

    Args:
        box_heads: of each stage.
        box_predictors: of each stage, with one box a RoI for all classes.
        proposal_matchers: of each stage; the first one's are the RoIs of the other streams.
        kwargs: of :class:`StandardROIHeads`, but for what comes in stages here.
    """

    box_head: Any
    box_predictor: Any

    @configurable
    def __init__(
        self,
        *,
        box_heads: Sequence[nn.Module],
        box_predictors: Sequence[nn.Module],
        proposal_matchers: Sequence[Matcher],
        **kwargs: Any,
    ) -> None:
        counts = [len(part) for part in (box_heads, box_predictors, proposal_matchers)]
        if len(set(counts)) != 1 or counts[0] == 0:
            raise ValueError(f"a cascade needs as many heads as predictors and matchers: {counts}")
        super().__init__(
            box_head=nn.ModuleList(box_heads),
            box_predictor=nn.ModuleList(box_predictors),
            proposal_matcher=proposal_matchers[0],
            **kwargs,
        )
        self.num_cascade_stages = len(box_heads)
        self.proposal_matchers = list(proposal_matchers)

    @classmethod
    def from_config(  # type: ignore[override]
        cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]
    ) -> dict[str, Any]:
        made = super().from_config(cfg, input_shape)
        del made["proposal_matcher"]
        return made

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        _check_cascade_config(cfg)
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        pooler, shape = make_pooler(cfg.MODEL.ROI_BOX_HEAD, in_features, input_shape)
        box_heads, box_predictors = [], []
        # Stage by stage, so that under one seed weights begin as detectron2's do.
        for weights in cfg.MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS:
            box_heads.append(build_box_head(cfg, shape))
            coder = Box2BoxTransform(weights=weights)
            box_predictors.append(
                FastRCNNOutputLayers(cfg, box_heads[-1].output_shape, box2box_transform=coder)
            )
        return {
            "box_in_features": in_features,
            "box_pooler": pooler,
            "box_heads": box_heads,
            "box_predictors": box_predictors,
            "proposal_matchers": [
                Matcher([iou], [0, 1]) for iou in cfg.MODEL.ROI_BOX_CASCADE_HEAD.IOUS
            ],
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
            return super().forward(images, features, proposals)
        assert targets is not None, "ROI heads need targets in training"
        proposals = self.label_and_sample_proposals(proposals, targets)
        losses = self._forward_box(features, proposals, targets)
        losses.update(self._forward_mask(features, proposals))
        losses.update(self._forward_keypoint(features, proposals))
        return proposals, losses

    def _forward_box(
        self,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> Any:
        """The losses of all stages in training, else detections of each image.

        Args:
            features: by name.
            proposals: the first stage's RoIs; in training sampled ones.
            targets: of each image, with ``gt_boxes`` and ``gt_classes``; needed in training.
        """
        maps = [features[name] for name in self.box_in_features]
        image_sizes = [image.image_size for image in proposals]
        stages: list[tuple[Predictions, list[Instances]]] = []
        for stage in range(self.num_cascade_stages):
            if stage > 0:
                boxes = self.box_predictor[stage - 1].predict_boxes(*stages[-1])
                proposals = self._create_proposals_from_boxes(boxes, image_sizes)
                if self.training:
                    assert targets is not None, "the stages of a cascade need targets in training"
                    proposals = self._match_and_label_boxes(proposals, stage, targets)
            stages.append((self._run_stage(maps, proposals, stage), proposals))
        return self._stage_losses(stages) if self.training else self._detections(stages)

    def _run_stage(
        self, features: list[Tensor], proposals: list[Instances], stage: int
    ) -> Predictions:
        """A stage's logits and deltas of all RoIs."""
        pooled = self.box_pooler(features, [image.proposal_boxes for image in proposals])
        if pooled.requires_grad:
            # The stages' losses add up for their heads; what is below them gets their mean.
            share = 1.0 / self.num_cascade_stages
            pooled.register_hook(lambda gradient: gradient * share)
        predictions: Predictions = self.box_predictor[stage](self.box_head[stage](pooled))
        return predictions

    def _create_proposals_from_boxes(
        self, boxes: list[Tensor], image_sizes: list[tuple[int, int]]
    ) -> list[Instances]:
        """Boxes (R_i, 4) that a stage predicted, as RoIs of the next one: inside of the image,
        and without gradient."""
        proposals = []
        for of_image, size in zip(boxes, image_sizes, strict=True):
            rois = Boxes(of_image.detach())
            rois.clip(size)
            if self.training:
                # At inference all stay: the stages' scores are added row by row.
                rois = rois[rois.nonempty()]
            proposals.append(Instances(size, proposal_boxes=rois))
        return proposals

    @torch.no_grad()
    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        """Give a stage's RoIs what they should learn, ``gt_classes`` and ``gt_boxes``: all of
        them, there is no sampling after the first stage."""
        foreground = []
        for rois, truth in zip(proposals, targets, strict=True):
            overlap = pairwise_iou(truth.gt_boxes, rois.proposal_boxes)
            matched, labels = self.proposal_matchers[stage](overlap)
            rois.gt_classes = self._matched_classes(matched, labels, truth.gt_classes)
            rois.gt_boxes = truth.gt_boxes[matched] if len(truth) > 0 else rois.proposal_boxes
            foreground.append((labels == 1).sum())
        num_fg = torch.stack(foreground).tolist()
        num_bg = [len(rois) - count for rois, count in zip(proposals, num_fg, strict=True)]
        storage = get_event_storage()
        storage.put_scalar(f"stage{stage}/roi_head/num_fg_samples", float(np.mean(num_fg)))
        storage.put_scalar(f"stage{stage}/roi_head/num_bg_samples", float(np.mean(num_bg)))
        return proposals

    def _stage_losses(self, stages: list[tuple[Predictions, list[Instances]]]) -> dict[str, Tensor]:
        losses = {}
        for stage, (predictor, of_stage) in enumerate(zip(self.box_predictor, stages, strict=True)):
            with get_event_storage().name_scope(f"stage{stage}"):
                found = predictor.losses(*of_stage)
            losses.update({f"{name}_stage{stage}": loss for name, loss in found.items()})
        return losses

    def _detections(self, stages: list[tuple[Predictions, list[Instances]]]) -> list[Instances]:
        scores = [
            predictor.predict_probs(*of_stage)
            for predictor, of_stage in zip(self.box_predictor, stages, strict=True)
        ]
        last, (predictions, proposals) = self.box_predictor[-1], stages[-1]
        found, _ = fast_rcnn_inference(
            last.predict_boxes(predictions, proposals),
            [
                sum(of_image) * (1.0 / self.num_cascade_stages)
                for of_image in zip(*scores, strict=True)
            ],
            [image.image_size for image in proposals],
            last.test_score_thresh,
            last.test_nms_thresh,
            last.test_topk_per_image,
        )
        return found


def _check_cascade_config(cfg: CfgNode) -> None:
    """
    Raises:
        ValueError: keys that do not make a cascade; the message names them.
    """
    cascade, first = cfg.MODEL.ROI_BOX_CASCADE_HEAD, cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS[0]
    if not cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG:
        raise ValueError(
            "CascadeROIHeads needs MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG True: a stage starts "
            "from the one box that the stage before gives each RoI"
        )
    if len(cascade.IOUS) != len(cascade.BBOX_REG_WEIGHTS):
        raise ValueError(
            f"MODEL.ROI_BOX_CASCADE_HEAD has {len(cascade.IOUS)} IOUS and "
            f"{len(cascade.BBOX_REG_WEIGHTS)} BBOX_REG_WEIGHTS: give both for each stage"
        )
    if cascade.IOUS[0] != first:
        raise ValueError(
            f"the first of MODEL.ROI_BOX_CASCADE_HEAD.IOUS is {cascade.IOUS[0]} and "
            f"MODEL.ROI_HEADS.IOU_THRESHOLDS is {first}: both are of the first stage"
        )
