"""Match R-CNN's streams over one set of RoIs (PAPER.md, section 2).

The detection stream comes first: in training it shares the sampled proposals with the others, at
inference it chooses the boxes that they work on. The other streams run in the order that
``MatchRCNNROIHeads.streams`` lists; a further stream is a method in that list, with an
``_init_*_head`` classmethod that builds its modules.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from match_rcnn.d2 import (
    ROI_HEADS_REGISTRY,
    CfgNode,
    ImageList,
    Instances,
    ROIPooler,
    ShapeSpec,
    StandardROIHeads,
    configurable,
)
from match_rcnn.modeling.streams.landmark_head import CategoryAwareLandmarkHead, SharedFeatures
from match_rcnn.modeling.streams.match_head import build_match_head, streams_of
from match_rcnn.modeling.streams.match_rois import (
    STREAM_FEATURES,
    mask_convolutions,
    select_match_rois,
)

Features = dict[str, torch.Tensor]
Losses = dict[str, torch.Tensor]
#: (features, instances) -> losses in training; the instances with further fields at inference.
Stream = Callable[[Features, list[Instances]], Any]


@ROI_HEADS_REGISTRY.register()
class MatchRCNNROIHeads(StandardROIHeads):
    """Box, mask, landmark and match streams.

    Training: every stream gets the sampled proposals with their ``gt_*`` fields and takes its own
    positives: masks IoU >= 0.5, landmarks those of them with a visible landmark inside, matching
    IoU > 0.7 with an item that has a partner.
    Inference: streams other than the box stream see the kept detections only, after NMS.

    Attributes:
        match_alone: training has the match stream's loss and leaves the others out.
    """

    @configurable
    def __init__(
        self,
        *,
        match_streams: Sequence[str] = (),
        match_in_features: Sequence[str] = (),
        match_pooler: nn.Module | None = None,
        match_head: nn.Module | None = None,
        match_iou_threshold: float = 0.7,
        match_rois_per_image: int = 8,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            match_streams: the streams whose features the match head takes, of ``class``, ``pose``,
                ``mask`` and ``pyramid``.
            match_in_features, match_pooler: the levels that ``pyramid`` takes RoI features from,
                and how.
            match_head: None: no match stream.
            match_iou_threshold, match_rois_per_image: which RoIs it learns from.
            **kwargs: of the host's ``StandardROIHeads``.
        """
        super().__init__(**kwargs)
        self.match_streams = tuple(match_streams)
        self.match_in_features = list(match_in_features)
        self.match_pooler = match_pooler
        self.match_on = match_head is not None
        self.match_alone = False
        if match_head is not None:
            self.match_head = match_head
        self.match_iou_threshold = match_iou_threshold
        self.match_rois_per_image = match_rois_per_image

    @classmethod
    def from_config(  # type: ignore[override]  # as the host's own StandardROIHeads
        cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]
    ) -> dict[str, Any]:
        made: dict[str, Any] = super().from_config(cfg, input_shape)
        return {**made, **cls._init_match_head(cfg, made, input_shape)}

    @classmethod
    def _init_match_head(
        cls, cfg: CfgNode, made: dict[str, Any], input_shape: dict[str, ShapeSpec]
    ) -> dict[str, Any]:
        """``made`` are the other streams' heads, whose features the match head takes."""
        if not cfg.MODEL.MATCH_ON:
            return {}
        node = cfg.MODEL.ROI_MATCH_HEAD
        streams = streams_of(node.FEATURES)
        levels = list(node.IN_FEATURES or made["box_in_features"])
        pyramid = [_level(name, input_shape) for name in levels]
        shapes = {stream: _feature_shape(stream, made, pyramid) for stream in streams}
        if "pose" in streams:
            made["keypoint_head"].return_features = True
        return {
            "match_streams": streams,
            "match_in_features": levels,
            "match_pooler": _make_pooler(node, pyramid) if "pyramid" in streams else None,
            "match_head": build_match_head(cfg, shapes),
            "match_iou_threshold": node.IOU_THRESHOLD,
            "match_rois_per_image": node.ROIS_PER_IMAGE,
        }

    def streams(self) -> Sequence[Stream]:
        """What runs after the box stream, in order; a later one may use an earlier one's fields.

        A stream that the config switches off (``MASK_ON``, ``KEYPOINT_ON``, ``MATCH_ON``) returns
        no loss, or the instances as they are.
        """
        return (self._forward_mask, self._forward_keypoint, self._forward_match)

    def _forward_match(self, features: Features, instances: list[Instances]) -> Any:
        if not self.match_on:
            return {} if self.training else instances
        if self.training:
            instances = select_match_rois(
                instances,
                num_classes=self.num_classes,
                iou_threshold=self.match_iou_threshold,
                rois_per_image=self.match_rois_per_image,
                with_landmarks="pose" in self.match_streams,
            )
        return self.match_head(self._match_features(features, instances), instances)

    def _match_features(
        self, features: Features, instances: list[Instances]
    ) -> dict[str, torch.Tensor]:
        field = "proposal_boxes" if self.training else "pred_boxes"
        boxes = [image.get(field) for image in instances]
        made = {}
        for stream in self.match_streams:
            shared = self._shared_landmark_features() if stream == "pose" else None
            if shared is not None:
                ids = [image.roi_ids for image in instances]
                made[stream] = shared.of(torch.cat(ids))
            elif stream == "pose" and not self.training:
                # The landmark stream has made them for these boxes already.
                made[stream] = torch.cat([image.landmark_features for image in instances])
                for image in instances:
                    image.remove("landmark_features")
            else:
                made[stream] = STREAM_FEATURES[stream](self, features, boxes)
        return made

    def _shared_landmark_features(self) -> SharedFeatures | None:
        """In training: those that the landmark stream made. It works on all foreground RoIs with
        a visible landmark inside, and the match stream on some of these."""
        head = self.keypoint_head
        return head.take_shared_features() if self.training else None

    def forward(
        self,
        images: ImageList,
        features: Features,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], Losses]:
        """
        Args:
            images: not used; part of the host's interface.
            features: feature maps (images, channels, height, width) by name.
            proposals: one per image, with ``proposal_boxes`` and ``objectness_logits``.
            targets: in training, the ground truth, one per image.

        Returns:
            In training the sampled proposals and the losses of all streams; at inference the
            detections and an empty dict.

        Raises:
            ValueError: in training without targets.
        """
        del images
        if not self.training:
            detections = self._forward_box(features, proposals)
            return self.forward_with_given_boxes(features, detections), {}
        if targets is None:
            raise ValueError("training needs targets; got none")
        proposals = self.label_and_sample_proposals(proposals, targets)
        _number(proposals)
        if self.match_alone:
            return proposals, self._forward_match(features, proposals)
        losses: Losses = self._forward_box(features, proposals)
        for stream in self.streams():
            losses.update(stream(features, proposals))
        return proposals, losses

    def forward_with_given_boxes(
        self, features: Features, instances: list[Instances]
    ) -> list[Instances]:
        """Run every stream but the box stream on given boxes, at inference.

        Args:
            features: as in :meth:`forward`.
            instances: one per image, with ``pred_boxes`` and ``pred_classes``.

        Returns:
            The instances with the fields of the other streams.
        """
        assert not self.training
        assert all(image.has("pred_boxes") and image.has("pred_classes") for image in instances)
        for stream in self.streams():
            instances = stream(features, instances)
        return instances


