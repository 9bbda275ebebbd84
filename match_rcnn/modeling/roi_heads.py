"""Match R-CNN's streams over one set of RoIs (docs/model.md).

The detection stream is the host's and comes first: in training it shares the sampled proposals
with the others, at inference it chooses the boxes that they work on. The others are those that
the config lists (:mod:`match_rcnn.modeling.streams.stream`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from match_rcnn.d2 import (
    ROI_HEADS_REGISTRY,
    CfgNode,
    ImageList,
    Instances,
    ShapeSpec,
    StandardROIHeads,
    configurable,
)
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
    def __init__(self, *, streams: Sequence[Stream] = (), **kwargs: Any) -> None:
        """
        Args:
            streams: behind the box stream, in order. Their modules become modules of this one.
            **kwargs: of the host's ``StandardROIHeads``.
        """
        super().__init__(**kwargs)
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
        return {**made, "streams": build_streams(cfg, input_shape, built)}

    @classmethod
    def _box_features(cls, made: Mapping[str, Any]) -> dict[str, FeatureSource]:
        """The box head's vectors."""
        head = made["box_head"]
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
        proposals = self.label_and_sample_proposals(proposals, targets)
        losses: Losses = {}
        if self._trained == self.streams:
            losses.update(self._box_losses(features, proposals, targets))
        given: dict[str, RoIFeatures] = {}
        for number, stream in enumerate(self._trained):
            is_taken = _is_taken(stream, self._trained[number + 1 :])
            found, made = stream.losses(features, proposals, given, is_taken)
            losses.update(found)
            if made is not None:
                given[stream.feature] = made
        return proposals, losses

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


def _is_taken(stream: Stream, later: Sequence[Stream]) -> bool:
    """Whether a later stream takes the features of this one."""
    return any(stream.feature in other.takes for other in later)
