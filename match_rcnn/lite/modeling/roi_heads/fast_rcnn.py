"""Class and box of each RoI (Girshick, Fast R-CNN, 2015).

Shapes: ``R`` RoIs of the batch, ``R_i`` of image i, ``C`` classes (index ``C`` is the background),
``k`` boxes a RoI (``C``, or 1 where boxes are class-agnostic).
"""

from typing import Any

import torch
from torch import Tensor, nn

from ...config import CfgNode, configurable
from ...layers import ShapeSpec, batched_nms, cat, cross_entropy, nonzero_tuple
from ...structures import Boxes, Instances
from ...utils.events import get_event_storage
from ..box_regression import Box2BoxTransform, box_regression_loss

__all__ = ["FastRCNNOutputLayers", "fast_rcnn_inference"]


def fast_rcnn_inference(
    boxes: list[Tensor],
    scores: list[Tensor],
    image_shapes: list[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[list[Instances], list[Tensor]]:
    """:func:`fast_rcnn_inference_single_image` for every image.

    Args:
        boxes: (R_i, k*4) an image.
        scores: (R_i, C + 1) an image.
        image_shapes: (height, width) an image.
        score_thresh: a detection's score is greater.
        nms_thresh: IoU above which the worse of two boxes of a class goes.
        topk_per_image: how many detections are kept at most; negative keeps all.

    Returns:
        The detections, and the row in ``boxes`` that each came from.
    """
    results = [
        fast_rcnn_inference_single_image(
            boxes_of_image, scores_of_image, shape, score_thresh, nms_thresh, topk_per_image
        )
        for boxes_of_image, scores_of_image, shape in zip(boxes, scores, image_shapes, strict=True)
    ]
    return [instances for instances, _ in results], [rows for _, rows in results]


def fast_rcnn_inference_single_image(
    boxes: Tensor,
    scores: Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, Tensor]:
    """Detections of one image, best first; RoIs with NaN or infinity give none.

    Args: as :func:`fast_rcnn_inference`, of one image.

    Returns:
        ``pred_boxes`` (clipped to the image), ``scores`` and ``pred_classes``; and the (D,) rows of
        ``boxes`` they came from.
    """
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
    rows, classes = nonzero_tuple((scores[:, :-1] > score_thresh) & finite[:, None])
    per_class = boxes.reshape(boxes.shape[0], boxes.shape[1] // 4, 4)
    chosen = per_class[rows, classes if per_class.shape[1] > 1 else torch.zeros_like(classes)]
    candidates = Boxes(chosen)
    candidates.clip(image_shape)
    chosen_scores = scores[rows, classes]
    keep = batched_nms(candidates.tensor, chosen_scores, classes, nms_thresh)
    if topk_per_image >= 0:
        keep = keep[:topk_per_image]
    result = Instances(image_shape)
    result.pred_boxes = candidates[keep]
    result.scores = chosen_scores[keep]
    result.pred_classes = classes[keep]
    return result, rows[keep]


@torch.no_grad()
def _log_classification_stats(pred_logits: Tensor, gt_classes: Tensor) -> None:
    """Put accuracies in the event storage; those of the foreground only where there is any.

    Args:
        pred_logits: (R, C + 1).
        gt_classes: (R,).
    """
    if gt_classes.numel() == 0:
        return
    background = pred_logits.shape[1] - 1
    predicted = pred_logits.argmax(dim=1)
    correct = predicted == gt_classes
    foreground = (gt_classes >= 0) & (gt_classes < background)
    missed = foreground & (predicted == background)
    # One wait for a GPU.
    counts = torch.stack([correct, foreground, correct & foreground, missed]).sum(dim=1).tolist()
    num_correct, num_fg, num_fg_correct, num_missed = counts
    stats = {"cls_accuracy": num_correct / gt_classes.numel()}
    if num_fg > 0:
        stats |= {"fg_cls_accuracy": num_fg_correct / num_fg, "false_negative": num_missed / num_fg}
    for name, value in stats.items():
        get_event_storage().put_scalar(f"fast_rcnn/{name}", value)


class FastRCNNOutputLayers(nn.Module):
    """Two linear layers, for scores and box deltas; their losses, and detections from them.

    Args:
        input_shape: of a RoI's features; or only its channels.
        box2box_transform: from proposals to boxes.
        num_classes: ``C``.
        test_score_thresh: see :func:`fast_rcnn_inference`.
        test_nms_thresh: likewise.
        test_topk_per_image: likewise.
        cls_agnostic_bbox_reg: one box a RoI for all classes.
        smooth_l1_beta: see ``box_regression_loss``.
        loss_weight: a number, or numbers for "loss_cls" and "loss_box_reg".
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec | int,
        *,
        box2box_transform: Box2BoxTransform,
        num_classes: int,
        test_score_thresh: float = 0.0,
        test_nms_thresh: float = 0.5,
        test_topk_per_image: int = 100,
        cls_agnostic_bbox_reg: bool = False,
        smooth_l1_beta: float = 0.0,
        loss_weight: float | dict[str, float] = 1.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.box2box_transform = box2box_transform
        self._add_layers(input_shape, 1 if cls_agnostic_bbox_reg else num_classes)
        self.smooth_l1_beta = smooth_l1_beta
        self.test_score_thresh = test_score_thresh
        self.test_nms_thresh = test_nms_thresh
        self.test_topk_per_image = test_topk_per_image
        if not isinstance(loss_weight, dict):
            loss_weight = {"loss_cls": loss_weight, "loss_box_reg": loss_weight}
        self.loss_weight = loss_weight

    def _add_layers(self, input_shape: ShapeSpec | int, num_boxes: int) -> None:
        if isinstance(input_shape, int):
            input_shape = ShapeSpec(channels=input_shape)
        assert input_shape.channels is not None, input_shape
        input_size = input_shape.channels * (input_shape.width or 1) * (input_shape.height or 1)
        self.cls_score = nn.Linear(input_size, self.num_classes + 1)
        self.bbox_pred = nn.Linear(input_size, num_boxes * 4)
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        node, roi_heads = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_HEADS
        return {
            "input_shape": input_shape,
            "box2box_transform": Box2BoxTransform(weights=node.BBOX_REG_WEIGHTS),
            "num_classes": roi_heads.NUM_CLASSES,
            "cls_agnostic_bbox_reg": node.CLS_AGNOSTIC_BBOX_REG,
            "smooth_l1_beta": node.SMOOTH_L1_BETA,
            "test_score_thresh": roi_heads.SCORE_THRESH_TEST,
            "test_nms_thresh": roi_heads.NMS_THRESH_TEST,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "loss_weight": {"loss_box_reg": node.BBOX_REG_LOSS_WEIGHT},
        }

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, ...) features to (R, C + 1) logits and (R, k*4) deltas."""
        x = x.flatten(start_dim=1)
        return self.cls_score(x), self.bbox_pred(x)

    def losses(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor]:
        """Losses over all sampled RoIs.

        Args:
            predictions: what :meth:`forward` gave.
            proposals: of each image, with ``proposal_boxes``, ``gt_classes`` and, where the image
                has ground truth, ``gt_boxes``.

        Returns:
            "loss_cls" and "loss_box_reg"; 0 with a gradient path for R = 0.
        """
        scores, deltas = predictions
        gt_classes = scores.new_empty(0, dtype=torch.int64)
        boxes = gt_boxes = scores.new_empty((0, 4))
        if proposals:
            gt_classes = cat([p.gt_classes for p in proposals])
            boxes = cat([p.proposal_boxes.tensor for p in proposals])
            assert not boxes.requires_grad, "proposals must not require gradients"
            # Without ground truth all RoIs are background, and any box will do.
            targets = [p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes for p in proposals]
            gt_boxes = cat([target.tensor for target in targets])
        _log_classification_stats(scores, gt_classes)
        losses = {
            "loss_cls": cross_entropy(scores, gt_classes, reduction="mean"),
            "loss_box_reg": self.box_reg_loss(boxes, gt_boxes, deltas, gt_classes),
        }
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def box_reg_loss(
        self, proposal_boxes: Tensor, gt_boxes: Tensor, pred_deltas: Tensor, gt_classes: Tensor
    ) -> Tensor:
        """Box loss of the foreground RoIs over the number of all RoIs.

        Dividing by all makes each foreground RoI count the same, whether the batch has few of them
        or many.

        Args:
            proposal_boxes: (R, 4).
            gt_boxes: (R, 4).
            pred_deltas: (R, k*4).
            gt_classes: (R,).
        """
        foreground = nonzero_tuple((gt_classes >= 0) & (gt_classes < self.num_classes))[0]
        if pred_deltas.shape[1] == 4:
            deltas = pred_deltas[foreground]
        else:
            per_class = pred_deltas.view(-1, self.num_classes, 4)
            deltas = per_class[foreground, gt_classes[foreground]]
        loss = box_regression_loss(
            self.box2box_transform,
            proposal_boxes[foreground],
            deltas,
            gt_boxes[foreground],
            self.smooth_l1_beta,
        )
        return loss / max(gt_classes.numel(), 1.0)

    def inference(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Detections of each image, and the row of its proposals that each came from."""
        return fast_rcnn_inference(
            list(self.predict_boxes(predictions, proposals)),
            list(self.predict_probs(predictions, proposals)),
            [p.image_size for p in proposals],
            self.test_score_thresh,
            self.test_nms_thresh,
            self.test_topk_per_image,
        )

    def predict_boxes(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> list[Tensor]:
        """(R_i, k*4) boxes of each image."""
        if not proposals:
            return []
        boxes = cat([p.proposal_boxes.tensor for p in proposals])
        decoded = self.box2box_transform.apply_deltas(predictions[1], boxes)
        return list(decoded.split([len(p) for p in proposals]))

    def predict_probs(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> list[Tensor]:
        """(R_i, C + 1) probabilities of each image."""
        probs = predictions[0].softmax(dim=-1)
        return list(probs.split([len(p) for p in proposals]))
