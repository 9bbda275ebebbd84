"""Non-maximum suppression."""

from torch import Tensor
from torchvision.ops import batched_nms as _batched_nms
from torchvision.ops import nms

__all__ = ["batched_nms", "nms"]


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression within each group of boxes.

    Args:
        boxes: (N, 4) x0, y0, x1, y1; suppressed in float32, half-precision boxes would overflow.
        scores: (N,).
        idxs: (N,) the group of each box, such as its class.
        iou_threshold: of two boxes of a group with a greater IoU, the one with the lower score
            goes.

    Returns:
        indices of the kept boxes, by falling score.
    """
    if boxes.shape[-1] != 4:
        raise ValueError(f"expected boxes of shape (N, 4), got {tuple(boxes.shape)}")
    return _batched_nms(boxes.float(), scores, idxs, iou_threshold)
