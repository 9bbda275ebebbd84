"""Match R-CNN's streams over one set of RoIs (docs/model.md).

The detection stream is the host's and comes first: in training it shares the sampled proposals
with the others, at inference it chooses the boxes that they work on. The others are those that
the config lists (:mod:`match_rcnn.modeling.streams.stream`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from match_rcnn.d2 import (
    ROI_HEADS_REGISTRY,
    CascadeROIHeads,
    CfgNode,
    ImageList,
    Instances,
    ShapeSpec,
    StandardROIHeads,
    configurable,
    pairwise_iou,
)
from match_rcnn.data.ignore_regions import ignore_regions_of
from match_rcnn.modeling.proposals import Detected, lies_in
from match_rcnn.modeling.streams.stream import (
    Built,
    FeatureSource,
    Losses,
    Maps,
    PooledFeatures,
    RoIFeatures,
    Stream,
    build_streams,
)


@ROI_HEADS_REGISTRY.register()
class MatchRCNNROIHeads(StandardROIHeads):
    """The box stream and the streams that the config lists.

    Training: every stream gets the sampled proposals with their ``gt_*`` fields and takes its own
    positives.
    Inference: streams other than the box stream see the kept detections only, after NMS.
    """

    @configurable
    def __init__(
        self, *, streams: Sequence[Stream] = (), ignore_overlap: float = 0.5, **kwargs: Any
    ) -> None:
        """
        Args:
            streams: behind the box stream, in order. Their modules become modules of this one.
            ignore_overlap: background of which so much lies in an ignore region is not learned
                from (:mod:`match_rcnn.modeling.proposals`).
            **kwargs: of the host's ``StandardROIHeads``.
        """
        super().__init__(**kwargs)
        self.ignore_overlap = ignore_overlap
        self.streams = tuple(streams)
        self._trained = self.streams
        for stream in streams:
            for name, module in stream.modules.items():
                self.add_module(name, module)

    @classmethod
    def from_config(  # type: ignore[override]  # as the host's own StandardROIHeads
        cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]
    ) -> dict[str, Any]:
        made: dict[str, Any] = super().from_config(cfg, input_shape)
        built = Built(made, cls._box_features(made))
        return {
            **made,
            "streams": build_streams(cfg, input_shape, built),
            "ignore_overlap": cfg.MODEL.IGNORE_OVERLAP,
        }

    @classmethod
    def _box_features(cls, made: Mapping[str, Any]) -> dict[str, FeatureSource]:
        """The box head's vectors."""
        return cls._vectors(made, made["box_head"])

    @classmethod
    def _vectors(cls, made: Mapping[str, Any], head: Any) -> dict[str, FeatureSource]:
        levels, pooler = made["box_in_features"], made["box_pooler"]
        return {"class": PooledFeatures(levels, pooler, head, head.output_shape)}

    def train_only(self, stream: type[Stream]) -> None:
        """Training leaves all losses but those of one stream out.

        Raises:
            ValueError: there is no such stream.
        """
        chosen = tuple(s for s in self.streams if isinstance(s, stream))
        if not chosen:
            names = ", ".join(type(s).__name__ for s in self.streams) or "none"
            raise ValueError(f"expected one of the streams {names}, got {stream.__name__}")
        self._trained = chosen

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """As the host's, without background that lies in an ignore region."""
        beside = [
            self._beside_regions(image, items, self.proposal_matcher)
            for image, items in zip(proposals, targets, strict=True)
        ]
        sampled: list[Instances] = super().label_and_sample_proposals(beside, targets)
        return sampled

    def _beside_regions(self, proposals: Instances, items: Instances, matcher: Any) -> Instances:
        regions = ignore_regions_of(items)
        if regions is None:
            return proposals
        _, labels = matcher(pairwise_iou(items.gt_boxes, proposals.proposal_boxes))
        ignored = lies_in(proposals.proposal_boxes, regions, self.ignore_overlap)
        return proposals[((labels != 0) | ~ignored).nonzero()[:, 0]]

    def forward(
        self,
        images: ImageList,
        features: Maps,
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
        proposals, losses = self._detect(features, proposals, targets)
        given: dict[str, RoIFeatures] = {}
        for number, stream in enumerate(self._trained):
            is_taken = _is_taken(stream, self._trained[number + 1 :])
            found, made = stream.losses(features, proposals, given, is_taken)
            losses.update(found)
            if made is not None:
                given[stream.feature] = made
        return proposals, losses

    def _detect(
        self, features: Maps, proposals: list[Instances], targets: list[Instances]
    ) -> tuple[list[Instances], Losses]:
        """The sampled proposals, and the losses of the box stream unless another one is trained
        alone. Images of given boxes alone have these as their proposals, of class -1."""
        if all(items.has("gt_classes") for items in targets):
            sampled = self.label_and_sample_proposals(proposals, targets)
            return sampled, self._detector_losses(features, sampled, targets)
        seen = Detected.of(targets)
        chosen = [proposals[i] for i in seen.rows]
        sampled = self.label_and_sample_proposals(chosen, seen.targets)
        losses = self._detector_losses(seen.maps(features), sampled, seen.targets)
        rois = [_given_rois(items) for items in targets]
        if seen.weight:
            for row, own in zip(seen.rows, sampled, strict=True):
                rois[row] = own
        return rois, seen.weighed(losses)

    def _detector_losses(
        self, features: Maps, sampled: list[Instances], targets: list[Instances]
    ) -> Losses:
        # Not ==: the one stream that there is may be trained alone.
        is_trained = self._trained is self.streams
        return self._box_losses(features, sampled, targets) if is_trained else {}

    def _box_losses(
        self, features: Maps, proposals: list[Instances], targets: list[Instances]
    ) -> Losses:
        del targets
        losses: Losses = self._forward_box(features, proposals)
        return losses

    def forward_with_given_boxes(
        self, features: Maps, instances: list[Instances]
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
        given: dict[str, RoIFeatures] = {}
        for number, stream in enumerate(self.streams):
            is_taken = _is_taken(stream, self.streams[number + 1 :])
            instances, made = stream.infer(features, instances, given, is_taken)
            if made is not None:
                given[stream.feature] = made
        return instances


@ROI_HEADS_REGISTRY.register()
class MatchRCNNCascadeROIHeads(MatchRCNNROIHeads, CascadeROIHeads):
    """The same with Cascade R-CNN's box stream: stages that each learn from, and refine, the boxes
    of the stage before. The other streams see the first stage's proposals in training, as the
    host has it, and the last stage's boxes at inference."""

    @classmethod
    def _box_features(cls, made: Mapping[str, Any]) -> dict[str, FeatureSource]:
        """The last stage's vectors."""
        return cls._vectors(made, made["box_heads"][-1])

    def _box_losses(
        self, features: Maps, proposals: list[Instances], targets: list[Instances]
    ) -> Losses:
        losses: Losses = self._forward_box(features, proposals, targets)
        return losses

    @torch.no_grad()
    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        beside = [
            self._beside_regions(image, items, self.proposal_matchers[stage])
            for image, items in zip(proposals, targets, strict=True)
        ]
        labelled: list[Instances] = super()._match_and_label_boxes(beside, stage, targets)
        return labelled


def _given_rois(items: Instances) -> Instances:
    """An image's items as its RoIs."""
    rois = Instances(items.image_size, **items.get_fields())
    rois.proposal_boxes = items.gt_boxes
    rois.gt_classes = torch.full((len(items),), -1, device=items.gt_boxes.device)
    return rois


def _is_taken(stream: Stream, later: Sequence[Stream]) -> bool:
    """Whether a later stream takes the features of this one."""
    return any(stream.feature in other.takes for other in later)
