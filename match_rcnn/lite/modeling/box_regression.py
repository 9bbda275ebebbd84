"""Boxes as offsets from other boxes, and the losses on them.

Shapes: ``N`` images, ``R`` anchors or proposals an image, ``P`` foreground ones of the batch,
``k`` box predictions a row (classes, or 1). Boxes are (x1, y1, x2, y2) in pixels; deltas are
(dx, dy, dw, dh).
"""

import math
from collections.abc import Sequence

import torch
from fvcore.nn import smooth_l1_loss
from torch import Tensor

from ..layers import nonzero_tuple
from ..structures import Boxes

__all__ = ["Box2BoxTransform"]

# exp(dw) is bounded so that no prediction makes a box more than 1000/16 times its anchor's size.
_DEFAULT_SCALE_CLAMP = math.log(1000.0 / 16)


class Box2BoxTransform:
    """The R-CNN box coder.

    ``dx = wx * (target centre - source centre) / source width`` and
    ``dw = ww * log(target width / source width)``; the same for y and h.

    Args:
        weights: (wx, wy, ww, wh).
        scale_clamp: upper bound of ``dw / ww`` and ``dh / wh`` when decoding.
    """

    def __init__(
        self,
        weights: tuple[float, float, float, float],
        scale_clamp: float = _DEFAULT_SCALE_CLAMP,
    ) -> None:
        self.weights = weights
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Encode: deltas that take ``src_boxes`` to ``target_boxes``, each (..., 4).

        Raises:
            ValueError: where a source box has no width, on the CPU.
        """
        # On a GPU this would be a wait in every step; there the loss gets infinite, and says so.
        if not src_boxes.is_cuda and not bool((src_boxes[..., 2] > src_boxes[..., 0]).all()):
            raise ValueError(
                "cannot encode offsets from boxes without width; remove empty ground-truth boxes "
                "before training"
            )
        dx, dw = _encode_axis(src_boxes[..., 0::2], target_boxes[..., 0::2], *self.weights[0::2])
        dy, dh = _encode_axis(src_boxes[..., 1::2], target_boxes[..., 1::2], *self.weights[1::2])
        return torch.stack([dx, dy, dw, dh], dim=-1)

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Decode, in float32 whatever the input's precision.

        Args:
            deltas: (R, k*4), k predictions for each box.
            boxes: (R, 4).

        Returns:
            (R, k*4) boxes.
        """
        deltas = deltas.float()
        boxes = boxes.to(deltas.dtype)
        # A shape without -1: R may be 0.
        dx, dy, dw, dh = deltas.reshape(deltas.shape[0], deltas.shape[1] // 4, 4).unbind(dim=-1)
        x1, x2 = self._decode_axis(boxes[:, 0::2], dx, dw, *self.weights[0::2])
        y1, y2 = self._decode_axis(boxes[:, 1::2], dy, dh, *self.weights[1::2])
        return torch.stack([x1, y1, x2, y2], dim=-1).reshape(deltas.shape)

    def _decode_axis(
        self, span: Tensor, shift: Tensor, scale: Tensor, shift_weight: float, scale_weight: float
    ) -> tuple[Tensor, Tensor]:
        """(R, 2) low and high edge and their (R, k) deltas to (R, k) low and high edges."""
        size = span[:, 1:] - span[:, :1]
        center = shift / shift_weight * size + (span[:, :1] + 0.5 * size)
        half = 0.5 * ((scale / scale_weight).clamp(max=self.scale_clamp).exp() * size)
        return center - half, center + half


def _encode_axis(
    source: Tensor, target: Tensor, shift_weight: float, scale_weight: float
) -> tuple[Tensor, Tensor]:
    """(..., 2) low and high edges to (...) weighted shift and log scale."""
    source_size = source[..., 1] - source[..., 0]
    target_size = target[..., 1] - target[..., 0]
    source_center = source[..., 0] + 0.5 * source_size
    target_center = target[..., 0] + 0.5 * target_size
    shift = shift_weight * (target_center - source_center) / source_size
    return shift, scale_weight * torch.log(target_size / source_size)


def dense_box_regression_loss(
    anchors: Sequence[Boxes],
    box2box_transform: Box2BoxTransform,
    pred_anchor_deltas: list[Tensor],
    gt_boxes: list[Tensor],
    fg_mask: Tensor,
    smooth_l1_beta: float = 0.0,
) -> Tensor:
    """Sum of the box loss over the foreground of a batch.

    Args:
        anchors: one entry a feature map, together R boxes; the same for all images.
        box2box_transform: the coder of the deltas.
        pred_anchor_deltas: one (N, R_i, 4) a feature map.
        gt_boxes: N of (R, 4), the ground truth of each anchor; rows outside ``fg_mask`` are unused.
        fg_mask: (N, R) bool.
        smooth_l1_beta: where L2 turns into L1; 0 is plain L1.

    Returns:
        A scalar; 0 with a gradient path where nothing is foreground.
    """
    image_index, anchor_index = nonzero_tuple(fg_mask)
    return box_regression_loss(
        box2box_transform,
        Boxes.cat(list(anchors)).tensor[anchor_index],
        torch.cat(pred_anchor_deltas, dim=1)[image_index, anchor_index],
        torch.stack(gt_boxes)[image_index, anchor_index],
        smooth_l1_beta,
    )


def box_regression_loss(
    box2box_transform: Box2BoxTransform,
    sources: Tensor,
    deltas: Tensor,
    targets: Tensor,
    smooth_l1_beta: float = 0.0,
) -> Tensor:
    """Sum of the losses of P boxes: of (P, 4) ``deltas`` that should take sources to targets.

    The other arguments are those of :func:`dense_box_regression_loss`.
    """
    wanted = box2box_transform.get_deltas(sources, targets)
    return smooth_l1_loss(deltas, wanted, beta=smooth_l1_beta, reduction="sum")
