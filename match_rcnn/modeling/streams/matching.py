"""The match stream: which RoIs the match network works on, and the features that it takes.

Shapes: ``R_i`` sampled proposals of an image, ``M`` RoIs of all images that are kept.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from match_rcnn.d2 import CfgNode, Instances, ShapeSpec, matched_pairwise_iou
from match_rcnn.modeling.streams.match_head import build_match_head
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
    labelled,
    numbers,
    pyramid_features,
    take,
)

Tensor = torch.Tensor


@ROI_STREAM_REGISTRY.register()
class MatchStream(Stream):
    """Embeddings of garments.

    In training it learns from RoIs that overlap an item of interest by more than
    ``iou_threshold``. An item of interest has a partner: an item of the other domain with its
    pair_id and style (paper, section 4.2). Of more than ``rois_per_image`` a random sample is kept.

    Args:
        sources: where the features that the head takes can be had, by name. Those that another
            stream has made in the same pass are taken from there.
        head: from features by name to losses or embeddings.
        num_classes: the background's class.
        own: modules that only the sources use, by their names in the RoI heads.
    """

    switch = "MATCH_ON"
    label, loss = "pairs", "loss_match"

    def __init__(
        self,
        *,
        sources: Mapping[str, FeatureSource],
        head: nn.Module,
        num_classes: int,
        iou_threshold: float = 0.7,
        rois_per_image: int = 8,
        own: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__(modules={**(own or {}), "match_head": head}, takes=tuple(sources))
        self.sources = dict(sources)
        self.head = head
        self.num_classes = num_classes
        self.iou_threshold = iou_threshold
        self.rois_per_image = rois_per_image

    @classmethod
    def from_config(
        cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec], built: Built
    ) -> dict[str, Any]:
        node = cfg.MODEL.ROI_MATCH_HEAD
        pyramid = pyramid_features(cfg, "ROI_MATCH_HEAD", input_shape)
        sources = chosen_sources("ROI_MATCH_HEAD", node, {**built.sources, "pyramid": pyramid})
        return {
            "sources": sources,
            "head": build_match_head(cfg, {name: s.shape for name, s in sources.items()}),
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "iou_threshold": node.IOU_THRESHOLD,
            "rois_per_image": node.ROIS_PER_IMAGE,
            "own": {"match_pooler": pyramid.pooler} if "pyramid" in sources else {},
        }

    def losses(
        self,
        maps: Maps,
        rois: list[Instances],
        given: Mapping[str, RoIFeatures],
        is_taken: bool,
    ) -> tuple[Losses, None]:
        rows = self.rows_to_learn_from(rois)
        chosen = take(rois, rows)
        boxes = [image.proposal_boxes for image in chosen]
        features = {
            name: given[name].of(numbers(rois, rows)) if name in given else source(maps, boxes)
            for name, source in self.sources.items()
        }
        losses: Losses = self.head(features, chosen)
        return losses, None

    def infer(
        self,
        maps: Maps,
        detections: list[Instances],
        given: Mapping[str, RoIFeatures],
        is_taken: bool,
    ) -> tuple[list[Instances], None]:
        features = features_of_detections(self.sources, maps, detections, given)
        return self.head(features, detections), None

    def rows_to_learn_from(self, rois: list[Instances]) -> list[Tensor]:
        """Of each image; a RoI that a source of features does not cover is left out."""
        rows = []
        for image in rois:
            wanted = labelled(image, self.num_classes, "gt_has_partner", "gt_has_partner")
            if image.has("gt_has_partner"):
                overlap = matched_pairwise_iou(image.proposal_boxes, image.gt_boxes)
                wanted = wanted & (overlap > self.iou_threshold)
            for source in self.sources.values():
                covered = source.covers(image)
                wanted = wanted if covered is None else wanted & covered
            # Rows, since a mask is searched, and on a GPU waited for, once for every field.
            rows.append(_sample(wanted.nonzero()[:, 0], self.rois_per_image))
        return rows


def _sample(rows: Tensor, wanted: int) -> Tensor:
    if len(rows) <= wanted:
        return rows
    return rows[torch.randperm(len(rows), device=rows.device)[:wanted]]
