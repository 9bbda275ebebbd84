"""Keypoints of each RoI, as the maxima of heat maps (He et al., Mask R-CNN, 2017).

Shapes: ``R`` RoIs of the batch, ``K`` keypoints, ``S`` side of the heat map in cells.
"""

import itertools
from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config import CfgNode, configurable
from ...layers import Conv2d, ConvTranspose2d, ShapeSpec, interpolate, nonzero_tuple
from ...structures import Instances, heatmaps_to_keypoints
from ...utils.events import get_event_storage
from ...utils.registry import Registry

__all__ = [
    "ROI_KEYPOINT_HEAD_REGISTRY",
    "BaseKeypointRCNNHead",
    "KRCNNConvDeconvUpsampleHead",
    "build_keypoint_head",
]

ROI_KEYPOINT_HEAD_REGISTRY = Registry("ROI_KEYPOINT_HEAD")
"""Callables ``(cfg, input_shape) -> nn.Module``, called with features and Instances."""

# Batches of this process that no keypoint took part in; their number is logged.
_skipped = itertools.count(1)


def build_keypoint_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """The module named by ``cfg.MODEL.ROI_KEYPOINT_HEAD.NAME``."""
    return ROI_KEYPOINT_HEAD_REGISTRY.get(cfg.MODEL.ROI_KEYPOINT_HEAD.NAME)(cfg, input_shape)


def keypoint_rcnn_loss(
    pred_keypoint_logits: Tensor, instances: list[Instances], normalizer: float | None
) -> Tensor:
    """Cross-entropy over the cells of each visible keypoint's heat map, summed and normalised.

    Args:
        pred_keypoint_logits: (R, K, S, S).
        instances: of each image, together R, with ``gt_keypoints`` and ``proposal_boxes``.
        normalizer: divides the sum; None is the number of keypoints that take part.

    Returns:
        A scalar; 0 with a gradient path where no keypoint takes part.
    """
    side = pred_keypoint_logits.shape[2]
    found = [
        image.gt_keypoints.to_heatmap(image.proposal_boxes.tensor, side)
        for image in instances
        if len(image) > 0
    ]
    valid = [inside.flatten() for _, inside in found]
    index = nonzero_tuple(torch.cat(valid))[0] if valid else torch.zeros(0, dtype=torch.int64)
    if len(index) == 0:
        storage = get_event_storage()
        storage.put_scalar("kpts_num_skipped_batches", next(_skipped), smoothing_hint=False)
        return pred_keypoint_logits.sum() * 0
    cells = torch.cat([cells.flatten() for cells, _ in found])[index]
    logits = pred_keypoint_logits.flatten(0, 1).flatten(1)
    loss = F.cross_entropy(logits[index], cells, reduction="sum")
    return loss / (len(index) if normalizer is None else normalizer)


def keypoint_rcnn_inference(pred_keypoint_logits: Tensor, pred_instances: list[Instances]) -> None:
    """Set ``pred_keypoints`` and ``pred_keypoint_heatmaps`` on each image.

    ``pred_keypoints`` are (R_i, K, 3): x, y in pixels and the softmax score over the heat map;
    ``pred_keypoint_heatmaps`` are the (R_i, K, S, S) logits.

    Args:
        pred_keypoint_logits: (R, K, S, S).
        pred_instances: of each image, together R, with ``pred_boxes``.
    """
    if not pred_instances:
        return
    logits = pred_keypoint_logits.detach()
    boxes = torch.cat([x.pred_boxes.tensor for x in pred_instances])
    keypoints = heatmaps_to_keypoints(logits, boxes)[:, :, [0, 1, 3]]
    counts = [len(x) for x in pred_instances]
    for points, maps, instances in zip(
        keypoints.split(counts), logits.split(counts), pred_instances, strict=True
    ):
        instances.pred_keypoints = points
        instances.pred_keypoint_heatmaps = maps


class BaseKeypointRCNNHead(nn.Module, metaclass=ABCMeta):
    """Loss and inference around the :meth:`layers` of a subclass.

    Args:
        num_keypoints: ``K``.
        loss_weight: of the loss.
        loss_normalizer: "visible" divides the loss by the visible keypoints of the batch; a number
            divides it by that times the images of the batch.
    """

    @configurable
    def __init__(
        self,
        *,
        num_keypoints: int,
        loss_weight: float = 1.0,
        loss_normalizer: float | str = 1.0,
    ) -> None:
        super().__init__()
        if isinstance(loss_normalizer, str) and loss_normalizer != "visible":
            raise ValueError(f"loss_normalizer must be 'visible' or a number: {loss_normalizer!r}")
        self.num_keypoints = num_keypoints
        self.loss_weight = loss_weight
        self.loss_normalizer = loss_normalizer

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        node, roi_heads = cfg.MODEL.ROI_KEYPOINT_HEAD, cfg.MODEL.ROI_HEADS
        normalizer: float | str = "visible"
        if not node.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS:
            # What it would be if every foreground RoI of a full batch had all keypoints visible.
            num_foreground = roi_heads.BATCH_SIZE_PER_IMAGE * roi_heads.POSITIVE_FRACTION
            normalizer = node.NUM_KEYPOINTS * num_foreground
        return {
            "num_keypoints": node.NUM_KEYPOINTS,
            "loss_weight": node.LOSS_WEIGHT,
            "loss_normalizer": normalizer,
        }

    def forward(self, x: Tensor, instances: list[Instances]) -> Any:
        """The dict of ``loss_keypoint`` in training; else ``instances`` with ``pred_keypoints``.

        Args:
            x: (R, C, S', S') region features.
            instances: see :func:`keypoint_rcnn_loss` and :func:`keypoint_rcnn_inference`.
        """
        logits = self.layers(x)
        if not self.training:
            keypoint_rcnn_inference(logits, instances)
            return instances
        normalizer = None
        if not isinstance(self.loss_normalizer, str):
            normalizer = self.loss_normalizer * len(instances)
        loss = keypoint_rcnn_loss(logits, instances, normalizer)
        return {"loss_keypoint": loss * self.loss_weight}

    @abstractmethod
    def layers(self, x: Tensor) -> Tensor:
        """Region features to (R, K, S, S) logits."""


@ROI_KEYPOINT_HEAD_REGISTRY.register()
class KRCNNConvDeconvUpsampleHead(BaseKeypointRCNNHead, nn.Sequential):  # type: ignore[misc]
    """3x3 convolutions, a deconvolution to twice the side, and bilinear upsampling to twice that.

    Args:
        input_shape: channels of a RoI's features.
        num_keypoints: ``K``.
        conv_dims: channels of the convolutions.
        kwargs: of :class:`BaseKeypointRCNNHead`.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_keypoints: int,
        conv_dims: Sequence[int],
        **kwargs: Any,
    ) -> None:
        super().__init__(num_keypoints=num_keypoints, **kwargs)
        assert input_shape.channels is not None, input_shape
        self.up_scale = 2.0
        channels = input_shape.channels
        for index, dim in enumerate(conv_dims, start=1):
            self.add_module(f"conv_fcn{index}", Conv2d(channels, dim, 3, stride=1, padding=1))
            self.add_module(f"conv_fcn_relu{index}", nn.ReLU(inplace=True))
            channels = dim
        self.score_lowres = ConvTranspose2d(
            channels, num_keypoints, kernel_size=4, stride=2, padding=1
        )
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": input_shape,
            "conv_dims": cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS,
        }

    def layers(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return interpolate(x, scale_factor=self.up_scale, mode="bilinear", align_corners=False)
