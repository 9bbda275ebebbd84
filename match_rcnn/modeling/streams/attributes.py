"""The attribute stream: what garments of any category can have, such as stripes or a collar.

Shapes: ``R_i`` RoIs of an image, ``M`` RoIs of all images that are learned from, ``A`` attributes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from match_rcnn.d2 import CfgNode, FastRCNNConvFCHead, Instances, ShapeSpec
from match_rcnn.modeling.attribute_loss import attribute_loss, attribute_weights
from match_rcnn.modeling.streams.stream import (
    ROI_STREAM_REGISTRY,
    Built,
    FeatureSource,
    Losses,
    Maps,
    RoIFeatures,
    Stream,
    chosen_sources,
    features_of_detections,
    pyramid_features,
    take,
)
from match_rcnn.modeling.taxonomy import taxonomy_from_config

Tensor = torch.Tensor


class AttributeHead(nn.Module):
    """Features of RoIs to a logit an attribute.

    Maps go through 3x3 convolutions and a linear layer, each with ReLU, as in the box stream's
    head; vectors join behind them; a last linear layer gives the logits.

    Attributes:
        class_weights: (2, A), see :func:`~match_rcnn.modeling.attribute_loss.attribute_weights`; 1
            until :meth:`learn_counts`. In no checkpoint: they are the training set's.
    """

    class_weights: Tensor

    def __init__(
        self,
        input_shapes: Mapping[str, ShapeSpec],
        num_attributes: int,
        *,
        conv_dims: Sequence[int] = (),
        fc_dim: int = 1024,
        balance: str = "all",
    ) -> None:
        """
        Args:
            input_shapes: the features by name; channels, and height and width of a map.
            num_attributes: A.
            conv_dims, fc_dim: channels of the layers behind each map.
            balance: of the weights, as ``attribute_weights`` has it.
        """
        super().__init__()
        self.maps = nn.ModuleDict(
            {
                name: FastRCNNConvFCHead(shape, conv_dims=conv_dims, fc_dims=[fc_dim])
                for name, shape in input_shapes.items()
                if shape.height
            }
        )
        width = sum(
            fc_dim if name in self.maps else shape.channels or 0
            for name, shape in input_shapes.items()
        )
        self.predictor = nn.Linear(width, num_attributes)
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.zeros_(self.predictor.bias)
        self.balance = balance
        self.register_buffer("class_weights", torch.ones(2, num_attributes), persistent=False)

    def learn_counts(self, counts: Tensor) -> None:
        """Take the loss's weights from a training set. Args: counts: (2, A) of how many of its
        garments have each attribute not, and have it."""
        self.class_weights.copy_(attribute_weights(counts, self.balance))

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """(M, A) logits of the features of M RoIs, by name."""
        vectors = [
            self.maps[name](values) if name in self.maps else values
            for name, values in features.items()
        ]
        logits: Tensor = self.predictor(torch.cat(vectors, 1))
        return logits


@ROI_STREAM_REGISTRY.register()
class AttributeStream(Stream):
    """Attributes of garments.

    In training it learns from the RoIs of items some of whose attributes are known: foreground,
    and given boxes (:mod:`match_rcnn.data.given_boxes`). At inference each detection gets
    ``pred_attributes`` (A,) from 0 to 1.

    Args:
        sources: where the features that the head takes can be had, by name.
        num_classes: the background's class.
    """

    switch = "ATTRIBUTE_ON"
    label, loss = "attributes", "loss_attribute"

    def __init__(
        self,
        *,
        sources: Mapping[str, FeatureSource],
        head: AttributeHead,
        num_classes: int,
        loss_weight: float = 1.0,
        own: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__(modules={**(own or {}), "attribute_head": head}, takes=tuple(sources))
        self.sources = dict(sources)
        self.head = head
        self.num_classes = num_classes
        self.loss_weight = loss_weight

    @classmethod
    def from_config(
        cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec], built: Built
    ) -> dict[str, Any]:
        node = cfg.MODEL.ROI_ATTRIBUTE_HEAD
        attributes = taxonomy_from_config(cfg).attributes
        if not attributes:
            raise ValueError(
                "MODEL.ATTRIBUTE_ON is set, but the model knows no attributes: no data set of "
                "DATASETS.TRAIN names some (docs/attributes.md), and neither does MODEL.TAXONOMY"
            )
        pyramid = pyramid_features(cfg, "ROI_ATTRIBUTE_HEAD", input_shape)
        sources = chosen_sources("ROI_ATTRIBUTE_HEAD", node, {**built.sources, "pyramid": pyramid})
        head = AttributeHead(
            {name: source.shape for name, source in sources.items()},
            len(attributes),
            conv_dims=node.CONV_DIMS,
            fc_dim=node.FC_DIM,
            balance=node.BALANCE,
        )
        return {
            "sources": sources,
            "head": head,
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "loss_weight": node.LOSS_WEIGHT,
            "own": {"attribute_pooler": pyramid.pooler} if "pyramid" in sources else {},
        }

    def losses(
        self,
        maps: Maps,
        rois: list[Instances],
        given: Mapping[str, RoIFeatures],
        is_taken: bool,
    ) -> tuple[Losses, None]:
        rows = [self._labelled(image).nonzero()[:, 0] for image in rois]
        chosen = take(rois, rows)
        # Not those of earlier streams, which leave given boxes out.
        boxes = [image.proposal_boxes for image in chosen]
        logits = self.head({name: source(maps, boxes) for name, source in self.sources.items()})
        labels = [image.gt_attributes for image in chosen if len(image)]
        known = torch.cat(labels) if labels else logits.new_zeros(logits.shape, dtype=torch.int8)
        loss = attribute_loss(logits, known, self.head.class_weights)
        return {"loss_attribute": loss * self.loss_weight}, None

    def infer(
        self,
        maps: Maps,
        detections: list[Instances],
        given: Mapping[str, RoIFeatures],
        is_taken: bool,
    ) -> tuple[list[Instances], None]:
        logits = self.head(features_of_detections(self.sources, maps, detections, given))
        sizes = [len(image) for image in detections]
        for image, scores in zip(detections, logits.float().sigmoid().split(sizes), strict=True):
            image.pred_attributes = scores
        return detections, None

    def _labelled(self, image: Instances) -> Tensor:
        """(R_i,) whether RoIs are no background and match an item with a known attribute."""
        if not image.has("gt_attributes"):
            return torch.zeros_like(image.gt_classes, dtype=torch.bool)
        known: Tensor = (image.gt_attributes != 0).any(1)
        return known & (image.gt_classes != self.num_classes)
