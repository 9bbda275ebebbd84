"""Region proposal network (Ren et al., Faster R-CNN, 2015).

Shapes: ``N`` images; feature map i has ``Hi x Wi`` cells with ``A`` anchors each, ``R_i = Hi*Wi*A``
in (H, W, A) order; ``R`` anchors of all feature maps; ``B = 4`` numbers a box.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config import CfgNode, configurable
from ...layers import Conv2d, ShapeSpec, nonzero_tuple
from ...structures import Boxes, ImageList, Instances, pairwise_iou
from ...utils.events import get_event_storage
from ...utils.registry import Registry
from ..anchor_generator import build_anchor_generator
from ..box_regression import Box2BoxTransform, dense_box_regression_loss
from ..matcher import Matcher
from ..sampling import subsample_labels
from .build import PROPOSAL_GENERATOR_REGISTRY
from .proposal_utils import find_top_rpn_proposals

RPN_HEAD_REGISTRY = Registry("RPN_HEAD")
"""Callables ``(cfg, input_shape) -> nn.Module`` from features to logits and deltas."""


def build_rpn_head(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """The module named by ``cfg.MODEL.RPN.HEAD_NAME``."""
    return RPN_HEAD_REGISTRY.get(cfg.MODEL.RPN.HEAD_NAME)(cfg, input_shape)


@RPN_HEAD_REGISTRY.register()
class StandardRPNHead(nn.Module):
    """3x3 convolutions, then 1x1 ones for objectness and box deltas; shared by all feature maps.

    Args:
        in_channels: of every feature map.
        num_anchors: ``A``.
        box_dim: ``B``.
        conv_dims: channels of the 3x3 convolutions; -1 is ``in_channels``.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_anchors: int,
        box_dim: int = 4,
        conv_dims: Sequence[int] = (-1,),
    ) -> None:
        super().__init__()
        dims = [in_channels if dim == -1 else dim for dim in conv_dims]
        if not dims or min(dims) <= 0:
            raise ValueError(f"RPN conv_dims must be -1 or positive, got {list(conv_dims)}")
        convs = [
            self._get_rpn_conv(before, after)
            for before, after in zip([in_channels, *dims], dims, strict=False)
        ]
        # One convolution is "conv", several are "conv.conv0", ...: the names of released weights.
        self.conv = convs[0]
        if len(convs) > 1:
            self.conv = nn.Sequential()
            for index, conv in enumerate(convs):
                self.conv.add_module(f"conv{index}", conv)
        self.objectness_logits = nn.Conv2d(dims[-1], num_anchors, kernel_size=1)
        self.anchor_deltas = nn.Conv2d(dims[-1], num_anchors * box_dim, kernel_size=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def _get_rpn_conv(self, in_channels: int, out_channels: int) -> nn.Module:
        return Conv2d(
            in_channels, out_channels, kernel_size=3, padding=1, activation=nn.ReLU(inplace=True)
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        channels = {shape.channels for shape in input_shape}
        if len(channels) != 1:
            raise ValueError(f"the RPN head needs feature maps of equal channels, got {channels}")
        # Only its numbers are needed; the RPN has its own.
        anchor_generator = build_anchor_generator(cfg, input_shape)
        num_anchors = set(anchor_generator.num_anchors)  # type: ignore[arg-type]
        if len(num_anchors) != 1:
            raise ValueError(
                f"the RPN head needs as many anchors on every level, got {num_anchors}"
            )
        return {
            "in_channels": channels.pop(),
            "num_anchors": num_anchors.pop(),
            "box_dim": anchor_generator.box_dim,
            "conv_dims": cfg.MODEL.RPN.CONV_DIMS,
        }

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """(N, A, Hi, Wi) logits and (N, A*B, Hi, Wi) deltas for every (N, C, Hi, Wi)."""
        hidden = [self.conv(feature) for feature in features]
        return [self.objectness_logits(h) for h in hidden], [self.anchor_deltas(h) for h in hidden]


@PROPOSAL_GENERATOR_REGISTRY.register()
class RPN(nn.Module):
    """Proposals, and in training the losses of objectness and boxes.

    Args:
        in_features: names of the feature maps to use.
        head: from feature maps to logits and deltas, as :class:`StandardRPNHead`.
        anchor_generator: from feature maps to anchors.
        anchor_matcher: labels anchors by their IoU with the ground truth.
        box2box_transform: from anchors to boxes.
        batch_size_per_image: anchors sampled for the loss.
        positive_fraction: at most this part of them is foreground.
        pre_nms_topk: per image and feature map; (training, test).
        post_nms_topk: per image; (training, test).
        nms_thresh: see :func:`find_top_rpn_proposals`.
        min_box_size: likewise.
        loss_weight: a number, or numbers for "loss_rpn_cls" and "loss_rpn_loc".
        smooth_l1_beta: see :func:`dense_box_regression_loss`.
    """

    @configurable
    def __init__(
        self,
        *,
        in_features: list[str],
        head: nn.Module,
        anchor_generator: nn.Module,
        anchor_matcher: Matcher,
        box2box_transform: Box2BoxTransform,
        batch_size_per_image: int,
        positive_fraction: float,
        pre_nms_topk: tuple[int, int],
        post_nms_topk: tuple[int, int],
        nms_thresh: float = 0.7,
        min_box_size: float = 0.0,
        loss_weight: float | dict[str, float] = 1.0,
        smooth_l1_beta: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.rpn_head = head
        self.anchor_generator = anchor_generator
        self.anchor_matcher = anchor_matcher
        self.box2box_transform = box2box_transform
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        # Looked up by self.training.
        self.pre_nms_topk = {True: pre_nms_topk[0], False: pre_nms_topk[1]}
        self.post_nms_topk = {True: post_nms_topk[0], False: post_nms_topk[1]}
        self.nms_thresh = nms_thresh
        self.min_box_size = float(min_box_size)
        if not isinstance(loss_weight, dict):
            loss_weight = {"loss_rpn_cls": loss_weight, "loss_rpn_loc": loss_weight}
        self.loss_weight = loss_weight
        self.smooth_l1_beta = smooth_l1_beta

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        node = cfg.MODEL.RPN
        shapes = [input_shape[name] for name in node.IN_FEATURES]
        return {
            "in_features": node.IN_FEATURES,
            "head": build_rpn_head(cfg, shapes),
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "anchor_matcher": Matcher(
                node.IOU_THRESHOLDS, node.IOU_LABELS, allow_low_quality_matches=True
            ),
            "box2box_transform": Box2BoxTransform(weights=node.BBOX_REG_WEIGHTS),
            "batch_size_per_image": node.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": node.POSITIVE_FRACTION,
            "pre_nms_topk": (node.PRE_NMS_TOPK_TRAIN, node.PRE_NMS_TOPK_TEST),
            "post_nms_topk": (node.POST_NMS_TOPK_TRAIN, node.POST_NMS_TOPK_TEST),
            "nms_thresh": node.NMS_THRESH,
            "min_box_size": cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
            "loss_weight": {
                "loss_rpn_cls": node.LOSS_WEIGHT,
                "loss_rpn_loc": node.BBOX_REG_LOSS_WEIGHT * node.LOSS_WEIGHT,
            },
            "smooth_l1_beta": node.SMOOTH_L1_BETA,
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Propose.

        Args:
            images: N images; only their sizes matter.
            features: (N, C, Hi, Wi) by name.
            gt_instances: N with ``gt_boxes``; needed in training.

        Returns:
            N proposals (see :func:`find_top_rpn_proposals`), and the losses in training.
        """
        feature_list = [features[name] for name in self.in_features]
        anchors = self.anchor_generator(feature_list)
        map_logits, map_deltas = self.rpn_head(feature_list)
        logits = [x.permute(0, 2, 3, 1).flatten(1) for x in map_logits]
        box_dim: Any = self.anchor_generator.box_dim
        deltas = [_cells_first(x, box_dim) for x in map_deltas]
        losses: dict[str, Tensor] = {}
        if self.training:
            assert gt_instances is not None, "the RPN needs ground truth in training"
            gt_labels, gt_boxes = self.label_and_sample_anchors(anchors, gt_instances)
            losses = self.losses(anchors, logits, gt_labels, deltas, gt_boxes)
        return self.predict_proposals(anchors, logits, deltas, images.image_sizes), losses

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Which anchors each image learns from, and what.

        Returns:
            N of (R,) int8 labels, 1 foreground, 0 background, -1 unused; N of (R, 4) boxes of the
            matched ground truth (zeros where the image has none).
        """
        all_anchors = Boxes.cat(anchors)
        gt_labels, matched_boxes = [], []
        for targets in gt_instances:
            overlap = pairwise_iou(targets.gt_boxes, all_anchors)
            matches, labels = self.anchor_matcher(overlap)
            gt_labels.append(self._subsample_labels(labels))
            if len(targets) == 0:
                matched_boxes.append(torch.zeros_like(all_anchors.tensor))
            else:
                matched_boxes.append(targets.gt_boxes.tensor[matches])
        return gt_labels, matched_boxes

    def _subsample_labels(self, label: Tensor) -> Tensor:
        """Set all but a random sample of the (R,) labels to -1, in place."""
        positive, negative = subsample_labels(
            label, self.batch_size_per_image, self.positive_fraction, bg_label=0
        )
        label.fill_(-1)
        label.index_fill_(0, positive, 1)
        label.index_fill_(0, negative, 0)
        return label

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Losses over the sampled anchors.

        Args:
            anchors: one entry a feature map.
            pred_objectness_logits: (N, R_i) a feature map.
            gt_labels: (R,) an image.
            pred_anchor_deltas: (N, R_i, B) a feature map.
            gt_boxes: (R, B) an image.

        Returns:
            "loss_rpn_cls" and "loss_rpn_loc".
        """
        labels = torch.stack(gt_labels)
        foreground, sampled = labels == 1, nonzero_tuple(labels >= 0)
        self._log_counts(foreground, labels == 0)
        localization_loss = dense_box_regression_loss(
            anchors,
            self.box2box_transform,
            pred_anchor_deltas,
            gt_boxes,
            foreground,
            smooth_l1_beta=self.smooth_l1_beta,
        )
        objectness_loss = F.binary_cross_entropy_with_logits(
            torch.cat(pred_objectness_logits, dim=1)[sampled],
            labels[sampled].float(),
            reduction="sum",
        )
        # A constant, not the number sampled: an image with few anchors to learn from counts less.
        normalizer = self.batch_size_per_image * len(gt_labels)
        losses = {
            "loss_rpn_cls": objectness_loss / normalizer,
            "loss_rpn_loc": localization_loss / normalizer,
        }
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def _log_counts(self, positive: Tensor, negative: Tensor) -> None:
        counts = torch.stack([positive.sum(), negative.sum()]).tolist()
        storage = get_event_storage()
        for name, count in zip(("pos", "neg"), counts, strict=True):
            storage.put_scalar(f"rpn/num_{name}_anchors", count / len(positive))

    @torch.no_grad()
    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Decode the deltas and choose the best boxes; no gradient goes through them."""
        return find_top_rpn_proposals(
            self._decode_proposals(anchors, pred_anchor_deltas),
            pred_objectness_logits,
            image_sizes,
            self.nms_thresh,
            self.pre_nms_topk[self.training],
            self.post_nms_topk[self.training],
            self.min_box_size,
            self.training,
        )

    def _decode_proposals(
        self, anchors: list[Boxes], pred_anchor_deltas: list[Tensor]
    ) -> list[Tensor]:
        """(N, R_i, B) boxes a feature map."""
        proposals = []
        for level_anchors, deltas in zip(anchors, pred_anchor_deltas, strict=True):
            num_images, num_anchors, box_dim = deltas.shape
            tiled = level_anchors.tensor.repeat(num_images, 1)
            boxes = self.box2box_transform.apply_deltas(deltas.reshape(-1, box_dim), tiled)
            proposals.append(boxes.view(num_images, num_anchors, box_dim))
        return proposals


def _cells_first(deltas: Tensor, box_dim: int) -> Tensor:
    """(N, A*B, Hi, Wi) to (N, Hi*Wi*A, B)."""
    n, _, height, width = deltas.shape
    per_box = deltas.view(n, -1, box_dim, height, width)
    return per_box.permute(0, 3, 4, 1, 2).flatten(1, -2)
