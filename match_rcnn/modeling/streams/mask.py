"""The mask stream: the host's mask head on the foreground that has a mask."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from match_rcnn.d2 import Boxes, CfgNode, Instances, ShapeSpec
from match_rcnn.modeling.streams.stream import (
    ROI_STREAM_REGISTRY,
    Built,
    Losses,
    Maps,
    PooledFeatures,
    RoIFeatures,
    Stream,
    labelled,
    pool,
    take,
)


@ROI_STREAM_REGISTRY.register()
class MaskStream(Stream):
    """Instance masks, as Mask R-CNN has them.

    Args:
        levels, pooler: which levels of the backbone, and how RoI features are taken from them.
        head: the host's; it gets them with the instances.
        num_classes: the background's class.
        side: of the pooled features.
        confident: detections get ``mask_confidence``, the mean probability inside the mask.
    """

    switch = "MASK_ON"
    feature = "mask"
    label, loss = "masks", "loss_mask"

    def __init__(
        self,
        *,
        levels: Sequence[str],
        pooler: Any,
        head: nn.Module,
        num_classes: int,
        side: int,
        confident: bool = False,
    ) -> None:
        super().__init__(source=_mask_features(levels, pooler, head, side))
        self.levels = levels
        self.pooler = pooler
        self.head = head
        self.num_classes = num_classes
        self.confident = confident

    @classmethod
    def from_config(
        cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec], built: Built
    ) -> dict[str, Any]:
        return {
            "levels": built.heads["mask_in_features"],
            "pooler": built.heads["mask_pooler"],
            "head": built.heads["mask_head"],
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "side": cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION,
            "confident": cfg.TEST.MASK_CONFIDENCE > 0,
        }

    def losses(
        self,
        maps: Maps,
        rois: list[Instances],
        given: Mapping[str, RoIFeatures],
        is_taken: bool,
    ) -> tuple[Losses, None]:
        wanted = [labelled(i, self.num_classes, "gt_masks", "gt_has_mask") for i in rois]
        rois = take(rois, [mask.nonzero()[:, 0] for mask in wanted])
        return self._run(maps, rois, [image.proposal_boxes for image in rois]), None

    def infer(
        self,
        maps: Maps,
        detections: list[Instances],
        given: Mapping[str, RoIFeatures],
        is_taken: bool,
    ) -> tuple[list[Instances], None]:
        found = self._run(maps, detections, [image.pred_boxes for image in detections])
        if self.confident:
            for image in found:
                image.mask_confidence = mask_confidence(image.pred_masks)
        return found, None

    def _run(self, maps: Maps, rois: list[Instances], boxes: list[Boxes]) -> Any:
        return self.head(pool(maps, self.levels, self.pooler, boxes), rois)


def mask_confidence(probabilities: torch.Tensor) -> torch.Tensor:
    """(N,) of (N, 1, M, M): the mean of those of at least 0.5; 0 where there is none."""
    inside = probabilities >= 0.5
    total = (probabilities * inside).sum((1, 2, 3))
    return total / inside.sum((1, 2, 3)).clamp(min=1)


def _mask_features(
    levels: Sequence[str], pooler: Any, head: nn.Module, side: int
) -> PooledFeatures | None:
    """What the convolutions in front of the deconvolution make; None for a head of another form,
    or one without convolutions of its own."""
    layers = []
    for name, layer in head.named_children():
        if name == "deconv":
            break
        layers.append(layer)
    else:
        return None
    channels = [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)]
    if not channels or pooler is None:
        return None
    shape = ShapeSpec(channels=channels[-1], height=side, width=side)
    return PooledFeatures(levels, pooler, nn.Sequential(*layers), shape)