def _number(instances: list[Instances]) -> None:
    """Give every RoI of the batch its ``roi_ids``, ascending."""
    first = 0
    for image in instances:
        last = first + len(image)
        image.roi_ids = torch.arange(first, last, device=image.proposal_boxes.device)
        first = last


def _level(name: str, input_shape: dict[str, ShapeSpec]) -> ShapeSpec:
    if name not in input_shape:
        raise ValueError(
            f"MODEL.ROI_MATCH_HEAD.IN_FEATURES names {name!r}; the backbone has "
            f"{', '.join(input_shape)}"
        )
    return input_shape[name]


def _make_pooler(node: CfgNode, levels: Sequence[ShapeSpec]) -> ROIPooler:
    return ROIPooler(
        output_size=node.POOLER_RESOLUTION,
        scales=[1.0 / (level.stride or 1) for level in levels],
        sampling_ratio=node.POOLER_SAMPLING_RATIO,
        pooler_type=node.POOLER_TYPE,
    )


def _feature_shape(stream: str, made: dict[str, Any], pyramid: Sequence[ShapeSpec]) -> ShapeSpec:
    """The shape of a stream's features, from the heads that the config made and the levels that
    ``pyramid`` takes."""
    if stream == "pyramid":
        return ShapeSpec(channels=pyramid[0].channels)
    if stream == "class":
        shape: ShapeSpec = made["box_head"].output_shape
        return shape
    if stream == "pose":
        head = made.get("keypoint_head")
        if not isinstance(head, CategoryAwareLandmarkHead):
            raise ValueError(
                "landmark features for matching need MODEL.KEYPOINT_ON True and "
                "MODEL.ROI_KEYPOINT_HEAD.NAME CategoryAwareLandmarkHead; or choose other "
                "MODEL.ROI_MATCH_HEAD.FEATURES"
            )
        return ShapeSpec(channels=head.score_lowres.in_channels)
    if made.get("mask_head") is None:
        raise ValueError(
            "mask features for matching need MODEL.MASK_ON True; or choose other "
            "MODEL.ROI_MATCH_HEAD.FEATURES"
        )
    convolutions = [m for m in mask_convolutions(made["mask_head"]) if isinstance(m, nn.Conv2d)]
    return ShapeSpec(channels=convolutions[-1].out_channels)
