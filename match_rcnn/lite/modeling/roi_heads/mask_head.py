"""A mask for each RoI and class (He et al., Mask R-CNN, 2017).

Shapes: ``R`` RoIs of the batch, ``C`` classes (1 where masks are class-agnostic), ``M`` side of the
predicted mask in cells.
"""

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor, nn

from ...config import CfgNode, configurable
from ...layers import Conv2d, ConvTranspose2d, ShapeSpec, get_norm
from ...structures import Instances
from ...utils.events import get_event_storage
from ...utils.registry import Registry

__all__ = [
    "ROI_MASK_HEAD_REGISTRY",
    "BaseMaskRCNNHead",
    "MaskRCNNConvUpsampleHead",
    "build_mask_head",
]

ROI_MASK_HEAD_REGISTRY = Registry("ROI_MASK_HEAD")
"""Callables ``(cfg, input_shape) -> nn.Module``, called with features and Instances."""


def mask_rcnn_loss(pred_mask_logits: Tensor, instances: list[Instances]) -> Tensor:
    """Mean binary cross-entropy of each RoI's ground-truth class's mask.

    Args:
        pred_mask_logits: (R, C, M, M).
        instances: of each image, together R, with ``proposal_boxes``, ``gt_classes``, ``gt_masks``.

    Returns:
        A scalar; 0 with a gradient path for R = 0.
    """
    instances = [x for x in instances if len(x) > 0]
    if not instances:
        return pred_mask_logits.sum() * 0
    side = pred_mask_logits.shape[2]
    assert side == pred_mask_logits.shape[3], pred_mask_logits.shape
    targets = torch.cat(
        [
            x.gt_masks.crop_and_resize(x.proposal_boxes.tensor, side).to(pred_mask_logits.device)
            for x in instances
        ]
    )
    if targets.dtype != torch.bool:
        targets = targets > 0.5
    logits = _of_class(pred_mask_logits, [x.gt_classes for x in instances])
    _log_mask_statistics(logits, targets)
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="mean")


def _of_class(pred_mask_logits: Tensor, classes: list[Tensor]) -> Tensor:
    """(R, M, M) masks of the given classes, (R,) in parts, out of (R, C, M, M)."""
    if pred_mask_logits.shape[1] == 1:
        return pred_mask_logits[:, 0]
    rows = torch.arange(pred_mask_logits.shape[0], device=pred_mask_logits.device)
    return pred_mask_logits[rows, torch.cat(classes)]


@torch.no_grad()
def _log_mask_statistics(logits: Tensor, targets: Tensor) -> None:
    """Accuracy, and false positives and negatives as parts of what they could at most be."""
    wrong = (logits > 0.0) != targets
    counts = torch.stack([wrong.sum(), (wrong & targets).sum(), targets.sum()]).tolist()
    num_wrong, num_missed, num_positive = counts
    total = targets.numel()
    storage = get_event_storage()
    storage.put_scalar("mask_rcnn/accuracy", 1 - num_wrong / max(total, 1.0))
    num_negative = max(total - num_positive, 1.0)
    storage.put_scalar("mask_rcnn/false_positive", (num_wrong - num_missed) / num_negative)
    storage.put_scalar("mask_rcnn/false_negative", num_missed / max(num_positive, 1.0))


def mask_rcnn_inference(pred_mask_logits: Tensor, pred_instances: list[Instances]) -> None:
    """Set ``pred_masks``, (R_i, 1, M, M) probabilities of the predicted class, on each image.

    Args:
        pred_mask_logits: (R, C, M, M).
        pred_instances: of each image, together R, with ``pred_classes``.
    """
    if not pred_instances:
        return
    logits = _of_class(pred_mask_logits, [x.pred_classes for x in pred_instances])
    probabilities = logits[:, None].sigmoid()
    for part, instances in zip(
        probabilities.split([len(x) for x in pred_instances]), pred_instances, strict=True
    ):
        instances.pred_masks = part


class BaseMaskRCNNHead(nn.Module, metaclass=ABCMeta):
    """Loss and inference around the :meth:`layers` of a subclass.

    Args:
        loss_weight: of the loss.
    """

    @configurable
    def __init__(self, *, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        return {}

    def forward(self, x: Tensor, instances: list[Instances]) -> Any:
        """The dict of ``loss_mask`` in training; else ``instances`` with ``pred_masks``.

        Args:
            x: (R, C', S, S) region features.
            instances: see :func:`mask_rcnn_loss` and :func:`mask_rcnn_inference`.
        """
        logits = self.layers(x)
        if self.training:
            loss = mask_rcnn_loss(logits, instances)
            return {"loss_mask": loss * self.loss_weight}
        mask_rcnn_inference(logits, instances)
        return instances

    @abstractmethod
    def layers(self, x: Tensor) -> Tensor:
        """Region features to (R, C, M, M) logits."""


@ROI_MASK_HEAD_REGISTRY.register()
class MaskRCNNConvUpsampleHead(BaseMaskRCNNHead, nn.Sequential):  # type: ignore[misc]
    """3x3 convolutions, a deconvolution to twice the side, and a 1x1 convolution.

    Args:
        input_shape: channels of a RoI's features.
        num_classes: ``C``.
        conv_dims: channels of the convolutions; the last one is the deconvolution's.
        conv_norm: of the convolutions, see ``get_norm``.
        kwargs: of :class:`BaseMaskRCNNHead`.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        conv_dims: Sequence[int],
        conv_norm: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if len(conv_dims) == 0:
            raise ValueError("a mask head needs at least one entry in conv_dims")
        assert input_shape.channels is not None, input_shape
        channels = input_shape.channels
        for index, dim in enumerate(conv_dims[:-1], start=1):
            conv = Conv2d(
                channels,
                dim,
                kernel_size=3,
                padding=1,
                bias=not conv_norm,
                norm=get_norm(conv_norm, dim),
                activation=nn.ReLU(inplace=True),
            )
            self.add_module(f"mask_fcn{index}", conv)
            channels = dim
        self.deconv = ConvTranspose2d(channels, conv_dims[-1], kernel_size=2, stride=2)
        self.deconv_relu = nn.ReLU(inplace=True)
        self.predictor = Conv2d(conv_dims[-1], num_classes, kernel_size=1)
        self._initialize()

    def _initialize(self) -> None:
        for name, layer in self.named_children():
            if name == "deconv" or name.startswith("mask_fcn"):
                c2_msra_fill(layer)
        nn.init.normal_(self.predictor.weight, std=0.001)
        assert self.predictor.bias is not None
        nn.init.zeros_(self.predictor.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.ROI_MASK_HEAD
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": input_shape,
            "num_classes": 1 if node.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "conv_dims": [node.CONV_DIM] * (node.NUM_CONV + 1),
            "conv_norm": node.NORM,
        }

    def layers(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x


def build_mask_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """The module named by ``cfg.MODEL.ROI_MASK_HEAD.NAME``."""
    return ROI_MASK_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASK_HEAD.NAME)(cfg, input_shape)
